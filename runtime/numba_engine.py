"""The Numba engine: modules compile through Numba's JIT code generator.

Each module gets a code generator of its own, a subclass of Numba's: its symbols meet no others,
its memory goes with it, and it takes our passes and target where Numba's would spend half of the
time on vectorising loops that are vectors already. NUMBA_DUMP_OPTIMIZED and NUMBA_DUMP_ASSEMBLY
show these modules as they do Numba's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from graphgrad.runtime.llvm_engine import codegen_level, compile_object, llvm, optimise, parse
from graphgrad.runtime.program import Target


def compile_module(
    text: str, target: Target, level: int
) -> tuple[Callable[[str], int], Any, bytes]:
    """Compile `text`: symbols to addresses, what keeps them valid, and the object file."""
    from numba.core.compiler_lock import global_compiler_lock

    with global_compiler_lock:  # Numba's modules share one LLVM context
        generator = _generator_class(target, level)("graphgrad")
        library = generator.create_library("graphgrad")
        library.enable_object_caching()
        library.add_llvm_module(parse(text, target, generator._data_layout))
        library.finalize()
        code: bytes
        try:
            code = library._get_compiled_object()
        except RuntimeError:  # an interrupt met LLVM's call of Python that keeps the object
            code = compile_object(text, target, level)
    return library.get_pointer_to_function, library, code


@functools.cache
def _generator_class(target: Target, level: int) -> Any:
    """A subclass of Numba's JITCPUCodegen for `target`, with the passes of `level`.

    Made by calls to `type`, since static tools cannot know Numba's classes.
    """
    from numba.core import codegen

    base: Any = codegen.JITCPUCodegen

    def optimise_final_module(self: Any) -> None:
        optimise(self._final_module, self._codegen._tm, level)

    def customize_options(self: Any, options: dict[str, Any]) -> None:
        base._customize_tm_options(self, options)
        options.update(opt=codegen_level(level), cpu=target.cpu, features=target.features)

    library = type(
        "GraphgradLibrary",
        (codegen.JITCodeLibrary,),
        {
            "_optimize_functions": lambda self, module: None,
            "_optimize_final_module": optimise_final_module,
        },
    )
    llvm()
    return type(
        "GraphgradCodegen",
        (base,),
        {"_library_class": library, "_customize_tm_options": customize_options},
    )
