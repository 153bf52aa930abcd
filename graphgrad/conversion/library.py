"""Which code is a library's: conversion leaves it as it is."""

from __future__ import annotations

import os
import sys
import types
from typing import Any

from graphgrad.compiler.source import is_internal

MARK = "__graphgrad_do_not_convert__"  # the attribute of functions that stay as they are
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
