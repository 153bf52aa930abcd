"""What is read or written across its memory moves in tiles."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.codegen import llvm_tiles
from graphgrad.compiler.codegen.llvm_tiles import TileEmitter, Turning
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.kernels.tiles import crosswise
from graphgrad.compiler.op import ops
from graphgrad.runtime import threads
from tests.compiler.compiling import (
    check,
    compile_full,
    graph_of,
    kernels,
    prepared,
    run_compiled,
    samples,
    t,
    with_threads,
)

exp, transpose = ops["exp"], ops["transpose"]
scope = DimScope()
open_sizes = scope.symbol("n", 0, 0), scope.symbol("m", 0, 1)

# Tiles are 16 rows of 64 elements, or 8 of 32: below, at and above; and columns 512 bytes apart,
# where tiles begin with a cache line.
SIZES = ((16, 16), (1, 17), (17, 33), (5, 40), (64, 16), (33, 100), (70, 65), (37, 256), (256, 37))

TURNED: dict[str, tuple[Callable[..., Any], int]] = {
    "copied": (lambda x, y: transpose(y), 1),
    "read across": (lambda x, y: x + transpose(y), 1),
    "written across": (lambda x, y: transpose(x + x), 1),
    "both ways": (lambda x, y: [x * transpose(y), transpose(x * x)], 2),
    "two read across": (lambda x, y: (v := transpose(y)) * x + transpose(y + y) * v, 1),
    "with a column": (lambda x, y: transpose(y) * ops["slice"](x, (0, 0), (x.type.shape[0], 1)), 1),
}


@pytest.mark.parametrize("name", TURNED)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "float16", "int64", "bfloat16"])
def test_at_many_sizes(name: str, dtype: str) -> None:
    fn, _ = TURNED[name]
    for m, n in SIZES if dtype in ("float32", "int8") else SIZES[2:4] + SIZES[-2:]:
        types = t(m, n, dtype=dtype), t(n, m, dtype=dtype)
        check(graph_of(fn, *types), samples(types))


@pytest.mark.parametrize("name", TURNED)
def test_nothing_is_gathered(name: str) -> None:
    fn, count = TURNED[name]
    compilation = compile_full(graph_of(fn, t(33, 100), t(100, 33)))
    assert sum(len(crosswise(s.nest)) for s in kernels(compilation) if s.nest) >= count
    assert "_across_" in compilation.program.module
    assert "masked.gather" not in compilation.program.module
    assert "masked.scatter" not in compilation.program.module


def test_open_sizes() -> None:
    n, m = open_sizes
    types = t(n, m), t(m, n)
    graph = graph_of(lambda x, y: [x + transpose(y), transpose(x) * 2.0], *types)
    compilation = compile_full(graph)
    assert "_across_" in compilation.program.module
    for sizes in ((33, 70), (1, 1), (128, 16), (0, 3), (3, 0)):
        x, y = samples(types, sizes=sizes)
        first, second = run_compiled(compilation, (x, y))
        np.testing.assert_array_equal(first, x + y.T)
        np.testing.assert_array_equal(second, x.T * 2)


def test_bools() -> None:
    for m, n in SIZES:
        types = t(m, n, dtype="bool"), t(n, m, dtype="bool")
        check(
            graph_of(lambda x, y: [ops["logical_and"](x, transpose(y)), transpose(x)], *types),
            samples(types),
        )


@pytest.mark.parametrize("shape", [(3, 17, 20), (20, 3, 17), (2, 3, 4), (33, 2, 35), (1, 18, 18)])
def test_permutations_beside_another_dtype(shape: tuple[int, ...]) -> None:
    for perm in permutations(range(3)):
        types = t(*shape), t(*(shape[p] for p in perm), dtype="float64")

        def fn(x: Any, z: Any, perm: Any = perm) -> Any:
            return [x.transpose(perm), ops["cast"](x.transpose(perm), "float64") + z]

        check(graph_of(fn, *types), samples(types))


def test_the_axis_read_across_need_not_be_the_last_but_one() -> None:
    compilation = compile_full(graph_of(lambda x: x.transpose((2, 1, 0)), t(40, 30, 20)))
    (step,) = kernels(compilation)
    assert step.nest is not None
    assert step.nest.dims == (30, 20, 40)
    assert "_across_" in compilation.program.module


def test_short_rows_and_checked_elements_have_none() -> None:
    def checked(x: Any, y: Any) -> Any:
        return ops["floordiv"](x, transpose(y))

    whole = t(20, 30, dtype="int32"), t(30, 20, dtype="int32")
    assert "_across_" not in compile_full(graph_of(checked, *whole)).program.module
    short = graph_of(lambda x, y: x + transpose(y), t(40, 5), t(5, 40))
    assert "_across_" not in compile_full(short).program.module


@pytest.mark.skipif(not threads.available(), reason="no threads here")
@pytest.mark.parametrize(("m", "n", "k"), [(1000, 300, 1), (37, 200, 30)])
def test_threads_share_tiles(m: int, n: int, k: int) -> None:
    def fn(x: Any, y: Any) -> Any:
        return [x + y.transpose((2, 1, 0)), x.transpose((2, 1, 0))]

    types = t(m, k, n), t(n, k, m)
    x, y = samples(types)
    executable = prepared(compile_full(graph_of(fn, *types)))
    for first, second in with_threads(lambda: executable.run((x, y))):
        np.testing.assert_array_equal(first, x + y.T)
        np.testing.assert_array_equal(second, x.T)


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@pytest.mark.parametrize("width", [8, 16])
def test_stages_turn_a_square(bits: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shuffles of a square, on labels."""
    turning = Turning.__new__(Turning)
    turning.bits, turning.width, turning.vector = bits, width, ""
    square = {f"r{i}": [(i, j) for j in range(width)] for i in range(width)}

    def shuffled(_: Turning, pair: str, lanes: list[int]) -> str:
        a, b = pair.split(",")
        both = square[a.strip()] + square[b.strip()]
        name = f"s{len(square)}"
        square[name] = [both[k] for k in lanes]
        return name

    monkeypatch.setattr(Turning, "shuffled", shuffled)
    columns = [square[name] for name in turning.turned([f"r{i}" for i in range(width)])]
    assert columns == [[(i, j) for i in range(width)] for j in range(width)]


def crossed(b: int, chunk: int, width: int) -> Any:
    return llvm_tiles.interleaved(b, width, width)


def first_row(self: TileEmitter, kind: str, access: Any, dtype: Any, index: str) -> str:
    self.row_at = "0"
    return right_place(self, kind, access, dtype, index)


right_place = TileEmitter.in_tile

PLANTED: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a stage that interleaves": lambda patch: patch.setattr(llvm_tiles, "exchanged", crossed),
    "columns in order of their numbers": lambda patch: patch.setattr(
        llvm_tiles, "reverse", lambda number, bits: number
    ),
    "the first row of a tile for all": lambda patch: patch.setattr(
        TileEmitter, "in_tile", first_row
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_planted_errors_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTED[name](monkeypatch)
    types = t(33, 100), t(100, 33)
    with pytest.raises(AssertionError):
        check(graph_of(lambda x, y: x + transpose(y), *types), samples(types))
