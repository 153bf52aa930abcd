"""The least eager kind: values are arrays, and an op runs its reference at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import GraphgradError
from graphgrad.compiler.ir import to_array
from graphgrad.compiler.op import Attrs, Op, record, state
from graphgrad.compiler.source import here
from graphgrad.compiler.types import TensorType, tensor_type


class Eager(Arith):
    """An array that ops take."""

    __slots__ = ("array", "type")

    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array)
        self.type: TensorType = tensor_type(self.array.shape, dtypes.as_dtype(self.array.dtype))

    def __hash__(self) -> int:
        return id(self)


class NumpyKind:
    """What applying an op to arrays means."""

    def call(self, op: Op, args: tuple[Any, ...], attrs: Attrs) -> Any:
        inputs, attrs = op.prepare(self, args, attrs)
        outputs = self.apply(op, inputs, attrs)
        return outputs if op.multi else outputs[0]

    def lift(self, x: object, dtype: dtypes.DType | None = None) -> Eager:
        return x if isinstance(x, Eager) else Eager(to_array(x, dtype))

    def apply(self, op: Op, inputs: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
        types = op.infer(tuple(x.type for x in inputs), attrs)
        try:
            with np.errstate(all="ignore"):
                arrays = op.evaluate([x.array for x in inputs], attrs)
        except GraphgradError as e:
            raise e.at(state.where or here()) from None
        for a, t in zip(arrays, types, strict=True):
            got = np.asarray(a)
            assert got.dtype == t.dtype.dtype, f"{op.name}: {got.dtype} instead of {t}"
            assert got.shape == t.shape, f"{op.name}: shape {got.shape} instead of {t}"
        outputs = tuple(map(Eager, arrays))
        record(op, inputs, attrs, outputs)
        return outputs


@contextmanager
def eagerly() -> Iterator[NumpyKind]:
    """Ops run on arrays meanwhile."""
    saved, state.builder = state.builder, NumpyKind()
    try:
        yield state.builder
    finally:
        state.builder = saved
