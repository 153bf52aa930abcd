"""Native code that calls Python: how one step of a loop or branch stays a host step."""

from __future__ import annotations

from graphgrad.compiler.codegen.llvm_scalar import ModuleParts
from graphgrad.runtime.float_mode import functions
from graphgrad.runtime.program import RAISED, STATUS_FAILURE, STATUS_MODE

# The first word says when it comes back whether all went well: see `program.PYTHON`.
TEXT = f"""
define internal i32 @call_python(
    ptr %status, ptr %table, ptr %python, i64 %number, ptr %words) noinline nounwind {{{{
  store i64 0, ptr %words
{{before}}  call void %python(ptr %table, i64 %number, ptr %words)
{{after}}  %done = load i64, ptr %words
  %well = icmp eq i64 %done, 1
  br i1 %well, label %on, label %raised
on:
  ret i32 0
raised:
  %at = getelementptr i64, ptr %status, i64 {STATUS_FAILURE}
  store i64 {RAISED}, ptr %at
  ret i32 1
}}}}
"""
# Python has the floating-point mode of who called the program meanwhile.
BEFORE = f"""  %mode = call i64 @float_mode()
  %at_own = getelementptr i64, ptr %status, i64 {STATUS_MODE}
  %own = load i64, ptr %at_own
  call void @set_float_mode(i64 %own)
"""
AFTER = "  call void @set_float_mode(i64 %mode)\n"


def declare_call(parts: ModuleParts, flush_on: str) -> None:
    """Let a module have the function by which it calls Python; `flush_on` is the machine where its
    threads take subnormal numbers for zero."""
    if not flush_on:
        parts.functions["call_python"] = TEXT.format(before="", after="")
        return
    parts.functions["float_mode"] = functions(flush_on)
    parts.functions["call_python"] = TEXT.format(before=BEFORE, after=AFTER)


def python_call(python: str, table: str, number: int, words: str) -> str:
    """The call of PythonCall `number`, which gives 0 if the run is to go on."""
    return (
        f"call i32 @call_python(ptr %status, ptr {table}, ptr {python}, i64 {number}, ptr {words})"
    )
