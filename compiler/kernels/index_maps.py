"""Affine index maps: where the elements of a value lie, as views are looked through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphgrad.compiler.dims import Dim, Extent, divide
from graphgrad.compiler.families import View
from graphgrad.compiler.ir import Node
from graphgrad.compiler.types import Shape


@dataclass(frozen=True, slots=True)
class Index:
    """`start + sum(step * (index along axis))`, over the axes of an iteration space."""

    start: Extent
    steps: tuple[tuple[int, Extent], ...] = ()

    def scaled(self, step: Extent, start: Extent) -> Index:
        """start + step * self."""
        return Index(
            start + step * self.start,
            tuple((a, step * s) for a, s in self.steps if not _zero(step)),
        )

    def plus(self, other: Index) -> Index:
        steps = dict(self.steps)
        for a, s in other.steps:
            steps[a] = steps.get(a, 0) + s
        return Index(
            self.start + other.start,
            tuple(sorted((a, s) for a, s in steps.items() if not _zero(s))),
        )

    def step(self, axis: int) -> Extent:
        return next((s for a, s in self.steps if a == axis), 0)

    @property
    def only_axis(self) -> int | None:
        """The axis that this index simply is, or None."""
        if self.start == 0 and len(self.steps) == 1 and self.steps[0][1] == 1:
            return self.steps[0][0]
        return None


ZERO = Index(0)
# One index an axis of a value; or, after a reshape that splits no axis, one row-major index.
Indices = tuple[Index, ...] | Index


def _zero(x: Extent) -> bool:
    return isinstance(x, int) and x == 0


def identity(shape: Shape) -> tuple[Index, ...]:
    """The indices of a value that is the iteration space itself (axes of size 1 have index 0)."""
    return tuple(ZERO if n == 1 else Index(0, ((i, 1),)) for i, n in enumerate(shape))


def row_major(shape: Shape) -> tuple[Extent, ...]:
    """Strides, in elements, of a contiguous array."""
    strides: list[Extent] = []
    total: Extent = 1
    for n in reversed(shape):
        strides.append(total)
        total = total * n
    return tuple(reversed(strides))


def flatten(indices: Indices, shape: Shape) -> Index:
    """The row-major index of an element."""
    if isinstance(indices, Index):
        return indices
    total = ZERO
    for index, stride, n in zip(indices, row_major(shape), shape, strict=True):
        if n != 1:
            total = total.plus(index.scaled(stride, 0))
    return total


def through_view(node: Node, indices: Indices) -> Indices | None:
    """The indices of a view's input, for indices of its output; None when they are not affine."""
    op = node.op
    assert isinstance(op, View)
    x, out = node.inputs[0].type, node.out.type
    mapped = op.index_map(x, out, **node.attrs)
    if mapped is None:
        return through_reshape(x.shape, out.shape, indices)
    if isinstance(indices, Index):
        if len(out.shape) != 1:
            return None
        indices = (indices,)
    return tuple(
        ZERO
        if n == 1 and not _moves(start)
        else Index(start)
        if axis is None
        else indices[axis].scaled(step, start)
        for (axis, step, start), n in zip(mapped, x.shape, strict=True)
    )


def _moves(start: Extent) -> bool:
    return not _zero(start)


def through_reshape(source: Shape, target: Shape, indices: Indices) -> Indices | None:
    """Indices of the input of a reshape from `source` to `target`.

    Axes are grouped from the left so that each group has equally many elements on both sides. In a
    group, several target axes merge into one source axis. Where one would have to split, everything
    becomes one row-major index, which suffices to load from memory.
    """
    if isinstance(indices, Index):
        return indices
    result = [ZERO] * len(source)
    if any(_zero(n) for n in source):  # no elements: never evaluated
        return tuple(result)
    for sources, targets in axis_groups(source, target):
        if len(sources) > 1:
            return flatten(indices, target)
        parts = tuple(indices[j] for j in targets)
        result[sources[0]] = flatten(parts, tuple(target[j] for j in targets))
    return tuple(result)


def axis_groups(source: Shape, target: Shape) -> list[tuple[list[int], list[int]]]:
    """Runs of axes (those of size 1 left out) with equal element counts, as short as can be.

    >>> axis_groups((2, 3, 4), (6, 1, 2, 2))
    [([0, 1], [0]), ([2], [2, 3])]
    """
    left = [i for i, n in enumerate(source) if n != 1]
    right = [j for j, n in enumerate(target) if n != 1]
    groups: list[tuple[list[int], list[int]]] = []
    while left and right:
        sources, targets = [left.pop(0)], [right.pop(0)]
        a, b = source[sources[0]], target[targets[0]]
        while a != b:
            if left and (not right or _takes_more(a, b)):
                sources.append(left.pop(0))
                a = a * source[sources[-1]]
            elif right:
                targets.append(right.pop(0))
                b = b * target[targets[-1]]
            else:
                break
        groups.append((sources, targets))
    if left or right:  # sizes equal only under a guard: one group of all
        rest = (left, right)
        sources, targets = groups.pop() if groups else ([], [])
        groups.append((sources + rest[0], targets + rest[1]))
    return groups


def _takes_more(a: Extent, b: Extent) -> bool:
    """Should the side that holds `a` elements take another axis, to reach `b`?"""
    if isinstance(a, int) and isinstance(b, int):
        return a < b
    if isinstance(a, int) or isinstance(b, int):
        return isinstance(a, int)
    return not isinstance(divide(b, a), Dim) or len(b.terms[0][0]) > len(a.terms[0][0])


def remap(indices: tuple[Index, ...], axes: Mapping[int, int]) -> tuple[Index, ...]:
    """The same indices over renumbered axes."""
    return tuple(Index(x.start, tuple(sorted((axes[a], s) for a, s in x.steps))) for x in indices)


def axes_of(indices: Sequence[Index]) -> frozenset[int]:
    """The axes that the indices depend on."""
    return frozenset(a for x in indices for a, _ in x.steps)
