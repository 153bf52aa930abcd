"""The named functions: their expansions over primitives, accuracy and cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.scalar import (
    arithmetic,
    error_function,
    exponential,
    gamma,
    hyperbolic,
    inverse_trigonometric,
    logarithm,
    normal_quantile,
    philox,
    power,
    trigonometric,
)


@dataclass(frozen=True, slots=True)
class Expansion:
    """A named function: how to build it, its number of operands, its result dtype, its cost.

    `result` None means the dtype of the first operand. `attribute` says that a Python number
    follows the operands. `cost` is in the units of `Primitive.cost`.
    """

    build: Callable[..., Any]
    arity: int = 1
    result: DType | None = None
    attribute: bool = False
    cost: float = 20

    def result_dtype(self, first: DType) -> DType:
        return first if self.result is None else self.result


EXPANSIONS: dict[str, Expansion] = {
    "exp": Expansion(exponential.exp, cost=22),
    "exp2": Expansion(exponential.exp2, cost=20),
    "expm1": Expansion(exponential.expm1, cost=24),
    "log": Expansion(logarithm.log, cost=32),
    "log2": Expansion(logarithm.log2, cost=34),
    "log10": Expansion(logarithm.log10, cost=35),
    "log1p": Expansion(logarithm.log1p, cost=36),
    "tanh": Expansion(hyperbolic.tanh, cost=29),
    "sigmoid": Expansion(hyperbolic.sigmoid, cost=30),
    "softplus": Expansion(hyperbolic.softplus, cost=45),
    "sinh": Expansion(hyperbolic.sinh, cost=33),
    "cosh": Expansion(hyperbolic.cosh, cost=30),
    "asinh": Expansion(hyperbolic.asinh, cost=62),
    "acosh": Expansion(hyperbolic.acosh, cost=66),
    "atanh": Expansion(hyperbolic.atanh, cost=47),
    "ldexp": Expansion(exponential.ldexp, 2, cost=9),
    "pow": Expansion(power.pow_, 2, cost=105),
    "erf": Expansion(error_function.erf, cost=38),
    "erfc": Expansion(error_function.erfc, cost=80),
    "sin": Expansion(trigonometric.sin, cost=32),
    "cos": Expansion(trigonometric.cos, cost=31),
    "tan": Expansion(trigonometric.tan, cost=45),
    "asin": Expansion(inverse_trigonometric.asin, cost=28),
    "acos": Expansion(inverse_trigonometric.acos, cost=33),
    "atan": Expansion(inverse_trigonometric.atan, cost=30),
    "atan2": Expansion(inverse_trigonometric.atan2, 2, cost=45),
    "hypot": Expansion(power.hypot, 2, cost=26),
    "lgamma": Expansion(gamma.lgamma, cost=150),
    "digamma": Expansion(gamma.digamma, cost=160),
    "trigamma": Expansion(gamma.trigamma, cost=100),
    "zeta": Expansion(gamma.zeta, 2, cost=1300),
    "polygamma": Expansion(gamma.polygamma, 2, cost=1800),
    "ndtri": Expansion(normal_quantile.ndtri, cost=95),
    "erfinv": Expansion(normal_quantile.erfinv, cost=95),
    "sin_huge": Expansion(trigonometric.sin_huge, cost=150),
    "cos_huge": Expansion(trigonometric.cos_huge, cost=150),
    "tan_huge": Expansion(trigonometric.tan_huge, cost=160),
    "minimum": Expansion(arithmetic.minimum, 2, cost=3),
    "maximum": Expansion(arithmetic.maximum, 2, cost=3),
    "fmod": Expansion(arithmetic.fmod, 2, cost=18),
    "fmod_exact": Expansion(arithmetic.fmod_exact, 2, cost=60),
    "floordiv": Expansion(arithmetic.floordiv, 2, cost=34),
    "mod": Expansion(arithmetic.mod, 2, cost=25),
    "relu": Expansion(arithmetic.relu, cost=2),
    "sign": Expansion(arithmetic.sign, cost=6),
    "square": Expansion(arithmetic.square, cost=1),
    "reciprocal": Expansion(arithmetic.reciprocal, cost=5),
    "cotangent_product": Expansion(arithmetic.cotangent_product, 2, cost=5),
    "zero_if_zero": Expansion(arithmetic.zero_if_zero, 2, cost=2),
    "isnan": Expansion(arithmetic.isnan, 1, dtypes.bool_, cost=1),
    "isinf": Expansion(arithmetic.isinf, 1, dtypes.bool_, cost=2),
    "isfinite": Expansion(arithmetic.isfinite, 1, dtypes.bool_, cost=2),
    "signbit": Expansion(arithmetic.signbit, 1, dtypes.bool_, cost=1),
    "philox": Expansion(philox.philox, 3, dtypes.uint32, attribute=True, cost=110),
    "uniform01_f32": Expansion(philox.uniform01_f32, 1, dtypes.float32, cost=3),
    "uniform01_f64": Expansion(philox.uniform01_f64, 2, dtypes.float64, cost=7),
}

# The bound on each function's error in units in the last place that the tests hold it to: a little
# above the greatest seen on 2 * 10**7 points (float32) or 10**5 (float64). docs/math.md has both.
ULP: dict[str, dict[str, float]] = {
    "exp": {"float32": 1.1, "float64": 1.1},
    "exp2": {"float32": 1.0, "float64": 1.0},
    "expm1": {"float32": 1.8, "float64": 1.8},
    "log": {"float32": 0.9, "float64": 0.9},
    "log2": {"float32": 1.8, "float64": 1.7},
    "log10": {"float32": 1.8, "float64": 1.7},
    "log1p": {"float32": 1.6, "float64": 1.4},
    "tanh": {"float32": 2.0, "float64": 2.0},
    "sigmoid": {"float32": 1.8, "float64": 1.8},
    "softplus": {"float32": 1.8, "float64": 1.8},
    "sinh": {"float32": 1.6, "float64": 1.6},
    "cosh": {"float32": 1.2, "float64": 1.2},
    "asinh": {"float32": 1.8, "float64": 1.8},
    "acosh": {"float32": 1.8, "float64": 1.8},
    "atanh": {"float32": 1.6, "float64": 1.5},
    "erf": {"float32": 1.1, "float64": 1.1},
    "erfc": {"float32": 2.0, "float64": 1.9},
    "sin": {"float32": 1.7, "float64": 1.7},
    "cos": {"float32": 1.7, "float64": 1.7},
    "tan": {"float32": 1.5, "float64": 1.5},
    "asin": {"float32": 1.9, "float64": 1.9},
    "acos": {"float32": 1.4, "float64": 1.4},
    "atan": {"float32": 1.5, "float64": 1.6},
    "pow": {"float32": 0.6, "float64": 1.1},
    "atan2": {"float32": 1.8, "float64": 1.8},
    "hypot": {"float32": 1.3, "float64": 1.3},
}
