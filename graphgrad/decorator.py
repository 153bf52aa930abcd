"""`gg.function`: the decorator, its options, and what it refuses."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, overload

from graphgrad.compiler.errors import ArgumentError, DTypeError
from graphgrad.compiler.source import here
from graphgrad.function import Function, name_of

P = ParamSpec("P")
R = TypeVar("R")


def _runs_later(python_function: Any) -> bool:
    """Does calling it return before its body runs?"""
    while isinstance(python_function, functools.partial):
        python_function = python_function.func
    if not inspect.isroutine(python_function) and not isinstance(python_function, type):
        python_function = inspect.getattr_static(type(python_function), "__call__", None)
    return (
        inspect.isgeneratorfunction(python_function)
        or inspect.iscoroutinefunction(python_function)
        or inspect.isasyncgenfunction(python_function)
    )


@overload
def function(
    func: Callable[P, R],
    input_signature: Any = None,
    autograph: bool = True,
    jit_compile: bool | None = None,
    reduce_retracing: bool = False,
    max_traces: int | None = None,
    donate_argnums: int | Sequence[int] = (),
    loop_memory: int | str | None = None,
    flush_denormals: bool = False,
    experimental_implements: Any = None,
    experimental_autograph_options: Any = None,
    experimental_attributes: Any = None,
    experimental_relax_shapes: bool | None = None,
    experimental_compile: bool | None = None,
    experimental_follow_type_hints: bool | None = None,
) -> Function[P, R]: ...
@overload
def function(
    func: None = None,
    input_signature: Any = None,
    autograph: bool = True,
    jit_compile: bool | None = None,
    reduce_retracing: bool = False,
    max_traces: int | None = None,
    donate_argnums: int | Sequence[int] = (),
    loop_memory: int | str | None = None,
    flush_denormals: bool = False,
    experimental_implements: Any = None,
    experimental_autograph_options: Any = None,
    experimental_attributes: Any = None,
    experimental_relax_shapes: bool | None = None,
    experimental_compile: bool | None = None,
    experimental_follow_type_hints: bool | None = None,
) -> Callable[[Callable[P, R]], Function[P, R]]: ...
def function(
    func: Callable[..., Any] | None = None,
    input_signature: Any = None,
    autograph: bool = True,
    jit_compile: bool | None = None,
    reduce_retracing: bool = False,
    max_traces: int | None = None,
    donate_argnums: int | Sequence[int] = (),
    loop_memory: int | str | None = None,
    flush_denormals: bool = False,
    experimental_implements: Any = None,
    experimental_autograph_options: Any = None,
    experimental_attributes: Any = None,
    experimental_relax_shapes: bool | None = None,
    experimental_compile: bool | None = None,
    experimental_follow_type_hints: bool | None = None,
) -> Any:
    """Compile a Python function: traced once for each kind of arguments, then run as one program.

    Tensors and NumPy arrays, which become tensors, count by dtype and shape, Python values by type
    and value, other objects by identity; globals, closure values and attributes that the function
    reads are guarded, and a change of one leads to a new trace. Structures (lists, tuples, dicts,
    named tuples, dataclasses) may be arguments and results; Python numbers among the results
    become tensors, other objects are returned as they are. Each instance of a class has traces of
    its own for its methods, which do not keep it alive.

    `input_signature` fixes dtypes and shapes, with None for sizes that may vary.
    `reduce_retracing` leaves open what has varied. `jit_compile=False` interprets op by op; True
    and None compile. `max_traces` turns one trace too many into an error; without it a
    `gg.errors.RetracingWarning` says when 5 of the last 10 calls were traced.
    `donate_argnums` are positions of arguments that a call uses up: results may take the memory of
    their tensors, which raise when they are used afterwards. It is taken where a kernel reads each
    element right before it writes there and nobody else holds it; of several inputs that would do
    the compiler chooses one. Calls under a tape, in other functions and of a concrete function give
    nothing away.
    `loop_memory`, a number of bytes or a text like "64MB", bounds what the loops of the function,
    nested ones and those of functions that it calls included, keep at one time for their gradient,
    together. A loop that would keep more keeps checkpoints of its state, and the gradient computes
    the steps between them again: in as many levels as it takes, each of which runs the steps once
    more, and also where only the run knows the number of steps (`while`, `break`, a size of None).
    Where no schedule fits, tracing raises ArgumentError with the least that would do. Open sizes
    count as in the call that is traced. Not counted are a loop's own inputs and results (what it
    iterates over and what it stacks, and their gradients), and what an iteration needs while it
    runs. The bound is for first derivatives; the gradient of a gradient keeps what it needs.
    `gg.vmap` of such a function multiplies it by the examples.
    Python's control flow on tensors becomes part of the graph: `if`, `while`, `for`, `and`, `or`,
    `not`, ternaries, chained comparisons, `assert`, assignments to elements, also in the functions
    that are called; with `autograph=False` it stays Python's.
    The experimental options of TensorFlow are accepted and have no effect, but for
    `experimental_relax_shapes` and `experimental_compile`, the former names of `reduce_retracing`
    and `jit_compile`, and for `experimental_follow_type_hints`, which there is not.

    >>> import graphgrad as gg
    >>> @gg.function
    ... def f(x):
    ...     return x * 2 + 1
    >>> f(gg.constant([1.0, 2.0])).numpy()
    array([3., 5.], dtype=float32)
    """
    if experimental_follow_type_hints:
        raise ArgumentError(
            "gg.function: experimental_follow_type_hints does not exist here; Python numbers count "
            "by value unless the input_signature has a TensorSpec for them", here()
        )  # fmt: skip
    if max_traces is not None and max_traces < 1:
        raise ArgumentError(f"gg.function: max_traces is at least 1, got {max_traces}", here())

    def decorate(python_function: Any) -> Any:
        if isinstance(python_function, staticmethod | classmethod):
            return type(python_function)(decorate(python_function.__func__))
        if not callable(python_function):
            raise DTypeError(f"gg.function: takes a function, got {python_function!r}", here())
        if isinstance(python_function, Function):
            python_function = python_function.python_function
        if _runs_later(python_function):
            raise ArgumentError(
                f"gg.function: {name_of(python_function)} is a generator or coroutine function, "
                "which returns before its body runs; decorate a plain function", here()
            )  # fmt: skip
        return Function(
            python_function,
            input_signature=input_signature,
            jit_compile=jit_compile if jit_compile is not None else experimental_compile,
            reduce_retracing=reduce_retracing or bool(experimental_relax_shapes),
            max_traces=max_traces,
            donate_argnums=donate_argnums,
            autograph=autograph,
            loop_memory=None if loop_memory is None else bytes_of(loop_memory),
            flush_denormals=bool(flush_denormals),
        )

    return decorate if func is None else decorate(func)


def eval_shape(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The structure that `f(*args, **kwargs)` returns, with a TensorSpec for each tensor.

    Arguments may be specifications as well. `f` is traced and nothing is computed; errors of shape
    and dtype are those of a call.

    >>> import graphgrad as gg
    >>> gg.eval_shape(lambda x, y: x @ y, gg.TensorSpec([None, 3]), gg.zeros([3, 5]))
    TensorSpec(shape=(None, 5), dtype=gg.float32, name=None)
    """
    traced = f if isinstance(f, Function) else function(f)
    return traced.get_concrete_function(*args, **kwargs).structured_outputs


UNITS = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


def bytes_of(size: int | str) -> int:
    """A number of bytes, or a text like "64MB" (of 2**20 bytes each), as a number."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?)I?B\s*", str(size).upper())
    number = int(size) if isinstance(size, int) else 0
    if found is not None:
        number = int(float(found[1]) * UNITS[f"{found[2]}B"])
    if number < 1:
        raise ArgumentError(
            f'gg.function: loop_memory is a number of bytes or a text like "64MB", got {size!r}',
            here(),
        )
    return number
