"""Native code from LLVM text or from object files, whichever engine makes it."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from typing import Any

from graphgrad.runtime import blas, llvm_engine, numba_engine
from graphgrad.runtime.program import Target

DEFAULT_LEVEL = 1
ENGINES = ("numba", "llvmlite")


class Library:
    """Loaded native code. It stays where it is for as long as this object lives."""

    __slots__ = ("engine", "_find", "_keep")

    def __init__(self, engine: str, find: Callable[[str], int], keep: Any) -> None:
        self.engine = engine  # which of ENGINES made it
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
    return _target(os.environ.get("GRAPHGRAD_CPU", ""), blas.blas_kind())


@functools.cache
def _target(forced: str, blas_kind: str) -> Target:
    triple = llvm_engine.llvm().get_process_triple()
    cpu, features = llvm_engine.cpu_and_features(forced)
    return Target(triple, cpu, features, blas_kind)


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
    return load_object(code), code


def load_object(code: bytes) -> Library:
    """Load an object file that `compile_module` returned, here or in another process."""
    return Library("llvmlite", *llvm_engine.load(code))
