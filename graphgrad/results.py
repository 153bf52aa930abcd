"""What a traced function may return: tensors, what becomes one, and Python objects as they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator, Set, ValuesView
from typing import TYPE_CHECKING, Any

import numpy as np

from graphgrad import nest
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import Dim
from graphgrad.compiler.errors import DTypeError
from graphgrad.compiler.ir import Value
from graphgrad.compiler.op import current_kind, ops
from graphgrad.compiler.source import here
from graphgrad.matching import Slot
from graphgrad.tensor import TensorShape

if TYPE_CHECKING:
    from graphgrad.tracing import FunctionBuilder


def is_data(x: object) -> bool:
    """Is this leaf of a function's result given back as a tensor?"""
    return isinstance(x, Arith | np.ndarray | np.generic | bool | int | float | Dim | TensorShape)


def as_tensor(x: Any) -> Any:
    """Data as a tensor of the present kind; sizes are int32, as in TensorFlow."""
    kind = current_kind()
    if isinstance(x, TensorShape) and not x.is_fully_defined():
        return ops["concat"]([kind.lift(n).reshape((1,)) for n in x], 0)
    return kind.lift(np.array(x, np.int32) if isinstance(x, TensorShape) else x)


def template(name: str, result: Any, outputs: list[Value], builder: FunctionBuilder) -> Any:
    """The structure of the result of the function `name`, with a Slot for each tensor, which goes
    to `outputs`."""
    leaves: list[Any] = []
    for x in nest.flatten(result):
        if is_data(x):
            outputs.append(builder.lift(as_tensor(x)))
            leaves.append(Slot(len(outputs) - 1))
        else:
            leaves.append(_checked(name, x))
    return nest.pack(result, leaves)


def as_eager(name: str, result: Any) -> Any:
    """The result of the function `name` that ran as plain Python, as a trace would give it."""
    return nest.map_structure(lambda x: as_tensor(x) if is_data(x) else _checked(name, x), result)


def _checked(name: str, x: Any) -> Any:
    """An object that can be returned by each call: not one that runs later, or hides tensors."""
    kind = type(x).__name__
    if isinstance(x, Iterator | Awaitable | AsyncIterator):
        raise DTypeError(
            f"`{name}` returns a {kind}, whose items would be made after the trace has ended; "
            "return a list or a tuple of them", here()
        )  # fmt: skip
    if isinstance(x, Set | ValuesView) and any(isinstance(v, Value) for v in x):
        raise DTypeError(
            f"`{name}` returns a {kind} of tensors, which is no structure that calls can rebuild; "
            "return a list, a tuple or a dict", here()
        )  # fmt: skip
    return x


def pack(template: Any, outputs: Any) -> Any:
    """A result from its template and the outputs."""
    leaves = [outputs[x.index] if isinstance(x, Slot) else x for x in nest.flatten(template)]
    return nest.pack(template, leaves)
