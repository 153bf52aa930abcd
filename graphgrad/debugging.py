"""gg.debugging: assertions that hold in every mode, with the values and the user's line.

What shapes and dtypes decide is checked at once, also while tracing. What values decide is checked
when the function runs, in program order with other effects.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from graphgrad.callbacks import insert_assertion
from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import as_dtype
from graphgrad.compiler.errors import ArgumentError, AssertionFailed, DTypeError, ShapeError
from graphgrad.compiler.op import current_kind, ops, state
from graphgrad.compiler.source import here
from graphgrad.devices import get_log_device_placement, set_log_device_placement
from graphgrad.printing import tensor_text
from graphgrad.public import exported
from graphgrad.tensor import Array
from graphgrad.tracebacks import (
    disable_traceback_filtering,
    enable_traceback_filtering,
    is_traceback_filtering_enabled,
)

globals().update(exported("debugging"))


def _comparison(name: str, sign: str, example: str) -> Callable[..., None]:
    """The assertion that a comparison of two tensors holds everywhere."""
    compare = _OPERATORS[sign]

    def check(
        x: Any, y: Any, message: str | None = None, summarize: int | None = None,
        name: str | None = None,
    ) -> None:  # fmt: skip
        kind = current_kind()
        a = kind.lift(x)
        b = kind.lift(y) if hasattr(y, "dtype") else kind.lift(y, a.dtype)
        _require(compare(a, b), f"x {sign} y", {"x": a, "y": b}, message, summarize)

    return _documented(check, name, f"x {sign} y", example)


def _sign(name: str, sign: str, example: str) -> Callable[..., None]:
    """The assertion that a comparison with 0 holds everywhere."""
    compare = _OPERATORS[sign]

    def check(
        x: Any, message: str | None = None, summarize: int | None = None, name: str | None = None
    ) -> None:
        a = current_kind().lift(x)
        _require(compare(a, 0), f"x {sign} 0", {"x": a}, message, summarize)

    return _documented(check, name, f"x {sign} 0", example)


def _documented(
    check: Callable[..., None], name: str, condition: str, example: str
) -> Callable[..., None]:
    check.__name__ = check.__qualname__ = name
    check.__doc__ = f"""Raise AssertionFailed unless {condition} at every element; shapes broadcast.

    The error has `message`, the place and values of the first element that fails, and of each axis
    the first and last `summarize` (3) entries.

    >>> import graphgrad as gg
    >>> gg.debugging.{name}({example})
    """
    return check


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip

assert_equal = _comparison("assert_equal", "==", "[1, 2], [1, 2]")
_none_equal = _comparison("assert_none_equal", "!=", "[1, 2], 3")
assert_less = _comparison("assert_less", "<", "[1, 2], 3")
assert_less_equal = _comparison("assert_less_equal", "<=", "[1, 2], 2")
assert_greater = _comparison("assert_greater", ">", "[1, 2], 0")
assert_greater_equal = _comparison("assert_greater_equal", ">=", "[1, 2], 1")
assert_positive = _sign("assert_positive", ">", "[1.0, 2.0]")
assert_negative = _sign("assert_negative", "<", "[-1.0]")
assert_non_negative = _sign("assert_non_negative", ">=", "[0.0]")
assert_non_positive = _sign("assert_non_positive", "<=", "[0.0]")


def assert_none_equal(
    x: Any, y: Any, summarize: int | None = None, message: str | None = None,
    name: str | None = None,
) -> None:  # fmt: skip
    _none_equal(x, y, message, summarize)


assert_none_equal.__doc__ = _none_equal.__doc__  # whose order of parameters is another


def assert_near(
    x: Any, y: Any, rtol: Any = None, atol: Any = None, message: str | None = None,
    summarize: int | None = None, name: str | None = None,
) -> None:  # fmt: skip
    """Raise AssertionFailed unless |x - y| <= atol + rtol * |y| at every element.

    Both tolerances are ten times the distance from 1 to the next number unless given.

    >>> import graphgrad as gg
    >>> gg.debugging.assert_near(1.0, 1.0000001)
    """
    kind = current_kind()
    a = kind.lift(x)
    b = kind.lift(y, a.dtype)
    default = 10 * a.dtype.eps if a.dtype.is_inexact else 0.0
    r, t = (default if v is None else v for v in (rtol, atol))
    near = ops["abs"](a - b) <= t + r * ops["abs"](b)
    condition = f"|x - y| <= {t} + {r} * |y|"
    _require((a == b) | near, condition, {"x": a, "y": b}, message, summarize)


def assert_all_finite(x: Any, message: str | None = None, name: str | None = None) -> Any:
    """`x`, after a check that no element is infinite or NaN.

    >>> import graphgrad as gg
    >>> gg.debugging.assert_all_finite([1.0], "weights").numpy()
    array([1.], dtype=float32)
    """
    a = current_kind().lift(x)
    _require(ops["isfinite"](a), "x is finite", {"x": a}, message, None)
    return a


def Assert(  # TensorFlow's name
    condition: Any, data: Iterable[Any], summarize: int | None = None, name: str | None = None
) -> None:
    """Raise AssertionFailed, with the values of `data`, unless the scalar bool `condition` holds.

    >>> import graphgrad as gg
    >>> gg.debugging.Assert(gg.constant(1) < 2, ["one is less than two"])
    """
    asserted(current_kind().lift(condition), "", data, summarize)


def asserted(holds: Any, condition: str, data: Iterable[Any], summarize: int | None = None) -> None:
    """`Assert` of a tensor, whose failure quotes the text of its condition."""
    parts = list(data)
    values = {
        f"value {k}": current_kind().lift(v) for k, v in enumerate(parts) if not isinstance(v, str)
    }
    text = " ".join(v for v in parts if isinstance(v, str)) or None
    _require(holds, condition, values, text, summarize)


def _require(
    holds: Any, condition: str, values: dict[str, Any], message: str | None, summarize: int | None
) -> None:
    """Raise AssertionFailed unless `holds` is true everywhere, now or when the function runs."""
    if holds.dtype is not dtypes.bool_:
        raise DTypeError(f"an assertion takes a bool tensor, got {holds.type}", here())
    names = list(values)
    shown = 3 if summarize is None else summarize
    if state.builder is None:
        failed = np.asarray(holds)
        if not failed.all():
            arrays = [np.asarray(v) for v in values.values()]
            raise AssertionFailed(
                _failure(failed, condition, names, arrays, message, shown), here()
            )
        return

    def check(all_hold: Array, each: Array, *arrays: Array) -> tuple[()]:
        if not all_hold.all():
            raise AssertionFailed(_failure(each, condition, names, arrays, message, shown))
        return ()

    insert_assertion(check, "assertion", ops["all"](holds), [holds, *values.values()])


def _failure(
    holds: Array, condition: str, names: Sequence[str], arrays: Sequence[Array],
    message: str | None, summarize: int,
) -> str:  # fmt: skip
    """What an assertion that failed says."""
    lines = [message] if message else []
    what = f"Condition {condition}" if condition else "The condition"
    if holds.ndim == 0:
        lines.append(f"{what} did not hold.")
    else:
        places = np.argwhere(~holds)
        first = tuple(int(i) for i in places[0])
        found = [f"{n} = {tensor_text(_element(a, holds.shape, first), 1)}"
                 for n, a in zip(names, arrays)]  # fmt: skip
        lines.append(
            f"{what} did not hold at {len(places)} of {holds.size} elements; the "
            f"first, at {list(first)}: {', '.join(found)}"
        )
    for n, a in zip(names, arrays):
        text = tensor_text(a, summarize)
        shape = f"{dtypes.as_dtype(a.dtype).short}{list(a.shape)}"
        lines.append(f"{n}, {shape}:{chr(10) if chr(10) in text else ' '}{text}")
    return "\n".join(lines)


def _element(a: Array, shape: tuple[int, ...], place: tuple[int, ...]) -> Array:
    return np.asarray(np.broadcast_to(a, shape)[place])


# What shapes and dtypes decide


def _prefix(message: str | None) -> str:
    return f"{message}: " if message else ""


def assert_rank(x: Any, rank: int, message: str | None = None, name: str | None = None) -> None:
    """ShapeError unless `x` has `rank` axes.

    >>> import graphgrad as gg
    >>> gg.debugging.assert_rank([[1.0]], 2)
    """
    assert_rank_in(x, [rank], message)


def assert_rank_in(
    x: Any, ranks: Sequence[int], message: str | None = None, name: str | None = None
) -> None:
    """ShapeError unless the number of axes of `x` is one of `ranks`."""
    t = current_kind().lift(x).type
    if t.ndim not in [int(r) for r in ranks]:
        wanted = " or ".join(map(str, ranks))
        raise ShapeError(f"{_prefix(message)}Tensor must have rank {wanted}, got {t}", here())


def assert_rank_at_least(
    x: Any, rank: int, message: str | None = None, name: str | None = None
) -> None:
    """ShapeError unless `x` has `rank` axes or more."""
    t = current_kind().lift(x).type
    if t.ndim < int(rank):
        raise ShapeError(f"{_prefix(message)}Tensor must have rank {rank} or more, got {t}", here())


def assert_scalar(tensor: Any, message: str | None = None, name: str | None = None) -> Any:
    """`tensor`; ShapeError unless it has no axes."""
    x = current_kind().lift(tensor)
    if x.ndim:
        raise ShapeError(f"{_prefix(message)}Expected scalar shape, got {x.type}", here())
    return x


def assert_shapes(
    shapes: Any, data: Any = None, summarize: int | None = None, message: str | None = None,
    name: str | None = None,
) -> None:  # fmt: skip
    """ShapeError unless tensors have these shapes: sizes, None or "." for any, or names, which mean
    the same size wherever they stand. A shape may begin or end with "..." or "*" for further axes.

    `shapes` is a list of (tensor, shape) pairs or a dictionary.

    >>> import graphgrad as gg
    >>> x, w = gg.ones([4, 3]), gg.ones([3, 2])
    >>> gg.debugging.assert_shapes([(x, ("N", "D")), (w, ("D", 2))])
    """
    pairs = list(shapes.items()) if isinstance(shapes, dict) else list(shapes)
    named: dict[Any, tuple[Any, Any]] = {}
    for x, wanted in pairs:
        t = current_kind().lift(x.deref() if hasattr(x, "deref") else x).type
        pattern = list(wanted) if isinstance(wanted, str | list | tuple) else [wanted]
        sizes = list(t.shape)
        if pattern and pattern[0] in ("...", "*", Ellipsis):
            pattern = pattern[1:]
            sizes = sizes[len(sizes) - len(pattern) :] if len(sizes) >= len(pattern) else sizes
        elif pattern and pattern[-1] in ("...", "*", Ellipsis):
            pattern = pattern[:-1]
            sizes = sizes[: len(pattern)]
        if len(sizes) != len(pattern):
            raise ShapeError(
                f"{_prefix(message)}{t} does not have the rank of {_shown(wanted)}", here()
            )
        for axis, (size, symbol) in enumerate(zip(sizes, pattern)):
            if symbol is None or symbol == ".":
                continue
            if isinstance(symbol, str) and not symbol.isdigit():
                known, where = named.setdefault(symbol, (size, f"{t} has it at axis {axis}"))
            else:
                known, where = int(symbol), ""
            if size != known:
                why = f" ({symbol} is {known}: {where})" if where else ""
                raise ShapeError(
                    f"{_prefix(message)}{t} has size {size}, not {known}, where "
                    f"{_shown(wanted)} has {symbol!r}{why}", here()
                )  # fmt: skip


def _shown(wanted: Any) -> str:
    return f"({', '.join(map(str, wanted))})" if isinstance(wanted, list | tuple) else str(wanted)


def assert_type(
    tensor: Any, tf_type: Any, message: str | None = None, name: str | None = None
) -> None:
    """DTypeError unless `tensor` has this dtype."""
    t = current_kind().lift(tensor).type
    if t.dtype is not as_dtype(tf_type):
        raise DTypeError(
            f"{_prefix(message)}tensor must be of type {as_dtype(tf_type).name}; got {t}", here()
        )


def assert_integer(x: Any, message: str | None = None, name: str | None = None) -> None:
    """DTypeError unless `x` has an integer dtype."""
    t = current_kind().lift(x).type
    if not t.dtype.is_integer:
        raise DTypeError(f"{_prefix(message)}Expected an integer dtype, got {t}", here())


def assert_same_float_dtype(tensors: Any = None, dtype: Any = None) -> Any:
    """The one floating dtype of all `tensors` and `dtype`; DTypeError where they differ."""
    wanted = None if dtype is None else as_dtype(dtype)
    for x in tensors or ():
        t = current_kind().lift(x).type
        wanted = wanted or t.dtype
        if t.dtype is not wanted:
            raise DTypeError(f"Tensors differ in dtype: {t} and {wanted.name}", here())
    wanted = wanted or dtypes.float32
    if not wanted.is_floating:
        raise DTypeError(f"Expected a floating dtype, got {wanted.name}", here())
    return wanted


def assert_proper_iterable(values: Any) -> None:
    """ArgumentError unless `values` is a Python iterable of tensors rather than one tensor."""
    if hasattr(values, "dtype") or isinstance(values, str | bytes):
        raise ArgumentError(
            f"Expected a list or tuple of values, got one {type(values).__name__}", here()
        )
    if not isinstance(values, Iterable):
        raise ArgumentError(f"Expected an iterable, got {type(values).__name__}", here())


def is_numeric_tensor(tensor: Any) -> bool:
    """Is it a tensor of numbers?"""
    dtype = getattr(tensor, "dtype", None)
    return isinstance(dtype, dtypes.DType) and not dtype.is_bool


__all__ = [
    "Assert", "assert_all_finite", "assert_equal", "assert_greater", "assert_greater_equal",
    "assert_integer", "assert_less", "assert_less_equal", "assert_near", "assert_negative",
    "assert_non_negative", "assert_non_positive", "assert_none_equal", "assert_positive",
    "assert_proper_iterable", "assert_rank", "assert_rank_at_least", "assert_rank_in",
    "assert_same_float_dtype", "assert_scalar", "assert_shapes", "assert_type",
    "disable_traceback_filtering", "enable_traceback_filtering", "get_log_device_placement",
    "is_numeric_tensor", "is_traceback_filtering_enabled", "set_log_device_placement",
]  # fmt: skip
__all__ += sorted(exported("debugging"))
