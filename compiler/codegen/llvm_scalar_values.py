"""Elements of small values in scalar loops: what elementwise ops, reductions and small products
compute, and what is picked or placed at index values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen.llvm_nest import combine, identity_of
from graphgrad.compiler.codegen.llvm_scalar import (
    Lanes,
    llvm_literal,
)
from graphgrad.compiler.codegen.llvm_scalar_memory import Held, Known, Range, ScalarMemory, Small
from graphgrad.compiler.codegen.llvm_vectors import memory_type
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.families import Elementwise, Generator, Reduce
from graphgrad.compiler.ir import Node
from graphgrad.compiler.kernels.carried_arrays import is_small
from graphgrad.compiler.kernels.index_maps import row_major
from graphgrad.compiler.kernels.loops import compute_dtype
from graphgrad.compiler.kernels.scalar_loops import (
    contiguous,
    picked,
    places_read,
    reduced_places,
    seen_through,
)
from graphgrad.compiler.types import TensorType, element_count


class ScalarValues(ScalarMemory):
    """Computes the values of nodes that are neither loops nor branches."""

    def constant(self, node: Node) -> Known:
        array, dtype = node.attrs["value"].array, node.out.type.dtype
        if is_small(node.out.type):
            return tuple(self.e.const(x, dtype) for x in array.ravel().tolist())
        element = memory_type(dtype)
        if dtype.is_bool:
            texts = [str(int(x)) for x in array.ravel()]
        else:
            texts = [llvm_literal(x, dtype) for x in array.ravel().tolist()]
        elements = ", ".join(f"{element} {x}" for x in texts)
        definition = f"private unnamed_addr constant [{array.size} x {element}] [{elements}]"
        known = self.parts.globals
        name = known.setdefault(definition, f"@gg.table.{len(known)}")
        return Held(name, contiguous(node.out.type.shape), dtype, True)

    def elementwise(self, node: Node, inputs: Sequence[Known]) -> Small:
        shape = node.out.type.shape
        columns = [
            [x[k] for k in positions(v.type, shape)]
            for v, x in zip(node.inputs, inputs, strict=True)
        ]
        return tuple(self.scalar(node, row) for row in zip(*columns, strict=True))

    def scalar(self, node: Node, inputs: Sequence[Lanes]) -> Lanes:
        """One element by the op's scalar function; 16-bit floats go through float32."""
        e, op = self.e, node.op
        assert isinstance(op, Elementwise | Generator)
        lanes = [e.convert(x, compute_dtype(x.dtype)) for x in inputs]
        return e.convert(op.scalar(e, *lanes, **node.attrs), node.out.type.dtype)  # type: ignore[no-any-return]

    def range(self, node: Node, inputs: Sequence[Known]) -> Range:
        """Numbers in a row."""
        if node.op.name == "iota":
            dtype = node.out.type.dtype
            return Range(lambda place: self.e.convert(Lanes(place, dtypes.int64), dtype))
        if node.op.name == "places":
            ((count,),) = inputs
            self.counts[node.attrs["size"]] = self.e.convert(count, dtypes.int64).text
            return Range(lambda place: Lanes(place, dtypes.int64))

        def at(x: Known, place: str) -> Lanes:
            return x.element(place) if isinstance(x, Range) else x[0]

        if node.op.name == "broadcast_to":
            return Range(lambda place: at(inputs[0], place))
        failures = self.e.failures

        def element(place: str) -> Lanes:
            lanes = [at(x, place) for x in inputs]
            self.e.failures = failures
            return self.scalar(node, lanes)

        return Range(element)

    def generated(self, node: Node, inputs: Sequence[Known]) -> Small:
        """One element after the other, from its index and the elements of the inputs."""
        lead = max((v.type.ndim - 1 for v in node.inputs), default=0)
        lead = max(lead, 0)
        own = int(element_count(node.out.type.shape[lead:]))
        found = []
        for k in range(int(element_count(node.out.type.shape))):
            index = self.e.const(k % own, dtypes.int64)
            lanes: list[Lanes] = []
            for x, v in zip(inputs, node.inputs, strict=True):
                count = v.type.shape[-1] if v.type.shape else 1
                first = k // own * count if v.type.ndim > 1 else 0
                lanes += x[first : first + count]
            found.append(self.scalar(node, [index, *lanes]))
        return tuple(found)

    def reduced(self, node: Node, x: Small) -> Small:
        e, op, dtype = self.e, node.op, node.out.type.dtype
        assert isinstance(op, Reduce)
        wide = compute_dtype(dtype)
        found = []
        for places in reduced_places(node):
            parts = [e.convert(x[k], wide) for k in places]
            total = parts[0] if parts else e.const(identity_of(op.combiner, wide), wide)
            for part in parts[1:]:
                total = combine(e, op.combiner, total, part)
            found.append(e.convert(total, dtype))
        return tuple(found)

    def product_of(self, node: Node, a: Small, b: Small) -> Small:
        """The matrix product, term after term."""
        e, dtype = self.e, node.out.type.dtype
        wide = compute_dtype(dtype)
        rows, columns = (numbers(x.type.shape) for x in node.inputs)
        rows = rows.T if node.attrs["transpose_a"] else rows
        columns = columns if node.attrs["transpose_b"] else columns.T
        found = []
        for row in rows.tolist():
            for column in columns.tolist():
                total = e.const(0, wide)
                for k, (i, j) in enumerate(zip(row, column, strict=True)):
                    term = e.mul(e.convert(a[i], wide), e.convert(b[j], wide))
                    total = e.add(total, term) if k else term
                found.append(e.convert(total, dtype))
        return tuple(found)

    def rearranged(self, node: Node, inputs: Sequence[Small]) -> Small:
        """Elements of small values, or zeros, at other places."""
        lanes = [lane for x in inputs for lane in x]
        zero = self.e.const(0, node.out.type.dtype)
        return tuple(zero if k < 0 else lanes[k] for k in places_read(node))

    def view(self, node: Node, x: Held) -> Held:
        layout = seen_through(node, x.layout)
        assert layout is not None
        return Held(x.pointer, layout, x.dtype, x.is_input)

    # -- elements picked and placed by index

    def index(self, x: Lanes, size: str, kind: str) -> Lanes:
        """An index as int64, checked."""
        e = self.e
        index, count = e.convert(x, dtypes.int64), Lanes(size, dtypes.int64)
        inside = self.e.emit(f"icmp ult i64 {index.text}, {size}")
        e.require(Lanes(inside, dtypes.bool_), kind, index, count)
        return index  # type: ignore[no-any-return]

    def gather(self, node: Node, inputs: Sequence[Known]) -> Known:
        x, indices = inputs
        shape, axis = node.inputs[0].type.shape, node.attrs["axis"]
        size = self.size(shape[axis])
        found = [self.index(i, size, "index") for i in indices]
        if isinstance(x, Held):
            stride = x.layout.strides[axis]
            rest = picked(node, x.layout)
            parts = [
                Held(self.moved(x, self.product(i.text, stride)), rest, x.dtype, x.is_input)
                for i in found
            ]
            if not is_small(node.out.type):
                return parts[0]
            rows = [self.loaded(p) for p in parts]
        else:
            rows = []
            for i in found:
                rows.append(
                    tuple(
                        self.chosen(i, [x[k] for k in line])
                        for line in np.moveaxis(numbers(shape), axis, -1)
                        .reshape((-1, shape[axis]))
                        .tolist()
                    )
                )
        return in_order(rows, node)

    def chosen(self, index: Lanes, lanes: Sequence[Lanes]) -> Lanes:
        """The lane that an index says."""
        found = lanes[0]
        for k, lane in enumerate(lanes[1:], 1):
            found = self.e.select(self.e.eq(index, k), lane, found)
        return found

    def scatter(self, node: Node, inputs: Sequence[Small]) -> Small:
        return self.scattered(node, inputs[0], inputs[1], inputs[2], node.inputs[2].type)

    def scatter_add(self, node: Node, inputs: Sequence[Small]) -> Small:
        zeros = (self.e.const(0, node.out.type.dtype),) * int(element_count(node.out.type.shape))
        return self.scattered(node, zeros, inputs[0], inputs[1], node.inputs[1].type)

    def scattered(
        self, node: Node, x: Small, updates: Small, indices: Small, picks: TensorType
    ) -> Small:
        """The updates, one after the other, at the places that indices say."""
        e, shape = self.e, node.out.type.shape
        axis, mode = node.attrs.get("axis", 0), node.attrs.get("mode", "add")
        out, dtype = list(x), node.out.type.dtype
        wide = compute_dtype(dtype)
        lines = np.moveaxis(numbers(shape), axis, 0)
        given = numbers((*shape[:axis], len(indices), *shape[axis + 1 :]))
        given = np.moveaxis(given, axis, 0)
        size = self.size(shape[axis])
        for i, update in zip(indices, given, strict=True):
            index = self.index(i, size, "index")
            for k, line in enumerate(lines):
                here = e.eq(index, k)
                for place, u in zip(line.ravel().tolist(), update.ravel().tolist(), strict=True):
                    new = updates[u]
                    if mode != "update":
                        combiner = {"add": "sum", "max": "max", "min": "min"}[mode]
                        both = (e.convert(v, wide) for v in (out[place], new))
                        new = e.convert(combine(e, combiner, *both), dtype)
                    out[place] = e.select(here, new, out[place])
        return tuple(out)

    def begins(self, node: Node, starts: Sequence[Small], sizes: Sequence[Extent]) -> list[Any]:
        """Where a block starts along each axis: an int, or a checked index."""
        e, shape = self.e, node.inputs[0].type.shape
        dynamic, found = iter(starts), []
        steps = node.attrs["steps"]
        for n, start, m, step in zip(shape, node.attrs["starts"], sizes, steps, strict=True):
            if start is not None:
                found.append(start)
                continue
            ((lane,), last) = next(dynamic), Lanes(self.size(n - 1 - (m - 1) * step), dtypes.int64)
            index = e.convert(lane, dtypes.int64)
            inside = e.and_(e.ge(index, 0), e.le(index, last))
            e.require(inside, "start", index, last)
            found.append(index)
        return found

    def offset(self, begins: Sequence[Any], strides: Sequence[Extent]) -> str:
        """The element at which a block starts."""
        total = "0"
        for begin, stride in zip(begins, strides, strict=True):
            text = begin.text if isinstance(begin, Lanes) else self.size(begin)
            total = self.sum(total, self.product(text, stride))
        return total

    def dynamic_slice(self, node: Node, inputs: Sequence[Known]) -> Known:
        x, *starts = inputs
        sizes = node.attrs["sizes"]
        begins = self.begins(node, starts, sizes)
        if isinstance(x, Held):
            pointer = self.moved(x, self.offset(begins, x.layout.strides))
            return Held(pointer, picked(node, x.layout), x.dtype, x.is_input)
        base, block = self.block(node, begins, sizes)
        return tuple(self.chosen(base, x[k:]) for k in block)

    def update_slice(self, node: Node, inputs: Sequence[Small]) -> Small:
        x, update, *starts = inputs
        sizes = node.inputs[1].type.shape
        base, block = self.block(node, self.begins(node, starts, sizes), sizes)
        out = list(x)
        for k, u in zip(block, update, strict=True):
            for place in range(k, len(out)):
                out[place] = self.e.select(self.e.eq(base, place - k), u, out[place])
        return tuple(out)

    def block(
        self, node: Node, begins: Sequence[Any], sizes: Sequence[Any]
    ) -> tuple[Lanes, list[int]]:
        """The element of a small value at which a block starts, and its elements from there on."""
        strides = row_major(node.inputs[0].type.shape)
        base = self.offset(begins, strides)
        steps = [s * k for s, k in zip(strides, node.attrs["steps"], strict=True)]
        grid = np.indices(tuple(sizes)).reshape((len(steps), int(np.prod(sizes))))
        block = [sum(s * int(i) for s, i in zip(steps, at, strict=True)) for at in grid.T]
        return Lanes(base, dtypes.int64), block


def numbers(shape: Sequence[Any]) -> Any:
    """An array of the row-major numbers of its elements."""
    return np.arange(int(np.prod(shape))).reshape(tuple(shape))


def positions(t: TensorType, shape: Sequence[Any]) -> list[int]:
    """Which element of a value of type `t` each one of a value that stretches it reads."""
    return np.broadcast_to(numbers(t.shape), tuple(shape)).ravel().tolist()


def in_order(rows: Sequence[Small], node: Node) -> Small:
    """The entries that indices pick along an axis, put together in row-major order."""
    shape, axis = node.inputs[0].type.shape, node.attrs["axis"]
    before = int(element_count(shape[:axis]))
    after = int(element_count(shape[axis + 1 :]))
    return tuple(row[i * after + k] for i in range(before) for row in rows for k in range(after))
