"""Rounding to integers, element by element. Floats stay floats, integers are what they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphgrad.compiler.families import Elementwise
from graphgrad.compiler.op import Samples
from graphgrad.compiler.ops.special import Array

FLOATS = ("float32", "float64", "bfloat16", "float16")
EDGES = (
    0.0, -0.0, 2.0, -2.0, 0.5, -0.5, 1.5, 2.5, -2.5, np.inf, -np.inf, np.nan, 1e-40, 2.0**23, -88.8,
)  # fmt: skip


def _half_to_even(x: Array) -> Array:
    """By the parity of the floor where a half is left, without NumPy's own rounding."""
    if x.dtype.kind != "f":
        return x
    low = np.floor(x)
    rest = x - low
    up = (rest > 0.5) | ((rest == 0.5) & (np.fmod(low, 2) != 0))
    return np.where(np.isfinite(x), low + up, x)


ceil = Elementwise(
    name="ceil",
    public=("math.ceil",),
    inputs="float",
    ref=np.ceil,
    scalar=lambda s, x: s.ceil(x),
    nondifferentiable=True,
    samples=Samples(dtypes=FLOATS, edges=EDGES, oracle=lambda x: -np.floor(-x), ulp=0.0),
    doc="""The least integer not below each element, as a float. There is no derivative.

    >>> import graphgrad as gg
    >>> gg.math.ceil([1.5, -1.5]).numpy()
    array([ 2., -1.], dtype=float32)
    """,
)
rint = Elementwise(
    name="rint",
    public=("math.rint",),
    inputs="float",
    ref=np.rint,
    scalar=lambda s, x: s.rint(x),
    nondifferentiable=True,
    samples=Samples(dtypes=FLOATS, edges=EDGES, oracle=_half_to_even, ulp=0.0),
    doc="""The integer nearest to each element as a float, halves to even. There is no derivative.

    >>> import graphgrad as gg
    >>> gg.math.rint([0.5, 1.5, -1.7]).numpy()
    array([ 0.,  2., -2.], dtype=float32)
    """,
)


def _rounded(s: Any, x: Any) -> Any:
    return s.rint(x) if s.dtype(x).is_floating else x


round_ = Elementwise(
    name="round",
    public=("round", "math.round"),
    inputs="number",
    ref=lambda x: x if x.dtype.kind in "iu" else np.rint(x),
    scalar=_rounded,
    nondifferentiable=True,
    samples=Samples(dtypes=(*FLOATS, "int32", "uint8"), edges=EDGES, oracle=_half_to_even, ulp=0.0),
    doc="""The integer nearest to each element, halves to even, in its dtype; no derivative.

    >>> import graphgrad as gg
    >>> gg.round([0.5, 1.5, 2.5, -1.7]).numpy()
    array([ 0.,  2.,  2., -2.], dtype=float32)
    """,
)
trunc = Elementwise(
    name="trunc",
    public=("math.trunc",),
    inputs="float",
    ref=np.trunc,
    scalar=lambda s, x: s.trunc(x),
    nondifferentiable=True,
    samples=Samples(
        dtypes=FLOATS,
        edges=EDGES,
        oracle=lambda x: np.where(x < 0, np.ceil(x), np.floor(x)),
        ulp=0.0,
    ),
    doc="""Each element without its fraction, as a float. There is no derivative.

    >>> import graphgrad as gg
    >>> gg.math.trunc([1.7, -1.7]).numpy()
    array([ 1., -1.], dtype=float32)
    """,
)
