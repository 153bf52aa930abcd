"""Native code that calls Python: how one step of a loop or branch stays a host step."""

from __future__ import annotations

from graphgrad.runtime.program import RAISED, STATUS_FAILURE

# The first word says when it comes back whether all went well: see `program.PYTHON`.
CALL = f"""
define internal i32 @call_python(
    ptr %status, ptr %table, ptr %python, i64 %number, ptr %words) noinline nounwind {{
  store i64 0, ptr %words
  call void %python(ptr %table, i64 %number, ptr %words)
  %done = load i64, ptr %words
  %well = icmp eq i64 %done, 1
  br i1 %well, label %on, label %raised
on:
  ret i32 0
raised:
  %at = getelementptr i64, ptr %status, i64 {STATUS_FAILURE}
  store i64 {RAISED}, ptr %at
  ret i32 1
}}
"""


def python_call(python: str, table: str, number: int, words: str) -> str:
    """The call of PythonCall `number`, which gives 0 if the run is to go on."""
    return (
        f"call i32 @call_python(ptr %status, ptr {table}, ptr {python}, i64 {number}, ptr {words})"
    )
