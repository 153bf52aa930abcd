"""The native pool of threads, `pool.ll`: compiled once, loaded where a call has work to share."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import threading
from pathlib import Path

from graphgrad.runtime import blas, engine, float_mode
from graphgrad.runtime.cache import cache_key, default_cache
from graphgrad.runtime.program import PARALLEL, PRODUCTS

ROUTINES = frozenset((PARALLEL, PRODUCTS))
# Turns of the loop in which a thread waits before it sleeps: about 50 microseconds.
SPINS = 2000

# What a waiting thread does in the loop, so that it takes little from the other thread of its core.
_RELAX = {
    "x86_64": ("call void @llvm.x86.sse2.pause()", "declare void @llvm.x86.sse2.pause()"),
    "aarch64": ("call void @llvm.aarch64.hint(i32 1)", "declare void @llvm.aarch64.hint(i32)"),
}
_RELAX["amd64"], _RELAX["arm64"] = _RELAX["x86_64"], _RELAX["aarch64"]

_lock = threading.Lock()


def routine_address(name: str) -> int:
    """The address of one of ROUTINES; the pool is loaded, or compiled, at the first."""
    with _lock:
        return _pool().address(name)


@functools.cache
def _pool() -> engine.Library:
    text, target, cache = pool_text(), engine.host_target(), default_cache()
    key = cache_key("object", text, target.triple, target.cpu, target.features, "pool")
    code = cache.get(key)
    library = None
    if code:
        try:
            library = engine.load_object(code)
            library.address(PARALLEL)
        except (RuntimeError, KeyError):
            library = None
    if library is None:
        library, code = engine.compile_module(text, target)
        cache.put(key, code)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(library))  # for good: its threads never end
    switch = blas.thread_switch()
    if switch is not None:
        use = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
        use(library.address("use_blas"))(*switch)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=ctypes.CFUNCTYPE(None)(library.address("forget")))
    return library


def set_blas_threads(count: int) -> None:
    """`blas.set_threads`; products under way keep their one thread, and leave this number."""
    blas.set_threads(count)
    with _lock:
        if _pool.cache_info().currsize and blas.thread_switch() is not None:
            set_blas = ctypes.CFUNCTYPE(None, ctypes.c_int32)
            set_blas(_pool().address("set_blas"))(count)


def pool_text() -> str:
    """The LLVM text of the pool for this machine."""
    text = Path(__file__).with_name("pool.ll").read_text(encoding="utf-8")
    relax, declaration = _RELAX.get(platform.machine().lower(), ("", ""))
    text = text.replace("RELAX", relax).replace("SPINS", str(SPINS))
    return f"{text}{declaration}\n{float_mode.functions(platform.machine())}"


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
