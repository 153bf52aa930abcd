"""What NumPy asks its allocator for, seen from below by a handler of data memory (NEP 49).

It stands in the place of NumPy's own, cache of small blocks included, so every array's request is
seen, whoever makes it, in the thread that counts.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

import numpy as np

_SET_HANDLER = 304  # PyDataMem_SetHandler, in NumPy's table of C functions

_Malloc = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_Calloc = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
_Realloc = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_Free = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class _Handler(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("context", ctypes.c_void_p),
        ("malloc", _Malloc),
        ("calloc", _Calloc),
        ("realloc", _Realloc),
        ("free", _Free),
    )


class Count:
    """The bytes of each request, in order."""

    def __init__(self) -> None:
        self.requests: list[int] = []
        self.on = False

    @property
    def bytes(self) -> int:
        return sum(self.requests)

    def note(self, pointer: int | None, nbytes: int) -> int | None:
        if self.on and pointer:
            self.requests.append(nbytes)
        return pointer


_count = Count()


def _make_handler() -> _Handler:
    library = ctypes.CDLL(None)
    malloc, calloc, realloc, free = (
        getattr(library, name) for name in ("malloc", "calloc", "realloc", "free")
    )
    malloc.argtypes, calloc.argtypes = (ctypes.c_size_t,), (ctypes.c_size_t, ctypes.c_size_t)
    realloc.argtypes, free.argtypes = (ctypes.c_void_p, ctypes.c_size_t), (ctypes.c_void_p,)
    malloc.restype = calloc.restype = realloc.restype = ctypes.c_void_p
    free.restype = None

    return _Handler(
        b"graphgrad tests",
        1,
        None,
        _Malloc(lambda _, n: _count.note(malloc(n or 1), n)),
        _Calloc(lambda _, n, m: _count.note(calloc(n or 1, m or 1), n * m)),
        _Realloc(lambda _, pointer, n: _count.note(realloc(pointer, n), n)),
        _Free(lambda _, pointer, n: free(pointer)),
    )


_handler = _make_handler()  # for good: arrays made under it are freed by it later


@contextlib.contextmanager
def counting() -> Iterator[Count]:
    """Count the requests of this thread."""
    make = ctypes.pythonapi.PyCapsule_New
    make.argtypes, make.restype = (
        (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p),
        ctypes.py_object,
    )
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.argtypes, pointer.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_void_p
    table = pointer(np._core._multiarray_umath._ARRAY_API, None)
    functions = ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))
    install = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(functions[_SET_HANDLER])
    before = install(make(ctypes.addressof(_handler), b"mem_handler", None))
    _count.__init__()
    _count.on = True
    try:
        yield _count
    finally:
        _count.on = False
        install(before)
