"""gg.autograph.experimental: what is to stay Python, and options of loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphgrad.conversion.library import mark
from graphgrad.conversion.operators.loop_options import set_loop_options

__all__ = ["do_not_convert", "set_loop_options"]


def do_not_convert(func: Callable[..., Any] | None = None) -> Any:
    """A decorator: `func` stays Python's when converted functions call it, and what it calls too.

    >>> import graphgrad as gg
    >>> @gg.autograph.experimental.do_not_convert
    ... def describe(x):
    ...     return "large" if len(x.shape) > 1 else "small"
    >>> gg.function(lambda x: (x, describe(x)))(gg.ones([2, 2]))[1]
    'large'
    """
    if func is None:
        return do_not_convert
    function: Any = getattr(func, "python_function", func)
    mark(getattr(function, "__func__", function))
    return func
