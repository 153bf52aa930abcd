"""Native code from LLVM text or from object files, whichever engine makes it."""

from __future__ import annotations

import functools
import os
import platform
import warnings
from collections.abc import Callable
from typing import Any

from graphgrad.runtime import blas, elf, llvm_engine, numba_engine
from graphgrad.runtime.cache import cache_key, default_cache
from graphgrad.runtime.program import Target

DEFAULT_LEVEL = 1
ENGINES = ("numba", "llvmlite")


class Library:
    """Loaded native code. It stays where it is for as long as this object lives."""

    __slots__ = ("engine", "_find", "_keep")

    def __init__(self, engine: str, find: Callable[[str], int], keep: Any) -> None:
        self.engine = engine  # which of ENGINES made it; "" where it came from a cache
        self._find = find
        self._keep = keep

    def address(self, symbol: str) -> int:
        """The address of function `symbol`; KeyError if the code does not define it."""
        found = self._find(symbol)
        if not found:
            raise KeyError(f"the code defines no {symbol}")
        return found


def host_target() -> Target:
    """The machine that this process runs on, or the CPU that GRAPHGRAD_CPU names instead."""
    return _target(os.environ.get("GRAPHGRAD_CPU", ""), blas.blas_kind(), blas.has_lapack())


@functools.cache
def _target(forced: str, blas_kind: str, lapack: bool) -> Target:
    processor = _processor()
    key = cache_key("target", processor, forced)
    known = default_cache().get(key) if processor else None
    if known is None:
        triple = llvm_engine.llvm().get_process_triple()
        known = "\n".join((triple, *llvm_engine.cpu_and_features(forced))).encode()
        if processor:
            default_cache().put(key, known)
    triple, cpu, features = known.decode().split("\n")
    return Target(triple, cpu, features, blas_kind, lapack)


def _processor() -> str:
    """What tells this processor from others, so that what LLVM says of it can be kept; "" where
    the system does not say. It takes long to ask LLVM, for it must be loaded."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            first = file.read(16384).partition("\n\n")[0]
    except OSError:
        return ""
    changing = ("processor", "cpu MHz", "core id", "apicid", "initial apicid", "physical id")
    lines = [line for line in first.splitlines() if not line.startswith(changing)]
    return "\n".join([platform.machine(), *lines])


def chosen_engine() -> str:
    """The engine that compiles: Numba's JIT, unless GRAPHGRAD_ENGINE is llvmlite."""
    name = os.environ.get("GRAPHGRAD_ENGINE") or ENGINES[0]
    if name not in ENGINES:
        raise ValueError(f"GRAPHGRAD_ENGINE is {name!r}; it may be one of {', '.join(ENGINES)}")
    return name


def compile_module(text: str, target: Target, level: int = DEFAULT_LEVEL) -> tuple[Library, bytes]:
    """Compile LLVM text (without triple and layout) and load it; the bytes are its object file.

    `level` is 0 for the shortest compile to 3 for all of LLVM's passes: see
    `llvm_engine.optimise`.
    """
    if chosen_engine() == "numba":
        try:
            find, keep, code = numba_engine.compile_module(text, target, level)
            return Library("numba", find, keep), code
        except (ImportError, AttributeError, TypeError) as error:
            # A Numba that refuses this NumPy, or whose internals have moved: llvmlite suffices.
            warnings.warn(f"compiling without Numba: {error}", RuntimeWarning, stacklevel=2)
    code = llvm_engine.compile_object(text, target, level)
    return Library("llvmlite", *_load(code)), code


def load_object(code: bytes) -> Library:
    """Load an object file that `compile_module` returned, here or in another process."""
    return Library("", *_load(code))


def _load(code: bytes) -> tuple[Callable[[str], int], Any]:
    return elf.load(code) or llvm_engine.load(code)
