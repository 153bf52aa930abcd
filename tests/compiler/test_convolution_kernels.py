"""Kernels of convolutions and of their gradients by the input: right at all edges of tiles, blocks
and phases, on each processor, within their memory, whatever the threads."""

from __future__ import annotations

import ctypes
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.codegen.llvm_convolution import TiledConvolution
from graphgrad.compiler.codegen.llvm_convolutions import convolution_kernel
from graphgrad.compiler.codegen.llvm_scalar import ModuleParts
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.driver import compile_in_full
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.kernels.convolution_tiles import MOST_ROWS, Tiling, tiling
from graphgrad.compiler.kernels.convolutions import Convolution, Registers, convolution_of
from graphgrad.compiler.op import ops
from graphgrad.runtime import engine
from graphgrad.runtime.program import Target, evaluate
from tests.compiler.compiling import (
    Array,
    check,
    compile_full,
    graph_of,
    prepared,
    run_compiled,
    samples,
    t,
    with_threads,
)
from tests.compiler.convolution_cases import HOST, Geometry, guarded, runs_here
from tests.compiler.targets import X86_LEVELS, x86_target
from tests.graphgrad.test_buffers import check_program

KINDS = ("conv", "conv_input_gradient")


@dataclass(frozen=True)
class Case(Geometry):
    """With the sums that a forward pass and an input gradient are."""

    def graph(self, kind: str) -> Graph:
        read = self.shapes["x" if kind == "conv" else "y"]
        attrs = self.attrs | {"groups": self.groups}
        if kind != "conv":
            attrs["input_size"] = self.sizes
        types = (t(*s, dtype=self.dtype) for s in (read, self.shapes["w"]))
        return graph_of(lambda a, w: ops[kind](a, w, **attrs), *types)

    def convolution(self, kind: str) -> Convolution:
        found = convolution_of(self.graph(kind).nodes[-1])
        assert found is not None
        return found

    def tiles(self, kind: str, level: str = "x86-64-v4") -> Tiling:
        return tiling(self.convolution(kind), Registers.of(x86_target(level).features))

    def direct(self, kind: str, read: Array, w: Array) -> Array:
        """The sums in float64."""
        a, n = self.attrs, len(self.taps)
        shape = self.shapes
        made = np.zeros((*shape["y"][:-1], self.groups, self.outputs))
        padded = [s + lo + hi for s, (lo, hi) in zip(self.sizes, a["padding"], strict=True)]
        x = np.zeros((self.images, *padded, self.groups, self.inputs))
        inside = tuple(
            slice(lo, lo + s) for s, (lo, _) in zip(self.sizes, a["padding"], strict=True)
        )
        kernel = w.astype(np.float64).reshape(*self.taps, self.inputs, self.groups, self.outputs)
        values = read.astype(np.float64).reshape(*read.shape[:-1], self.groups, -1)
        if kind == "conv":
            x[(slice(None), *inside)] = values
        for tap in itertools.product(*map(range, self.taps)):
            walks = zip(tap, a["dilations"], a["strides"], shape["y"][1 : n + 1], strict=True)
            at = [slice(k * d, k * d + (p - 1) * s + 1, s) for k, d, s, p in walks]
            window = (slice(None), *at)
            if kind == "conv":
                made += np.einsum("...gi,igo->...go", x[window], kernel[tap])
            else:
                x[window] += np.einsum("...go,igo->...gi", values, kernel[tap])
        if kind == "conv":
            return made.reshape(shape["y"])
        return x[(slice(None), *inside)].reshape(shape["x"])

    def check(self, kind: str, got: Array, read: Array, w: Array) -> None:
        """`got` against sums of float64, within what sums in this dtype may err."""
        expected = self.direct(kind, read, w)
        bound = self.direct(kind, np.abs(read), np.abs(w))
        eps = np.finfo(self.dtype).eps
        assert got.shape == expected.shape
        wrong = ~(np.abs(got - expected) <= 16 * eps * bound)
        assert not wrong.any(), (kind, np.argwhere(wrong)[:3])


class Kernel:
    """A compiled kernel, called directly, with operands that end where pages do."""

    def __init__(self, case: Case, kind: str, target: Target = HOST) -> None:
        conv = case.convolution(kind)
        emitter = convolution_kernel(conv, Registers.of(target.features))
        assert isinstance(emitter, TiledConvolution)
        self.emitter = emitter
        parts = ModuleParts("+avx512f" in target.features.split(","))
        text = emitter.emit(parts).replace("define internal i32", "define i32")
        self.library, _ = engine.compile_module(parts.text() + text, target)
        rng = np.random.default_rng(len(text))
        names = ("x", "w", "y") if kind == "conv" else ("y", "w", "x")
        self.read, self.w, self.made = (guarded(case.shapes[k], case.dtype) for k in names)
        for a in (self.read, self.w):
            a[...] = rng.standard_normal(a.shape)
        self.buffers = [
            guarded((evaluate(b.nbytes, ()),), np.uint8) for b in emitter.buffers if b.nbytes
        ]
        for b in self.buffers:
            b[...] = 0xFF  # NaN

    def launch(self, number: int, *parts: tuple[int, int]) -> None:
        launch = self.emitter.launches[number]
        call = ctypes.CFUNCTYPE(
            ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p
        )(self.library.address(f"KERNEL{launch.suffix}"))
        buffers = iter(self.buffers)
        places = [x.ctypes.data for x in (self.read, self.w, self.made)]
        places += [next(buffers).ctypes.data if b.nbytes else 0 for b in self.emitter.buffers]
        sizes = [n for n in self.emitter.sizes if isinstance(n, int)]
        words = (ctypes.c_int64 * (len(places) + len(sizes)))(*places, *sizes)
        status = (ctypes.c_int64 * 8)()
        for lo, hi in parts or ((0, self.count(number)),):
            assert call(status, lo, hi, words) == 0

    def count(self, number: int) -> int:
        return evaluate(self.emitter.launches[number].count, ())

    def run(self) -> Array:
        self.made[...] = np.nan
        for number in range(len(self.emitter.launches)):
            self.launch(number)
        return self.made


same = ((1, 1), (1, 1))
CASES = [
    # channels: less than a vector, vectors and a rest, several panels
    Case(2, (5, 6), 1, 1, (3, 3), padding=same),
    Case(1, (9, 7), 3, 7, (3, 3), padding=same),
    Case(2, (7, 9), 17, 33, (3, 2), padding=same, dtype="float64"),
    Case(1, (6, 5), 65, 100, (3, 3), padding=same),
    Case(1, (4, 4), 130, 5, (2, 2)),
    # runs: of two targets and more, with a rest of the row, of one channel
    Case(2, (13, 13), 2, 6, (5, 5), padding=((2, 2), (2, 2))),
    Case(2, (4, 31), 6, 3, (3, 4), padding=((1, 1), (3, 0))),
    Case(1, (3, 19), 4, 1, (2, 7), (1, 2), padding=((0, 1), (3, 3))),
    # strides: phases, more of them than taps or than targets, with a rest
    Case(2, (9, 10), 5, 18, (3, 3), (2, 2), same),
    Case(1, (11, 8), 4, 4, (2, 1), (3, 4), ((0, 2), (1, 0))),
    Case(2, (1, 7), 3, 2, (5, 2), (2, 3), ((5, 6), (1, 3)), dilations=(2, 1)),
    # dilations beside strides, common divisors among them
    Case(1, (12, 13), 3, 5, (3, 3), (2, 3), ((2, 2), (3, 3)), (2, 3)),
    Case(1, (14, 9), 3, 20, (3, 2), (4, 1), ((3, 3), (0, 2)), (6, 2), dtype="float64"),
    # padding beyond the filter, a filter beyond the input
    Case(1, (3, 4), 2, 9, (2, 2), padding=((4, 5), (3, 6))),
    Case(1, (2, 2), 3, 3, (5, 4), padding=((3, 2), (2, 3))),
    # groups
    Case(2, (6, 7), 3, 5, (3, 3), padding=same, groups=3),
    Case(1, (5, 8), 16, 20, (2, 3), (2, 1), same, groups=2, dtype="float64"),
    # products: of places, of images, of a row of pixels that does not fill tiles
    Case(3, (5, 9), 20, 33, (1, 1)),
    Case(37, (2, 3), 4, 10, (2, 3)),
    Case(5, (1, 1), 40, 3, (1, 1), groups=2),
    # products that ask for what the next tile reads
    Case(1, (61, 67), 70, 90, (1, 1)),
    # several blocks, of which the last is moved back
    Case(1, (23, 41), 200, 3, (3, 3), padding=same),
    Case(2, (19, 17), 300, 17, (3, 3), (2, 2), same),
    Case(1, (2100,), 64, 16, (5,), padding=((2, 2),)),
    # one and three axes
    Case(2, (29,), 3, 11, (4,), (2,), ((1, 3),)),
    Case(1, (4, 5, 6), 3, 8, (2, 3, 2), (1, 2, 1), ((1, 0), (1, 1), (0, 1))),
    Case(1, (5, 3, 4), 4, 3, (3, 1, 2), (2, 1, 3), ((1, 1), (0, 0), (1, 2)), (1, 1, 2)),
    # rows of taps that read padding alone: in each of several slices, of one row in each phase
    Case(2, (9, 1, 5), 4, 9, (3, 2, 2), (2, 2, 2), ((1, 1), (0, 1), (0, 1))),
    Case(2, (2, 9), 15, 17, (2, 1), (2, 2), ((1, 1), (0, 0)), (3, 3)),
]  # fmt: skip
FEW = CASES[2], CASES[5], CASES[8], CASES[15], CASES[20]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernels_give_the_direct_sums(case: Case, kind: str) -> None:
    kernel = Kernel(case, kind)
    case.check(kind, kernel.run(), kernel.read, kernel.w)


@pytest.mark.parametrize("level", X86_LEVELS)
@pytest.mark.parametrize("case", FEW, ids=str)
def test_on_each_processor(case: Case, level: str) -> None:
    if not runs_here(level):
        pytest.skip("this processor has other instructions")
    for kind in KINDS:
        kernel = Kernel(case, kind, x86_target(level))
        case.check(kind, kernel.run(), kernel.read, kernel.w)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_is_seen(kind: str) -> None:
    case = CASES[1]
    kernel = Kernel(case, kind)
    made = kernel.run()
    kernel.w[1, 2, 0, 3] += 1e-3
    with pytest.raises(AssertionError):
        case.check(kind, made, kernel.read, kernel.w)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", [CASES[3], CASES[8], CASES[20]], ids=str)
def test_parts_of_the_range_give_the_same_bits(case: Case, kind: str) -> None:
    kernel = Kernel(case, kind)
    whole = kernel.run().copy()
    kernel.made[...] = np.nan
    for number in range(len(kernel.emitter.launches)):
        count = kernel.count(number)
        middle = count // 2
        kernel.launch(number, (middle, count), (0, min(1, middle)), (1, max(1, middle)))
    np.testing.assert_array_equal(kernel.made, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_programs_give_the_same_bits_whatever_the_threads(kind: str) -> None:
    case = Case(6, (24, 25), 16, 40, (3, 3), padding=same)
    compilation = compile_full(case.graph(kind))
    arrays = samples(compilation.graph.types)
    run = prepared(compilation).run
    first, *others = with_threads(lambda: run(arrays)[0])
    case.check(kind, first, *arrays)
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_the_cases_reach_what_they_are_for() -> None:
    tiles = [case.tiles(kind) for case in CASES for kind in KINDS]
    assert {t.panels > 1 for t in tiles} == {True, False}
    assert any(t.last < t.width for t in tiles)
    assert {t.run for t in tiles} >= {1, 2, 5}
    assert any(t.rows > 1 and t.columns > 1 for t in tiles)
    assert any(len(a.phases) > 1 for t in tiles for a in t.axes)
    assert any(not p.taps for t in tiles for a in t.axes for p in a.phases)
    assert {t.asks_ahead for t in tiles} == {True, False}
    assert {t.is_copied for t in tiles} == {True, False}
    assert any(t.block[1] < t.axes[2].target for t in tiles)
    assert any(1 < t.block[0] < t.axes[1].target for t in tiles)


def test_tiles_have_no_more_rows_than_there_are_registers_for() -> None:
    case = Case(1, (29, 29), 3, 32, (3, 3), padding=same)
    t = case.tiles("conv_input_gradient")
    assert t.rows <= MOST_ROWS < 29 < t.rows * t.columns * t.run


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_halves_are_summed_in_float32_and_rounded_once(dtype: str, kind: str) -> None:
    for case in (CASES[1], CASES[5], CASES[8], CASES[18]):
        graph = Case(**(vars_of(case) | {"dtype": dtype})).graph(kind)
        arrays = samples(graph.types)
        (got,) = run_compiled(compile_full(graph), arrays)
        exact = case.direct(kind, *(a.astype(np.float32) for a in arrays))
        bound = case.direct(kind, *(np.abs(a.astype(np.float32)) for a in arrays))
        eps = {"bfloat16": 2.0**-8, "float16": 2.0**-11}[dtype]
        assert (np.abs(got.astype(np.float64) - exact) <= eps * np.abs(exact) + 1e-6 * bound).all()


def vars_of(case: Case) -> dict[str, Any]:
    return {k: getattr(case, k) for k in case.__dataclass_fields__}


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("taps", [3, 1])
def test_an_open_number_of_images(images: int, taps: int) -> None:
    n = DimScope().symbol("n", 0, 0)
    lo = taps // 2
    attrs = {"strides": (1, 1), "padding": ((lo, lo),) * 2, "dilations": (1, 1), "groups": 1}
    check(lambda x, w: ops["conv"](x, w, **attrs), t(n, 7, 9, 5), t(taps, taps, 5, 20),
          sizes=(images,))  # fmt: skip


@pytest.mark.parametrize("size", [1, 5, 40])
def test_open_spatial_sizes(size: int) -> None:
    scope = DimScope()
    h, w = scope.symbol("h", 0, 1), scope.symbol("w", 0, 2)
    attrs = {"strides": (1, 1), "padding": ((1, 1), (2, 2)), "dilations": (1, 1), "groups": 1}
    check(lambda x, k: ops["conv"](x, k, **attrs), t(2, h, w, 3), t(3, 5, 3, 20),
          sizes=(size, 2 * size))  # fmt: skip


def test_other_images_are_the_same_kernel_and_taps_are_loops() -> None:
    def text(images: int, taps: int) -> str:
        case = Case(images, (20, 20), 16, 40, (taps, taps), padding=((taps // 2,) * 2,) * 2)
        emitter = convolution_kernel(case.convolution("conv"), Registers(64, 32))
        assert emitter is not None
        return emitter.emit(ModuleParts())

    assert text(4, 3) == text(9, 3)
    assert len(text(4, 7).splitlines()) == len(text(4, 3).splitlines())


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_known_to_the_byte(kind: str) -> None:
    case = Case(2, (9, 8), 5, 33, (3, 3), padding=same)
    graph = case.graph(kind)
    check_program(compile_in_full(graph, HOST).program, samples(graph.types))
