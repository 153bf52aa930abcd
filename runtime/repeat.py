"""A native step again and again, for measuring: the loop is native too, so that a step of a few
nanoseconds is not lost in the cost of a call from Python."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

from graphgrad.runtime import engine
from graphgrad.runtime.cache import cache_key, default_cache

Entry = Callable[..., int]

_TEXT = """
declare ptr @memcpy(ptr, ptr, i64)

define i32 @repeat(ptr %entry, i64 %count, ptr %status, ptr %table) nounwind {
start:
  br label %head
head:
  %i = phi i64 [ 0, %start ], [ %next, %body ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %body, label %done
body:
  %failed = call i32 %entry(ptr %status, ptr %table)
  %bad = icmp ne i32 %failed, 0
  %next = add i64 %i, 1
  br i1 %bad, label %done, label %head
done:
  %result = phi i32 [ 0, %head ], [ %failed, %body ]
  ret i32 %result
}

define i32 @copy(ptr %to, ptr %from, i64 %bytes, i64 %count) nounwind {
start:
  br label %head
head:
  %i = phi i64 [ 0, %start ], [ %next, %body ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %body, label %done
body:
  %same = call ptr @memcpy(ptr %to, ptr %from, i64 %bytes)
  %next = add i64 %i, 1
  br label %head
done:
  ret i32 0
}
"""


@functools.cache
def _library() -> engine.Library:
    target, cache = engine.host_target(), default_cache()
    key = cache_key("object", _TEXT, target.triple, target.cpu, target.features)
    code = cache.get(key)
    if code is not None:
        return engine.load_object(code)
    library, code = engine.compile_module(_TEXT, target)
    cache.put(key, code)
    return library


def _function(name: str, *types: Any) -> Callable[..., int]:
    return ctypes.CFUNCTYPE(ctypes.c_int32, *types)(_library().address(name))


@functools.cache
def _repeat() -> Callable[..., int]:
    return _function("repeat", ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)


@functools.cache
def _copy() -> Callable[..., int]:
    return _function("copy", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


class Repeat:
    """A native step with its status record and table: `step(n)` runs it n times.

    `keep` is what owns the memory that the table points to.
    """

    def __init__(self, entry: Entry, status: Any, table: Any, keep: Any) -> None:
        self._entry = ctypes.cast(entry, ctypes.c_void_p)  # type: ignore[arg-type]
        self._status = status
        self._table = table
        self._keep = keep

    def __call__(self, count: int) -> None:
        failed = _repeat()(self._entry, count, self._status, self._table)
        assert not failed, "a step that had run failed when it was repeated"


def copy_bytes(to: int, source: int, nbytes: int, count: int) -> None:
    """Copy `nbytes` from one address to another, as the C library does, `count` times."""
    _copy()(to, source, nbytes, count)
