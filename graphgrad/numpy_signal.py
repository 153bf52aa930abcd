"""NumPy's discrete convolutions, for tensors: by NumPy's names and arguments."""

from __future__ import annotations

from typing import Any

from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.families import conjugate
from graphgrad.compiler.op import ops
from graphgrad.compiler.ops import view
from graphgrad.compiler.ops.join import together


def convolve(a: Any, v: Any, mode: str = "full") -> Any:
    x, w = _vectors("convolve", a, v)
    if w.shape[0] > x.shape[0]:
        x, w = w, x
    return _slide("convolve", x, view.reverse(w, 0), mode)


def correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    x, w = _vectors("correlate", a, v)
    w = conjugate(w)
    if w.shape[0] > x.shape[0]:  # NumPy slides the shorter one, and turns the result
        return view.reverse(_slide("correlate", w, x, mode), 0)
    return _slide("correlate", x, w, mode)


def _vectors(name: str, a: Any, v: Any) -> tuple[Any, ...]:
    xs = together((a, v), name)
    for x in xs:
        if x.ndim != 1 or not x.type.static or 0 in x.shape:
            raise ShapeError(f"{name}: takes vectors of known size with an element, got {x.type}")
    return xs


def _slide(name: str, x: Any, w: Any, mode: str) -> Any:
    """The products of `w` with the elements of `x` from each place on, summed."""
    taps = w.shape[0]
    half = taps // 2
    pairs = {"valid": (0, 0), "same": (half, taps - 1 - half), "full": (taps - 1, taps - 1)}
    if mode not in pairs:
        raise ArgumentError(f"{name}: mode is 'full', 'same' or 'valid', not {mode!r}")

    def real(x: Any, w: Any) -> Any:
        y = ops["conv"](
            x.reshape((1, x.shape[0], 1)), w.reshape((taps, 1, 1)),
            strides=(1,), padding=(pairs[mode],), dilations=(1,), groups=1,
        )  # fmt: skip
        return y.reshape((y.shape[1],))

    if not x.dtype.is_complex:
        return real(x, w)
    (a, b), (c, d) = ((ops["real"](z), ops["imag"](z)) for z in (x, w))
    return ops["complex"](real(a, c) - real(b, d), real(a, d) + real(b, c))


FUNCTIONS = {"convolve": convolve, "correlate": correlate}
