"""What ops share: NumPy references for what NumPy lacks, and the care that 16-bit floats need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import DTypeError
from graphgrad.compiler.op import current_kind

Array = np.ndarray[Any, Any]


def in_float32(fn: Callable[..., Array]) -> Callable[..., Array]:
    """`fn` for 16-bit floats too: computed in float32 and rounded once, as kernels do."""

    def wrapped(*xs: Array, **attrs: Any) -> Array:
        dtype = xs[-1].dtype
        if dtype.itemsize != 2 or dtype.kind in "iub":
            return fn(*xs, **attrs)
        wide = (x.astype(np.float32) if x.dtype == dtype else x for x in xs)
        return np.asarray(fn(*wide, **attrs)).astype(dtype)

    return wrapped


def in_float64(fn: Callable[..., Array]) -> Callable[..., Array]:
    """`fn`, but for float32 computed in float64 and rounded once.

    NumPy's own float32 loops of some functions err by up to 4 units in the last place, depending
    on the processor. A ufunc takes 16-bit floats through float32, which is enough for them.
    """

    def wrapped(*xs: Array, **attrs: Any) -> Array:
        dtype = xs[0].dtype
        if dtype.kind == "c":
            wide_xs = (x.astype(np.complex128, copy=False) for x in xs)
            return np.asarray(fn(*wide_xs)).astype(dtype, copy=False)
        if dtype.itemsize == 8:
            return fn(*xs, **attrs)
        if isinstance(fn, np.ufunc) and dtype.itemsize == 4:
            return np.asarray(fn(*xs, dtype=np.float64).astype(np.float32))
        wide = np.float32 if isinstance(fn, np.ufunc) else np.float64
        return np.asarray(fn(*(x.astype(wide) for x in xs), **attrs)).astype(dtype)

    return wrapped


def floating(x: Any, op: str) -> Any:
    """`x` as a tensor of floats: integers and bools become float32."""
    value = current_kind().lift(x)
    if value.dtype.is_complex:
        raise DTypeError(f"{op}: takes floats, got {value.type}")
    return value if value.dtype.is_floating else value.cast(dtypes.float32)


def carried(x: Any) -> Any:
    """A tensor as what sums of it are carried in: float32 for 16-bit floats."""
    return x.cast(dtypes.float32) if x.dtype.is_floating and x.dtype.bits == 16 else x


def log1p(x: Array) -> Array:
    """log(1 + x); NumPy's own loses the digits of small complex numbers."""
    if x.dtype.kind != "c":
        return np.asarray(np.log1p(x))
    wide = x.astype(np.complex128, copy=False)
    a, b = wide.real, wide.imag
    small = (np.abs(a) < 0.5) & (np.abs(b) < 0.5)
    z = np.asarray(np.log(1 + wide))
    near = 0.5 * np.log1p(np.where(small, a * (a + 2) + b * b, 0))
    return np.where(small, near + 1j * z.imag, z).astype(x.dtype, copy=False)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow, and with all digits where it is small."""
    one = x.dtype.type(1)
    left = x.real < 0
    e = np.exp(np.where(left, x, -x))
    return np.asarray(np.where(left, e, one) / (one + e))


def softplus(x: Array) -> Array:
    """log(1 + exp(x)) without overflow."""
    zero = x.dtype.type(0)
    return np.asarray(np.maximum(x, zero) + np.log1p(np.exp(-np.abs(x))))


# Coefficients of FreeBSD's s_erf.c (Sun Microsystems, 1993), lowest order first.
_PP = (
    1.28379167095512558561e-01, -3.25042107247001499370e-01, -2.84817495755985104766e-02,
    -5.77027029648944159157e-03, -2.37630166566501626084e-05,
)  # fmt: skip
_QQ = (
    1.0, 3.97917223959155352819e-01, 6.50222499887672944485e-02, 5.08130628187576562776e-03,
    1.32494738004321644526e-04, -3.96022827877536812320e-06,
)  # fmt: skip
_PA = (
    -2.36211856075265944077e-03, 4.14856118683748331666e-01, -3.72207876035701323847e-01,
    3.18346619901161753674e-01, -1.10894694282396677476e-01, 3.54783043256182359371e-02,
    -2.16637559486879084300e-03,
)  # fmt: skip
_QA = (
    1.0, 1.06420880400844228286e-01, 5.40397917702171048937e-01, 7.18286544141962662868e-02,
    1.26171219808761642112e-01, 1.36370839120290507362e-02, 1.19844998467991074170e-02,
)  # fmt: skip
_RA = (
    -9.86494403484714822705e-03, -6.93858572707181764372e-01, -1.05586262253232909814e01,
    -6.23753324503260060396e01, -1.62396669462573470355e02, -1.84605092906711035994e02,
    -8.12874355063065934246e01, -9.81432934416914548592e00,
)  # fmt: skip
_SA = (
    1.0, 1.96512716674392571292e01, 1.37657754143519042600e02, 4.34565877475229228821e02,
    6.45387271733267880336e02, 4.29008140027567833386e02, 1.08635005541779435134e02,
    6.57024977031928170135e00, -6.04244152148580987438e-02,
)  # fmt: skip
_RB = (
    -9.86494292470009928597e-03, -7.99283237680523006574e-01, -1.77579549177547519889e01,
    -1.60636384855821916062e02, -6.37566443368389627722e02, -1.02509513161107724954e03,
    -4.83519191608651397019e02,
)  # fmt: skip
_SB = (
    1.0, 3.03380607434824582924e01, 3.25792512996573918826e02, 1.53672958608443695994e03,
    3.19985821950859553908e03, 2.55305040643316442583e03, 4.74528541206955367215e02,
    -2.24409524465858183362e01,
)  # fmt: skip
_ERX = 8.45062911510467529297e-01


def _ratio(x: Array, above: tuple[float, ...], below: tuple[float, ...]) -> Array:
    p, q = np.full_like(x, above[-1]), np.full_like(x, below[-1])
    for c in above[-2::-1]:
        p = p * x + c
    for c in below[-2::-1]:
        q = q * x + c
    return p / q


def _tail(a: Array) -> Array:
    """erfc on a >= 1.25: exp(-a**2) R(1 / a**2) / a, with a**2 split to keep the digits of exp."""
    s = 1.0 / (a * a)
    ratio = np.where(a < 1 / 0.35, _ratio(s, _RA, _SA), _ratio(s, _RB, _SB))
    head = (a.view(np.int64) & np.int64(-(1 << 32))).view(np.float64)
    e = np.exp(-head * head - 0.5625) * np.exp((head - a) * (head + a) + ratio)
    return np.asarray(np.where(a < 28.0, e / a, 0.0))


def _parts(x: Array) -> tuple[Array, Array, Array, Array]:
    """|x|, erf(x) - x for |x| < 0.84375, erf - _ERX on [0.84375, 1.25), and erfc of |x| above."""
    a = np.abs(x)
    near = np.minimum(a, 0.84375)
    small = x * _ratio(near * near, _PP, _QQ)
    middle = _ratio(np.clip(a, 0.84375, 1.25) - 1.0, _PA, _QA)
    return a, small, middle, _tail(np.clip(a, 1.25, 30.0))


def erf(x: Array) -> Array:
    """The error function after FreeBSD's s_erf.c, below 1 ULP in float64."""
    x64 = np.atleast_1d(x).astype(np.float64)
    a, small, middle, tail = _parts(x64)
    big = np.copysign(np.where(a < 1.25, _ERX + middle, 1.0 - tail), x64)
    y = np.where(a < 0.84375, x64 + small, big)
    return np.where(np.isnan(x64), x64, y).astype(x.dtype).reshape(np.shape(x))


def erfc(x: Array) -> Array:
    """1 - erf(x) after FreeBSD's s_erf.c, without cancellation for large x."""
    x64 = np.atleast_1d(x).astype(np.float64)
    a, small, middle, tail = _parts(x64)
    near = np.where(x64 < 0.25, 1.0 - (x64 + small), 0.5 - (small + (x64 - 0.5)))
    centre = np.where(x64 < 0, 1.0 + (_ERX + middle), (1.0 - _ERX) - middle)
    far = np.where(x64 < 0, 2.0 - tail, tail)
    y = np.where(a < 0.84375, near, np.where(a < 1.25, centre, far))
    return np.where(np.isnan(x64), x64, y).astype(x.dtype).reshape(np.shape(x))
