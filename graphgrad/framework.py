"""What TensorFlow's programs say about graphs and modes: scopes, groups, `gradients`.

Effects keep program order by themselves here (see compiler/ops/callback.py), and names do not need
scopes, so much of it only has to be accepted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphgrad import nest
from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import as_dtype
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError, TraceError
from graphgrad.compiler.ir import Value
from graphgrad.compiler.op import current_kind, ops, state, zeros_like
from graphgrad.compiler.source import here
from graphgrad.compiler.transform.autodiff import backprop
from graphgrad.signature import TensorSpec
from graphgrad.tape_arguments import UnconnectedGradients
from graphgrad.tensor import EagerTensor
from graphgrad.tracing import outside


def executing_eagerly() -> bool:
    """Do operations run at once (else they are traced)?

    >>> import graphgrad as gg
    >>> gg.executing_eagerly(), bool(gg.function(lambda: gg.executing_eagerly())())
    (True, False)
    """
    return state.builder is None


def inside_function() -> bool:
    """Is a function being traced?"""
    return state.builder is not None


def is_symbolic_tensor(tensor: Any) -> bool:
    """Is it a tensor of a trace, which has no value yet?"""
    return isinstance(tensor, Value)


@contextmanager
def init_scope() -> Iterator[None]:
    """Leave the trace in progress: what runs inside runs eagerly, once, and no tape sees it.

    >>> import graphgrad as gg
    >>> @gg.function
    ... def f(x):
    ...     with gg.init_scope():
    ...         made = gg.executing_eagerly()
    ...     return x, made
    >>> bool(f(gg.constant(1))[1])
    True
    """
    with outside():
        yield


@contextmanager
def control_dependencies(control_inputs: Any) -> Iterator[None]:
    """Nothing: effects run in the order in which they stand in the program."""
    yield


class name_scope:  # used as a function
    """A scope whose name is given back: nothing is named by scopes here.

    >>> import graphgrad as gg
    >>> with gg.name_scope("layer") as scope:
    ...     print(scope)
    layer/
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise DTypeError(f"name_scope: a name is a string, got {name!r}", here())
        self.name = name

    def __enter__(self) -> str:
        return f"{self.name}/" if self.name else ""

    def __exit__(self, *what: object) -> None:
        return None


def no_op(name: str | None = None) -> None:
    """Nothing."""


def group(*inputs: Any, name: str | None = None) -> None:
    """Nothing more: what the inputs do has its place in the program already."""


def tuple_(tensors: Any, control_inputs: Any = None, name: str | None = None) -> list[Any]:
    """The tensors, as a list."""
    return list(tensors)


def identity_n(input: Sequence[Any], name: str | None = None) -> list[Any]:
    """The tensors, each as a tensor of its own.

    >>> import graphgrad as gg
    >>> [int(x) for x in gg.identity_n([1, 2])]
    [1, 2]
    """
    return [ops["identity"](x) for x in input]


def get_static_value(tensor: Any, partial: bool = False) -> Any:
    """The value of a tensor as an array, or None if it is not known while tracing.

    >>> import graphgrad as gg
    >>> gg.get_static_value(gg.constant([1, 2]))
    array([1, 2], dtype=int32)
    """
    if isinstance(tensor, Value):
        builder: Any = tensor.builder
        for node in reversed(builder.nodes):
            if tensor in node.outputs:
                found = node.attrs["value"].array if node.op.name == "constant" else None
                return None if found is None else found.copy()
        return None
    return np.asarray(tensor)


def bitcast(input: Any, type: Any, name: str | None = None) -> Any:
    """The same bits as elements of another dtype, which may be of another size.

    A smaller dtype gains a last axis; a larger one takes up the last axis, which must have as many
    elements as make one. No derivatives flow through it.

    >>> import graphgrad as gg
    >>> hex(int(gg.bitcast(1.0, gg.int32)))
    '0x3f800000'
    """
    x, target = current_kind().lift(input), as_dtype(type)
    size, wanted = x.dtype.itemsize, target.itemsize
    shape = x.type.shape
    if wanted < size:
        shape = (*shape, size // wanted)
    elif wanted > size:
        if not shape or shape[-1] != wanted // size:
            raise ShapeError(
                f"bitcast: {target.name} is made of {wanted // size} elements of the last axis, "
                f"got {x.type}", here()
            )  # fmt: skip
        shape = shape[:-1]
    if x.dtype.is_bool or target.is_bool:
        raise DTypeError(f"bitcast: bool has no bits of its own: {x.type} as {target.name}", here())

    def run(array: Any) -> Any:
        sizes = (*array.shape, size // wanted) if wanted < size else array.shape[: len(shape)]
        return np.ascontiguousarray(array).reshape(-1).view(target.dtype).reshape(sizes)

    if isinstance(x, EagerTensor):
        return EagerTensor(run(x.array).copy())
    from graphgrad.callbacks import numpy_function  # loaded where it is used

    spec = TensorSpec([n if isinstance(n, int) else None for n in shape], target)
    return numpy_function(run, [x], spec)


def timestamp(name: str | None = None) -> Any:
    """Seconds since 1970, a float64: when a compiled function gets there, not when it is traced.

    >>> import graphgrad as gg
    >>> float(gg.timestamp()) > 1.7e9
    True
    """
    from graphgrad.callbacks import numpy_function  # loaded where it is used

    return numpy_function(lambda: np.float64(time.time()), [], TensorSpec([], dtypes.float64))


def unravel_index(indices: Any, dims: Any, name: str | None = None) -> Any:
    """Flat indices into an array of shape `dims` as coordinates, one row an axis.

    >>> import graphgrad as gg
    >>> gg.unravel_index([2, 5, 7], (3, 3)).numpy()
    array([[0, 1, 2],
           [2, 2, 1]], dtype=int32)
    """
    rest = current_kind().lift(indices)
    if not rest.dtype.is_integer:
        raise DTypeError(f"unravel_index: indices are integers, got {rest.type}", here())
    sizes = [int(n) for n in np.asarray(dims)]
    rows = []
    for n in reversed(sizes):
        rows.append(rest % n)
        rest = rest // n
    return ops["concat"]([r.reshape((1, *r.shape)) for r in reversed(rows)], 0)


def gradients(
    ys: Any, xs: Any, grad_ys: Any = None, name: str = "gradients",
    gate_gradients: bool = False, aggregation_method: Any = None, stop_gradients: Any = None,
    unconnected_gradients: Any = UnconnectedGradients.NONE,
) -> list[Any]:  # fmt: skip
    """The derivatives of the sum of `ys` in `xs`, from the graph that is being traced.

    For functions only: outside, nothing remembers how values came about; use a GradientTape there.
    `stop_gradients` are taken as constants.

    >>> import graphgrad as gg
    >>> @gg.function
    ... def f(x):
    ...     return gg.gradients(x**3, x)[0]
    >>> f(gg.constant(2.0)).numpy()
    np.float32(12.0)
    """
    builder: Any = state.builder
    if builder is None:
        raise TraceError(
            "gg.gradients needs the graph of a function that is being traced; outside of "
            "gg.function, use gg.GradientTape", here()
        )  # fmt: skip
    targets = [builder.lift(y) for y in nest.flatten(ys)]
    sources = [builder.lift(x) for x in nest.flatten(xs)]
    given = [None] * len(targets) if grad_ys is None else nest.flatten(grad_ys)
    if len(given) != len(targets):
        raise ArgumentError(f"gradients: {len(given)} grad_ys for {len(targets)} ys", here())
    seeds = [
        (y, ops["broadcast_to"](y.dtype.dtype.type(1), y.shape) if g is None else builder.lift(g))
        for y, g in zip(targets, given)
    ]
    cut = {builder.lift(x) for x in nest.flatten(stop_gradients or [])}
    nodes = [n for n in builder.nodes if cut.isdisjoint(n.outputs)]
    found = backprop(nodes, seeds, sources)
    if UnconnectedGradients(unconnected_gradients) is UnconnectedGradients.ZERO:
        return [zeros_like(x) if g is None else g for x, g in zip(sources, found)]
    return found
