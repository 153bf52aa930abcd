"""gg.autograph: Python's control flow on tensors as a part of graphs, looked at and switched off.

`gg.function` converts functions by itself; nothing here is needed for that.
"""

from __future__ import annotations

import ast
from typing import Any

from graphgrad.autograph import experimental
from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.source import here
from graphgrad.conversion import convert as _conversion
from graphgrad.conversion.convert import set_verbosity
from graphgrad.conversion.jumps import NotConverted

__all__ = ["experimental", "set_verbosity", "to_code", "to_graph", "trace"]


def to_code(entity: Any, recursive: bool = True, experimental_optional_features: Any = None) -> str:
    """The source of what `entity`, a function, a method or a `gg.function`, is converted to.

    Branches and loop bodies are functions there, and `_gg` stands for the module of operators that
    take them. The further arguments are TensorFlow's and have no effect.

    >>> import graphgrad as gg
    >>> def f(x):
    ...     return x if x > 0 else -x
    >>> print(gg.autograph.to_code(f))
    def f(x):
        return _gg.if_expression(x > 0, lambda: x, lambda: -x)
    """
    function = getattr(entity, "python_function", entity)
    function = getattr(function, "__func__", function)
    if not hasattr(function, "__code__"):
        raise ArgumentError(f"autograph.to_code: takes a function, got {entity!r}", here())
    try:
        tree, _ = _conversion.converted_tree(function)
    except NotConverted as e:
        raise ArgumentError(f"`{function.__name__}` is not converted: {e}", here()) from None
    if isinstance(tree, ast.FunctionDef):
        tree.name = function.__name__
    return ast.unparse(tree)


def to_graph(
    entity: Any, recursive: bool = True, experimental_optional_features: Any = None
) -> Any:
    """`entity`, a function, converted: what `gg.function` traces.

    >>> import graphgrad as gg
    >>> f = gg.autograph.to_graph(lambda x: x if x > 0 else -x)
    >>> f(-3)
    3
    """
    return _conversion.convert(getattr(entity, "python_function", entity))


def trace(*args: Any) -> None:
    """Print `args` while a function is traced, not when it runs.

    >>> import graphgrad as gg
    >>> @gg.function
    ... def f(x):
    ...     gg.autograph.trace("tracing")
    ...     return x
    >>> y = f(1), f(1)
    tracing
    """
    print(*args)
