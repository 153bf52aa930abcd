"""Blocks that lie where 0-d integers say: read from an array, or replaced in it.

Where a block starts moves the address of the array; the kernel that copies it is one of known
indices.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.families import Indexed
from graphgrad.compiler.ir import Node, Value
from graphgrad.compiler.kernels.assemble import between, copy
from graphgrad.compiler.kernels.index_maps import row_major
from graphgrad.compiler.kernels.loops import Affine, LoopNest


@dataclass(frozen=True)
class Start:
    """A start that is a value: from 0 to `last`, each `stride` elements further."""

    value: Value
    stride: Extent
    last: Extent


@dataclass(frozen=True)
class Block:
    """A block of an array: `nest` copies it. `whole` copies the array that it is replaced in."""

    starts: tuple[Start, ...]
    nest: LoopNest
    arrays: tuple[Value, Value]  # that the nest reads and writes
    moved: int  # which of them begins where `starts` say
    dtype: DType
    whole: LoopNest | None = None


def block_of(node: Node) -> Block | None:
    """The block that a node reads or replaces; None where it does neither."""
    if not isinstance(node.op, Indexed) or node.is_complex:
        return None
    if node.op.lowering not in ("dynamic_slice", "update_slice"):
        return None
    x, out = node.inputs[0], node.out
    replaces = node.op.lowering == "update_slice"
    shape = node.inputs[1].type.shape if replaces else out.type.shape
    given = iter(node.inputs[1 + replaces :])
    strides = row_major(x.type.shape)
    offset: Extent = 0
    starts, steps = [], []
    for n, m, start, step, stride in zip(
        x.type.shape, shape, node.attrs["starts"], node.attrs["steps"], strides, strict=True
    ):
        steps.append(stride * step)
        if start is None:
            starts.append(Start(next(given), stride, n - (m - 1) * step - 1))
        else:
            offset = offset + stride * start
    inside, own = Affine(offset, tuple(steps)), Affine(0, row_major(shape))
    if not replaces:
        nest = between(node, shape, inside, own)
        return Block(tuple(starts), nest, (x, out), 0, x.type.dtype)
    nest = between(node, shape, own, inside)
    whole = copy(node, x.type.shape, 0, strides)
    return Block(tuple(starts), nest, (node.inputs[1], out), 1, x.type.dtype, whole)
