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
from graphgrad.compiler.op import current_kind, ops, state
from graphgrad.compiler.source import here
from graphgrad.matching import Listed, Slot, listed
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

    def leaf(x: Any) -> Any:
        if is_data(x):
            outputs.append(builder.lift(as_tensor(x)))
            return Slot(len(outputs) - 1)
        if isinstance(x, Listed):
            return Listed(nest.map_structure(leaf, x.rows))
        return _checked(name, x)

    return nest.map_structure(leaf, _with_lists(result))


def _with_lists(x: Any) -> Any:
    """`x` with a leaf in place of each list whose length only the run knows."""
    if getattr(type(x), "is_list", False):
        return Listed(x.rows if x.typed else None)
    return nest.with_parts(x, _with_lists) if nest.is_nest(x) else x


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
    leaves = [
        outputs[x.index]
        if isinstance(x, Slot)
        else _list(x, outputs)
        if isinstance(x, Listed)
        else x
        for x in nest.flatten(template)
    ]
    return nest.pack(template, leaves)


def _list(x: Listed, outputs: Any) -> Any:
    """A list of tensors; within a trace, where its length is not known, one that grows."""
    rows = pack(x.rows, outputs)
    if state.builder is None or rows is None:
        return listed(rows)
    from graphgrad.arrays import Growable  # loaded by whoever made the list

    return Growable.of_rows(rows)
