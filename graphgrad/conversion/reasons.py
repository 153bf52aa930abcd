"""Why a condition is Python's own, for the error when a tensor of a trace meets it."""

from __future__ import annotations

import sys

from graphgrad.compiler.source import user_frame
from graphgrad.conversion.library import is_library_code, is_marked
from graphgrad.conversion.scan import COMPREHENSIONS


def reason() -> str:
    """Why the condition of the user's line that runs now is not converted, a sentence, or ""."""
    frame = user_frame(2)
    if frame is None:
        return ""
    code = frame.f_code
    if code.co_name in COMPREHENSIONS:
        return "conditions in comprehensions stay Python's; write a `for` loop"
    if is_marked(code):
        return f"`{code.co_name}` is marked with gg.autograph.experimental.do_not_convert"
    if is_library_code(code, frame.f_globals):
        return f"`{code.co_name}` is part of a library, which is not converted"
    conversion = sys.modules.get("graphgrad.conversion.convert")
    return conversion.reason_of(code) if conversion is not None else ""
