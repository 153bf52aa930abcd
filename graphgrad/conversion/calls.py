"""Which calls go through the operator `call`, which converts what is the user's own."""

from __future__ import annotations

import ast
import builtins
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphgrad.conversion.context import Context
    from graphgrad.conversion.names import Scope

# Builtins that neither call the user's functions with tensors nor ask for a tensor's value.
_KEPT = {
    "callable", "classmethod", "delattr", "getattr", "globals", "hasattr", "id", "isinstance",
    "issubclass", "object", "property", "setattr", "slice", "staticmethod", "type",
}  # fmt: skip


def keeps_call(function: ast.expr, scope: Scope, context: Context) -> bool:
    """Is calling this sure to need no conversion: a function of a library, reached by its module?

    Functions of graphgrad's that call functions of the user's are not kept.
    """
    if isinstance(function, ast.Name) and function.id == context.operators:
        return True
    name = root(function)
    if name is None or name in scope.own or name in context.own:
        return False
    if isinstance(function, ast.Name) and name not in context.globals:
        return name in _KEPT
    return is_library_function(resolved(function, context.globals))


def root(function: ast.expr) -> str | None:
    """`a` of `a.b.c`, or None where what comes first is no name."""
    while isinstance(function, ast.Attribute):
        function = function.value
    return function.id if isinstance(function, ast.Name) else None


def resolved(function: ast.expr, scope: Mapping[str, Any]) -> object:
    """What a chain of names from the globals `scope` or the builtins leads to, through modules."""
    if isinstance(function, ast.Name):
        return scope.get(function.id, vars(builtins).get(function.id))
    if not isinstance(function, ast.Attribute):
        return None
    module = resolved(function.value, scope)
    if not isinstance(module, types.ModuleType):
        return None
    if module.__name__.partition(".")[0] == "graphgrad":  # which loads some names when asked
        return getattr(module, function.attr, None)
    return vars(module).get(function.attr)


def is_library_function(x: object) -> bool:
    """Is this a function of NumPy's or the standard library's, or an op of graphgrad's?"""
    module = getattr(x, "__module__", None)
    if module == "graphgrad":  # what op records give: they call nobody's functions
        return True
    name = (module or "").partition(".")[0]
    return name in ("numpy", "math") and not isinstance(x, types.ModuleType)
