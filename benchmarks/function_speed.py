"""Seconds of each elementary function in one framework: `python -m benchmarks.function_speed NAME`.

Prints one line of JSON: nanoseconds an element, by function and dtype. A process of its own, on one
core, that needs nothing but the framework and NumPy (and SciPy for what NumPy lacks).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.child import Cores

SIZE = 1 << 17  # elements: the arrays stay in the second-level cache
DTYPES = ("float32", "float64")
# operands that keep to the function's ordinary path, or the two intervals of two operands
INTERVALS: dict[str, tuple[Any, ...]] = {
    "exp": (-80, 80), "exp2": (-100, 100), "expm1": (-10, 80), "log": (1e-3, 1e3),
    "log2": (1e-3, 1e3), "log10": (1e-3, 1e3), "log1p": (-0.9, 100), "tanh": (-6, 6),
    "sigmoid": (-20, 20), "softplus": (-20, 20), "sinh": (-10, 10), "cosh": (-10, 10),
    "asinh": (-10, 10), "acosh": (1, 20), "atanh": (-1, 1), "erf": (-4, 4), "erfc": (-4, 9),
    "sin": (-10, 10), "cos": (-10, 10), "tan": (-10, 10), "asin": (-1, 1), "acos": (-1, 1),
    "atan": (-10, 10), "pow": ((0.1, 10), (-5, 5)), "atan2": ((-9, 9), (-9, 9)),
    "hypot": ((-9, 9), (-9, 9)),
}  # fmt: skip


def operands(name: str, dtype: str) -> list[Any]:
    """The arrays that `name` is timed on."""
    intervals = INTERVALS[name]
    if not isinstance(intervals[0], tuple):
        intervals = (intervals,)
    rng = np.random.default_rng(3)
    return [rng.uniform(low, high, SIZE).astype(dtype) for low, high in intervals]


def of_graphgrad(name: str, arrays: list[Any]) -> Callable[[], Any]:
    """A compiled function of one op."""
    import graphgrad as gg
    from graphgrad.compiler.op import ops

    function = gg.function(ops[name])
    tensors = [gg.constant(x) for x in arrays]
    return lambda: function(*tensors)


def of_numpy(name: str, arrays: list[Any]) -> Callable[[], Any]:
    """NumPy's function, SciPy's where it has none, writing into the same memory each time."""
    import scipy.special

    out = np.empty_like(arrays[0])
    names = {"pow": "power", "atan2": "arctan2", "asin": "arcsin", "acos": "arccos"}
    names |= {"atan": "arctan", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh"}
    special = {"sigmoid": scipy.special.expit, "erf": scipy.special.erf, "erfc": scipy.special.erfc}
    if name == "softplus":
        zero = arrays[0].dtype.type(0)
        return lambda: np.logaddexp(arrays[0], zero, out=out)
    function = special.get(name) or getattr(np, names.get(name, name))
    return lambda: function(*arrays, out=out)


def of_jax(name: str, arrays: list[Any]) -> Callable[[], Any]:
    """A jitted function, waited for."""
    import jax

    jax.config.update("jax_enable_x64", True)
    names = {"sigmoid": jax.nn.sigmoid, "softplus": jax.nn.softplus, "erf": jax.scipy.special.erf}
    names |= {"erfc": jax.scipy.special.erfc, "pow": jax.numpy.power, "atan2": jax.numpy.arctan2}
    function = jax.jit(names.get(name) or getattr(jax.numpy, name))
    tensors = [jax.numpy.asarray(x) for x in arrays]
    return lambda: function(*tensors).block_until_ready()


FRAMEWORKS = {"graphgrad": of_graphgrad, "numpy": of_numpy, "jax": of_jax}


def best(run: Callable[[], Any], seconds: float) -> float:
    """The least time of a call."""
    for _ in range(3):
        run()
    times = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(framework: str, names: list[str], seconds: float) -> dict[str, dict[str, float]]:
    """Nanoseconds an element, by function and dtype."""
    build = FRAMEWORKS[framework]
    with np.errstate(all="ignore"):
        return {
            name: {d: best(build(name, operands(name, d)), seconds) / SIZE * 1e9 for d in DTYPES}
            for name in names
        }


if __name__ == "__main__":
    Cores(threads=1).pin()
    chosen = sys.argv[3].split(",") if len(sys.argv) > 3 else list(INTERVALS)
    print(json.dumps(measure(sys.argv[1], chosen, float(sys.argv[2]))), flush=True)
