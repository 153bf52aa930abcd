"""The floating-point mode of a thread as LLVM text: what reads it, what sets it, and its bits that
take subnormal numbers for zero, as operands and as results."""

from __future__ import annotations

# MXCSR, with FTZ (bit 15) and DAZ (bit 6).
_X86 = """
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)

define internal i64 @float_mode() alwaysinline nounwind {
  %at = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %at)
  %word = load i32, ptr %at
  %mode = zext i32 %word to i64
  ret i64 %mode
}

define internal void @set_float_mode(i64 %mode) alwaysinline nounwind {
  %at = alloca i32
  %word = trunc i64 %mode to i32
  store i32 %word, ptr %at
  call void @llvm.x86.sse.ldmxcsr(ptr %at)
  ret void
}
"""

# FPCR, with FZ (bit 24).
_ARM = """
declare i64 @llvm.aarch64.get.fpcr()
declare void @llvm.aarch64.set.fpcr(i64)

define internal i64 @float_mode() alwaysinline nounwind {
  %mode = call i64 @llvm.aarch64.get.fpcr()
  ret i64 %mode
}

define internal void @set_float_mode(i64 %mode) alwaysinline nounwind {
  call void @llvm.aarch64.set.fpcr(i64 %mode)
  ret void
}
"""

_UNKNOWN = """
define internal i64 @float_mode() alwaysinline nounwind {
  ret i64 0
}

define internal void @set_float_mode(i64 %mode) alwaysinline nounwind {
  ret void
}
"""

_TEXTS = {
    "x86_64": (_X86, 0x8040),
    "amd64": (_X86, 0x8040),
    "aarch64": (_ARM, 1 << 24),
    "arm64": (_ARM, 1 << 24),
}


def functions(machine: str) -> str:
    """`i64 float_mode()` and `void set_float_mode(i64)` for a machine by its name, in the spelling
    of the platform or of a triple; without effect where the mode is not known."""
    return _TEXTS.get(machine.lower(), (_UNKNOWN, 0))[0]


def flush_bits(machine: str) -> int:
    """The bits of the mode in which subnormal numbers are zero; 0 where they are not known."""
    return _TEXTS.get(machine.lower(), (_UNKNOWN, 0))[1]
