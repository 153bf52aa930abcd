"""What a tape keeps of one application."""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any

from graphgrad.compiler import source
from graphgrad.compiler.op import Attrs, state
from graphgrad.compiler.source import Where

_frame = sys._getframe
internal = source.is_internal


class Record:
    """One application on a tape. Its place in the source is looked up only when asked for."""

    __slots__ = ("op", "inputs", "attrs", "outputs", "_where", "_code", "_instruction")

    def __init__(
        self, op: Any, inputs: tuple[Any, ...], attrs: Attrs, outputs: tuple[Any, ...]
    ) -> None:
        self.op = op
        self.inputs = inputs
        self.attrs = attrs
        self.outputs = outputs
        where = self._where = state.where
        self._code: CodeType | None = None
        if where is None:
            frame: FrameType | None = _frame(3)  # past `record` and its caller, which are ours
            while frame is not None:
                code = frame.f_code
                if not internal(code.co_filename):
                    self._code, self._instruction = code, frame.f_lasti
                    break
                frame = frame.f_back

    @property
    def where(self) -> Where | None:
        if self._where is None and self._code is not None:
            self._where = source.locate(self._code, self._instruction)
        return self._where

    @property
    def derivative(self) -> Where | None:
        """The place of what differentiation makes of it; a look-up where the place is known."""
        if self._code is not None:
            found = _derivatives.get((id(self._code), self._instruction))
            if found is not None:
                return found[1]
        where = self.where
        if where is None:
            return None
        if self._code is not None:
            found = self._code, where.differentiated()
            _derivatives[id(self._code), self._instruction] = found
        return where.differentiated()


# Places of derivatives by code and instruction; the code is held, so its id stays its own.
_derivatives: dict[tuple[int, int], tuple[CodeType, Where]] = {}
