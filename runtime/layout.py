"""How Python's and NumPy's objects lie in memory, found by looking before anything relies on it.

Each fact is tested by reading words of objects and comparing them with what Python says of these
objects; nothing is called or written on the way, so a wrong guess is an answer and not a crash.
"""

from __future__ import annotations

import ctypes
import struct
import sys
import weakref
from typing import Any

import numpy as np

from graphgrad.runtime.memory import Array

_WORD = 8
_HEADER = 16  # a reference count and a type
# Of an ndarray: entry.ll declares the same.
_DATA, _RANK, _SIZES, _STRIDES, _BASE, _DTYPE, _FLAGS = 16, 24, 32, 40, 48, 56, 64
_MANAGED_WEAK = -32  # from Python 3.12 on: two words before the collector's two
_NEW_FROM_DESCR = 94  # in NumPy's C interface, whose places never change
_API_TYPES = {2: np.ndarray, 3: np.dtype, 8: np.bool_, 10: np.generic}


def object_words(x: Any, nbytes: int) -> bytes:
    """The first `nbytes` of an object that is at least so long."""
    return ctypes.string_at(id(x), nbytes)


def unlike() -> str:
    """How this process differs from what entry.ll assumes, or "" if it does not."""
    if sys.implementation.name != "cpython" or struct.calcsize("P") != _WORD:
        return "not a 64-bit CPython"
    if sys.version_info >= (3, 13) and not sys._is_gil_enabled():
        return "there is no GIL"
    if object.__basicsize__ != _HEADER or sys.byteorder != "little":
        return "objects begin with an unknown header"
    return _unlike_objects() or _unlike_arrays()


def _unlike_objects() -> str:
    class Sample:
        pass

    x = Sample()
    for holders in ([], [x], [x] * 5):
        count, kind = struct.unpack("2q", ctypes.string_at(id(x), _HEADER))
        # getrefcount counts its own argument too.
        if kind != id(Sample) or count != sys.getrefcount(x) - 1:
            return f"the header of an object with {len(holders) + 1} references"
    return ""


def _unlike_arrays() -> str:
    if np.ndarray.__basicsize__ < _FLAGS + 4:
        return "arrays are small"
    whole = np.arange(24.0).reshape(2, 3, 4)
    frozen = np.ones(3, np.int8)
    frozen.flags.writeable = False
    samples = [whole, whole[1:, ::2], whole.T, np.empty(()), np.empty((0, 5), np.float32), frozen]
    for a in samples:
        if not _is_laid_out(a):
            return f"an array of shape {a.shape}"
    return ""


def _is_laid_out(a: Array) -> bool:
    words = object_words(a, _FLAGS + 4)

    def word(offset: int) -> int:
        return int.from_bytes(words[offset : offset + _WORD], "little")

    facts: list[tuple[int, int]] = [
        (word(_DATA), a.__array_interface__["data"][0]),
        (word(_BASE), 0 if a.base is None else id(a.base)),
        (word(_DTYPE), id(a.dtype)),
        (int.from_bytes(words[_RANK : _RANK + 4], "little"), a.ndim),
        (int.from_bytes(words[_FLAGS : _FLAGS + 4], "little"), a.flags.num),
    ]
    if any(found != wanted for found, wanted in facts):
        return False
    if not a.ndim:
        return True
    # NumPy allocates sizes and strides as one piece: with that seen, they may be followed.
    sizes, strides = word(_SIZES), word(_STRIDES)
    if strides - sizes != _WORD * a.ndim:
        return False
    found = struct.unpack(f"{2 * a.ndim}q", ctypes.string_at(sizes, 2 * _WORD * a.ndim))
    return found == (*a.shape, *a.strides)


def slot_offset(cls: Any, name: str) -> int | None:
    """Where the objects of `cls` keep the pointer of their slot `name`; None if it is not found."""
    x = cls.__new__(cls)
    before = object_words(x, cls.__basicsize__)
    sentinel = object()
    setattr(x, name, sentinel)
    after = object_words(x, cls.__basicsize__)
    places = [
        i for i in range(_HEADER, cls.__basicsize__, _WORD)
        if before[i : i + _WORD] != after[i : i + _WORD]
    ]  # fmt: skip
    delattr(x, name)
    emptied = object_words(x, cls.__basicsize__)
    if len(places) != 1:
        return None
    at = slice(places[0], places[0] + _WORD)
    right = int.from_bytes(after[at], "little") == id(sentinel)
    empty = not any(before[at]) and not any(emptied[at])
    return places[0] if right and empty else None


def weak_offset(cls: Any) -> int | None:
    """Where objects of `cls` keep their weak references; None if that is not found, or if the
    objects are more than slots and weak references, all empty when they are allocated."""
    offset: int = cls.__weakrefoffset__
    before_header = offset == _MANAGED_WEAK and sys.version_info >= (3, 12)
    if cls.__dictoffset__ or cls.__itemsize__ or not (
        before_header or _HEADER <= offset < cls.__basicsize__
    ):  # fmt: skip
        return None
    x = cls.__new__(cls)
    if any(object_words(x, cls.__basicsize__)[_HEADER:]):
        return None

    def first() -> int:
        return int.from_bytes(ctypes.string_at(id(x) + offset, _WORD), "little")

    before = first()
    reference = weakref.ref(x)
    during, wanted = first(), id(reference)
    del reference
    return offset if (before, during, first()) == (0, wanted, 0) else None


def new_array_routine() -> int | None:
    """The address of NumPy's PyArray_NewFromDescr."""
    module = sys.modules.get("numpy._core._multiarray_umath")
    capsule = getattr(module, "_ARRAY_API", None)
    if type(capsule).__name__ != "PyCapsule":
        return None
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = get(capsule, None)
    pointers: tuple[int, ...] = struct.unpack(
        f"{_NEW_FROM_DESCR + 1}Q", ctypes.string_at(table, _WORD * (_NEW_FROM_DESCR + 1))
    )
    if any(pointers[i] != id(kind) for i, kind in _API_TYPES.items()):
        return None
    return pointers[_NEW_FROM_DESCR]
