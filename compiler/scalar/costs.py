"""What one element of a node costs, before there is a kernel that computes it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.families import Elementwise, Generator
from graphgrad.compiler.ir import Node
from graphgrad.compiler.scalar.builder import ScalarBuilder
from graphgrad.compiler.scalar.expansions import EXPANSIONS
from graphgrad.compiler.scalar.primitives import PRIMITIVES

GENERATOR_COST = 40.0  # random bits
COMPLEX_COST = 3.0  # of what is split into real parts, before it is


class Priced(NamedTuple):
    """A value: its number and dtype."""

    number: int
    dtype: DType


def cost(fn: str) -> float:
    """The cost of one statement, in cheap vector instructions an element."""
    if fn in PRIMITIVES:
        return PRIMITIVES[fn].cost
    if fn in EXPANSIONS:
        return getattr(EXPANSIONS[fn], "cost", 20.0)
    return 1.0


def compute_dtype(dtype: DType) -> DType:
    """16-bit floats are computed in float32 and rounded after every operation."""
    return dtypes.float32 if dtype.is_floating and dtype.bits == 16 else dtype


def element_cost(node: Node) -> float:
    """The cost of one element of a node, from the scalar form of its op."""
    if isinstance(node.op, Generator):
        return GENERATOR_COST
    if not isinstance(node.op, Elementwise):
        return 1.0
    operands = tuple(compute_dtype(x.type.dtype.real_dtype) for x in node.inputs)
    attrs = tuple((k, v.real_dtype if isinstance(v, DType) else v) for k, v in node.attrs.items())
    return _scalar_cost(node.op, operands, attrs) * (COMPLEX_COST if node.is_complex else 1)


@lru_cache(maxsize=4096)
def _scalar_cost(
    op: Elementwise, operands: tuple[DType, ...], attrs: tuple[tuple[str, Any], ...]
) -> float:
    prices = _Prices()
    op.scalar(prices, *(Priced(-1 - i, d) for i, d in enumerate(operands)), **dict(attrs))
    return prices.total


class _Prices(ScalarBuilder):
    """Adds up the costs of statements, of equal ones once."""

    def __init__(self) -> None:
        self.known: dict[Any, Priced] = {}
        self.total = 0.0

    def primitive(
        self, fn: str, args: tuple[Priced, ...], dtype: DType, attr: Any = None
    ) -> Priced:
        key = (fn, tuple(x.number for x in args), dtype.name, exact(attr))
        if key not in self.known:
            self.known[key] = Priced(len(self.known), dtype)
            self.total += cost(fn)
        return self.known[key]

    def named(self, fn: str, args: tuple[Priced, ...], attr: Any = None) -> Priced:
        return self.primitive(fn, args, EXPANSIONS[fn].result_dtype(args[0].dtype), attr)

    def dtype(self, x: Priced) -> DType:
        return x.dtype


def exact(attr: Any) -> Any:
    """An attribute of a statement as part of a key: floats by their bits."""
    if isinstance(attr, float):
        return repr(attr)
    return tuple(map(exact, attr)) if type(attr) is tuple else attr
