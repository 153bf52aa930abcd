"""Rows written at index values, one after the other: what has no loop nest of its own."""

from __future__ import annotations

from dataclasses import dataclass

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.families import Indexed
from graphgrad.compiler.ir import Node, Value
from graphgrad.compiler.kernels.assemble import copy, fill
from graphgrad.compiler.kernels.index_maps import row_major
from graphgrad.compiler.kernels.loops import LoopNest
from graphgrad.compiler.types import element_count


@dataclass(frozen=True, slots=True)
class Scatter:
    """Arrays out[outer, size, width] and updates[outer, count, width], and indices[lanes, count],
    where `inner` of the outer ones share a lane of indices."""

    mode: str  # add | update | max | min
    dtype: DType
    index: DType
    outer: Extent
    inner: Extent
    count: Extent
    size: Extent
    width: Extent


def scatter_of(node: Node) -> Scatter | None:
    """The scatter that a node computes, or None where it is none, or a host step."""
    if not isinstance(node.op, Indexed) or node.op.lowering not in ("scatter", "scatter_add"):
        return None
    indices, shape = node.inputs[-1].type, node.out.type.shape
    lanes: int = node.attrs["batch_dims"]
    axis: int = node.attrs.get("axis", lanes)
    mode = node.attrs.get("mode", "add")
    dtype = node.out.type.dtype
    is_number = dtype.is_integer or dtype.name in ("float32", "float64")
    if mode != "update" and not is_number:
        return None  # 16-bit floats are carried in float32
    return Scatter(
        mode,
        dtype,
        indices.dtype,
        element_count(shape[:axis]),
        element_count(shape[lanes:axis]),
        element_count(indices.shape[lanes:]),
        shape[axis],
        element_count(shape[axis + 1 :]),
    )


def start_of(node: Node) -> tuple[LoopNest, list[Value]]:
    """The kernel that fills the output first, with zeros or what is scattered onto."""
    out = node.out
    if len(node.inputs) == 2:
        return fill(node, element_count(out.type.shape), out.type.dtype), [out]
    x = node.inputs[0]
    return copy(node, x.type.shape, 0, row_major(out.type.shape)), [x, out]
