"""Running extrema and running log-sum-exps along an axis.

Their derivatives are linear recurrences too: no running sum of large and small terms, no division.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.errors import DTypeError
from graphgrad.compiler.families import Composite, Library
from graphgrad.compiler.op import Samples, ops
from graphgrad.compiler.ops.scan import binder, shifted
from graphgrad.compiler.ops.special import Array, in_float32
from graphgrad.compiler.types import TensorType


def _typer(op: str, floats: bool) -> Any:
    def infer(x: TensorType, axis: int, **flags: bool) -> TensorType:
        if x.dtype.is_bool or (floats and not x.dtype.is_floating):
            raise DTypeError(
                f"{op}: takes {'floats' if floats else 'numbers'}, got {x}; cast first"
            )
        return x

    return infer


def _accumulated(fold: Any) -> Any:
    def ref(x: Array, axis: int, reverse: bool) -> Array:
        rows = np.flip(x, axis) if reverse else x
        z = fold.accumulate(rows, axis, dtype=x.dtype)
        return np.ascontiguousarray(np.flip(z, axis)) if reverse else np.asarray(z)

    return in_float32(ref)


def _batch(name: str) -> Any:
    def batch(
        xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent, axis: int, reverse: bool
    ) -> tuple[Any, ...]:
        return (ops[name](xs[0], axis=axis + 1, reverse=reverse),)

    return batch


def _cases(rng: np.random.Generator, dtype: Any, exclusive: bool = False) -> Any:
    for shape, axis in (((5,), 0), ((2, 4), 1), ((3, 2), 0), ((2, 3, 2), -2), ((0, 2), 0)):
        x = rng.permutation(math.prod(shape)).reshape(shape) / 4  # no two are equal
        for reverse in (False, True):
            attrs = {"axis": axis % len(shape), "reverse": reverse}
            yield (x.astype(dtype),), {**attrs, **({"exclusive": True} if exclusive else {})}
    if np.dtype(dtype).kind == "i":
        edges: Any = [[2, 2, 1, 2], [3, 1, 1, 2]]
    else:
        edges = [[-np.inf, -np.inf, 1, 1], [1, np.nan, np.inf, 2], [np.inf, 0, -np.inf, 3]]
    yield (np.array(edges).astype(dtype),), {"axis": 1, "reverse": False}


def _public_cases(rng: np.random.Generator, dtype: Any) -> Any:
    yield from _cases(rng, dtype)
    yield from _cases(rng, dtype, exclusive=True)


def _folds(fold: Any, start: Any) -> Any:
    """The oracle: of all elements up to each."""

    def oracle(x: Array, axis: int, reverse: bool, exclusive: bool = False) -> Array:
        rows = np.moveaxis(x, axis, 0)
        rows = rows[::-1] if reverse else rows
        z = np.empty_like(rows)
        for i in range(len(rows)):
            total = np.full(rows.shape[1:], start(x), x.dtype)
            for row in rows[: i + 1 - exclusive]:
                total = fold(total, row)
            z[i] = total
        return np.moveaxis(z[::-1] if reverse else z, 0, axis)

    return oracle


def _exclusive(name: str, start: Any) -> Any:
    """The composite that also knows `exclusive`: the results move on by one place."""

    def decompose(x: Any, axis: int, exclusive: bool, reverse: bool) -> Any:
        z = ops[name](x, axis=axis, reverse=reverse)
        n = x.shape[axis]
        if not exclusive or (isinstance(n, int) and n == 0):
            return z
        row = tuple(1 if i == axis else m for i, m in enumerate(x.shape))
        first = ops["broadcast_to"](x.dtype.dtype.type(start(x)), row)
        begin = tuple(int(reverse and i == axis) for i in range(x.ndim))
        rest = ops["slice"](z, begin, tuple(m - (i == axis) for i, m in enumerate(x.shape)))
        return ops["concat"]([rest, first] if reverse else [first, rest], axis)

    return decompose


def _exclusive_ref(core: Any, start: Any) -> Any:
    def ref(x: Array, axis: int, exclusive: bool, reverse: bool) -> Array:
        z = core(x, axis=axis, reverse=reverse)
        if not exclusive or not z.shape[axis]:
            return z  # type: ignore[no-any-return]
        z = np.roll(z, -1 if reverse else 1, axis)
        np.moveaxis(z, axis, 0)[-1 if reverse else 0] = start(x)
        return z  # type: ignore[no-any-return]

    return ref


# -- extrema: elements that share an extremum share its cotangent, as those of max and min do


def _runs(z: Any, axis: int, reverse: bool) -> Any:
    """1 where the extremum is that of the place before, else 0."""
    return (z == shifted(z, axis, -1 if reverse else 1)).cast(z.dtype)


def _shares(x: Any, z: Any, axis: int, reverse: bool) -> tuple[Any, Any, Any]:
    """Which elements equal the extremum at their place, 1 or 0; how many of them each place has
    seen; and where a run of one extremum goes on."""
    hit, runs = (x == z).cast(z.dtype), _runs(z, axis, reverse)
    count = ops["linear_recurrence"](runs, hit, axis, reverse)
    return hit, ops["maximum"](count, 1), runs  # 0 where it is NaN


def _extremum_vjp(
    g: Any, z: Any, x: Any, needs: tuple[bool, ...], axis: int, reverse: bool
) -> tuple[Any, ...]:
    hit, count, runs = _shares(x, z, axis, reverse)
    onward = shifted(runs, axis, 1 if reverse else -1)
    total = ops["linear_recurrence"](onward, g / count, axis, not reverse)
    return (ops["where"](hit == 1, total, 0),)


def _extremum_jvp(ts: tuple[Any, ...], z: Any, x: Any, axis: int, reverse: bool) -> Any:
    hit, count, runs = _shares(x, z, axis, reverse)
    own = ops["where"](hit == 1, ts[0], 0)
    return ops["linear_recurrence"](runs, own, axis, reverse) / count


def _limit(lowest: bool) -> Any:
    """The identity of max or of min for the elements of `x`."""

    def start(x: Any) -> Any:
        dtype = np.dtype(getattr(x.dtype, "dtype", x.dtype))
        if dtype.kind in "iu":
            return np.iinfo(dtype).min if lowest else np.iinfo(dtype).max
        return -np.inf if lowest else np.inf

    return start


NUMBERS = ("float32", "float64", "bfloat16", "int32")


def _extremum(name: str, fold: Any, word: str, lowest: bool) -> tuple[Library, Composite]:
    oracle = _folds(
        lambda a, b: np.where(np.isnan(a) | np.isnan(b), a + b, fold(a, b)), _limit(lowest)
    )
    core = Library(
        name=f"running_{name}",
        public="",
        bind=lambda x, axis, reverse: ((x,), {"axis": axis, "reverse": reverse}),
        type=_typer(name, False),
        ref=_accumulated(fold),
        vjp=_extremum_vjp,
        jvp=_extremum_jvp,
        batch=_batch(f"running_{name}"),
        samples=Samples(cases=_cases, dtypes=NUMBERS, oracle=oracle, ulp=0.0),
        doc=f"The {word} of the elements up to each along `axis`.",
    )
    whole = Composite(
        name=name,
        public=f"math.{name}",
        bind=binder(name),
        type=_typer(name, False),
        ref=_exclusive_ref(core.ref, _limit(lowest)),
        decompose=_exclusive(f"running_{name}", _limit(lowest)),
        samples=Samples(
            cases=_public_cases,
            dtypes=NUMBERS,
            oracle=oracle,
            ulp=0.0,
            errors=((lambda op: op(np.zeros(3, bool)), f"{name}: takes numbers, got b1[3]"),),
        ),
        doc=f"""The {word} of the elements up to each along `axis`; NaN from the first NaN on.

    `exclusive` leaves out the element itself (the first is {"-inf" if lowest else "inf"}, or the
    {"least" if lowest else "greatest"} integer); `reverse` runs from the end. Equal extrema share
    the derivative.

    >>> import graphgrad as gg
    >>> gg.math.{name}([1, 3, 2]).numpy()
    array([1, {3 if lowest else 1}, {3 if lowest else 1}], dtype=int32)
    """,
    )
    return core, whole


running_max, cummax = _extremum("cummax", np.maximum, "greatest", True)
running_min, cummin = _extremum("cummin", np.minimum, "least", False)

# -- log-sum-exp


def _steps(z: Any, axis: int, reverse: bool) -> Any:
    """exp(z of the place before - z), by which the shares of all elements before shrink."""
    before = shifted(z, axis, -1 if reverse else 1)
    return ops["where"](z == -np.inf, 0, ops["exp"](before - z))


def _own(x: Any, z: Any) -> Any:
    """exp(x - z): the share of the element itself; 0 where all are -inf."""
    return ops["where"](z == -np.inf, 0, ops["exp"](x - z))


def _logsumexp_vjp(
    g: Any, z: Any, x: Any, needs: tuple[bool, ...], axis: int, reverse: bool
) -> tuple[Any, ...]:
    steps = shifted(_steps(z, axis, reverse), axis, 1 if reverse else -1)
    total = ops["linear_recurrence"](steps, g, axis, not reverse)
    return (ops["cotangent_product"](total, _own(x, z)),)


def _logsumexp_jvp(ts: tuple[Any, ...], z: Any, x: Any, axis: int, reverse: bool) -> Any:
    own = ops["cotangent_product"](ts[0], _own(x, z))
    return ops["linear_recurrence"](_steps(z, axis, reverse), own, axis, reverse)


def _lowest(x: Any) -> float:
    return -np.inf


running_logsumexp = Library(
    name="running_logsumexp",
    public="",
    bind=lambda x, axis, reverse: ((x,), {"axis": axis, "reverse": reverse}),
    type=_typer("cumulative_logsumexp", True),
    ref=_accumulated(np.logaddexp),
    vjp=_logsumexp_vjp,
    jvp=_logsumexp_jvp,
    batch=_batch("running_logsumexp"),
    samples=Samples(
        cases=_cases,
        dtypes=("float32", "float64", "bfloat16"),
        oracle=_folds(np.logaddexp, _lowest),
    ),
    doc="log(sum(exp(x))) of the elements up to each along `axis`.",
)
cumulative_logsumexp = Composite(
    name="cumulative_logsumexp",
    public="math.cumulative_logsumexp",
    bind=binder("cumulative_logsumexp"),
    type=_typer("cumulative_logsumexp", True),
    ref=_exclusive_ref(running_logsumexp.ref, _lowest),
    decompose=_exclusive("running_logsumexp", _lowest),
    samples=Samples(
        cases=_public_cases,
        dtypes=("float32", "float64", "bfloat16"),
        oracle=_folds(np.logaddexp, _lowest),
        errors=(
            (
                lambda op: op(np.zeros(3, np.int32)),
                "cumulative_logsumexp: takes floats, got i32[3]",
            ),
        ),
    ),
    doc="""log(sum(exp(x))) of the elements up to each along `axis`; never overflows.

    `exclusive` leaves out the element itself (the first is -inf); `reverse` runs from the end.

    >>> import graphgrad as gg
    >>> gg.math.cumulative_logsumexp([1000.0, 1000.0]).numpy().round(1)
    array([1000. , 1000.7], dtype=float32)
    """,
)
