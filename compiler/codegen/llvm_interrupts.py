"""Loops that may take long ask from time to time whether the user interrupts them."""

from __future__ import annotations

from graphgrad.compiler.codegen.llvm_scalar import ModuleParts
from graphgrad.runtime.program import INTERRUPTED, STATUS_CLOCK, STATUS_FAILURE

# Has the user pressed Ctrl-C? Asks the interpreter every tenth of a second: `clock` counts
# microseconds where it is POSIX's. The question takes the signal away, so it is set off again, for
# Python to see when the call has ended.
TEXT = f"""
define internal i32 @interrupted(ptr %status) noinline nounwind {{
  %at_clock = getelementptr i64, ptr %status, i64 {STATUS_CLOCK}
  %last = load i64, ptr %at_clock
  %now = call i64 @clock()
  %since = sub i64 %now, %last
  %long = icmp ugt i64 %since, 100000
  br i1 %long, label %ask, label %no
ask:
  store i64 %now, ptr %at_clock
  %gil = call i32 @PyGILState_Ensure()
  %caught = call i32 @PyOS_InterruptOccurred()
  %yes = icmp ne i32 %caught, 0
  br i1 %yes, label %stop, label %on
stop:
  call void @PyErr_SetInterrupt()
  call void @PyGILState_Release(i32 %gil)
  %at_failure = getelementptr i64, ptr %status, i64 {STATUS_FAILURE}
  store i64 {INTERRUPTED}, ptr %at_failure
  ret i32 1
on:
  call void @PyGILState_Release(i32 %gil)
  br label %no
no:
  ret i32 0
}}
"""
CALLS = {
    "declare i64 @clock()",
    "declare i32 @PyGILState_Ensure()",
    "declare void @PyGILState_Release(i32)",
    "declare i32 @PyOS_InterruptOccurred()",
    "declare void @PyErr_SetInterrupt()",
}


def interrupted(parts: ModuleParts) -> str:
    """A call that gives 0 if a loop is to go on; else the function that it is in returns 1."""
    parts.functions["interrupted"] = TEXT
    parts.declares |= CALLS
    return "call i32 @interrupted(ptr %status)"
