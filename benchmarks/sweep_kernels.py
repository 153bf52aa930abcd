"""What the sweep runs: programs whose inputs can have any size, and the sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.elementwise import chain
from benchmarks.workloads.record import normal

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Kernel:
    """A program over inputs of any shape: as `Workload` has it, but `inputs(r, shape)`."""

    name: str
    inputs: Callable[[np.random.Generator, Shape], dict[str, Any]]
    build: Callable[[Any, Any], tuple[Callable[..., Any], tuple[Any, ...]]]
    reference: Callable[..., list[Any]]
    families: tuple[str, ...]


# Sizes. Neighbours in a family are compared, so they go up, or hold the number of elements.

POWERS = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
AROUND = sorted({1, 2, 5, 11, 13, 23, 97, 1000, 1021} | {p + d for p in POWERS for d in (-1, 0, 1)})
LARGE = (
    4093, 4096, 4097, 8191, 16381, 16384, 16385, 65521, 65536, 65537, 262139, 262144, 262145,
    1048573, 1048576, 1048577, 4194301, 4194304, 4194305, 9999991, 10000000,
    16777213, 16777216, 16777217,
)  # fmt: skip
WIDTHS = (71, 97, 100, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1000, 1021, 1023, 1024, 1025,
          2047, 2048, 2049, 4093, 4096, 4097, 10007, 16384, 65521, 65536, 262144,
          1048576)  # fmt: skip
HEIGHTS = (1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257,
           1021, 1024, 1025, 4096, 4097, 16384, 65521, 65536)  # fmt: skip
SMALL, MIDDLE = 2**18, 2**20

FAMILIES: dict[str, list[Shape]] = {
    "flat": [(n,) for n in (*AROUND, *LARGE)],
    "narrow": [(SMALL // c, c) for c in range(1, 71)],
    "widths": [(max(1, MIDDLE // c), c) for c in WIDTHS],
    "heights": [(r, 50) for r in HEIGHTS],
    "square": [(n, n) for n in AROUND],
}


def _one(r: np.random.Generator, shape: Shape) -> dict[str, Any]:
    return {"x": normal(r, *shape)}


def _with_cotangent(r: np.random.Generator, shape: Shape) -> dict[str, Any]:
    return {"x": normal(r, *shape), "g": normal(r, *shape)}


def _with_labels(r: np.random.Generator, shape: Shape) -> dict[str, Any]:
    return {"x": normal(r, *shape), "y": r.integers(0, shape[1], shape[0]).astype(np.int32)}


def _with_scale(r: np.random.Generator, shape: Shape) -> dict[str, Any]:
    vectors = {"gamma": 1 + normal(r, shape[1], scale=0.1), "beta": normal(r, shape[1], scale=0.1)}
    return _with_cotangent(r, shape) | vectors


def _two(r: np.random.Generator, shape: Shape) -> dict[str, Any]:
    return {"x": normal(r, *shape), "y": normal(r, *shape)}


def _column(r: np.random.Generator, shape: Shape) -> dict[str, Any]:
    return {"x": normal(r, *shape), "y": normal(r, shape[0], 1)}


def _row(r: np.random.Generator, shape: Shape) -> dict[str, Any]:
    return {"x": normal(r, *shape), "y": normal(r, shape[1])}


def _transposed(r: np.random.Generator, shape: Shape) -> dict[str, Any]:
    return {"x": normal(r, *shape), "y": normal(r, *shape[::-1])}


def _softmax(x: Any) -> list[Any]:
    e = np.exp(x - x.max(1, keepdims=True))
    return [e / e.sum(1, keepdims=True)]


def _log_sum_exp_over_columns(x: Any) -> Any:
    top = x.max(0)
    return np.log(np.exp(x - top).sum(0)) + top


def _of(name: str, inputs: Callable[..., Any], *families: str) -> Kernel:
    """A row of the benchmarks, at other sizes."""
    return Kernel(name, inputs, WORKLOADS[name].build, WORKLOADS[name].reference, families)


def _plain(
    name: str, inputs: Callable[..., Any], f: Callable[..., Any], reference: Callable[..., Any],
    *families: str,
) -> Kernel:  # fmt: skip
    """A compiled function `f(F, *inputs)` and what NumPy computes."""

    def build(F: Any, t: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return F.compiled(lambda *xs: f(F, *xs)), tuple(t.values())

    return Kernel(name, inputs, build, lambda **arrays: [reference(*arrays.values())], families)


def _chain_of(x: Any) -> Any:
    return np.tanh(x) * (1 / (1 + np.exp(-x))) + np.exp(-x * x) * 0.5


ROWS = ("narrow", "widths", "heights", "square")

KERNELS = {
    k.name: k
    for k in (
        _of("chain_fwd", _one, "flat", "narrow"),
        _of("chain_vg", _one, "flat", "narrow"),
        _of("gelu_vjp", _with_cotangent, "flat", "narrow"),
        _of("sum_axis0", _one, *ROWS),
        _of("sum_axis1", _one, *ROWS),
        _of("logsumexp_axis1", _one, *ROWS),
        _of("softmax_xent", _with_labels, *ROWS),
        _of("layernorm_vjp", _with_scale, *ROWS),
        _of("matmul", _two, "square"),
        _plain("sum", _one, lambda F, x: F.sum(x), lambda x: x.sum(), "flat", "narrow"),
        _plain("softmax", _one, lambda F, x: F.softmax(x), lambda x: _softmax(x)[0], *ROWS),
        _plain("add_row", _row, lambda F, x, y: x + y, lambda x, y: x + y, *ROWS),
        _plain("times_column", _column, lambda F, x, y: x * y, lambda x, y: x * y, *ROWS),
        _plain("add_transpose", _transposed, lambda F, x, y: x + F.transpose(y),
               lambda x, y: x + y.T, *ROWS),
        _plain("every_other", _one, lambda F, x: chain(F, x[::2]), lambda x: _chain_of(x[::2]),
               "flat"),
        _plain("backwards", _one, lambda F, x: x[::-1] * 2 + 1, lambda x: x[::-1] * 2 + 1, "flat"),
        _plain("differences", _one, lambda F, x: x[1:] - x[:-1], lambda x: x[1:] - x[:-1], "flat"),
        _plain("every_third_column", _one, lambda F, x: F.exp(x[:, ::3]),
               lambda x: np.exp(x[:, ::3]), *ROWS),
        _plain("columns_backwards", _one, lambda F, x: x[:, ::-1] * 2 + 1,
               lambda x: x[:, ::-1] * 2 + 1, *ROWS),
        _plain("inner_part", _one, lambda F, x: F.tanh(x[1:, 1:]), lambda x: np.tanh(x[1:, 1:]),
               *ROWS),
        _plain("sum_of_transpose", _one, lambda F, x: F.sum(F.exp(F.transpose(x)), 1),
               lambda x: np.exp(x).sum(0), *ROWS),
        _plain("logsumexp_of_transpose", _one, lambda F, x: F.log_sum_exp(F.transpose(x)),
               _log_sum_exp_over_columns, *ROWS),
    )
}  # fmt: skip
