"""Scatters as LLVM functions: rows of updates go to their places in order, so that sums have one
order, and of several values for a place the last one stays.

    define internal i32 @k_scatter_3f9a1c(ptr %status, i64 %lo, i64 %hi, ptr %args)

`args` holds the pointers of the result, the updates and the indices, then sizes:

    for o in range(lo, hi):
        for i in range(count):
            index = indices[o // inner, i]
            if not 0 <= index < size: fail
            for w in range(width): out[o, index, w] += updates[o, i, w]
"""

from __future__ import annotations

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.kernels.scatters import Scatter
from graphgrad.runtime.program import STATUS_A, STATUS_B, STATUS_FAILURE, STATUS_INDEX

POINTERS = ("out", "updates", "indices")
SIZES = ("inner", "count", "size", "width")
VECTOR_BYTES = 32  # of a row at a time


def sizes_of(scatter: Scatter) -> tuple[Extent, ...]:
    """What the function takes after its pointers."""
    return scatter.inner, scatter.count, scatter.size, scatter.width


def scatter_text(scatter: Scatter, failure: int) -> str:
    """The function @KERNEL; `failure` is the number of an index out of range."""
    element = _element(scatter)
    bytes_ = scatter.dtype.itemsize
    lanes = max(VECTOR_BYTES // bytes_, 1)
    vector = f"<{lanes} x {element}>"
    index = f"i{scatter.index.bits}"
    widen = "sext" if scatter.index.kind == "i" else "zext"
    whole = f"{widen} {index} %raw to i64" if scatter.index.bits < 64 else "add i64 %raw, 0"
    failed = {STATUS_FAILURE: str(failure), STATUS_INDEX: "%at", STATUS_A: "%index",
              STATUS_B: "%size"}  # fmt: skip
    return "\n".join([
        "define internal i32 @KERNEL(ptr %status, i64 %lo, i64 %hi, ptr %args) nounwind {",
        "entry:",
        *_arguments(),
        f"  %whole = and i64 %width, {-lanes}",
        "  br label %outer",
        "outer:",
        "  %o = phi i64 [ %lo, %entry ], [ %next_o, %end ]",
        "  %more_o = icmp slt i64 %o, %hi",
        "  br i1 %more_o, label %lane, label %done",
        "lane:",
        "  %b = sdiv i64 %o, %inner",
        "  %first = mul i64 %b, %count",
        "  %row0 = mul i64 %o, %count",
        "  %out0 = mul i64 %o, %size",
        "  br label %rows",
        "rows:",
        "  %i = phi i64 [ 0, %lane ], [ %next_i, %row_end ]",
        "  %more_i = icmp slt i64 %i, %count",
        "  br i1 %more_i, label %row, label %end",
        "row:",
        "  %at = add i64 %first, %i",
        f"  %at_index = getelementptr {index}, ptr %indices, i64 %at",
        f"  %raw = load {index}, ptr %at_index",
        f"  %index = {whole}",
        "  %inside = icmp ult i64 %index, %size",
        "  br i1 %inside, label %write, label %failed",
        "write:",
        "  %from = add i64 %row0, %i",
        "  %from0 = mul i64 %from, %width",
        "  %to = add i64 %out0, %index",
        "  %to0 = mul i64 %to, %width",
        f"  %source = getelementptr {element}, ptr %updates, i64 %from0",
        f"  %target = getelementptr {element}, ptr %out, i64 %to0",
        *_sweep(scatter, "v", vector, lanes, "0", "%whole", ("write", "tail_t")),
        "tail_t:",
        *_sweep(scatter, "t", element, 1, "%whole", "%width", ("tail_t", "row_end")),
        "row_end:",
        "  %next_i = add nsw i64 %i, 1",
        "  br label %rows",
        "end:",
        "  %next_o = add nsw i64 %o, 1",
        "  br label %outer",
        "failed:",
        *_noted(failed),
        "  ret i32 1",
        "done:",
        "  ret i32 0",
        "}",
    ])  # fmt: skip


def _element(scatter: Scatter) -> str:
    """What is loaded and stored: bits, where there is no arithmetic."""
    if scatter.dtype.is_floating and scatter.mode != "update":
        return {32: "float", 64: "double"}[scatter.dtype.bits]
    return f"i{8 * scatter.dtype.itemsize}"


def _arguments() -> list[str]:
    lines = []
    for i, name in enumerate(POINTERS):
        lines.append(f"  %p_{name} = getelementptr ptr, ptr %args, i64 {i}")
        lines.append(f"  %{name} = load ptr, ptr %p_{name}")
    for i, name in enumerate(SIZES, len(POINTERS)):
        lines.append(f"  %p_{name} = getelementptr i64, ptr %args, i64 {i}")
        lines.append(f"  %{name} = load i64, ptr %p_{name}")
    return lines


def _sweep(
    scatter: Scatter, tag: str, type_: str, step: int, start: str, end: str,
    blocks: tuple[str, str],
) -> list[str]:  # fmt: skip
    """A loop over a part of the row, between the blocks before and after it."""
    before, after = blocks
    align = scatter.dtype.itemsize
    element = _element(scatter)
    return [
        f"  br label %head_{tag}",
        f"head_{tag}:",
        f"  %w_{tag} = phi i64 [ {start}, %{before} ], [ %next_{tag}, %body_{tag} ]",
        f"  %more_{tag} = icmp slt i64 %w_{tag}, {end}",
        f"  br i1 %more_{tag}, label %body_{tag}, label %{after}",
        f"body_{tag}:",
        f"  %from_{tag} = getelementptr {element}, ptr %source, i64 %w_{tag}",
        f"  %to_{tag} = getelementptr {element}, ptr %target, i64 %w_{tag}",
        f"  %u_{tag} = load {type_}, ptr %from_{tag}, align {align}",
        *_combined(scatter.mode, scatter.dtype, tag, type_, align),
        f"  store {type_} %z_{tag}, ptr %to_{tag}, align {align}",
        f"  %next_{tag} = add nsw i64 %w_{tag}, {step}",
        f"  br label %head_{tag}",
    ]


def _combined(mode: str, dtype: DType, tag: str, type_: str, align: int) -> list[str]:
    """%z of the update %u and of what is there. NaN is the extreme of what it is compared with."""
    u, z, old = f"%u_{tag}", f"%z_{tag}", f"%old_{tag}"
    if mode == "update":
        return [f"  {z} = freeze {type_} {u}"]
    load = f"  {old} = load {type_}, ptr %to_{tag}, align {align}"
    if mode == "add":
        return [load, f"  {z} = {'fadd' if dtype.is_floating else 'add'} {type_} {old}, {u}"]
    sign = "g" if mode == "max" else "l"
    if not dtype.is_floating:
        kind = "s" if dtype.kind == "i" else "u"
        compare = [f"  %c_{tag} = icmp {kind}{sign}t {type_} {u}, {old}"]
    else:
        compare = [
            f"  %beyond_{tag} = fcmp o{sign}t {type_} {u}, {old}",
            f"  %nan_{tag} = fcmp uno {type_} {u}, {u}",
            f"  %c_{tag} = or {_flags(type_)} %beyond_{tag}, %nan_{tag}",
        ]
    chosen = f"  {z} = select {_flags(type_)} %c_{tag}, {type_} {u}, {type_} {old}"
    return [load, *compare, chosen]


def _flags(type_: str) -> str:
    """The type of a comparison of this type."""
    return f"{type_.split(' x ')[0]} x i1>" if type_.startswith("<") else "i1"


def _noted(words: dict[int, str]) -> list[str]:
    """What failed, in the status record."""
    lines = []
    for word, value in words.items():
        lines.append(f"  %status_{word} = getelementptr i64, ptr %status, i64 {word}")
        lines.append(f"  store i64 {value}, ptr %status_{word}")
    return lines
