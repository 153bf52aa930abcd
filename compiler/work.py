"""What a step must do, for one set of sizes: the fewest bytes it can move, and its arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphgrad.compiler.dims import Symbol, evaluate
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.ir import Node, Value
from graphgrad.compiler.kernels.convolutions import convolution_of
from graphgrad.compiler.kernels.loops import (
    Access,
    LoopNest,
    Phase,
    Reduction,
    Stmt,
    compute_dtype,
)
from graphgrad.compiler.kernels.pools import pool_of
from graphgrad.compiler.kernels.products import product_of
from graphgrad.compiler.scalar.expansions import ULP
from graphgrad.compiler.scalar.primitives import PRIMITIVES

Sizes = Mapping[Symbol, int]
# One access at known sizes: its first element, and (extent, stride) of each dim it moves along.
Walk = tuple[int, tuple[tuple[int, int], ...]]

# What moves or names values: no arithmetic.
_FREE = frozenset(
    {"load", "load_at", "load_in", "store", "index", "size", "const", "bitcast", "require"}
)
# Accesses that may overlap are marked element by element, in arrays of up to so many elements.
_MARKED = 1 << 26


@dataclass(frozen=True, slots=True)
class Work:
    """What one step does, for one set of sizes.

    Bytes are the fewest possible: each element that is touched, once. `flops` counts cheap
    arithmetic instructions, a division as 5 of them; `transcendentals` counts calls of exp, tanh,
    ... apart from these.
    """

    elements: int
    bytes_read: int
    bytes_written: int
    flops: float
    transcendentals: int

    @property
    def bytes(self) -> int:
        return self.bytes_read + self.bytes_written

    def __str__(self) -> str:
        text = f"reads {bytes_text(self.bytes_read)}, writes {bytes_text(self.bytes_written)}"
        if self.flops:
            text += f", {count_text(self.flops)} flops"
            if self.elements > 1:
                text += f" ({self.flops / self.elements:.3g} an element)"
        if self.transcendentals:
            text += f", {count_text(self.transcendentals)} transcendentals"
        return text


def together(parts: Sequence[Work]) -> Work:
    """The work of several steps or kernels."""
    return Work(
        sum(w.elements for w in parts),
        sum(w.bytes_read for w in parts),
        sum(w.bytes_written for w in parts),
        sum(w.flops for w in parts),
        sum(w.transcendentals for w in parts),
    )


def node_work(node: Node, sizes: Sizes) -> Work:
    """The work of an operation outside loop nests; flops where it has a kernel of its own."""

    def count(values: Iterable[Value]) -> int:
        types = [v.type for v in values]
        return sum(evaluate(t.size, sizes) * t.dtype.itemsize for t in types)

    flops = 0
    product = product_of(node)
    if product is not None:
        m, n, k = (evaluate(x, sizes) for x in product.sizes)
        flops = 2 * m * n * k * (evaluate(product.batch[0], sizes) if product.batch else 1)
    convolution = convolution_of(node)
    if convolution is not None:
        flops = evaluate(convolution.flops, sizes)
    pool = pool_of(node)
    if pool is not None:
        flops = evaluate(pool.flops, sizes)
    elements = sum(evaluate(v.type.size, sizes) for v in node.outputs)
    return Work(elements, count(dict.fromkeys(node.inputs)), count(node.outputs), flops, 0)


def rated(node: Node) -> DType | None:
    """The dtype of whose matrix products the rate bounds a node outside loop nests, if one does."""
    if product_of(node) is None and convolution_of(node) is None:
        return None
    return compute_dtype(node.out.type.dtype)


def followed(
    work: Work, node: Node, nest: LoopNest, values: Sequence[Value | None], keeps: bool,
    sizes: Sizes,
) -> Work:  # fmt: skip
    """The work of `node` and of a kernel that reads its result as it is made; `keeps`: the result
    is stored as well."""
    after = nest_work(nest, values, sizes)
    result = evaluate(node.out.type.size, sizes) * node.out.type.dtype.itemsize
    return Work(
        work.elements,
        work.bytes_read + after.bytes_read - result,
        work.bytes_written * keeps + after.bytes_written,
        work.flops + after.flops,
        after.transcendentals,
    )


def nest_work(nest: LoopNest, values: Sequence[Value | None], sizes: Sizes) -> Work:
    """The work of a kernel, from its statements and accesses; `values` are those of its arrays."""
    dims = [evaluate(n, sizes) for n in nest.dims]
    flops, transcendentals = 0.0, 0
    for stmt, times in weighted(nest, dims):
        if stmt.fn in ULP:
            transcendentals += times
        elif stmt.fn not in _FREE:
            flops += times * (PRIMITIVES[stmt.fn].cost if stmt.fn in PRIMITIVES else 1.0)
    read = written = 0
    for (i, stores), accesses in accesses_of(nest).items():
        array = nest.arrays[i]
        if array.role == "scratch" or (array.role == "out" and not stores):
            continue  # in cache
        value = values[i] if i < len(values) else None
        whole = evaluate(value.type.size, sizes) if value is not None else None
        count = touched(accesses, dims, sizes, whole) * array.dtype.itemsize
        read, written = read + (0 if stores else count), written + (count if stores else 0)
    return Work(math.prod(dims), read, written, flops, transcendentals)


def accesses_of(nest: LoopNest) -> dict[tuple[int, bool], list[Access]]:
    """The accesses of a nest by array, and by whether they write."""
    found: dict[tuple[int, bool], list[Access]] = {}
    for stmt in nest.statements():
        access = stmt.attr.row if isinstance(stmt.attr, Reduction) else stmt.attr
        if isinstance(access, Access):
            found.setdefault((access.array, stmt.fn in ("store", "reduce")), []).append(access)
    return found


def touched(
    accesses: Iterable[Access], dims: Sequence[int], sizes: Sizes, whole: int | None
) -> int:
    """How many elements of an array of `whole` elements the accesses touch, each counted once.

    Of an access by computed indices, as many as it makes steps.
    """
    computed = sum(math.prod(dims) for a in accesses if a.bounds is not None)
    walks = {walk(a, dims, sizes) for a in accesses if a.bounds is None}
    walks = {w for w in walks if all(n for n, _ in w[1])}
    total = sum(math.prod(n for n, _ in steps) for _, steps in walks)
    apart = len(walks) < 2 and all(_injective(steps) for _, steps in walks)
    markable = whole is not None and whole <= _MARKED and all(_inside(w, whole) for w in walks)
    if not apart and not computed and whole is not None and markable:
        total = _marked(walks, whole)
    total += computed
    return total if whole is None else min(total, whole)


def walk(access: Access, dims: Sequence[int], sizes: Sizes) -> Walk:
    """Where an affine access goes: dims that it does not move along left out."""
    strides = [evaluate(s, sizes) for s in access.at.strides]
    steps = [(n, s) for n, s in zip(dims, strides, strict=True) if s != 0 or n == 0]
    return evaluate(access.at.offset, sizes), tuple(x for x in steps if x[0] != 1)


def _injective(steps: Sequence[tuple[int, int]]) -> bool:
    """Does each index go to an element of its own? True where every stride passes what the
    smaller ones reach; False may also mean that it is not known."""
    reach = 0
    for n, stride in sorted(steps, key=lambda x: abs(x[1])):
        if abs(stride) <= reach:
            return False
        reach += (n - 1) * abs(stride)
    return True


def _inside(w: Walk, whole: int) -> bool:
    """Does a walk stay in an array of `whole` elements?"""
    start, steps = w
    ends = [(n - 1) * stride for n, stride in steps]
    first = start + sum(e for e in ends if e < 0)
    return first >= 0 and start + sum(e for e in ends if e > 0) < whole


def _marked(walks: Iterable[Walk], whole: int) -> int:
    """The elements of all walks, found by marking them."""
    marks = np.zeros(whole, np.bool_)
    for start, steps in walks:
        shape, strides = [n for n, _ in steps], [s for _, s in steps]
        np.lib.stride_tricks.as_strided(marks[start:], shape, strides)[...] = True
    return int(np.count_nonzero(marks))


def weighted(nest: LoopNest, dims: Sequence[int]) -> Iterable[tuple[Stmt, int]]:
    """Each statement with the number of times it is computed."""
    outer, folded = nest.parallel, nest.parallel + nest.folded
    phases: tuple[tuple[tuple[Phase, ...], Sequence[int]], ...] = (
        (nest.main, dims[:folded]),
        (nest.tail, dims[:outer]),
    )
    for part, rows in phases:
        for phase in part:
            inner = dims[folded:] if phase.kind == "sweep" else []
            times = math.prod([*rows, *inner])
            for stmt in phase.stmts:
                yield stmt, times


# -- text


def bytes_text(n: float) -> str:
    """
    >>> bytes_text(640), bytes_text(2_500_000)
    ('640 B', '2.5 MB')
    """
    return _scaled(n, ("B", "kB", "MB", "GB", "TB"))


def count_text(n: float) -> str:
    """
    >>> count_text(640), count_text(2_500_000)
    ('640', '2.5 M')
    """
    return _scaled(n, ("", "k", "M", "G", "T")).rstrip()


def _scaled(n: float, units: Sequence[str]) -> str:
    k = 0
    while n >= 1000 and k < len(units) - 1:
        n, k = n / 1000, k + 1
    return f"{n:.3g} {units[k]}"
