"""Loops over the first axis and choices among functions, by TensorFlow's names.

Outside a trace they run as Python. In a trace a loop is one op, whatever its length, and a choice
is nested conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphgrad import nest
from graphgrad.batching import vmap
from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import as_dtype, promote
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.op import current_kind, ops, state
from graphgrad.compiler.ops.join import stack
from graphgrad.compiler.ops.shapes import known_or_none
from graphgrad.compiler.source import here
from graphgrad.control import cond, scan_loop, while_loop
from graphgrad.debugging import Assert


def _lifted(structure: Any) -> Any:
    return nest.map_structure(current_kind().lift, structure)


def _length(name: str, elems: Any) -> Any:
    """The size of the first axis, which all of `elems` share."""
    types = [x.type for x in nest.flatten(elems)]
    if not types or any(not t.shape for t in types):
        raise ShapeError(f"{name}: takes tensors with a first axis, got {types}", here())
    if any(t.shape[0] != types[0].shape[0] for t in types):
        raise ShapeError(f"{name}: the first axes differ in size: {types}", here())
    return types[0].shape[0]


def foldl(
    fn: Callable[[Any, Any], Any], elems: Any, initializer: Any = None,
    parallel_iterations: int = 10, back_prop: bool = True, swap_memory: bool = False,
    name: str | None = None,
) -> Any:  # fmt: skip
    """`fn(... fn(fn(initializer, elems[0]), elems[1]) ...)`; without `initializer` it starts with
    elems[0]. `elems` and the result may be structures.

    >>> import graphgrad as gg
    >>> gg.foldl(lambda total, x: 10 * total + x, gg.constant([1, 2, 3])).numpy()
    np.int32(123)
    """
    return _fold("foldl", fn, elems, initializer, reverse=False)


def foldr(
    fn: Callable[[Any, Any], Any], elems: Any, initializer: Any = None,
    parallel_iterations: int = 10, back_prop: bool = True, swap_memory: bool = False,
    name: str | None = None,
) -> Any:  # fmt: skip
    """`foldl` from the last element to the first.

    >>> import graphgrad as gg
    >>> gg.foldr(lambda total, x: 10 * total + x, gg.constant([1, 2, 3])).numpy()
    np.int32(321)
    """
    return _fold("foldr", fn, elems, initializer, reverse=True)


def _fold(
    name: str, fn: Callable[[Any, Any], Any], elems: Any, initializer: Any, reverse: bool
) -> Any:
    start, rest = _start(name, elems, initializer, reverse)
    _length(name, rest)
    return scan_loop(lambda a, x: (_lifted(fn(a, x)), ()), start, rest, reverse)[0]


def scan(
    fn: Callable[[Any, Any], Any], elems: Any, initializer: Any = None,
    parallel_iterations: int = 10, back_prop: bool = True, swap_memory: bool = False,
    infer_shape: bool = True, reverse: bool = False, name: str | None = None,
) -> Any:  # fmt: skip
    """What `foldl` has after each element, stacked; with `reverse` what `foldr` has.

    >>> import graphgrad as gg
    >>> gg.scan(lambda total, x: 10 * total + x, gg.constant([1, 2, 3])).numpy()
    array([  1,  12, 123], dtype=int32)
    """
    start, rest = _start("scan", elems, initializer, reverse)

    def step(a: Any, x: Any) -> Any:
        after = _lifted(fn(a, x))
        return after, after

    found = scan_loop(step, start, rest, reverse)[1]
    if initializer is not None:
        return found
    own = nest.map_structure(lambda x: stack([x]), start)
    order = (lambda a, b: [b, a]) if reverse else lambda a, b: [a, b]
    return nest.map_structure(lambda a, b: ops["concat"](order(a, b), 0), own, found)


def _start(name: str, elems: Any, initializer: Any, reverse: bool) -> tuple[Any, Any]:
    """The first state, and the elements that are left."""
    xs = _lifted(elems)
    some = _length(name, xs)
    if initializer is not None:
        return _lifted(initializer), xs
    if not some:
        raise ShapeError(f"{name}: there are no elements, and no initializer", here())
    first, rest = (-1, slice(None, -1)) if reverse else (0, slice(1, None))
    return nest.map_structure(lambda x: x[first], xs), nest.map_structure(lambda x: x[rest], xs)


def map_fn(
    fn: Callable[[Any], Any], elems: Any, dtype: Any = None, parallel_iterations: int | None = None,
    back_prop: bool = True, swap_memory: bool = False, infer_shape: bool = True,
    name: str | None = None, fn_output_signature: Any = None,
) -> Any:  # fmt: skip
    """`fn` of each slice of `elems` along the first axis, one after the other, stacked.

    `gg.vectorized_map` computes all slices at once, which is faster. The dtypes of the results are
    found; where `fn_output_signature` (or `dtype`) declares them, dtypes or `gg.TensorSpec`s in the
    structure of the result, they are checked.

    >>> import graphgrad as gg
    >>> gg.map_fn(lambda x: x * x, gg.constant([1, 2, 3])).numpy()
    array([1, 4, 9], dtype=int32)
    """
    xs = _lifted(elems)
    _length("map_fn", xs)
    declared = dtype if fn_output_signature is None else fn_output_signature

    def one(x: Any) -> Any:
        found = _lifted(fn(x))
        if declared is not None:
            _check_declared(declared, found)
        return found

    return scan_loop(lambda none, x: (none, one(x)), (), xs)[1]


def _check_declared(declared: Any, found: Any) -> None:
    """Raise unless the result of a function is of the dtypes and shapes that were declared."""
    what = "map_fn: the fn_output_signature and the result of the function"
    for _, spec, y in nest.flatten_up_to(declared, found, what, check_types=False):
        shape = getattr(spec, "shape", None)
        wanted = as_dtype(getattr(spec, "dtype", spec))
        if wanted is not y.dtype:
            raise DTypeError(
                f"map_fn: the function gives {y.type}, declared is {wanted.name}", here()
            )
        if shape is not None and not y.shape.is_compatible_with(shape):
            raise ShapeError(
                f"map_fn: the function gives {y.type}, declared is the shape {tuple(shape)}", here()
            )


def fori_loop(
    lower: Any, upper: Any, body_fun: Callable[[Any, Any], Any], init_val: Any,
    name: str | None = None,
) -> Any:  # fmt: skip
    """`val = body_fun(i, val)` for i = lower, ..., upper - 1, from `init_val`, a structure.

    The bounds are integers or 0-d integer tensors; i is a 0-d tensor of their dtype.

    >>> import graphgrad as gg
    >>> gg.fori_loop(0, 5, lambda i, total: total + i, 0).numpy()
    np.int32(10)
    """
    kind = current_kind()
    first, last = kind.lift(lower), kind.lift(upper)
    for bound in (first, last):
        if bound.ndim or not bound.dtype.is_integer:
            raise ArgumentError(f"fori_loop: a bound is one integer, got {bound.type}", here())
    dtype = promote(first.dtype, last.dtype)
    first, last = first.cast(dtype), last.cast(dtype)
    ends = known_or_none(lower), known_or_none(upper)
    if all(isinstance(n, int) for n in ends) and state.builder is not None:
        steps = ops["iota"](max(ends[1] - ends[0], 0), dtype) + ends[0]
        return scan_loop(lambda val, i: (_lifted(body_fun(i, val)), ()), init_val, steps)[0]
    return while_loop(
        lambda i, val: i < last, lambda i, val: (i + 1, _lifted(body_fun(i, val))),
        (first, init_val),
    )[1]  # fmt: skip


def switch_case(
    branch_index: Any, branch_fns: Any, default: Callable[[], Any] | None = None,
    name: str | None = None,
) -> Any:  # fmt: skip
    """What the function at `branch_index` returns: `branch_fns` are a list, pairs (integer,
    function) or a dict. An index of none of them takes `default`, or else the last one.

    >>> import graphgrad as gg
    >>> gg.switch_case(gg.constant(1), [lambda: 10, lambda: 20])
    20
    """
    pairs: Sequence[Any] = (
        sorted(branch_fns.items()) if isinstance(branch_fns, Mapping) else list(branch_fns)
    )
    if pairs and not isinstance(pairs[0], tuple):
        pairs = list(enumerate(pairs))
    if not pairs:
        raise ArgumentError("switch_case: there are no branches", here())
    if default is None:
        default = max(pairs, key=lambda pair: int(pair[0]))[1]
    index = current_kind().lift(branch_index)
    return _first([(index == int(i), f) for i, f in pairs], default)


def case(
    pred_fn_pairs: Any, default: Callable[[], Any] | None = None, exclusive: bool = False,
    strict: bool = False, name: str | None = None,
) -> Any:  # fmt: skip
    """What the function of the first pair (condition, function) whose condition holds returns.

    Where none holds it is `default`; without a `default` that raises AssertionFailed, and so do two
    that hold if they are to be `exclusive`.

    >>> import graphgrad as gg
    >>> x = gg.constant(3)
    >>> gg.case([(x < 2, lambda: 1), (x < 5, lambda: 2)], default=lambda: 3)
    2
    """
    pairs = list(pred_fn_pairs)
    if not pairs:
        raise ArgumentError("case: there are no pairs of a condition and a function", here())
    holds = stack([current_kind().lift(pred) for pred, _ in pairs])
    if exclusive:
        Assert(ops["sum"](holds.cast(dtypes.int32)) <= 1, ["case: several conditions hold", holds])
    if default is None:
        Assert(ops["any"](holds), ["case: no condition holds, and there is no default", holds])
        pairs, default = pairs[:-1], pairs[-1][1]
    return _first(pairs, default)


def _first(pairs: Sequence[Any], default: Callable[[], Any]) -> Any:
    if not pairs:
        return default()
    (pred, fn), *rest = pairs
    return cond(pred, fn, lambda: _first(rest, default))


def vectorized_map(
    fn: Callable[[Any], Any], elems: Any, fallback_to_while_loop: bool = True,
    warn: bool = True,
) -> Any:  # fmt: skip
    """`fn` of each slice of `elems` along the first axis, all at once, as `gg.vmap` does it.

    >>> import graphgrad as gg
    >>> gg.vectorized_map(gg.reduce_sum, [[1, 2], [3, 4]]).numpy()
    array([3, 7], dtype=int32)
    """
    return vmap(fn)(elems)
