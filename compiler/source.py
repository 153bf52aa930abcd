"""Where in the user's code a node was made: every node carries it, and every error shows it."""

from __future__ import annotations

import linecache
import os
import sys
from dataclasses import dataclass, field
from itertools import islice
from types import CodeType, FrameType


@dataclass(frozen=True, slots=True)
class Where:
    """A place in the user's source; `derivative` marks what differentiation made of that line."""

    file: str
    line: int
    column: int = 0
    function: str = ""
    derivative: bool = False
    _derived: Where | None = field(default=None, init=False, compare=False, repr=False)

    @property
    def text(self) -> str:
        """The source line, or "" where there is no source."""
        return linecache.getline(self.file, self.line).strip()

    def differentiated(self) -> Where:
        """The same place, as the origin of a derivative."""
        if self.derivative:
            return self
        if self._derived is None:  # asked for each operation of a tape
            derived = Where(self.file, self.line, self.column, self.function, True)
            object.__setattr__(self, "_derived", derived)
            return derived
        return self._derived

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}:{self.column}"

    def short(self) -> str:
        """`train.py:17`, or `derivative of train.py:17`."""
        place = f"{os.path.basename(self.file)}:{self.line}"
        return f"derivative of {place}" if self.derivative else place

    def describe(self) -> str:
        """`train.py:17: h = gg.matmul(x, w)`."""
        return f"{self.short()}: {self.text}" if self.text else self.short()


# The root package is always imported before this module; naming it here would turn the layers
# round.
_PACKAGE = os.path.dirname(os.path.abspath(str(sys.modules["graphgrad"].__file__)))
_ROOTS = tuple(
    path + os.sep
    for name in ("", "compiler", "runtime")
    for path in {
        os.path.join(_PACKAGE, name).rstrip(os.sep),
        os.path.realpath(os.path.join(_PACKAGE, name)),
    }
)


class _Internal(dict[str, bool]):
    """Which files are part of graphgrad, asked once each."""

    def __missing__(self, file: str) -> bool:
        found = self[file] = os.path.abspath(file).startswith(_ROOTS)
        return found


is_internal = _Internal().__getitem__
"""Is a file part of graphgrad itself?"""


def user_frame(depth: int = 1) -> FrameType | None:
    """The innermost frame outside graphgrad, or None."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None and is_internal(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


_places: dict[
    tuple[int, int], tuple[CodeType, Where]
] = {}  # the code is held, so its id stays its own


def locate(code: CodeType, instruction: int, line: int | None = None) -> Where:
    """The source position of one instruction of `code`; the same object each time."""
    found = _places.get((id(code), instruction))
    if found is None:
        if len(_places) > 50_000:  # code made at run time must not pile up
            _places.clear()
        found = _places[id(code), instruction] = (code, _locate(code, instruction, line))
    return found[1]


def _locate(code: CodeType, instruction: int, line: int | None) -> Where:
    position = next(islice(code.co_positions(), instruction // 2, None), None)
    if position is None:
        return Where(code.co_filename, line or code.co_firstlineno, 0, code.co_name)
    start, _, column, _ = position
    found = line or start or code.co_firstlineno
    return Where(code.co_filename, found, (column or 0) + 1, code.co_name)


def here(depth: int = 1) -> Where | None:
    """The user's line that led to this call."""
    frame = user_frame(depth + 1)
    return locate(frame.f_code, frame.f_lasti, frame.f_lineno) if frame is not None else None


def user_level() -> int:
    """The stack level of the user's line, for a warning that the caller gives."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and is_internal(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    return level
