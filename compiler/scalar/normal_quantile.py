"""The inverses of the normal distribution function and of erf, over the primitives.

Source: Wichura, "Algorithm AS 241: the percentage points of the normal distribution", 1988: three
rational functions, of 0.425**2 - (p - 1/2)**2 in the centre, of sqrt(-log(tail)) outside.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from graphgrad.compiler.scalar.formats import polynomial

if TYPE_CHECKING:
    from graphgrad.compiler.scalar.builder import ScalarBuilder, Value

_CENTRE = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
     1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
     3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4,
     5.2264952788528545610e3),
)  # fmt: skip
_NEAR = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
     3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
     2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
     1.05075007164441684324e-9),
)  # fmt: skip
_FAR = (
    (6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0,
     2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
     2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
     2.04426310338993978564e-15),
)  # fmt: skip


def _quantile(s: ScalarBuilder, q: Value, tail: Value) -> Value:
    """The quantile of 1/2 + q, where `tail` is 1/2 - |q|, given apart for its digits."""
    centre = s.le(s.abs(q), 0.425)
    r = s.sqrt(s.neg(s.log(tail)))
    far = s.gt(r, 5.0)
    v = s.select(far, s.sub(r, 5.0), s.sub(r, 1.6))
    v = s.select(centre, s.sub(0.180625, s.mul(q, q)), v)
    above, below = (
        s.select(
            centre,
            polynomial(s, v, _CENTRE[i]),
            s.select(far, polynomial(s, v, _FAR[i]), polynomial(s, v, _NEAR[i])),
        )
        for i in range(2)
    )
    ratio = s.div(above, below)
    z = s.select(centre, s.mul(q, ratio), s.copysign(ratio, q))
    return s.select(s.eq(tail, 0.0), s.copysign(float("inf"), q), z)


def ndtri(s: ScalarBuilder, p: Value) -> Value:
    """The x at which the normal distribution function is p; NaN outside [0, 1]."""
    rest = s.sub(1.0, p)
    return _quantile(s, s.sub(p, 0.5), s.select(s.lt(p, 0.5), p, rest))


def erfinv(s: ScalarBuilder, x: Value) -> Value:
    """The y with erf(y) = x; NaN outside [-1, 1]."""
    tail = s.mul(s.sub(1.0, s.abs(x)), 0.5)
    return s.mul(_quantile(s, s.mul(x, 0.5), tail), math.sqrt(0.5))
