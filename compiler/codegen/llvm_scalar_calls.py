"""Calls of Python from scalar loops: effects, which give nothing back."""

from __future__ import annotations

from collections.abc import Sequence

from graphgrad.compiler.codegen.llvm_python import python_call
from graphgrad.compiler.codegen.llvm_scalar_memory import Known, ScalarMemory
from graphgrad.compiler.ir import Node
from graphgrad.compiler.kernels.carried_arrays import is_small
from graphgrad.compiler.types import element_count


class ScalarCalls(ScalarMemory):
    """Puts what a Python function gets into memory and calls it; where a guard holds, neither."""

    def python(self, node: Node, inputs: Sequence[Known], number: int) -> None:
        """Call Python for PythonCall `number`, which computes `node`."""
        e, text = self.e, self.text
        after = text.name("after")
        if node.attrs["function"].guarded:
            ((holds,), fails) = self.loaded(inputs[0]), text.name("fails")
            text.line(f"br i1 {holds.text}, label %{after}, label %{fails}")
        else:
            fails = text.name("called")
            text.line(f"br label %{fails}")
        with e.aside():
            e.begin(fails)
            words = "%" + text.name("words")
            self.frame.append(f"  {words} = alloca [{len(inputs) + 1} x i64], align 8")
            for k, (x, v) in enumerate(zip(inputs, node.inputs, strict=True), 1):
                if is_small(v.type):
                    place = "%" + text.name("argument")
                    nbytes = int(element_count(v.type.shape)) * v.type.dtype.itemsize
                    self.frame.append(f"  {place} = alloca [{max(nbytes, 1)} x i8], align 64")
                    self.store(x, place, v.type)
                else:
                    place = self.moved(x, "0")
                at = text.assign(f"getelementptr ptr, ptr {words}, i64 {k}")
                text.line(f"store ptr {place}, ptr {at}")
            status = text.assign(python_call("%python", "%table", number, words))
            failed = text.assign(f"icmp ne i32 {status}, 0")
            leave = text.name("leave")
            text.line(f"br i1 {failed}, label %{leave}, label %{after}")
            text.block(leave)
            text.line("ret i32 1")
        e.begin(after)
