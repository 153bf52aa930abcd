"""The plain LLVM engine: compiles modules and loads objects through llvmlite alone.

Objects always load here, each into its own library of one process-wide LLJIT, so that symbols
of different programs never meet and the code goes when its Library goes. LLJIT also reports an
unresolved symbol as an exception, where the older MCJIT ends the process.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import platform
from collections.abc import Callable
from typing import Any

from graphgrad.runtime.program import Target

_names = itertools.count()

# What x86-64's micro-architecture levels add, one to the next; compilers of text read these too.
_X86_LEVELS = {
    "x86-64": "cmov cx8 fxsr mmx sse sse2",
    "x86-64-v2": "cx16 popcnt sahf sse3 sse4.1 sse4.2 ssse3",
    "x86-64-v3": "avx avx2 bmi bmi2 f16c fma lzcnt movbe xsave",
    "x86-64-v4": "avx512bw avx512cd avx512dq avx512f avx512vl",
}

# What LLVM calls to convert float16 on x86 CPUs without F16C. Some C libraries define these, with
# two calling conventions; in the module itself they fit. Both work on the bits; the addition of 0.5
# rounds what becomes subnormal, the factor is 2 ** 112.
_SOFT_HALF = """
define float @__extendhfsf2(half %x) nounwind {
  %short = bitcast half %x to i16
  %bits = zext i16 %short to i32
  %signed = and i32 %bits, 32768
  %sign = shl i32 %signed, 16
  %size = and i32 %bits, 32767
  %moved = shl i32 %size, 13
  %small = bitcast i32 %moved to float
  %scaled = fmul float %small, 0x46F0000000000000
  %finite = bitcast float %scaled to i32
  %special = or i32 %moved, 2139095040
  %quiet = or i32 %special, 4194304
  %is_nan = icmp ugt i32 %size, 31744
  %is_special = icmp uge i32 %size, 31744
  %first = select i1 %is_special, i32 %special, i32 %finite
  %second = select i1 %is_nan, i32 %quiet, i32 %first
  %whole = or i32 %second, %sign
  %result = bitcast i32 %whole to float
  ret float %result
}

define half @__truncsfhf2(float %x) nounwind {
  %bits = bitcast float %x to i32
  %high = lshr i32 %bits, 16
  %sign = and i32 %high, 32768
  %size = and i32 %bits, 2147483647
  %moved = lshr i32 %size, 13
  %payload = and i32 %moved, 1023
  %nan = or i32 %payload, 32256
  %odd = and i32 %moved, 1
  %based = add i32 %size, 3355447295
  %rounded = add i32 %based, %odd
  %normal = lshr i32 %rounded, 13
  %positive = bitcast i32 %size to float
  %sum = fadd float %positive, 0.5
  %sum_bits = bitcast float %sum to i32
  %subnormal = sub i32 %sum_bits, 1056964608
  %is_subnormal = icmp ult i32 %size, 947912704
  %is_large = icmp uge i32 %size, 1199566848
  %is_nan = icmp ugt i32 %size, 2139095040
  %first = select i1 %is_subnormal, i32 %subnormal, i32 %normal
  %second = select i1 %is_large, i32 31744, i32 %first
  %third = select i1 %is_nan, i32 %nan, i32 %second
  %whole = or i32 %third, %sign
  %short = trunc i32 %whole to i16
  %result = bitcast i16 %short to half
  ret half %result
}
"""


@functools.cache
def llvm() -> Any:
    """llvmlite's binding, ready for this machine; it takes about 30 ms to import."""
    import llvmlite.binding as binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding


def cpu_and_features(forced: str) -> tuple[str, str]:
    """The host's CPU name and features, or those of the CPU that `forced` names."""
    ll = llvm()
    if not forced:
        return ll.get_host_cpu_name(), ll.get_host_cpu_features().flatten()
    features: list[str] = []
    for level, added in _X86_LEVELS.items():
        features += added.split()
        if level == forced:
            return forced, ",".join(f"+{name}" for name in sorted(features))
    return forced, ""


def create_machine(target: Target, level: int) -> Any:
    """LLVM's code generator for `target`, with the relocations that loading at run time needs."""
    ll = llvm()
    return ll.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu,
        features=target.features,
        opt=codegen_level(level),
        reloc="static" if target.triple.startswith(("x86", "i686", "i386")) else "default",
        codemodel="jitdefault",
        jit=True,
    )


def codegen_level(level: int) -> int:
    """How hard the code generator works: 0 is a third of the time for 10 % slower code."""
    return 3 if level else 0


def parse(text: str, target: Target, data_layout: str, context: Any = None) -> Any:
    """The verified module of `text`, for `target`.

    A function that this process does not have raises LookupError here: found when code is
    linked, it could end the process.
    """
    ll = llvm()
    if "half" in text and not converts_half(target):
        text += _SOFT_HALF
    module = ll.parse_assembly(text, context)
    module.triple = target.triple
    module.data_layout = data_layout
    module.verify()
    for function in module.functions:
        name = function.name
        if (
            function.is_declaration
            and not name.startswith("llvm.")
            and not any(hasattr(library, name) for library in (_process(), ctypes.pythonapi))
        ):
            raise LookupError(f"the module calls {name}, which is not in this process")
    return module


def converts_half(target: Target) -> bool:
    """Does the CPU convert float16 itself, or is there a function for it in every process?"""
    x86 = target.triple.startswith(("x86", "i686", "i386"))
    return not x86 or "+f16c" in target.features.split(",")


@functools.cache
def _process() -> Any:
    """The symbols of this process; on Windows, where no one name stands for it, the C library."""
    return ctypes.CDLL("ucrtbase" if os.name == "nt" else None)


def optimise(module: Any, machine: Any, level: int) -> None:
    """Run the passes of `level` over `module`.

    0: none. 1: inlining where the text asks for it, registers for stack slots, peepholes and
    loop rotation: a tenth of O3's time, and as fast for loops that are vectors already. 2: the
    function pipeline, with loop-invariant motion. 3: all of O3. The vectorisers stay off.
    """
    if level <= 0:
        return
    ll = llvm()
    options = ll.create_pipeline_tuning_options(speed_level=min(level, 3) if level > 1 else 0)
    options.loop_vectorization = options.slp_vectorization = options.loop_interleaving = False
    builder = ll.create_pass_builder(machine, options)
    if level >= 3:
        builder.getModulePassManager().run(module, builder)
        return
    passes = ll.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.add_loop_rotate_pass()  # lets the code generator hoist what a loop does not change
    passes.run(module, builder)
    if level == 2:
        for function in module.functions:
            if not function.is_declaration:
                builder.getFunctionPassManager().run(function, builder)


def compile_object(
    text: str, target: Target, level: int, machine_level: int | None = None
) -> bytes:
    """The object file that `text` compiles to; `machine_level` is the code generator's, if other
    than that of the passes."""
    ll = llvm()
    machine = create_machine(target, level if machine_level is None else machine_level)
    # A context of its own, so that its types and constants go with the module.
    module = parse(text, target, str(machine.target_data), ll.create_context())
    optimise(module, machine, level)
    compiled: bytes = machine.emit_object(module)
    return compiled


@functools.cache
def _jit() -> Any:
    ll = llvm()
    machine = ll.Target.from_default_triple().create_target_machine(jit=True)
    # JITLink keeps an object's sections close together, which 64-bit ARM's addressing needs.
    arm = platform.machine().lower() in ("arm64", "aarch64")
    return ll.create_lljit_compiler(machine, use_jit_link=arm, suppress_errors=True)


def load(code: bytes) -> tuple[Callable[[str], int], Any]:
    """Load an object file: a function from symbols to addresses, and what keeps them valid."""
    ll = llvm()
    name = f"graphgrad.{os.getpid()}.{next(_names)}"
    jit = _jit()
    builder = ll.JITLibraryBuilder().add_object_img(code).add_current_process()
    keep = [jit, builder.link(jit, name)]

    def address(symbol: str) -> int:
        try:
            keep.append(jit.lookup(name, symbol))
        except RuntimeError:
            return 0
        found: int = keep[-1][symbol]
        return found

    return address, keep
