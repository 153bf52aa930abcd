"""Factorisations of matrices and systems, by LAPACK: what the emitter must know of one."""

from __future__ import annotations

from dataclasses import dataclass

from graphgrad.compiler.dims import Extent, to_size
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.ir import Node
from graphgrad.compiler.kernels.division import product_division, times, total, up
from graphgrad.compiler.kernels.loops import Division
from graphgrad.compiler.types import element_count
from graphgrad.runtime.program import Size

# The routine of each op, by its name after d; triangular systems alone are computed in float32 too.
ROUTINES = {
    "cholesky": "potrf", "solve": "gesv", "inv": "gesv", "triangular_solve": "trsm",
    "det": "getrf", "slogdet": "getrf", "eigh": "syevd", "eigvalsh": "syevd",
}  # fmt: skip
EIGEN = ("eigh", "eigvalsh")
PLACES = ("index", "a", "b")  # words of a failure, which say which matrix of a stack it is


@dataclass(frozen=True, slots=True)
class Factorisation:
    """Matrices [stack, n, n], and for systems [stack, n, k] right sides and results."""

    op: str
    dtype: DType
    stack: tuple[Extent, ...]
    n: Extent
    k: Extent
    adjoint: bool = False
    lower: bool = True

    @property
    def routine(self) -> str:
        single = self.op == "triangular_solve" and self.dtype.bits == 32
        return ("s" if single else "d") + ROUTINES[self.op]

    @property
    def sizes(self) -> tuple[Extent, ...]:
        """What the kernel takes after its pointers, but for bytes of integers and of scratch."""
        return self.n, self.k, *self.stack[1:]

    @property
    def matrix_text(self) -> str:
        """How an error names the matrix, over words of the status record."""
        places = ", ".join(f"{{{word}}}" for word, _ in zip(PLACES, self.stack, strict=False))
        return f"matrix {places}" if places else "the matrix"

    @property
    def scratch_bytes(self) -> Size:
        """Of one matrix: integers, the factor, and right sides in LAPACK's order or its work space;
        0 for none."""
        if self.op == "triangular_solve":
            return 0
        n, k = to_size(self.n), to_size(self.k)
        columns = {"solve": total(n, k), "inv": times(n, 2)}.get(self.op, n)
        if self.op in EIGEN:
            columns = total(times(n, 3), 8)
        return total(self.integer_bytes, up(times(total(times(n, columns), 1), 8), 64))

    @property
    def integer_bytes(self) -> Size:
        """Of the integers: pivots, or the work space of eigenvalues."""
        n = to_size(self.n)
        return up(times(total(times(n, 5), 3) if self.op in EIGEN else n, 8), 64)

    @property
    def division(self) -> Division | None:
        """What threads can share: the matrices of a stack."""
        if not self.stack:
            return None
        n, k = to_size(self.n), to_size(self.k)
        macs = times(times(n, n), k if self.op == "triangular_solve" else n)
        return product_division(macs, to_size(element_count(self.stack)), "sgemm", 1)


def factorisation_of(node: Node) -> Factorisation | None:
    """What LAPACK is to compute for a node; None where it is nothing of its kind."""
    if node.op.name not in ROUTINES:
        return None
    first, last = node.inputs[0].type, node.inputs[-1].type
    *stack, n, _ = first.shape
    if first.dtype.name not in ("float32", "float64") or len(stack) > len(PLACES):
        return None
    attrs = node.attrs
    return Factorisation(
        node.op.name, first.dtype, tuple(stack), n, last.shape[-1],
        attrs.get("adjoint", False), attrs.get("lower", True),
    )  # fmt: skip
