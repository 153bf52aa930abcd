"""Calls in converted functions: users' functions are converted, some builtins take tensors."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from graphgrad import nest
from graphgrad.compiler.errors import TraceError
from graphgrad.compiler.ir import Value
from graphgrad.compiler.source import Where, here, is_internal
from graphgrad.conversion.operators.builtins import REPLACED
from graphgrad.conversion.operators.subtrace import branch_depth

# Functions of graphgrad's that call the functions that they are given.
HIGHER = frozenset({
    "cond", "case", "switch_case", "while_loop", "fori_loop", "map_fn", "vectorized_map", "vmap",
    "scan", "foldl", "foldr", "associative_scan", "grad", "value_and_grad", "jvp", "vjp", "hvp",
    "jacfwd", "jacrev", "hessian", "recompute_grad", "checkpoint", "eval_shape",
})  # fmt: skip
SAME = 12  # calls of one function within itself with the same types, under tensor conditions
DEEP = 40  # with any


class _Local(threading.local):
    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any]] = []  # (code, key of the arguments) under conditions


_local = _Local()


def call(f: Any) -> Any:
    """What to call in place of `f`: itself, but for functions of the user's and some builtins."""
    kind = type(f)
    if kind is FunctionType:
        if is_internal(f.__code__.co_filename):
            return _converting(f) if f.__name__ in HIGHER else convert(f) if f.__closure__ else f
        converted = convert(f)
        return _guarded(converted, f) if branch_depth() else converted
    if kind is BuiltinFunctionType or kind is type:
        return REPLACED.get(f, f) if kind is type or f.__module__ == "builtins" else f
    if kind is MethodType:
        function = f.__func__
        if type(function) is not FunctionType:
            return f
        found = call(function)
        return f if found is function else MethodType(found, f.__self__)
    if kind is functools.partial:
        found = call(f.func)
        return f if found is f.func else functools.partial(found, *f.args, **f.keywords)
    own = getattr(kind, "__call__", None)  # noqa: B004  # the function, not whether it is one
    if type(own) is FunctionType and not isinstance(f, type) and not _is_ours(own):
        found = call(own)
        return f if found is own else MethodType(found, f)
    return f


def _is_ours(function: FunctionType) -> bool:
    return is_internal(function.__code__.co_filename)


def convert(f: Any) -> Any:
    """`f`, converted; `f` itself where nothing is to convert."""
    from graphgrad.conversion.convert import convert as converted  # which imports the operators

    return converted(f)


def _converting(f: Any) -> Any:
    """`f`, a function of graphgrad's, with the functions that it is given converted."""

    @functools.wraps(f)
    def run(*args: Any, **kwargs: Any) -> Any:
        return f(*map(_argument, args), **{k: _argument(v) for k, v in kwargs.items()})

    return run


def _argument(x: Any) -> Any:
    if isinstance(x, FunctionType | MethodType | functools.partial):
        return call(x)
    if isinstance(x, list | tuple | dict) and any(callable(f) for f in nest.flatten(x)):
        return nest.map_structure(_argument, x)
    return x


# Recursion: under a tensor condition both branches are traced, so one that ends by tensors never
# does.


def _guarded(converted: Callable[..., Any], f: FunctionType) -> Callable[..., Any]:
    """`converted`, which raises where it is called within itself again and again."""

    @functools.wraps(f)
    def run(*args: Any, **kwargs: Any) -> Any:
        code, calls = f.__code__, _local.calls
        key = code, _types((args, kwargs))
        calls.append(key)
        try:
            same = calls.count(key) if len(calls) >= SAME else 0
            if same >= SAME:
                raise _endless(f, same, "with arguments of the same types")
            if len(calls) >= DEEP and _count(code) >= DEEP:
                raise _endless(f, _count(code), "each time with other arguments")
            return converted(*args, **kwargs)
        except RecursionError:
            if _count(code) < SAME:
                raise
            raise _endless(f, _count(code), "each time with other arguments") from None
        finally:
            calls.pop()

    return run


def _count(code: Any) -> int:
    """How many calls of one function are under way."""
    return sum(c is code for c, _ in _local.calls)


def _types(arguments: Any) -> tuple[Any, ...]:
    return tuple(
        str(x.type) if isinstance(x, Value) else x if isinstance(x, int | float | str) else id(x)
        for x in nest.flatten(arguments)
    )


def _endless(f: FunctionType, depth: int, how: str) -> TraceError:
    line = Where(f.__code__.co_filename, f.__code__.co_firstlineno)
    return TraceError(
        f"`{f.__name__}` ({line.short()}) calls itself {depth} times under conditions that are "
        f"tensors, {how}: both branches are traced, so the recursion would never end. Write it as "
        "a loop (`while`), or end it by a Python value", here()
    )  # fmt: skip
