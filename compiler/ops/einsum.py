"""Sums of products by index notation: einsum and tensordot, as transposes, sums and matmul.

Each operand is a tensor with a label an axis. Labels are numbers: those of letters are their code
points, those of axes that `...` stands for are negative, counted from the last.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import combinations
from math import prod
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import Extent, evaluate, same_size, shown, symbols_of
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.op import located, ops
from graphgrad.compiler.ops.index import places_along
from graphgrad.compiler.ops.join import together
from graphgrad.compiler.ops.special import carried
from graphgrad.compiler.types import element_count, normalize_axes

Labels = tuple[int, ...]


class Operand:
    """A tensor and the labels of its axes."""

    __slots__ = ("x", "labels")

    def __init__(self, x: Any, labels: Labels) -> None:
        self.x = x
        self.labels = labels

    def sizes(self) -> dict[int, Extent]:
        return dict(zip(self.labels, self.x.shape, strict=True))

    def ordered(self, labels: Sequence[int]) -> Any:
        """The tensor with its axes in the order of `labels`."""
        return self.x.transpose([self.labels.index(c) for c in labels])

    def summed(self, kept: frozenset[int]) -> Operand:
        """Without the labels that are not kept."""
        axes = [i for i, c in enumerate(self.labels) if c not in kept]
        if not axes:
            return self
        total = carried(self.x).sum(axes).cast(self.x.dtype)
        return Operand(total, tuple(c for c in self.labels if c in kept))


# -- notation


@lru_cache(maxsize=1024)
def parsed(equation: str, ranks: tuple[int, ...]) -> tuple[tuple[Labels, ...], Labels]:
    """The labels of the operands and of the result.

    >>> parsed("ij,jk", (2, 2))
    (((105, 106), (106, 107)), (105, 107))
    """
    text = re.sub(r"\s", "", equation)
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise ArgumentError(
            f"einsum: {equation!r} has {len(terms)} operands, and {len(ranks)} are given"
        )
    inputs = tuple(_labels(t, r, equation) for t, r in zip(terms, ranks, strict=True))
    every = [c for labels in inputs for c in labels]
    dots = sorted({c for c in every if c < 0})
    if not arrow:
        output = (*dots, *sorted(c for c in set(every) if c >= 0 and every.count(c) == 1))
        return inputs, output
    before, dotted, after = right.partition("...")
    if dotted and "..." in after:
        raise ArgumentError(f"einsum: the result of {equation!r} has ... twice")
    output = (*_letters(before, equation), *(dots if dotted else ()), *_letters(after, equation))
    for c in output:
        if output.count(c) > 1 or c not in every:
            what = "is named twice in the result" if c in every else "is in no operand"
            raise ArgumentError(f"einsum: {chr(c)!r} of {equation!r} {what}")
    return inputs, output


def _letters(text: str, equation: str) -> Labels:
    for c in text:
        if not c.isalpha():
            raise ArgumentError(
                f"einsum: {equation!r} is not of the form 'ij,jk->ik': letters, '...', ',' and '->'"
            )
    return tuple(map(ord, text))


def _labels(term: str, rank: int, equation: str) -> Labels:
    before, dotted, after = term.partition("...")
    left, right = _letters(before, equation), _letters(after, equation)
    hidden = rank - len(left) - len(right)
    if hidden < 0 or (hidden and not dotted):
        raise ShapeError(
            f"einsum: {term!r} of {equation!r} names {len(left) + len(right)} axes, and its "
            f"operand has {rank}"
        )
    return (*left, *range(-hidden, 0), *right)


def _name(label: int) -> str:
    return f"'{chr(label)}'" if label >= 0 else f"axis {label} of '...'"


# -- single operands


def _diagonal(x: Any, labels: Labels) -> Operand:
    """Axes with equal labels become one: their diagonal."""
    for c in labels:
        if labels.count(c) > 1:
            i, j = [k for k, d in enumerate(labels) if d == c][:2]
            rest = [k for k in range(len(labels)) if k not in (i, j)]
            return _diagonal(diagonal(x.transpose([*rest, i, j])), (*(labels[k] for k in rest), c))
    return Operand(x, labels)


def diagonal(x: Any) -> Any:
    """The diagonal of square matrices in the last two axes: a view where their size is known."""
    *kept, rows, columns = x.shape
    if not same_size(rows, columns):
        raise ShapeError(
            f"the diagonal of {x.type}: {shown(rows)} rows and {shown(columns)} columns"
        )
    if isinstance(rows, int):
        flat = x.reshape((*kept, rows * rows))
        starts, steps = (0,) * (len(kept) + 1), (*(1,) * len(kept), rows + 1)
        return ops["slice"](flat, starts, (*kept, rows), steps)
    row, column = (places_along(rows, i, 2, dtypes.int64) for i in (0, 1))
    return ops["sum"](ops["where"](row == column, x, 0), (x.ndim - 1,), False)


def _joined(operands: Sequence[Operand]) -> list[Operand]:
    """Labels have one size in all operands; an axis of size 1 beside a longer one is left out."""
    sizes: dict[int, Extent] = {}
    first: dict[int, Operand] = {}
    for o in operands:
        for c, n in o.sizes().items():
            known = sizes.get(c, 1)
            if _one(known):
                sizes[c], first[c] = n, o
            elif not _one(n) and not same_size(known, n):
                raise ShapeError(
                    f"einsum: {_name(c)} is {shown(known)} in {first[c].x.type} and {shown(n)} in "
                    f"{o.x.type}"
                )
    found = []
    for o in operands:
        kept = {c: n for c, n in o.sizes().items() if not _one(n) or _one(sizes[c])}
        found.append(Operand(o.x.reshape(tuple(kept.values())), tuple(kept)))
    return found


def _one(n: Extent) -> bool:
    return isinstance(n, int) and n == 1


# -- pairs


def _fewest(a: Operand, b: Operand, batch: Labels, inner: Labels) -> tuple[Labels, Labels]:
    """The orders of batch and inner labels for which the fewest operands are transposed."""

    def moves(choice: tuple[Labels, Labels]) -> int:
        batch, inner = choice
        return sum(
            o.labels not in ((*batch, *rest, *inner), (*batch, *inner, *rest))
            for o in (a, b)
            for rest in [tuple(c for c in o.labels if c not in batch and c not in inner)]
        )

    orders = [
        (tuple(c for c in p.labels if c in batch), tuple(c for c in q.labels if c in inner))
        for p in (a, b)
        for q in (a, b)
    ]
    return min(orders, key=moves)


def _side(o: Operand, batch: Labels, outer: Labels, inner: Labels) -> tuple[Any, bool]:
    """A stack of matrices, and whether their columns are the outer labels."""
    turned = o.labels == (*batch, *inner, *outer)
    x = o.x if turned else o.ordered((*batch, *outer, *inner))
    own = o.sizes()
    n, m = (element_count(own[c] for c in part) for part in (outer, inner))
    sides = (m, n) if turned else (n, m)
    return x.reshape((*(own[c] for c in batch), *sides)), turned


def contracted(a: Operand, b: Operand, kept: frozenset[int]) -> Operand:
    """The product of two operands, summed over the labels that are not kept."""
    a, b = a.summed(kept | set(b.labels)), b.summed(kept | set(a.labels))
    shared = [c for c in a.labels if c in b.labels]
    batch, inner = _fewest(
        a, b, tuple(c for c in shared if c in kept), tuple(c for c in shared if c not in kept)
    )
    left = tuple(c for c in a.labels if c not in shared)
    right = tuple(c for c in b.labels if c not in shared)
    labels, sizes = (*batch, *left, *right), a.sizes() | b.sizes()
    if not inner or (batch and not left and not right):  # loops, which fuse
        x, y = a.ordered((*batch, *left, *inner)), b.ordered((*batch, *right, *inner))
        if not inner:  # an outer product
            x = x.reshape((*x.shape, *(1 for _ in right)))
            y = y.reshape((*y.shape[: len(batch)], *(1 for _ in left), *y.shape[len(batch) :]))
        if not inner:
            return Operand(x * y, labels)
        total = (carried(x) * carried(y)).sum(range(len(batch), x.ndim)).cast(x.dtype)
        return Operand(total, labels)
    x, columns = _side(a, batch, left, inner)
    y, rows = _side(b, batch, right, inner)
    z = ops["matmul"](x, y, columns, not rows)
    return Operand(z.reshape(tuple(sizes[c] for c in labels)), labels)


# -- the order of contractions

EXHAUSTIVE = 5  # operands up to which all orders are tried

Pairs = tuple[tuple[int, int], ...]


@lru_cache(maxsize=1024)
def contraction_order(
    terms: tuple[Labels, ...], output: Labels, sizes: tuple[tuple[int, int], ...]
) -> Pairs:
    """Which two operands to multiply next: their places; the product becomes the last operand.

    The fewest multiplications for few operands. For many, the pair whose product is smallest beside
    what it replaces, as in opt_einsum's greedy order.

    >>> i, j, k, l = range(4)
    >>> contraction_order(((i, j), (j, k), (k, l)), (i, l), ((0, 100), (1, 9), (2, 100), (3, 2)))
    ((1, 2), (0, 1))
    """
    extents = dict(sizes)

    def volume(labels: frozenset[int]) -> int:
        return prod(extents[c] for c in labels)

    def product(terms: list[frozenset[int]], i: int, j: int) -> list[frozenset[int]]:
        rest = [t for k, t in enumerate(terms) if k not in (i, j)]
        return [*rest, (terms[i] | terms[j]) & frozenset(output).union(*rest)]

    def best(terms: list[frozenset[int]], limit: float) -> tuple[float, Pairs]:
        if len(terms) < 2:
            return 0, ()
        found: tuple[float, Pairs] = limit, ()
        for i, j in combinations(range(len(terms)), 2):
            cost = volume(terms[i] | terms[j])
            if cost < found[0]:
                more, pairs = best(product(terms, i, j), found[0] - cost)
                if cost + more < found[0]:
                    found = cost + more, ((i, j), *pairs)
        return found

    left = [frozenset(t) for t in terms]
    pairs: Pairs = ()
    while len(left) > EXHAUSTIVE:
        i, j = min(
            combinations(range(len(left)), 2),
            key=lambda p: volume(product(left, *p)[-1]) - volume(left[p[0]]) - volume(left[p[1]]),
        )
        left, pairs = product(left, i, j), (*pairs, (i, j))
    return pairs + best(left, float("inf"))[1]


def _extent(n: Extent) -> int:
    """A size for comparing costs: that of the call being traced where it is open."""
    if isinstance(n, int):
        return n
    symbols = symbols_of(n)
    hints = next(iter(symbols)).scope.hints
    return evaluate(n, hints) if symbols <= hints.keys() else 100


def contraction(operands: Sequence[Operand], output: Labels) -> Any:
    """The product of all operands, summed over the labels that the result has not."""
    left = _joined(operands)
    if len(left) > 2:
        sizes = {c: _extent(n) for o in left for c, n in o.sizes().items()}
        pairs = contraction_order(
            tuple(o.labels for o in left), output, tuple(sorted(sizes.items()))
        )
    else:
        pairs = ((0, 1),) * (len(left) - 1)
    for i, j in pairs:
        rest = [o for k, o in enumerate(left) if k not in (i, j)]
        kept = frozenset(output).union(*(o.labels for o in rest))
        a, b = left[i], left[j]
        if not rest and _comes_first(output, b, a):
            a, b = b, a
        left = [*rest, contracted(a, b, kept)]
    return left[0].summed(frozenset(output)).ordered(output)


def _comes_first(output: Labels, a: Operand, b: Operand) -> bool:
    """Does the result begin with what only `a` has, after what both have?"""
    own = [c for c in output if (c in a.labels) != (c in b.labels)]
    return bool(own) and own[0] in a.labels


@located
def einsum(equation: str, *inputs: Any, **options: Any) -> Any:
    """The sum of products that `equation` names, as in 'ij,jk->ik': a letter for each axis.

    A letter that is not in the result is summed over, one that stands twice in an operand is its
    diagonal, and `...` stands for all further axes, which broadcast. Without '->' the result has
    the letters that occur once, in alphabetical order. Several operands are multiplied in the order
    that takes the fewest multiplications.

    >>> import graphgrad as gg
    >>> gg.einsum("ij,j->i", [[1.0, 2.0], [3.0, 4.0]], [1.0, 10.0]).numpy()
    array([21., 43.], dtype=float32)
    >>> gg.einsum("ii", [[1.0, 2.0], [3.0, 4.0]]).numpy()
    np.float32(5.0)
    """
    unknown = set(options) - {"optimize", "name"}
    if unknown:
        raise ArgumentError(f"einsum: there is no argument {min(unknown)!r}")
    xs = together(inputs, "einsum")
    terms, output = parsed(equation, tuple(x.ndim for x in xs))
    return contraction([_diagonal(x, t) for x, t in zip(xs, terms, strict=True)], output)


@located
def tensordot(a: Any, b: Any, axes: Any, name: str | None = None) -> Any:
    """The products of `a` and `b`, summed over pairs of axes.

    `axes` is a number n, for the last n axes of `a` and the first n of `b`, or two lists: axes of
    `a`, and those of `b` that they go with. The result has the other axes of `a`, then those of
    `b`.

    >>> import graphgrad as gg
    >>> gg.tensordot([[1.0, 2.0], [3.0, 4.0]], [1.0, 10.0], 1).numpy()
    array([21., 43.], dtype=float32)
    """
    x, y = together((a, b), "tensordot")
    first, second = _pairs_of_axes(x, y, axes)
    for i, j in zip(first, second, strict=True):
        if not same_size(x.shape[i], y.shape[j]):
            raise ShapeError(
                f"tensordot: axis {i} of {x.type} is {shown(x.shape[i])}, and axis {j} of {y.type} "
                f"is {shown(y.shape[j])}"
            )
    left = tuple(range(x.ndim))
    right = tuple(first[second.index(j)] if j in second else x.ndim + j for j in range(y.ndim))
    output = (*(i for i in left if i not in first), *(c for c in right if c >= x.ndim))
    kept = frozenset(output)
    return contracted(Operand(x, left), Operand(y, right), kept).ordered(output)


def _pairs_of_axes(x: Any, y: Any, axes: Any) -> tuple[list[int], list[int]]:
    if isinstance(axes, list | tuple):
        if len(axes) != 2:
            raise ArgumentError(f"tensordot: axes is a number or two lists of axes, not {axes!r}")
        given = [[v] if not isinstance(v, list | tuple) else list(v) for v in axes]
        first, second = (
            [normalize_axes(v, t.ndim, "tensordot")[0] for v in one]
            for one, t in zip(given, (x, y), strict=True)
        )
        if (
            len(first) != len(second)
            or len({*first}) != len(first)
            or len({*second}) != len(second)
        ):
            raise ArgumentError(f"tensordot: the lists {axes!r} do not pair different axes")
        return first, second
    n = operator.index(axes)
    if not 0 <= n <= min(x.ndim, y.ndim):
        raise ArgumentError(f"tensordot: {x.type} and {y.type} have no {n} axes in common")
    return list(range(x.ndim - n, x.ndim)), list(range(n))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "einsum": einsum,
    "linalg.einsum": einsum,
    "tensordot": tensordot,
    "linalg.tensordot": tensordot,
}
