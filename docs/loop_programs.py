"""The programs of docs/loops.md; `docs/loops_page.py` compiles them and shows what became of
each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import graphgrad as gg


def pendulum(stiffness, damping, seen):
    h, angle, speed, error = 0.05, 1.0, 0.0, 0.0
    for observed in seen:
        push = -stiffness * gg.sin(angle) - damping * speed
        angle = angle + h * speed
        speed = speed + h * push
        error += (angle - observed) ** 2
    return error


def recurrent(w, u, b, xs):
    h = gg.zeros([1, 32])
    for x in xs:
        z = x @ w + h @ u + b
        update, new = gg.sigmoid(z[:, :32]), gg.tanh(z[:, 32:])
        h = h + update * (new - h)
    return gg.reduce_sum(h)


def roots(numbers):
    total = 0.0
    for a in numbers:
        x = a
        while gg.abs(x * x - a) > 1e-12:
            x = (x + a / x) / 2
        total += x
    return total


def distance(costs):
    n = costs.shape[0]
    table = gg.zeros([n, n], gg.float64)
    for i in gg.range(1, n):
        for j in gg.range(1, n):
            best = gg.minimum(table[i - 1, j], table[i, j - 1])
            table[i, j] = costs[i, j] + gg.minimum(best, table[i - 1, j - 1])
    return table[n - 1, n - 1]


def line(slope, offset, xs, ys):
    total = 0.0
    for x, y in zip(xs, ys):
        error = slope * x + offset - y
        total += error**2
    return total / len(xs)


def diffusion(u, rate):
    for _ in gg.range(10_000):
        left, right = gg.roll(u, 1, 0), gg.roll(u, -1, 0)
        u = u + rate * gg.sin(left - 2 * u + right)
    return gg.reduce_sum(u * u)


@dataclass(frozen=True)
class Program:
    """A loop of the page: what it is, its value with gradients, and what its report shows."""

    title: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    why: str
    argnums: tuple[int, ...] = (0,)
    loop_memory: str | None = None
    code: bool = True  # is it shown?

    def traced(self) -> Any:
        """The concrete function of value and gradients."""
        both = gg.value_and_grad(self.function, argnums=self.argnums)
        f = gg.function(both, loop_memory=self.loop_memory)
        return f.get_concrete_function(*map(gg.constant, self.arguments))


def noise(*shape: int, scale: float = 0.1) -> Any:
    """Some numbers, float32."""
    return (scale * np.random.default_rng(0).normal(size=shape)).astype(np.float32)


PROGRAMS = (
    Program(
        "An integrator",
        pendulum,
        (np.float64(9.81), np.float64(0.25), np.zeros(400)),
        "A loop whose state is a few numbers becomes one function: the state is in registers, and "
        "nothing is called. Beside the state, which only the step before has, it keeps what the "
        "derivative reads of its functions, since these cost more than storing a number: the "
        "sine, a factor of the gradient of the stiffness, and the cosine, the derivative of the "
        "sine. The derivative is then a loop of sums and products.",
        argnums=(0, 1),
    ),
    Program(
        "A recurrent layer",
        recurrent,
        (noise(16, 64), noise(32, 64), noise(64), noise(100, 1, 16)),
        "The product with the input needs no state, so it is one product for all steps, before the "
        "loop. What the gates give is kept, for a function costs more than memory; their sums and "
        "products are made again. The gradients of the weights are sums over the steps of "
        "products, which are one product each, behind the loop.",
        argnums=(0, 1, 2),
    ),
    Program(
        "Newton's method",
        roots,
        (np.linspace(1.0, 9.0, 50),),
        "Nobody knows how many steps the inner loop makes. For its derivative it keeps the state "
        "of each, in memory that grows as it runs.",
    ),
    Program(
        "Dynamic programming",
        distance,
        (np.linspace(0.0, 1.0, 100).reshape(10, 10),),
        "The table is one array, whose elements are written where they lie: a step copies nothing. "
        "Of the table, the loops keep the numbers that a minimum compared, never the whole.",
    ),
    Program(
        "A sum over points",
        line,
        (np.float64(0.5), np.float64(0.1), np.linspace(0.0, 1.0, 100), np.linspace(1.0, 3.0, 100)),
        "What the derivative reads are the points, which are there anyway, and errors, which cost "
        "less to compute again than to keep: nothing is saved.",
        argnums=(0, 1),
    ),
    Program(
        "Bounded memory",
        diffusion,
        (np.linspace(0.0, 1.0, 50), np.float64(0.1)),
        "`loop_memory` bounds what the loops of a function keep. This one would keep megabytes; "
        "now it keeps the state now and then, and the steps between two such checkpoints are made "
        "again when the derivative comes to them.",
        argnums=(0, 1),
        loop_memory="400KB",
        code=False,
    ),
)

# Operations on a square matrix, some of which have no native form.
OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "`gg.sort`": lambda x: gg.sort(x),
    "`gg.sort` and its like of long rows": lambda x: gg.sort(gg.tile(x, [1, 1000])),
    "`gg.argsort`": lambda x: gg.argsort(x),
    "`gg.math.top_k`": lambda x: gg.math.top_k(x, 2),
    "`gg.searchsorted` of short rows": lambda x: gg.searchsorted(x[0], x[1]),
    "`gg.cumsum`": lambda x: gg.cumsum(x),
    "`gg.math.cumprod`": lambda x: gg.math.cumprod(x),
    "`gg.math.cumulative_logsumexp`": lambda x: gg.math.cumulative_logsumexp(x),
    "`gg.linalg.cholesky`": lambda x: gg.linalg.cholesky(x),
    "`gg.linalg.solve`": lambda x: gg.linalg.solve(x, x),
    "`gg.linalg.inv`": lambda x: gg.linalg.inv(x),
    "`gg.linalg.det`": lambda x: gg.linalg.det(x),
    "`gg.linalg.triangular_solve`": lambda x: gg.linalg.triangular_solve(x, x),
    "`gg.linalg.qr`": lambda x: gg.linalg.qr(x),
    "`gg.linalg.svd`": lambda x: gg.linalg.svd(x),
    "`gg.linalg.eigh`": lambda x: gg.linalg.eigh(x),
    "`gg.linalg.pinv`": lambda x: gg.linalg.pinv(x),
    "`gg.linalg.expm`": lambda x: gg.linalg.expm(x),
    "`gg.linalg.lstsq`": lambda x: gg.linalg.lstsq(x, x),
    "`gg.signal.fft`": lambda x: gg.signal.fft(gg.cast(x, gg.complex128)),
    "`gg.math.bincount`": lambda x: gg.math.bincount(gg.cast(x[0], gg.int32)),
    "`gg.random.normal`": lambda x: gg.random.normal(x.shape),
    "`gg.gather`": lambda x: gg.gather(x, [1, 0]),
    "`gg.nn.softmax`": lambda x: gg.nn.softmax(x),
    "`gg.einsum`": lambda x: gg.einsum("ij,kj->ik", x, x),
    "`gg.print`": lambda x: gg.print(x),
    "`gg.py_function`": lambda x: gg.py_function(lambda a: a, [x], x.dtype),
}
