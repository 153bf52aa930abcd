"""Matrix products as calls of a BLAS routine."""

from __future__ import annotations

from dataclasses import dataclass

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.families import Library
from graphgrad.compiler.ir import Node
from graphgrad.compiler.types import Shape, element_count

ROUTINES = {dtypes.float32: ("sgemm", "float"), dtypes.float64: ("dgemm", "double")}


@dataclass(frozen=True, slots=True)
class Product:
    """One gemm, or a batch of them: (count, then elements from matrix to matrix of A, B and C)."""

    routine: str
    scalar: str
    flags: tuple[bool, bool]
    sizes: tuple[Extent, Extent, Extent]  # m, n, k
    batch: tuple[Extent, Extent, Extent, Extent] | None


def product_of(node: Node) -> Product | None:
    """The routine call that computes a matrix product, or None where it is a host step."""
    if not isinstance(node.op, Library) or node.op.routine != "gemm":
        return None
    if node.out.type.dtype not in ROUTINES:
        return None
    a, b, c = node.inputs[0].type.shape, node.inputs[1].type.shape, node.out.type.shape
    flags = (bool(node.attrs["transpose_a"]), bool(node.attrs["transpose_b"]))
    k = a[-2] if flags[0] else a[-1]
    routine, scalar = ROUTINES[node.out.type.dtype]
    m, n = c[-2], c[-1]
    lead = c[:-2]
    if all(n == 1 for n in lead):
        return Product(routine, scalar, flags, (m, n, k), None)
    step_a, step_b = batch_step(a, lead), batch_step(b, lead)
    if step_a is None or step_b is None:
        return None
    if step_b == 0 and not flags[0]:  # one wide product over all rows
        return Product(routine, scalar, flags, (element_count(lead) * m, n, k), None)
    return Product(routine, scalar, flags, (m, n, k), (element_count(lead), step_a, step_b, m * n))


def batch_step(shape: Shape, lead: Shape) -> Extent | None:
    """Elements from one matrix to the next; 0 where all share one; None where only some axes do."""
    own = shape[:-2]
    if all(n == 1 for n in own):
        return 0
    if own == lead:
        return shape[-2] * shape[-1]
    return None
