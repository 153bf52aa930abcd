"""Which code is a library's: conversion leaves it as it is."""

from __future__ import annotations

import os
import sys
import types
import weakref
from typing import Any

from graphgrad.compiler.source import is_internal

MARK = "__graphgrad_do_not_convert__"  # the attribute of functions that stay as they are
_marked: dict[int, Any] = {}  # weak references to their codes, by identity
_PYTHON = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_NUMPY = os.path.dirname(os.path.abspath(str(sys.modules["numpy"].__file__))) + os.sep
_PACKAGES = tuple(os.sep + name + os.sep for name in ("site-packages", "dist-packages"))


def is_library_code(code: types.CodeType, scope: dict[str, Any]) -> bool:
    """Is it graphgrad's, NumPy's, Python's, or that of an installed package without graphgrad?"""
    file = code.co_filename
    if is_internal(file) or file.startswith((_NUMPY, "<frozen ")):
        return True
    if any(p in file for p in _PACKAGES):
        return not any(
            isinstance(x, types.ModuleType) and x.__name__.startswith("graphgrad")
            for x in scope.values()
        )
    return file.startswith(_PYTHON)


def weakly(code: types.CodeType, table: dict[int, Any]) -> Any:
    """A weak reference to `code`, which takes its entry out of the table when the code is gone.

    The table is held here, for at the end of the process globals are gone before codes are.
    """
    key = id(code)
    return weakref.ref(code, lambda _: table.pop(key, None))


def mark(function: Any) -> None:
    """Have `function` stay as it is."""
    setattr(function, MARK, True)
    code = getattr(function, "__code__", None)
    if code is not None:
        _marked[id(code)] = weakly(code, _marked)


def is_marked(code: types.CodeType) -> bool:
    """Is it the code of a function that is to stay as it is?"""
    return id(code) in _marked
