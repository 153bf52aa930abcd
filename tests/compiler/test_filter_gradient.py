"""The kernel of a convolution's filter gradient: right at all edges of its tiles, on each
processor, whatever the threads."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen.llvm_convolutions import convolution_kernel
from graphgrad.compiler.codegen.llvm_filter_gradient import FilterGradient
from graphgrad.compiler.codegen.llvm_scalar import ModuleParts
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.driver import compile_in_full
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.kernels.convolutions import Registers, convolution_of
from graphgrad.compiler.kernels.filter_tiles import FilterTiles, filter_tiles
from graphgrad.compiler.op import ops
from graphgrad.compiler.ops.convolution_reference import output_sizes
from graphgrad.runtime import engine, executor
from graphgrad.runtime.program import evaluate
from tests.compiler.compiling import Array, graph_of, t, with_threads
from tests.compiler.convolution_cases import HOST, Geometry, guarded, runs_here
from tests.compiler.targets import X86_LEVELS, x86_target

BYTE = 0xEE  # what lies around memory that a kernel may write


@dataclass(frozen=True)
class Case(Geometry):
    """With the sums that a filter gradient is."""

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        return dtypes.as_dtype(self.dtype).dtype

    @property
    def computed(self) -> str:
        return "float64" if self.dtype == "float64" else "float32"

    def graph(self, images: Any = None) -> Graph:
        attrs = self.attrs | {"groups": self.groups, "filter_size": self.taps}
        first = self.images if images is None else images
        types = (t(first, *self.shapes[k][1:], dtype=self.dtype) for k in "xy")
        return graph_of(lambda x, g: ops["conv_filter_gradient"](x, g, **attrs), *types)

    def tiles(self, level: str = "x86-64-v4") -> FilterTiles:
        conv = convolution_of(self.graph().nodes[-1])
        assert conv is not None
        return filter_tiles(conv, Registers.of(x86_target(level).features))

    def operands(self) -> list[Array]:
        rng = np.random.default_rng(self.images)
        found = []
        for k in "xy":
            found.append(guarded(self.shapes[k], self.numpy_dtype))
            found[-1][...] = rng.standard_normal(self.shapes[k])
        return found

    def check(self, got: Array, x: Array, g: Array) -> None:
        """`got` against sums of float64, within what sums of blocks in this dtype may err."""
        expected = self.direct(x, g)
        bound = 16 * np.finfo(self.computed).eps * self.direct(np.abs(x), np.abs(g))
        if self.computed != self.dtype:  # rounded once more
            bound += dtypes.as_dtype(self.dtype).eps * np.abs(expected) + 2**-25
        assert got.shape == expected.shape
        assert (np.abs(got.astype(np.float64) - expected) <= bound).all()

    def direct(self, x: Array, g: Array) -> Array:
        a = self.attrs
        x = np.pad(x.astype(np.float64), ((0, 0), *a["padding"], (0, 0)))
        found = np.zeros((*self.taps, self.inputs, self.outputs * self.groups))
        if not g.size:
            return found
        rows = g.astype(np.float64).reshape(-1, self.groups, self.outputs)
        for tap in itertools.product(*map(range, self.taps)):
            at = [slice(k * d, k * d + (n - 1) * s + 1, s) for k, d, s, n in
                  zip(tap, a["dilations"], a["strides"], g.shape[1:-1], strict=True)]  # fmt: skip
            read = x[(slice(None), *at)].reshape(-1, self.groups, self.inputs)
            found[tap] = np.einsum("pgi,pgj->igj", read, rows).reshape(self.inputs, -1)
        return found


same = ((1, 1), (1, 1))
CASES = [
    # channels: less than a vector, vectors and a rest, several panels, one
    Case(2, (5, 6), 1, 1, (3, 3), padding=same),
    Case(2, (6, 5), 3, 7, (3, 3), padding=same),
    Case(1, (7, 9), 17, 33, (3, 2), padding=same, dtype="float64"),
    Case(2, (4, 5), 65, 100, (3, 3), padding=same),
    Case(1, (5, 5), 100, 3, (3, 3), padding=same),  # swapped
    Case(1, (6, 6), 33, 1, (2, 3), (2, 1), same, dtype="float64"),  # swapped, with a rest
    # taps merged: without padding, with it, of several rows of the filter, dilated
    Case(3, (12, 12), 6, 16, (5, 5)),
    Case(2, (9, 11), 3, 20, (7, 7), (2, 2), ((3, 3), (3, 3))),
    Case(3, (10, 8), 1, 6, (5, 5), padding=((2, 2), (2, 2))),
    Case(2, (9, 9), 2, 5, (3, 3), dilations=(2, 3), padding=((2, 2), (3, 3)), dtype="float64"),
    Case(1, (9, 9), 1, 6, (4, 3), dilations=(1, 2)),
    # strides beyond the filter, padding beyond it, a filter that reads padding alone
    Case(2, (11, 10), 20, 24, (2, 2), (3, 4)),
    Case(2, (5, 4), 20, 24, (2, 2), padding=((4, 3), (0, 5))),
    Case(2, (1, 1), 3, 4, (5, 5), padding=((4, 4), (4, 4))),
    Case(1, (3, 3), 40, 8, (1, 1), (3, 3), ((5, 5), (5, 5))),
    # one spatial axis, three, rows longer than a block, a product
    Case(2, (1000,), 5, 9, (4,), (1,), ((3, 0),)),
    Case(1, (700,), 33, 40, (3,), (2,), ((1, 1),)),
    Case(2, (4, 3, 5), 3, 9, (3, 2, 3), padding=((1, 1), (0, 1), (1, 1))),
    Case(1, (3, 4, 5), 20, 18, (2, 2, 2), (2, 1, 2), ((1, 0), (1, 1), (0, 0)), dtype="float64"),
    Case(3, (7, 11), 30, 50, (1, 1)),
    # groups, of few channels and of many, one of them per channel
    Case(2, (6, 7), 4, 4, (3, 3), padding=same, groups=5),
    Case(1, (6, 7), 20, 36, (3, 3), padding=same, groups=2),
    Case(2, (5, 5), 24, 2, (2, 2), groups=3, dtype="float64"),  # swapped
    Case(2, (6, 6), 1, 3, (3, 3), padding=same, groups=7),
    # floats of 16 bits: taps alone, merged, swapped, in groups
    Case(2, (6, 7), 17, 18, (3, 2), (2, 1), same, dtype="bfloat16"),
    Case(2, (9, 8), 3, 5, (3, 3), padding=same, dtype="float16"),
    Case(2, (5, 6), 2, 4, (3, 3), dtype="bfloat16", dilations=(1, 2)),
    Case(1, (400,), 40, 2, (3,), (1,), ((0, 2),), dtype="float16"),
    Case(1, (3, 4, 5), 20, 18, (2, 2, 2), padding=((1, 0), (1, 1), (0, 0)), groups=2,
         dtype="bfloat16"),
]  # fmt: skip
# with splits: enough work for several parts of the places
LARGE = [
    Case(9, (20, 20), 3, 8, (3, 3), padding=same),
    Case(3, (24, 24), 16, 17, (3, 3), padding=same, dtype="float64"),
    Case(2, (40, 40), 40, 6, (1, 1)),  # swapped
    Case(2, (14, 14), 64, 100, (3, 3), padding=same),
    Case(1, (30, 31), 100, 180, (1, 1)),  # the next block is asked for
    Case(1, (40, 40), 150, 20, (1, 1), dtype="float64"),
    Case(5, (20, 20), 4, 4, (3, 3), padding=same, groups=8),
    Case(4, (24, 24), 16, 17, (3, 3), padding=same, dtype="bfloat16"),
]


def of_level(cases: Sequence[Case]) -> list[Any]:
    """Each case at one of the levels."""
    levels = itertools.cycle(reversed(X86_LEVELS))
    return [pytest.param(c, level, id=f"{i}-{level}")
            for i, (c, level) in enumerate(zip(cases, levels))]  # fmt: skip


@pytest.mark.parametrize(("case", "level"), of_level([*CASES, *LARGE, *CASES[1:]]))
def test_it_is_the_direct_sum(case: Case, level: str) -> None:
    if not runs_here(level):
        pytest.skip(f"this processor is less than {level}")
    target = x86_target(level)
    compilation = compile_in_full(case.graph(), target)
    assert [s.kind for s in compilation.steps] == ["kernel"]
    operands = case.operands()
    got = executor.prepare(compilation.program, target).run(operands)[0]
    assert got.dtype == case.numpy_dtype
    case.check(got, *operands)


def test_the_cases_reach_all_kinds_of_tiles() -> None:
    tiles = [c.tiles(level) for c in (*CASES, *LARGE) for level in X86_LEVELS]
    for kind in (
        lambda t: t.swapped, lambda t: t.swapped and t.splits != 1, lambda t: t.is_copied,
        lambda t: t.merged > 1, lambda t: t.merged and not t.is_copied, lambda t: t.by_row,
        lambda t: t.panels > 1 and t.last < t.panel, lambda t: t.splits != 1,
        lambda t: t.parts > t.row_parts, lambda t: not t.is_partial,
        lambda t: t.asks_ahead, lambda t: t.asks_ahead and t.swapped,
    ):  # fmt: skip
        assert any(map(kind, tiles))


@pytest.mark.parametrize("case", [CASES[3], *LARGE])
def test_it_does_not_depend_on_the_threads(case: Case) -> None:
    operands = case.operands()

    def run() -> Array:
        compilation = compile_in_full(case.graph(), HOST)
        return executor.prepare(compilation.program, HOST).run(operands)[0]

    first, *others = with_threads(run)
    for other in others:
        np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize("case", [CASES[7], CASES[8], *LARGE])
def test_pieces_of_the_range_stay_within_their_memory(case: Case) -> None:
    conv = convolution_of(case.graph().nodes[-1])
    assert conv is not None
    kernel = convolution_kernel(conv, Registers.of(HOST.features))
    assert isinstance(kernel, FilterGradient)
    run = loaded(kernel)
    operands = case.operands()
    memory = [np.full(evaluate(b.nbytes, ()) + 256, BYTE, np.uint8) for b in kernel.buffers]
    w = guarded((*case.taps, case.inputs, case.outputs * case.groups), case.numpy_dtype)
    for launch in kernel.launches:
        count = evaluate(launch.count, ())
        third = count // 3
        for lo, hi in ((third, count), (0, 0), (0, third)):
            run(launch.suffix, [*operands, w, *memory], lo, hi)
    case.check(w, *operands)
    for m in memory:
        assert (m[-256:] == BYTE).all()


def loaded(kernel: FilterGradient) -> Callable[[str, Sequence[Array], int, int], None]:
    parts = ModuleParts(mask_registers="+avx512f" in HOST.features)
    text = kernel.emit(parts).replace("KERNEL", "k").replace("define internal i32", "define i32")
    library, _ = engine.compile_module(f"{parts.text()}\n{text}", HOST)
    pointer, index = ctypes.c_void_p, ctypes.c_int64
    sizes = [n for n in kernel.sizes if isinstance(n, int)]

    def run(suffix: str, arrays: Sequence[Array], lo: int, hi: int) -> None:
        function = ctypes.CFUNCTYPE(ctypes.c_int32, pointer, index, index, pointer)
        words = [*(a.ctypes.data for a in arrays), *sizes]
        args = (ctypes.c_int64 * len(words))(*words)
        status = (ctypes.c_int64 * 16)()
        call = function(library.address(f"k{suffix}"))
        assert call(ctypes.addressof(status), lo, hi, ctypes.addressof(args)) == 0

    return run


@pytest.mark.parametrize(
    "case",
    [CASES[1], CASES[3], CASES[4], LARGE[0], Case(9, (30, 30), 7, 8, (2, 2), (2, 2))],
)
def test_one_program_serves_any_number_of_images(case: Case) -> None:
    graph = case.graph(DimScope().symbol("n", 0, 0))
    prepared = executor.prepare(compile_in_full(graph, HOST).program, HOST)
    for images in (1, case.images, 2 * case.images, 0):
        of_size = replace(case, images=images)
        operands = of_size.operands()
        of_size.check(prepared.run(operands)[0], *operands)


@pytest.mark.parametrize(("inputs", "outputs"), [(40, 6), (6, 40), (1, 1)])
def test_it_sums_in_blocks(inputs: int, outputs: int) -> None:
    """Term by term, the error of a sum of positive numbers grows with their number."""
    case = Case(1, (1 << 17,), inputs, outputs, (1,))
    x, g = (np.abs(a) for a in case.operands())
    got = executor.prepare(compile_in_full(case.graph(), HOST).program, HOST).run([x, g])[0]
    right = case.direct(x, g)
    limit = 2.0**-19
    assert np.abs(got / right - 1).max() < limit
    one_by_one = np.cumsum(x[0, :, :1] * g[0, :, :1], axis=0, dtype=np.float32)[-1, 0]
    assert abs(one_by_one / right[0, 0, 0] - 1) > limit


def test_sizes_may_be_open_and_leave_no_places() -> None:
    scope = DimScope()
    height, width = (scope.symbol(name, 0, 1 + i) for i, name in enumerate("hw"))
    attrs = {"strides": (2, 1), "padding": ((1, 0), (2, 2)), "dilations": (1, 1), "groups": 1}
    for inputs, outputs in ((3, 5), (20, 17)):
        x = t(2, height, width, inputs)
        y = t(2, *output_sizes((height, width), (3, 5), (2, 1), attrs["padding"], (1, 1)), outputs)  # type: ignore[arg-type]
        graph = graph_of(
            lambda x, g: ops["conv_filter_gradient"](x, g, **attrs, filter_size=(3, 5)), x, y
        )
        prepared = executor.prepare(compile_in_full(graph, HOST).program, HOST)
        for sizes in ((7, 9), (2, 1), (8, 300), (1, 4), (40, 1)):
            case = Case(2, sizes, inputs, outputs, (3, 5), (2, 1), ((1, 0), (2, 2)))
            operands = case.operands()
            case.check(prepared.run(operands)[0], *operands)


def test_a_planted_mistake_is_seen() -> None:
    case = CASES[1]
    operands = case.operands()
    right = case.direct(*operands)
    case.check(right, *operands)
    for wrong in (right.swapaxes(0, 1), np.roll(right, 1, -1), right * (1 + 1e-4)):
        with pytest.raises(AssertionError):
            case.check(wrong, *operands)


def test_integers_are_a_host_step() -> None:
    compilation = compile_in_full(replace(CASES[0], dtype="int32").graph(), HOST)
    assert [s.kind for s in compilation.steps] == ["host"]
