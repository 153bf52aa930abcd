"""Functions that stand for a function of the user: they have its name and its documentation."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any


def wraps(f: Callable[..., Any]) -> Callable[[Any], Any]:
    """`functools.wraps`, without the state of an `f` that is an object which is called."""
    own = functools.WRAPPER_UPDATES if isinstance(f, types.FunctionType) else ()
    return functools.wraps(f, updated=own)
