"""Values put together from pieces of others: one copy kernel a piece."""

from __future__ import annotations

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.families import Indexed
from graphgrad.compiler.ir import Node, Value
from graphgrad.compiler.kernels.index_maps import row_major
from graphgrad.compiler.kernels.loops import Access, Affine, Array, LoopNest, Phase, Stmt
from graphgrad.compiler.kernels.merge import merge_dims
from graphgrad.compiler.types import Shape, element_count

Piece = tuple[LoopNest, list[Value]]


def pieces_of(node: Node) -> list[Piece] | None:
    """The kernels that fill the output of `node`, with the values of their arrays, or None."""
    if not isinstance(node.op, Indexed) or node.is_complex:
        return None
    if node.op.lowering == "concat":
        return concat(node)
    if node.op.lowering == "unslice":
        return unslice(node)
    return None


def concat(node: Node) -> list[Piece]:
    """Each input goes behind the one before it."""
    axis, out = node.attrs["axis"], node.out
    strides = row_major(out.type.shape)
    pieces, start = [], 0
    for x in node.inputs:
        offset: Extent = strides[axis] * start
        pieces.append((copy(node, x.type.shape, offset, strides), [x, out]))
        start = start + x.type.shape[axis]
    return pieces


def unslice(node: Node) -> list[Piece]:
    """Zeros, then the input at its places."""
    (x,), out = node.inputs, node.out
    strides = row_major(out.type.shape)
    offset: Extent = 0
    steps = []
    for stride, start, step in zip(strides, node.attrs["starts"], node.attrs["steps"], strict=True):
        offset = offset + stride * start
        steps.append(stride * step)
    nest = copy(node, x.type.shape, offset, tuple(steps))
    return [(fill(node, element_count(out.type.shape), out.type.dtype), [out]), (nest, [x, out])]


def copy(node: Node, shape: Shape, offset: Extent, strides: tuple[Extent, ...]) -> LoopNest:
    """A contiguous array of `shape` into places of the output."""
    return between(node, shape, Affine(0, row_major(shape)), Affine(offset, strides))


def between(node: Node, shape: Shape, source: Affine, target: Affine) -> LoopNest:
    """Elements of one array into places of another."""
    dtype = node.out.type.dtype
    read, write = Access(0, source), Access(1, target)
    stmts = (
        Stmt(0, "load", (), dtype, read, node.where),
        Stmt(1, "store", (0,), dtype, write, node.where),
    )
    arrays = (Array("in", dtype, "x0"), Array("out", dtype, "out0"))
    return nest(shape, arrays, stmts, node.op.name)


def fill(node: Node, count: Extent, dtype: DType) -> LoopNest:
    """Zeros everywhere."""
    write = Access(0, Affine(0, (1,)))
    stmts = (
        Stmt(0, "const", (), dtype, False if dtype is dtypes.bool_ else 0, node.where),
        Stmt(1, "store", (0,), dtype, write, node.where),
    )
    return nest((count,), (Array("out", dtype, "out0"),), stmts, "zeros")


def nest(shape: Shape, arrays: tuple[Array, ...], stmts: tuple[Stmt, ...], title: str) -> LoopNest:
    """One sweep over `shape`."""
    whole = LoopNest(shape, 0, 0, arrays, (Phase("sweep", stmts),), (), title)
    merged = merge_dims(whole)
    rows = max(0, len(merged.dims) - 1)
    return LoopNest(merged.dims, rows, 0, arrays, merged.main, (), title)
