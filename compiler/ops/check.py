"""check_numerics: x itself, after a check in the kernel that makes or reads it."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import NotFinite
from graphgrad.compiler.families import Elementwise
from graphgrad.compiler.op import Attrs, Samples
from graphgrad.compiler.ops.special import Array


def _check(x: Array, message: str) -> Array:
    bad = ~np.isfinite(x)
    if bad.any():
        place = int(np.flatnonzero(bad)[0])
        kind = "nan" if np.isnan(x.reshape(-1)[place]) else "inf"
        raise check_numerics.failure(kind, {"message": message}, index=place)
    return x


def _check_scalar(s: Any, x: Any, message: str) -> Any:
    zero = s.const(0, dtypes.int64)
    s.require(s.eq(x, x), "nan", zero, zero)
    s.require(s.lt(s.abs(x), s.const(float("inf"), x.dtype)), "inf", zero, zero)
    return x


def _gradient(g: Any, message: str) -> Any:
    return check_numerics(g, f"{message}, gradient")


def _bind(tensor: Any, message: str, name: str | None = None) -> tuple[tuple[Any, ...], Attrs]:
    return (tensor,), {"message": str(message)}


check_numerics = Elementwise(
    name="check_numerics",
    public=("debugging.check_numerics",),
    inputs="float",
    bind=_bind,
    ref=_check,
    scalar=_check_scalar,
    vjp=lambda g, z, x, needs, message: (_gradient(g, message),),
    jvp=lambda ts, z, x, message: ts[0],
    failures={
        "nan": (NotFinite, "{message}: Tensor had NaN values, the first at flat index {index}"),
        "inf": (NotFinite, "{message}: Tensor had Inf values, the first at flat index {index}"),
    },
    samples=Samples(
        attrs=({"message": "loss"},),
        edges=(0.0, -0.0, 1.0, 1e-40, 3e38),
        oracle=lambda x, message: x,
        ulp=0.0,
        errors=(
            (
                lambda op: op(np.array([1, np.nan], np.float32), "loss"),
                "loss: Tensor had NaN values",
            ),
            (lambda op: op(np.array([1, np.inf], np.float32), "{x}"), "{x}: Tensor had Inf values"),
        ),
    ),
    doc="""`tensor` itself; NotFinite, with `message` and the user's line, if an element is infinite
    or NaN. So for its gradient.

    Use the result: inside a function, a check that nothing depends on is left out.

    >>> import graphgrad as gg
    >>> gg.debugging.check_numerics([1.0, 2.0], "weights").numpy()
    array([1., 2.], dtype=float32)
    """,
)
