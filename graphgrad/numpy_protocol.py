"""NumPy's functions on tensors stay inside the framework: traced, and differentiable."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import NoValueError
from graphgrad.compiler.ir import Value, leaked
from graphgrad.compiler.op import state
from graphgrad.compiler.source import here

# The public functions by dotted name, filled in by the package when they exist.
namespace: dict[str, Callable[..., Any]] = {}

_REDUCTIONS = {
    "add": "reduce_sum", "multiply": "reduce_prod", "maximum": "reduce_max",
    "minimum": "reduce_min", "logical_and": "reduce_all", "logical_or": "reduce_any",
}  # fmt: skip
_ACCUMULATIONS = {
    "add": "cumsum", "multiply": "math.cumprod", "maximum": "math.cummax",
    "minimum": "math.cummin", "logaddexp": "math.cumulative_logsumexp",
}  # fmt: skip
_UFUNCS = {
    "true_divide": "divide", "floor_divide": "math.floordiv", "remainder": "math.mod",
    "absolute": "abs", "conjugate": "math.conj",
    "power": "pow", "invert": "bitwise.invert", "bitwise_not": "bitwise.invert",
    "bitwise_and": "bitwise.bitwise_and", "bitwise_or": "bitwise.bitwise_or",
    "bitwise_xor": "bitwise.bitwise_xor", "left_shift": "bitwise.left_shift",
    "right_shift": "bitwise.right_shift", "fmod": "truncatemod",
    "isnan": "math.is_nan", "isinf": "math.is_inf", "isfinite": "math.is_finite",
    "reciprocal": "math.reciprocal", "log": "math.log", "log1p": "math.log1p",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2",
    "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh",
}  # fmt: skip
_FUNCTIONS = {
    "sum": "reduce_sum", "prod": "reduce_prod", "mean": "reduce_mean", "max": "reduce_max",
    "amax": "reduce_max", "min": "reduce_min", "amin": "reduce_min", "any": "reduce_any",
    "all": "reduce_all", "std": "math.reduce_std", "var": "math.reduce_variance",
    "argmax": "argmax", "argmin": "argmin", "cumsum": "cumsum", "cumprod": "math.cumprod",
    "reshape": "reshape", "transpose": "transpose", "squeeze": "squeeze",
    "broadcast_to": "broadcast_to", "concatenate": "concat",
    "stack": "stack", "where": "where",
    "fft": "signal.fft", "ifft": "signal.ifft", "fft2": "signal.fft2d", "ifft2": "signal.ifft2d",
    "rfft": "signal.rfft", "irfft": "signal.irfft",
    "real": "math.real", "imag": "math.imag", "angle": "math.angle",
    "clip": "clip_by_value", "fix": "math.trunc", "flip": "reverse", "dot": "matmul",
}  # fmt: skip


def ufunc(func: Any, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`np.sin(t)` and the like; `np.add.reduce(t)` is a reduction."""
    if any(isinstance(x, Arith) for x in kwargs.get("out", ())):
        raise TypeError(
            f"np.{func.__name__}: out= would write to a tensor, and tensors are immutable"
        )
    if "out" not in kwargs and kwargs.get("dtype") is None and kwargs.get("where", True) is True:
        name = func.__name__
        if method == "__call__":
            found = _find(_UFUNCS.get(name, name))
            if found is not None and not kwargs:
                return found(*inputs)
        elif method == "reduce" and name in _REDUCTIONS:
            axis, keepdims = kwargs.get("axis", 0), kwargs.get("keepdims", False)
            return namespace[_REDUCTIONS[name]](inputs[0], axis=axis, keepdims=keepdims)
        elif method == "accumulate" and name in _ACCUMULATIONS:
            return namespace[_ACCUMULATIONS[name]](inputs[0], kwargs.get("axis", 0))
    call = f"np.{func.__name__}" + ("" if method == "__call__" else f".{method}")
    call += " with out=" if "out" in kwargs else ""
    return _by_numpy(call, getattr(func, method), inputs, kwargs)


def function(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`np.mean(t)` and the like."""
    name = func.__name__
    if name == "clip" and "out" not in kwargs:
        args, kwargs = _bounds(*args, **kwargs), {}
    if name == "transpose" and "axes" in kwargs:
        kwargs = {"perm": kwargs["axes"]}
    found = _functions_of_numpy().get(f"{func.__module__}.{name}") or (
        _find(_FUNCTIONS[name]) if name in _FUNCTIONS else None
    )
    if found is not None and _takes(found, kwargs):
        ours = _as_numpy(name, args, kwargs)
        if ours is not None:
            args, kwargs = ours
            return found(*args, **kwargs)
    if name in ("round", "around") and isinstance(args[0], Arith) and "out" not in kwargs:
        decimals = args[1] if len(args) > 1 else kwargs.get("decimals", 0)
        return args[0].__round__(int(decimals))
    if name in ("shape", "ndim", "size"):
        x = args[0]
        if name == "size" and len(args) > 1:
            return x.shape[args[1]]
        return {"shape": x.shape, "ndim": x.ndim, "size": x.type.size}[name]
    return _by_numpy(f"{func.__module__.replace('numpy', 'np', 1)}.{name}", func, args, kwargs)


@functools.cache
def _functions_of_numpy() -> dict[str, Callable[..., Any]]:
    """What has NumPy's own parameters, by NumPy's module and name; loaded when needed."""
    from graphgrad import numpy_creation, numpy_linalg, numpy_shapes, numpy_signal

    functions = numpy_linalg.FUNCTIONS | numpy_shapes.FUNCTIONS | numpy_signal.FUNCTIONS
    functions |= numpy_creation.FUNCTIONS
    return {f"numpy.{name}": f for name, f in functions.items()}


def _bounds(a: Any, a_min: Any = None, a_max: Any = None, **named: Any) -> tuple[Any, Any, Any]:
    """The arguments of np.clip, which has two names for each bound."""
    return a, named.get("min", a_min), named.get("max", a_max)


def _takes(found: Callable[..., Any], kwargs: dict[str, Any]) -> bool:
    """Has the counterpart these parameters?"""
    if found not in _parameters:
        _parameters[found] = frozenset(inspect.signature(found).parameters)
    return _parameters[found].issuperset(kwargs)


_parameters: dict[Any, frozenset[str]] = {}


def _as_numpy(name: str, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
    """The arguments for the counterpart, where its defaults are not NumPy's; None: it has no such
    form."""
    axis = args[1] if len(args) > 1 else kwargs.get("axis")
    if name in ("argmax", "argmin", "cumsum", "cumprod") and axis is None:
        return (namespace["reshape"](args[0], (-1,)),), {}
    if name == "flip" and axis is None:
        return (args[0], list(range(args[0].ndim))), {}
    if name == "concatenate":
        if "axis" in kwargs and axis is None:
            return ([namespace["reshape"](x, (-1,)) for x in args[0]], 0), {}
        return (args[0], 0 if axis is None else axis), {}
    if name.rstrip("2").endswith("fft") and (len(args) > 1 or kwargs):
        return None
    if name == "dot" and not all(1 <= np.ndim(x) <= 2 for x in args):
        return None
    if name == "where" and len(args) != 3:
        return None  # NumPy's form is a tuple
    return args, kwargs


def _find(name: str) -> Callable[..., Any] | None:
    return namespace.get(name) or namespace.get(f"math.{name}")


def _by_numpy(call: str, func: Any, args: Any, kwargs: Any) -> Any:
    """Let NumPy compute on the values, where there are values."""
    result = func(*_arrays(args, call), **{k: _arrays(v, call) for k, v in kwargs.items()})
    if getattr(result, "dtype", np.dtype(bool)).kind in "fc" and _watched((args, kwargs)):
        warnings.warn(
            f"{call} has no counterpart in graphgrad: NumPy computes it, and no gradient flows "
            "through it", stacklevel=4
        )  # fmt: skip
    return result


def _watched(x: Any) -> bool:
    """Does a tape follow a tensor in this structure?"""
    if isinstance(x, list | tuple | dict):
        return any(map(_watched, x.values() if isinstance(x, dict) else x))
    return isinstance(x, Arith) and any(
        getattr(r, "wants", lambda values: False)((x,)) for r in state.recorders
    )


def _way_out(call: str) -> str:
    """The function of graphgrad that is called like NumPy's, though it takes other arguments."""
    name = call.partition(" ")[0].rpartition(".")[2]
    found = [known for known in sorted(namespace, key=len) if known.rpartition(".")[2] == name]
    return f"use gg.{found[0]}" if found else "compose gg functions"


def _arrays(x: Any, call: str) -> Any:
    if isinstance(x, list | tuple):
        return type(x)(_arrays(v, call) for v in x)
    if isinstance(x, Value):
        if x.builder is not None and not x.builder.open:
            raise leaked(x)
        raise NoValueError(
            f"{call} has no counterpart in graphgrad, so it needs the value of a symbolic tensor "
            f"{x.type}, and while a function is traced there is none yet; {_way_out(call)}",
            state.where or here(),
        )
    return np.asarray(x) if isinstance(x, Arith) else x
