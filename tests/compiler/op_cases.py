"""The op table as test cases: sample inputs, independent expected values, modes to run in."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import mpmath
import numpy as np

import graphgrad.compiler.ops  # noqa: F401 -- fills the registry
from graphgrad.compiler import dtypes
from graphgrad.compiler.families import Elementwise
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.op import Attrs, Op, Samples, ops
from graphgrad.compiler.passes.inline import inline
from graphgrad.compiler.verify import verify
from tests.compiler.differences import graph_of
from tests.compiler.numpy_kind import eagerly

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """One application of an op, with the arguments that a user gives."""

    op: Op
    arrays: tuple[Array, ...]
    attrs: Attrs

    def call(self, *xs: Any) -> Any:
        if self.op.samples is not None and self.op.samples.through is not None:
            xs = tuple(self.op.samples.through(*xs))
        args = (list(xs),) if getattr(self.op, "variadic", False) else xs
        return self.op(*args, **self.attrs)

    def __str__(self) -> str:
        shapes = " ".join(f"{dtypes.as_dtype(a.dtype).short}{list(a.shape)}" for a in self.arrays)
        return f"{self.op.name}({shapes}) {self.attrs}"


def sampled_ops() -> list[Op]:
    """The ops with samples, by name. (Control flow holds sub-graphs and has tests of its own.)"""
    return sorted(
        (op for op in ops.values() if op.samples and op.samples.oracle), key=lambda op: op.name
    )


def numpy_dtype(name: str) -> np.dtype[Any]:
    return dtypes.as_dtype(name).dtype


def is_floating(x: Any) -> bool:
    return bool(np.asarray(x).dtype.kind in "fV")


def is_complex(x: Any) -> bool:
    return bool(np.asarray(x).dtype.kind == "c")


def widest(a: Array) -> Array:
    """Floats as long doubles, and complex numbers made of them."""
    if is_complex(a):
        return a.astype(np.clongdouble)
    return a.astype(np.longdouble) if is_floating(a) else a


def cases_of(op: Op, dtype: str, edges: bool = True) -> Iterator[Case]:
    """The samples of `op` for inputs of one dtype, always the same ones."""
    samples = op.samples
    assert samples is not None
    rng = np.random.default_rng(zlib.crc32(f"{op.name} {dtype}".encode()))
    if samples.cases is not None:
        with np.errstate(all="ignore"):
            found = list(samples.cases(rng, numpy_dtype(dtype)))
        for arrays, attrs in found:
            yield Case(op, tuple(map(np.asarray, arrays)), attrs)
        return
    assert isinstance(op, Elementwise), f"{op.name} needs `cases`"
    for attrs in samples.attrs:
        for arrays in elementwise_inputs(op, samples, dtype, rng):
            yield Case(op, arrays, attrs)
        if edges:
            yield Case(op, edge_inputs(op.arity, samples, dtype), attrs)


UNARY = (((),), ((5,),), ((2, 3),), ((0, 2),))
BINARY = (((), ()), ((5,), (5,)), ((2, 3), (3,)), ((2, 1), (1, 4)), ((), (3,)), ((0, 1), (2,)))


def elementwise_inputs(
    op: Elementwise, samples: Samples, dtype: str, rng: np.random.Generator
) -> Iterator[tuple[Array, ...]]:
    intervals: Any = samples.domain
    if not isinstance(intervals[0], tuple):
        intervals = (intervals,) * op.arity
    if op.failures and numpy_dtype(dtype).kind in "iu":  # divisors and exponents
        low, high = intervals[-1]
        intervals = (*intervals[:-1], (max(low, 0), high))
    for shapes in samples.shapes or {1: UNARY, 2: BINARY}[op.arity]:
        yield tuple(
            draw(rng, interval, shape, numpy_dtype(dtype))
            for interval, shape in zip(intervals, shapes, strict=True)
        )


def draw(
    rng: np.random.Generator, interval: tuple[float, float], shape: tuple[int, ...], dtype: Any
) -> Array:
    low, high = interval
    if dtype.kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.kind in "iu":
        least = max(low, 0) if dtype.kind == "u" else low
        return np.asarray(rng.integers(int(np.ceil(least)), int(np.ceil(high)) + 1, shape)).astype(
            dtype
        )
    x = np.asarray(rng.uniform(low, high, shape))
    if dtype.kind == "c":  # of that size, in all directions
        x = np.asarray(x * np.exp(1j * rng.uniform(-np.pi, np.pi, shape)))
    return x.astype(dtype)


COMPLEX_EDGES = [complex(a, b) for a in (0.0, 1.0, -1.0, 2.5) for b in (0.0, 1.0, -1.0, 2.5)]


def edge_inputs(arity: int, samples: Samples, dtype: str) -> tuple[Array, ...]:
    """All tuples of edge values."""
    kind = numpy_dtype(dtype)
    if kind.kind == "b":
        values: list[Any] = [False, True]
    elif kind.kind in "iu":
        limits = np.iinfo(kind)
        values = [0, 1, 7, limits.max] + ([-1, -7] if kind.kind == "i" else [])
        if samples.domain != (-3.0, 3.0):  # a divisor or an exponent: not 0, not negative
            values = [v for v in values if v > 0]
    elif kind.kind == "c":
        values = COMPLEX_EDGES if arity == 1 else COMPLEX_EDGES[::3]
    else:
        values = list(samples.edges)
    with np.errstate(all="ignore"):
        grid = np.array(list(itertools.product(values, repeat=arity)))
        return tuple(np.ascontiguousarray(grid[:, i]).astype(kind) for i in range(arity))


# -- what is expected


def expected(case: Case) -> list[Array]:
    """The outputs by the op's oracle, floats as long doubles."""
    assert case.op.samples is not None
    oracle = case.op.samples.oracle
    wide = [widest(a) for a in case.arrays]
    whole = all(a.dtype.kind in "iub" for a in wide)
    if whole and case.op.name in ("div", "mean"):  # which make integers floating
        wide = [a.astype(np.longdouble) for a in wide]
    with np.errstate(all="ignore"):
        if isinstance(oracle, str):
            return [by_mpmath(oracle, *wide)]
        assert oracle is not None
        result = oracle(*wide, **case.attrs)
    return [np.asarray(r) for r in (result if case.op.multi else [result])]


MPMATH: dict[str, Callable[..., Any]] = {  # what mpmath has by another name, or not at all
    "lgamma": lambda x: mpmath.inf if _is_pole(x) else mpmath.log(abs(mpmath.gamma(x))),
    "trigamma": lambda x: mpmath.psi(1, x),
    "polygamma": lambda a, x: mpmath.psi(int(a), x),
    "zeta": lambda x, q: _zeta(x, q),
    "ndtri": lambda p: mpmath.sqrt(2) * mpmath.erfinv(2 * p - 1),
}


def _zeta(x: Any, q: Any) -> Any:
    """By psi for integers: mpmath's own loses digits for large x and q."""
    if x == 1 or not mpmath.isint(x):
        return mpmath.inf if x == 1 else mpmath.zeta(x, q)
    return (-1) ** int(x) * mpmath.psi(int(x) - 1, q) / mpmath.factorial(x - 1)


def _is_pole(x: Any) -> bool:
    """Is x infinite, or one of 0, -1, ...?"""
    return bool(mpmath.isinf(x) or (x <= 0 and mpmath.isint(x)))


def by_mpmath(name: str, *xs: Array) -> Array:
    """An mpmath function of each element, with 60 digits."""
    function = MPMATH.get(name) or getattr(mpmath, name)

    def number(v: Any) -> Any:
        if not np.isfinite(v):
            return float(v)
        high = float(v)
        return mpmath.mpf(high) + mpmath.mpf(float(v - high))  # exact

    def one(*v: Any) -> Any:
        try:
            with mpmath.workdps(60):
                if isinstance(v[0], np.complexfloating):
                    y = function(mpmath.mpc(number(v[0].real), number(v[0].imag)))
                    return np.clongdouble(_long(mpmath.re(y))) + 1j * _long(mpmath.im(y))
                y = function(*map(number, v))
                if isinstance(y, mpmath.mpc):
                    return np.nan
                text = mpmath.nstr(y, 25, strip_zeros=False)
        except (ValueError, ZeroDivisionError):
            return np.nan if v[0] != 0 else -np.inf
        return v[0] if v[0] == 0 and y == 0 else np.longdouble(text.replace("+inf", "inf"))

    grid = np.broadcast(*xs)
    flat = [one(*v) for v in grid]
    kind = np.clongdouble if xs[0].dtype.kind == "c" else np.longdouble
    return np.array(flat, dtype=kind).reshape(grid.shape)


def _long(y: Any) -> Any:
    return np.longdouble(mpmath.nstr(y, 25, strip_zeros=False).replace("+inf", "inf"))


def check_value(case: Case, got: Sequence[Any], mode: str = "") -> None:
    """Hold outputs to the oracle: integers exactly, floats within the op's declared error."""
    wanted = expected(case)
    assert len(got) == len(wanted)
    for g, w in zip(got, wanted, strict=True):
        g = np.asarray(g)
        label = f"{mode} {case}"
        assert g.shape == w.shape, f"{label}: shape {g.shape}, expected {w.shape}"
        if is_complex(g):
            assert_parts_close(case, g, w, label)
        elif not is_floating(g):
            np.testing.assert_array_equal(g, w.astype(g.dtype), err_msg=label)
        else:
            assert_close(case, g, w, label)


def assert_parts_close(case: Case, g: Array, w: Array, label: str) -> None:
    """Complex numbers by their distance; where a part is infinite or NaN, each part for itself."""
    assert case.op.samples is not None
    finite = np.isfinite(w)
    np.testing.assert_array_equal(g[~finite], w[~finite].astype(g.dtype), err_msg=label)
    eps = np.finfo(g.dtype).eps
    scale = np.abs(w)
    if not isinstance(case.op, Elementwise):
        inputs = (np.max(np.abs(a), initial=0.0) for a in (*case.arrays, w) if is_complex(a))
        scale = np.full(w.shape, max([1.0, *inputs]), np.longdouble)
    with np.errstate(all="ignore"):
        bound = COMPLEX_ULP * max(1.0, case.op.samples.ulp) * eps * scale
        wrong = finite & ~(np.abs(g - w) <= bound)
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise AssertionError(f"{label}: {g.flat[i]} at {i}, expected {w.flat[i]}")


# Units in the last place of the modulus, for each of the real op: several roundings make one part.
COMPLEX_ULP = 4


def assert_close(case: Case, g: Array, w: Array, label: str) -> None:
    assert case.op.samples is not None
    with np.errstate(all="ignore"):
        rounded = w.astype(np.float64).astype(g.dtype) if g.dtype.kind == "V" else w.astype(g.dtype)
        w = w.astype(np.longdouble)
        finite = np.isfinite(rounded)
        special = g.astype(np.float64)[~finite]
        np.testing.assert_array_equal(special, rounded.astype(np.float64)[~finite], err_msg=label)
        bound = tolerance(case, g, rounded, w)
        wrong = finite & ~(np.abs(g.astype(np.longdouble) - w) <= bound)
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise AssertionError(
            f"{label}: {g.flat[i]} at {i}, expected {w.flat[i]}; inputs {case.arrays}"
        )


def tolerance(case: Case, g: Array, rounded: Array, w: Array) -> Any:
    """`ulp` units in the last place, and half a one for the rounding; in reductions, of the
    largest term."""
    ulp = case.op.samples.ulp if case.op.samples is not None else 0.0
    if any(map(is_complex, case.arrays)):
        ulp += COMPLEX_ULP
    info = ml_dtypes.finfo(g.dtype)
    if g.dtype.itemsize == 2:
        ulp = min(ulp, 1.0)
    if isinstance(case.op, Elementwise):
        tiny = np.longdouble(info.smallest_subnormal)
        spacing = np.maximum(np.longdouble(info.eps) * np.abs(w), tiny)
        return (ulp + 0.5) * spacing
    inputs = [np.abs(a) if is_complex(a) else a for a in (*case.arrays, w)]
    floats = [a.astype(np.longdouble) for a in inputs if is_floating(a)]
    scale = max([1.0, *(np.max(np.abs(a), initial=0.0, where=np.isfinite(a)) for a in floats)])
    return (ulp + 0.5 if ulp else 0.0) * np.longdouble(info.eps) * scale


# -- modes: how an op runs on arrays. Others register here.


def run_ref(case: Case) -> list[Array]:
    with eagerly() as kind:
        result = case.call(*map(kind.lift, case.arrays))
    return [v.array for v in (result if case.op.multi else [result])]


def run_graph(case: Case) -> list[Array]:
    return interpret(graph_of(case.call, case.arrays), case.arrays)


def run_parts(case: Case) -> list[Array]:
    """With composites replaced by their parts."""
    return interpret(verify(inline(graph_of(case.call, case.arrays))), case.arrays)


MODES: dict[str, Callable[[Case], Sequence[Array]]] = {
    "ref": run_ref,
    "graph": run_graph,
    "parts": run_parts,
}


def differentiable_cases(op: Op) -> Iterable[Case]:
    """Cases in float64 and complex128 at which differences make sense: finite, and no edges."""
    assert op.samples is not None
    only_complex = all(d.startswith("complex") for d in op.samples.dtypes)
    taken = [] if only_complex else ["float64"]
    taken += ["complex128"] if "complex128" in op.samples.dtypes else []
    for case in itertools.chain.from_iterable(cases_of(op, d, edges=False) for d in taken):
        floats = [a for a in case.arrays if a.dtype.kind in "fc"]
        if not floats or not all(np.isfinite(a).all() for a in floats):
            continue
        inexact = [z for z in run_ref(case) if is_floating(z) or is_complex(z)]
        if all(np.isfinite(z).all() and z.dtype in (np.float64, np.complex128) for z in inexact):
            yield case
