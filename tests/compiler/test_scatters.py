"""Kernels of scatters: against the references, bit for bit where they move or compare."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import dtypes
from graphgrad.compiler.kernels.scatters import scatter_of
from graphgrad.compiler.op import ops
from graphgrad.runtime.executor import KernelFailure
from graphgrad.runtime.program import Host
from tests.compiler.compiling import compile_full, run_compiled
from tests.compiler.differences import graph_of

EDGES = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.5, 1e30]
NAMES = ("float32", "float64", "int8", "uint16", "int32", "uint64", "bool")
MODES = ("update", "max", "min", "add")
WIDTHS = (1, 3, 8, 21)


def apply(mode: str, lanes: int = 0) -> Any:
    if mode == "add":
        return lambda x, u, i: ops["scatter_add"](u, i, x.shape, lanes, lanes) + x * 0
    return lambda x, u, i: ops["scatter"](x, u, i, mode, lanes)


def only_scatter(mode: str) -> Any:
    if mode == "add":
        return lambda x, u, i: ops["scatter_add"](u, i, x.shape)
    return lambda x, u, i: ops["scatter"](x, u, i, mode)


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Any:
    if np.dtype(dtype).kind in "fV":
        return rng.choice(EDGES, shape).astype(dtype)
    if np.dtype(dtype).kind == "b":
        return rng.random(shape) < 0.5
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "name", ["float32", "float64", "int8", "uint16", "int32", "uint64", "bool"]
)
@pytest.mark.parametrize("mode", MODES)
def test_kernel_is_the_reference(mode: str, name: str, width: int) -> None:
    dtype = dtypes.as_dtype(name).dtype
    if name == "bool" and mode != "update":
        pytest.skip("bools are not compared or added")
    rng = np.random.default_rng(width)
    x, u = (values(rng, (n, width), dtype) for n in (5, 12))
    indices = rng.integers(0, 5, 12).astype("uint8" if width == 3 else "int32")
    graph = graph_of(only_scatter(mode), [x, u, indices])
    compilation = compile_full(graph)
    assert not any(isinstance(step, Host) for step in compilation.program.steps)
    with np.errstate(all="ignore"):
        (wanted,) = [graph.nodes[-1].op.ref(
            *((u, indices) if mode == "add" else (x, u, indices)), **graph.nodes[-1].attrs
        )]  # fmt: skip
    (got,) = run_compiled(compilation, [x, u, indices])
    np.testing.assert_array_equal(got, wanted)
    if dtype.kind == "f" and mode in ("update", "add"):  # NumPy has either zero as the greater
        number = ~np.isnan(wanted)
        np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(wanted[number]))


@pytest.mark.parametrize("mode", MODES)
def test_axes_before_the_index(mode: str) -> None:
    rng = np.random.default_rng(3)
    x, u = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 5, 4))
    indices = rng.integers(0, 3, (2, 5))
    graph = graph_of(apply(mode, 1), [x, u, indices])
    (got,) = run_compiled(compile_full(graph), [x, u, indices])
    wanted = np.zeros_like(x) if mode == "add" else x.copy()
    fold = {"add": np.add, "max": np.maximum, "min": np.minimum}.get(mode)
    for b in range(2):
        for k, i in enumerate(indices[b]):
            wanted[b, i] = u[b, k] if fold is None else fold(wanted[b, i], u[b, k])
    np.testing.assert_allclose(got, wanted, rtol=1e-14)


def test_sums_along_an_inner_axis() -> None:
    rng = np.random.default_rng(4)
    u, indices = rng.normal(size=(3, 6, 2)), rng.integers(0, 4, 6)
    graph = graph_of(lambda u, i: ops["scatter_add"](u, i, (3, 4, 2), 1), [u, indices])
    scatter = scatter_of(graph.nodes[-1])
    assert scatter is not None
    assert (scatter.outer, scatter.inner, scatter.count) == (3, 3, 6)
    (got,) = run_compiled(compile_full(graph), [u, indices])
    wanted = np.zeros((4, 3, 2))
    np.add.at(wanted, indices, u.swapaxes(0, 1))
    np.testing.assert_allclose(got, wanted.swapaxes(0, 1), rtol=1e-14)


def test_short_floats_are_carried_in_float32() -> None:
    bf16 = dtypes.bfloat16.dtype
    u = np.full(300, 1.0).astype(bf16)
    graph = graph_of(lambda u, i: ops["scatter_add"](u, i, (1,)), [u, np.zeros(300, int)])
    (got,) = run_compiled(compile_full(graph), [u, np.zeros(300, int)])
    assert float(got[0]) == 300.0  # 256 if every sum were rounded


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wrong", [-1, 5, 2**40])
def test_an_index_out_of_range_fails(mode: str, wrong: int) -> None:
    arrays = [np.zeros((5, 2)), np.ones((3, 2)), np.array([0, wrong, 1])]
    compilation = compile_full(graph_of(only_scatter(mode), arrays))
    name = "scatter_add" if mode == "add" else "scatter"
    text = f"{name}: index {wrong} is out of range for axis 0 with size 5"
    with pytest.raises(KernelFailure, match=text):
        run_compiled(compilation, arrays)
    arrays[2][1] = 4
    run_compiled(compilation, arrays)


def test_nothing_to_scatter() -> None:
    for shape, count in (((0, 3), 0), ((4, 0), 3), ((4, 3), 0)):
        x, u = np.ones(shape), np.ones((count, shape[1]))
        graph = graph_of(only_scatter("update"), [x, u, np.zeros(count, int)])
        (got,) = run_compiled(compile_full(graph), [x, u, np.zeros(count, int)])
        np.testing.assert_array_equal(got, x)
