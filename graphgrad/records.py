"""What a tape keeps of one application, or of a whole call."""

from __future__ import annotations

from types import CodeType
from typing import Any, NamedTuple

from graphgrad.compiler import source
from graphgrad.compiler.op import Attrs
from graphgrad.compiler.source import Where


class Record(NamedTuple):
    """One application on a tape, and where it was made: a place that is known already, or an
    instruction, whose place is looked up only when asked for."""

    op: Any
    inputs: tuple[Any, ...]
    attrs: Attrs
    outputs: tuple[Any, ...]
    known: Where | None = None
    code: CodeType | None = None
    instruction: int = 0

    @property
    def where(self) -> Where | None:
        if self.known is None and self.code is not None:
            return source.locate(self.code, self.instruction)
        return self.known

    @property
    def derivative(self) -> Where | None:
        """The place of what differentiation makes of it; a look-up where the place is known."""
        code = self.code
        if code is None:
            return None if self.known is None else self.known.differentiated()
        found = _derivatives.get((id(code), self.instruction))
        if found is None:
            found = code, source.locate(code, self.instruction).differentiated()
            _derivatives[id(code), self.instruction] = found
        return found[1]


# Places of derivatives by code and instruction; the code is held, so its id stays its own.
_derivatives: dict[tuple[int, int], tuple[CodeType, Where]] = {}


class WholeCall:
    """What a record has in place of an op where it stands for a whole eager call, with a `pullback`
    of its own: only the walker looks at it."""

    decompose = None
    transpose = None
    jvp = None
    nondifferentiable = False
    multi = True
    by_parts = False
    name: str
    vjp: Any  # not None: there is a derivative

    def pullback(self, gs: Any, outs: Any, xs: Any, attrs: Any, needs: Any) -> tuple[Any, ...]:
        """The cotangents of the inputs that `needs` marks, None for others."""
        raise NotImplementedError
