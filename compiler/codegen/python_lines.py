"""Lines of Python for people, each with the user's line it comes from."""

from __future__ import annotations

from graphgrad.compiler.source import Where

LONGEST = 56  # as much of the user's line is shown


class PythonLines:
    """The lines of a function that is being written."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 1
        self.shown: set[tuple[str, int]] = set()  # the user's lines whose text has been shown
        self.place: Where | None = None  # of the line before

    def line(self, text: str, where: Where | None = None) -> None:
        comment = self.comment(where)
        self.lines.append("    " * self.depth + text + (f"  # {comment}" if comment else ""))

    def comment(self, where: Where | None) -> str:
        """The user's line, where it is another than before; its text the first time."""
        before, self.place = self.place, where or self.place
        if where is None or (before is not None and before.short() == where.short()):
            return ""
        key = (where.file, where.line)
        if key in self.shown:
            return where.short()
        self.shown.add(key)
        text, longest = where.describe(), len(where.short()) + LONGEST
        return text if len(text) <= longest else text[: longest - 3].rstrip() + "..."
