"""gg.py_function and gg.numpy_function: Python in the middle of a compiled function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphgrad.compiler.dtypes import DType, as_dtype
from graphgrad.compiler.errors import ArgumentError, DTypeError
from graphgrad.compiler.op import current_kind, state
from graphgrad.compiler.ops.callback import Callback, callback
from graphgrad.compiler.source import here
from graphgrad.compiler.transform.sizes import runtime_size
from graphgrad.compiler.types import Shape
from graphgrad.eager import EagerTensor, eager
from graphgrad.signature import TensorSpec
from graphgrad.tape import GradientTape, UnconnectedGradients
from graphgrad.tensor import Array
from graphgrad.tracing import outside


def py_function(func: Callable[..., Any], inp: Any, Tout: Any, name: str | None = None) -> Any:
    """What `func` returns for the tensors `inp`: eager Python, in any mode.

    Inside `gg.function`, `func` runs each time that the function does, in program order with other
    effects, with eager tensors as arguments; it may read variables, print, or enter a debugger.
    Derivatives flow through it: they run `func` once more, under a tape. `Tout` is a dtype, a
    `TensorSpec` or a list of these (None or []: nothing is returned). A traced function has to know
    shapes: where a bare dtype stands, that of the first input is taken, and the results are checked
    against it. Give a `TensorSpec`, with None for sizes that vary, where it is another.

    Raises DTypeError or ShapeError where results differ from what `Tout` says.

    >>> import graphgrad as gg
    >>> f = gg.function(lambda x: gg.py_function(lambda v: v * float(v[0]), [x], gg.float32))
    >>> f(gg.constant([2.0, 3.0])).numpy()
    array([4., 6.], dtype=float32)
    """
    return _call(func, inp, Tout, "py_function", True)


def numpy_function(
    func: Callable[..., Any], inp: Any, Tout: Any, stateful: bool = True, name: str | None = None
) -> Any:
    """What `func` returns for `inp` as NumPy arrays, in any mode; no derivatives flow through it.

    `Tout` is as for `py_function`. The arrays are the function's own: it may keep or change them.

    >>> import numpy as np
    >>> import graphgrad as gg
    >>> f = gg.function(lambda x: gg.numpy_function(np.sort, [x], gg.float32))
    >>> f(gg.constant([3.0, 2.0])).numpy()
    array([2., 3.], dtype=float32)
    """
    return _call(func, inp, Tout, "numpy_function", False)


def _call(func: Callable[..., Any], inp: Any, Tout: Any, name: str, differentiable: bool) -> Any:
    kind = current_kind()
    inputs = [kind.lift(x) for x in (inp if isinstance(inp, list | tuple) else [inp])]
    many = isinstance(Tout, list | tuple)
    specs = list(Tout) if many else [] if Tout is None else [Tout]
    specs = [s if isinstance(s, TensorSpec) else as_dtype(s) for s in specs]
    label = f"{name} of {getattr(func, '__name__', type(func).__name__)}"

    def run(*tensors: Any) -> list[Any]:
        """The results for eager tensors, as eager tensors of the dtypes of `specs`."""
        if differentiable:
            return _results(func(*tensors), specs, label)
        return _results(func(*(np.array(t) for t in tensors)), specs, label)

    if state.builder is None:
        results = run(*inputs)
    else:
        types = [_declared(s, inputs) for s in specs]
        made = _over_tensors(run, label) if differentiable else _over_arrays(run, label)
        found = callback(
            *inputs, function=made,
            shapes=tuple(shape for shape, _ in types), dtypes=tuple(dtype for _, dtype in types),
        )  # fmt: skip
        results = list(found)
    return results if many else results[0] if results else None


def _declared(spec: Any, inputs: Sequence[Any]) -> tuple[Shape, DType]:
    if isinstance(spec, DType):
        return (inputs[0].type.shape if inputs else ()), spec
    shape = tuple(runtime_size("size") if n is None else n for n in spec.shape)
    return shape, spec.dtype


def _results(found: Any, specs: Sequence[Any], label: str) -> list[Any]:
    several = isinstance(found, tuple) or (isinstance(found, list) and len(specs) > 1)
    values = [] if not specs else list(found) if several else [found]
    if len(values) != len(specs):
        raise ArgumentError(
            f"{label} returned {len(values)} values; Tout declares {len(specs)}", here()
        )
    tensors = []
    for value, spec in zip(values, specs):
        wanted = spec if isinstance(spec, DType) else spec.dtype
        has_dtype = hasattr(value, "dtype") or hasattr(value, "__graphgrad_value__")
        tensor = eager.lift(value, None if has_dtype else wanted)
        if tensor.dtype is not wanted:
            raise DTypeError(f"{label} returned {tensor.type}; Tout declares {wanted.name}", here())
        tensors.append(tensor)
    return tensors


def insert(function: Callable[..., Sequence[Any]], name: str, inputs: Sequence[Any]) -> None:
    """Have `function(*arrays)`, which returns nothing, run at this place of the trace."""
    callback(*inputs, function=_over_arrays(function, name), shapes=(), dtypes=())


def insert_assertion(
    check: Callable[..., tuple[()]], name: str, holds: Any, inputs: Sequence[Any]
) -> None:
    """Have `check(holds, *arrays)`, which raises if the bool `holds` is false and else does
    nothing, run at this place of the trace."""
    function = _over_arrays(check, name, guarded=True)
    callback(holds, *inputs, function=function, shapes=(), dtypes=())


def _over_arrays(
    function: Callable[..., Sequence[Any]], name: str, guarded: bool = False
) -> Callback:
    def run(*arrays: Array) -> list[Array]:
        with outside():
            return [np.asarray(y) for y in function(*arrays)]

    return Callback(run, name, guarded=guarded)


def _over_tensors(function: Callable[..., Sequence[Any]], name: str) -> Callback:
    """`function` of eager tensors, as a callback that can be differentiated at every order."""

    def run(*arrays: Array) -> list[Array]:
        with outside():
            return [np.asarray(y) for y in function(*map(_owned, arrays))]

    @functools.cache
    def pullback(count: int) -> Callback:
        def reverse(*tensors: Any) -> list[Any]:
            """The cotangents of the floating inputs: `function` once more, under a tape."""
            xs, seeds = tensors[:count], tensors[count:]
            sources = [x for x in xs if x.dtype.is_inexact]
            with GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(sources)
                ends = [y for y in function(*xs) if y.dtype.is_inexact]
            zero = UnconnectedGradients.ZERO
            return tape.gradient(ends, sources, list(seeds), zero)

        return _over_tensors(reverse, f"gradient of {name}")

    return Callback(run, name, pullback)


def _owned(array: Array) -> EagerTensor:
    return EagerTensor(np.array(array, order="C"))
