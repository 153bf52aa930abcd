"""Runs scalar expressions over arrays through the LLVM emitter: what the scalar tests share."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from graphgrad.compiler.codegen.llvm_scalar import (
    ATTRIBUTES,
    FunctionText,
    Lanes,
    ModuleParts,
    VectorEmitter,
    llvm_type,
)
from graphgrad.compiler.dtypes import DType

PADDING = 64  # every width divides it


class Emitter(VectorEmitter):
    """A VectorEmitter in a kernel that ignores failed checks."""

    def _require(self, cond: Lanes, a: Lanes, b: Lanes, dtype: DType, failure: str) -> Lanes:
        return cond


def natural_width(*operands: DType) -> int:
    """16 lanes up to 32 bits, else 8."""
    return 16 if max(d.bits for d in operands) <= 32 else 8


class Compiled:
    """`build(s, *values)` compiled over arrays; call it with arrays of the operand dtypes."""

    def __init__(
        self,
        build: Callable[..., Any],
        operands: tuple[DType, ...],
        result: DType,
        width: int | None = None,
        branches: bool = True,
        cpu: str | None = None,
        mask_registers: bool = False,
    ) -> None:
        self.operands = operands
        self.result = result
        width = natural_width(*operands) if width is None else width
        self.text = _kernel(build, operands, result, width, branches, mask_registers)
        self._engine, address = _compile(self.text, cpu)
        pointers = [ctypes.c_void_p] * (1 + len(operands))
        self._run = ctypes.CFUNCTYPE(None, ctypes.c_int64, *pointers)(address)

    def __call__(self, *arrays: Any) -> Any:
        arrays = tuple(np.asarray(a, d.dtype) for a, d in zip(arrays, self.operands, strict=True))
        n = arrays[0].size
        padded = -(-n // PADDING) * PADDING
        inputs = []
        for a, d in zip(arrays, self.operands, strict=True):
            inputs.append(np.zeros(padded, d.dtype))
            inputs[-1][:n] = a
        out = np.zeros(padded, self.result.dtype)
        self._run(padded, out.ctypes.data, *(a.ctypes.data for a in inputs))
        return out[:n]


def _memory(dtype: DType) -> str:
    return "i8" if dtype.is_bool else llvm_type(dtype)


def _kernel(
    build: Callable[..., Any],
    operands: tuple[DType, ...],
    result: DType,
    width: int,
    branches: bool,
    mask_registers: bool,
) -> str:
    text = FunctionText(ModuleParts(mask_registers))
    s = Emitter(text, width, "loop" if branches else None)

    def vector(element: str) -> str:
        return element if width == 1 else f"<{width} x {element}>"

    values = []
    for k, d in enumerate(operands):
        at = text.assign(f"getelementptr {_memory(d)}, ptr %p{k}, i64 %i")
        name = text.assign(f"load {vector(_memory(d))}, ptr {at}, align {d.itemsize}")
        if d.is_bool:
            name = text.assign(f"trunc {vector('i8')} {name} to {vector('i1')}")
        values.append(s.value(name, d))
    y = build(s, *values)
    assert y.dtype is result, (y.dtype, result)
    name = y.text
    if result.is_bool:
        name = text.assign(f"zext {vector('i1')} {name} to {vector('i8')}")
    at = text.assign(f"getelementptr {_memory(result)}, ptr %out, i64 %i")
    text.line(f"store {vector(_memory(result))} {name}, ptr {at}, align {result.itemsize}")
    arguments = ", ".join(f"ptr noalias %p{k}" for k in range(len(operands)))
    body = "\n".join(text.lines)
    return f"""{text.parts.text()}
define void @k(i64 %n, ptr noalias %out, {arguments}) {ATTRIBUTES} {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %{s.label or "loop"} ]
{body}
  %next = add i64 %i, {width}
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""


def _compile(text: str, cpu: str | None = None) -> tuple[Any, int]:
    """The engine and the kernel's address; for this machine unless `cpu` names an older one."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(text)
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu or llvm.get_host_cpu_name(),
        features="" if cpu else llvm.get_host_cpu_features().flatten(),
        opt=1,
        jit=True,
    )
    module.triple = llvm.get_process_triple()
    module.data_layout = str(machine.target_data)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine, engine.get_function_address("k")
