"""Arrays that scalar loops change where they lie: elements stored, arrays copied and filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from graphgrad.compiler.codegen.llvm_nest import combine
from graphgrad.compiler.codegen.llvm_scalar import Lanes
from graphgrad.compiler.codegen.llvm_scalar_memory import Held, Known, Range
from graphgrad.compiler.codegen.llvm_scalar_values import ScalarValues
from graphgrad.compiler.ir import Node, Value
from graphgrad.compiler.kernels.loops import compute_dtype
from graphgrad.compiler.kernels.scalar_loops import contiguous
from graphgrad.compiler.types import element_count


class ScalarArrays(ScalarValues):
    """Computes the values of nodes that change memory."""

    def begun(self, x: Held, pointer: str) -> Held:
        """Held state where it is to be at the end, copied there if it begins elsewhere."""
        text, labels = self.text, [self.text.name(s) for s in ("bring", "there")]
        there = text.assign(f"icmp eq ptr {x.pointer}, {pointer}")
        text.line(f"br i1 {there}, label %{labels[1]}, label %{labels[0]}")
        self.e.begin(labels[0])
        count = element_count(x.layout.shape)
        self.move(x.pointer, pointer, self.size(count * x.dtype.itemsize))
        text.line(f"br label %{labels[1]}")
        self.e.begin(labels[1])
        return replace(x, pointer=pointer, is_input=False)

    def copy(self, x: Held | Range, v: Value) -> Held:
        """The value of x in memory of its own, where `v` may change it."""
        pointer = self.place(v, {})
        if isinstance(x, Range):
            self.fill_with(pointer, x, self.size(element_count(v.type.shape)))
        else:
            self.move(self.moved(x, "0"), pointer, self.bytes_of(v.type))
        return Held(pointer, contiguous(v.type.shape), v.type.dtype, False)

    def fill_with(self, pointer: str, x: Range, count: str) -> None:
        """Write so many elements, each computed from its place."""
        text = self.text
        head, body, after = (text.name(s) for s in ("fill", "put", "filled"))
        before, k, following = self.e.label, "%" + text.name("k"), "%" + text.name("k")
        text.line(f"br label %{head}")
        self.e.begin(head)
        top = len(text.lines)
        on = text.assign(f"icmp ult i64 {k}, {count}")
        text.line(f"br i1 {on}, label %{body}, label %{after}")
        self.e.begin(body)
        with self.e.aside():
            lane = x.element(k)
            self.put(lane, self.element(pointer, lane.dtype, k))
        text.line(f"{following} = add nuw nsw i64 {k}, 1")
        text.lines.insert(
            top, f"  {k} = phi i64 [ 0, %{before} ], [ {following}, %{self.e.label} ]"
        )
        text.line(f"br label %{head}")
        self.e.begin(after)

    def update_slice_in_place(self, node: Node, inputs: Sequence[Known]) -> Held:
        """A block of small size stored where its starts say."""
        x, update, *starts = inputs
        sizes = node.inputs[1].type.shape
        first = self.offset(self.begins(node, starts, sizes), x.layout.strides)
        steps: list[int] = node.attrs["steps"]
        for at, lane in zip(np.ndindex(*sizes), update, strict=True):
            offset = first
            for i, step, stride in zip(at, steps, x.layout.strides, strict=True):
                offset = self.sum(offset, self.product(str(i * step), stride))
            self.put(lane, self.moved(x, offset))
        return x  # type: ignore[no-any-return]

    def scatter_in_place(self, node: Node, inputs: Sequence[Known]) -> Held:
        """The updates, one after the other, at the places that indices say along the first axis."""
        x, updates, indices = inputs
        shape, mode = node.out.type.shape, node.attrs["mode"]
        size, row = self.size(shape[0]), int(element_count(shape[1:]))
        found = [self.index(i, size, "index") for i in indices]
        for k, index in enumerate(found):
            base = self.product(index.text, row)
            for j, lane in enumerate(updates[k * row : (k + 1) * row]):
                pointer = self.moved(x, self.sum(base, str(j)))
                self.put(self.extreme(mode, pointer, lane), pointer)
        return x  # type: ignore[no-any-return]

    def extreme(self, mode: str, pointer: str, lane: Lanes) -> Lanes:
        """The lane, or the greater or smaller one of it and what lies there."""
        e, dtype = self.e, lane.dtype
        if mode == "update":
            return lane
        wide = compute_dtype(dtype)
        both = (e.convert(v, wide) for v in (self.load(pointer, dtype, False), lane))
        return e.convert(combine(e, mode, *both), dtype)  # type: ignore[no-any-return]
