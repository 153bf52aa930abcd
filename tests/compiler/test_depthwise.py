"""Kernels of depthwise convolution: against direct sums in float64, on processors and over cuts."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen import llvm_depthwise, llvm_depthwise_filter
from graphgrad.compiler.codegen.llvm_convolutions import convolution_kernel
from graphgrad.compiler.codegen.llvm_depthwise_filter import DepthwiseFilterGradient
from graphgrad.compiler.codegen.llvm_depthwise_kernel import DepthwiseKernel
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.driver import compile_in_full
from graphgrad.compiler.kernels.convolutions import Registers, convolution_of
from graphgrad.compiler.kernels.loops import Division
from graphgrad.compiler.op import Attrs, ops
from graphgrad.runtime import threads
from graphgrad.runtime.program import Host
from tests.compiler.compiling import Array, compile_full, graph_of, run_compiled, t, with_threads
from tests.compiler.targets import x86_target

KINDS = ("conv", "conv_input_gradient", "conv_filter_gradient")


def direct(x: Array, w: Array, attrs: Attrs) -> dict[str, Array]:
    """The three ops by their definition: y, and the gradients for a g of small integers, which
    comes along."""
    taps, m = w.shape[:-2], w.shape[-1] // x.shape[-1]
    sizes, rank = x.shape[1:-1], len(w.shape) - 2
    each = zip(sizes, taps, attrs["strides"], attrs["padding"], attrs["dilations"], strict=True)
    places = tuple((n + sum(p) - (k - 1) * d - 1) // s + 1 for n, k, s, p, d in each)
    y = np.zeros((len(x), *places, w.shape[-1]))
    g = np.random.default_rng(7).integers(-3, 4, y.shape).astype(np.float64)
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    wide = x.astype(np.float64)
    for o, k in itertools.product(np.ndindex(*places), np.ndindex(*taps)):
        at = tuple(
            o[i] * attrs["strides"][i] + k[i] * attrs["dilations"][i] - attrs["padding"][i][0]
            for i in range(rank)
        )
        if not all(0 <= a < n for a, n in zip(at, sizes, strict=True)):
            continue
        here, there = (slice(None), *at), (slice(None), *o)
        y[there] += np.repeat(wide[here], m, -1) * w[(*k, 0)]
        dx[here] += (g[there] * w[(*k, 0)]).reshape(len(x), -1, m).sum(-1)
        dw[(*k, 0)] += (np.repeat(wide[here], m, -1) * g[there]).sum(0)
    return {"conv": y, "conv_input_gradient": dx, "conv_filter_gradient": dw, "g": g}


def arguments(kind: str, x: Array, w: Array, g: Array, attrs: Attrs) -> tuple[Any, Attrs]:
    g = g.astype(x.dtype)
    if kind == "conv":
        return (x, w), attrs
    if kind == "conv_input_gradient":
        return (g, w), {**attrs, "input_size": x.shape[1:-1]}
    return (x, g), {**attrs, "filter_size": w.shape[:-2]}


def compiled(kind: str, arrays: Any, attrs: Attrs, target: Any = None) -> Array:
    types = [t(*a.shape, dtype=dtypes.as_dtype(a.dtype)) for a in arrays]
    graph = graph_of(lambda *xs: ops[kind](*xs, **attrs), *types)
    conv = convolution_of(graph.nodes[-1])
    assert conv is not None
    assert isinstance(convolution_kernel(conv, Registers(64, 32)), DepthwiseKernel)
    found = compile_full(graph) if target is None else compile_in_full(graph, target)
    assert not any(isinstance(step, Host) for step in found.program.steps)
    (z,) = run_compiled(found, arrays)
    return z


def check(x: Array, w: Array, attrs: Attrs, target: Any = None) -> None:
    wanted = direct(x, w, attrs)
    for kind in KINDS:
        arrays, given = arguments(kind, x, w, wanted["g"], attrs)
        got = compiled(kind, arrays, given, target)
        scale = max(1.0, float(np.abs(wanted[kind]).max(initial=0)))
        eps = float(np.finfo(x.dtype).eps)
        np.testing.assert_allclose(got, wanted[kind], rtol=32 * eps, atol=32 * eps * scale)


def attributes(channels: int, *each: tuple[int, tuple[int, int], int]) -> Attrs:
    strides, padding, dilations = zip(*each, strict=True)
    return {
        "strides": strides, "padding": padding, "dilations": dilations, "groups": channels
    }  # fmt: skip


def images(seed: int, sizes: Any, taps: Any, channels: int, m: int, dtype: str) -> Any:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, *sizes, channels)).astype(dtype)
    return x, rng.normal(size=(*taps, 1, channels * m)).astype(dtype)


# Sizes, taps, and of each axis the stride, padding and dilation.
GRID: list[Any] = [
    ((7, 9), (3, 3), ((1, (1, 1), 1), (1, (1, 1), 1))),
    ((7, 8), (3, 3), ((2, (0, 1), 1), (2, (1, 1), 1))),
    ((6, 9), (2, 3), ((3, (2, 0), 2), (2, (3, 1), 3))),
    ((5, 5), (5, 4), ((1, (2, 2), 1), (1, (4, 4), 1))),
    ((1, 4), (2, 1), ((1, (2, 0), 2), (4, (0, 0), 1))),
    ((21,), (11,), ((1, (5, 5), 1),)),
    ((4, 5, 6), (3, 2, 2), ((2, (1, 1), 1), (1, (0, 1), 1), (1, (0, 0), 2))),
]


CHANNELS = (2, 3, 7, 16, 33, 70)


@pytest.mark.parametrize("number", range(2 * len(GRID)))
def test_kernels_are_direct_sums(number: int) -> None:
    sizes, taps, each = GRID[number % len(GRID)]
    channels, dtype = CHANNELS[number % 6], "float32" if number % 3 else "float64"
    x, w = images(number, sizes, taps, channels, 1, dtype)
    check(x, w, attributes(channels, *each))


@pytest.mark.parametrize(("channels", "multiplier"), [(2, 3), (5, 2), (17, 8)])
def test_several_filters_a_channel(channels: int, multiplier: int) -> None:
    for number in (0, 1):
        sizes, taps, each = GRID[number]
        x, w = images(number, sizes, taps, channels, multiplier, "float32")
        check(x, w, attributes(channels, *each))


@pytest.mark.parametrize("level", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_other_processors(level: str) -> None:
    for channels, multiplier in ((3, 1), (18, 1), (4, 3)):
        x, w = images(0, (6, 7), (3, 2), channels, multiplier, "float32")
        attrs = attributes(channels, (1, (1, 1), 1), (2, (1, 0), 1))
        check(x, w, attrs, x86_target(level))


@pytest.mark.skipif(not threads.available(), reason="no threads here")
@pytest.mark.parametrize("kind", KINDS)
def test_results_do_not_depend_on_the_cut(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = images(0, (9, 8), (3, 3), 5, 1, "float32")
    attrs = attributes(5, (2, (1, 1), 1), (1, (1, 1), 1))
    arrays, given = arguments(kind, x, w, direct(x, w, attrs)["g"], attrs)
    whole = compiled(kind, arrays, given).tobytes()
    for grain in (1, 4):
        for module in (llvm_depthwise, llvm_depthwise_filter):
            monkeypatch.setattr(
                module, "chunks", lambda kind, count, time, n=grain: Division(kind, count, 0, n)
            )
        for found in with_threads(lambda: compiled(kind, arrays, given)):
            assert found.tobytes() == whole


def test_more_blocks_than_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The partial sums of empty blocks are zero."""
    x, w = images(0, (7, 9), (3, 3), 6, 1, "float32")
    monkeypatch.setattr(DepthwiseFilterGradient, "blocks", property(lambda self: 100))
    check(x, w, attributes(6, (1, (1, 1), 1), (1, (1, 1), 1)))


def test_unknown_numbers_of_images() -> None:
    n: Any = DimScope().symbol("n", 0, 0, 2)
    x, w = images(1, (5, 6), (3, 3), 6, 1, "float32")
    attrs = attributes(6, (1, (1, 1), 1), (2, (0, 1), 1))
    wanted = direct(x, w, attrs)
    for kind in KINDS:
        arrays, given = arguments(kind, x, w, wanted["g"], attrs)
        types = [t(n, *a.shape[1:]) if a is not w else t(*a.shape) for a in arrays]
        found = compile_full(graph_of(lambda *v, k=kind, a=given: ops[k](*v, **a), *types))
        (got,) = run_compiled(found, arrays)
        np.testing.assert_allclose(got, wanted[kind], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("method", "planted"),
    [
        ("whole", lambda self, w: self.taps(self.axes[2], self.add(w, 1))),
        ("multiply_adds", lambda self, lanes, xs, ys, sums: list(sums)),
    ],
)
def test_the_check_sees_a_planted_mistake(
    method: str, planted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, w = images(0, (7, 9), (3, 3), 6, 1, "float32")
    attrs = attributes(6, (1, (1, 1), 1), (1, (1, 1), 1))
    check(x, w, attrs)
    monkeypatch.setattr(DepthwiseKernel, method, planted)
    with pytest.raises(AssertionError):
        check(x, w, attrs)
