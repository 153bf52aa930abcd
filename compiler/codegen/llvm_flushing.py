"""Run functions in whose calls subnormal numbers are zero."""

from __future__ import annotations

from graphgrad.compiler.codegen.llvm_scalar import ModuleParts
from graphgrad.runtime.float_mode import flush_bits, functions
from graphgrad.runtime.program import STATUS_MODE

# The function within is a call of its own: LLVM does not know that arithmetic depends on the mode,
# and would move what is inlined past the change.
TEXT = f"""\
define i32 @flushed_{{name}}(ptr %status, ptr %table) nounwind {{{{
  %before = call i64 @float_mode()
  %at = getelementptr i64, ptr %status, i64 {STATUS_MODE}
  store i64 %before, ptr %at
  %mode = or i64 %before, {{bits}}
  call void @set_float_mode(i64 %mode)
  %failed = call i32 @{{name}}(ptr %status, ptr %table)
  call void @set_float_mode(i64 %before)
  ret i32 %failed
}}}}"""


def flushed(name: str, machine: str, parts: ModuleParts) -> str:
    """The function that calls the run function `name`, which is not to be inlined, with subnormal
    numbers taken for zero, and then gives its caller's mode back."""
    parts.functions["float_mode"] = functions(machine)
    return TEXT.format(name=name, bits=flush_bits(machine))
