"""Which calls go through the operator `call`, which converts what is the user's own."""

from __future__ import annotations

import ast
import builtins
import types
from typing import TYPE_CHECKING

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
    names: list[str] = []
    while isinstance(function, ast.Attribute):
        names.append(function.attr)
        function = function.value
    if not isinstance(function, ast.Name) or function.id in scope.own or function.id in context.own:
        return False
    if function.id == context.operators:
        return True
    missing = object()
    found = context.globals.get(function.id, missing)
    if found is missing:
        found = vars(builtins).get(function.id, missing)
        return not names and found is not missing and function.id in _KEPT
    for name in reversed(names):
        if not isinstance(found, types.ModuleType):
            return False
        found = vars(found).get(name)
    return is_library_function(found)


def is_library_function(x: object) -> bool:
    """Is this a function of NumPy's or the standard library's, or an op of graphgrad's?"""
    module = getattr(x, "__module__", None)
    if module == "graphgrad":  # what op records give: they call nobody's functions
        return True
    name = (module or "").partition(".")[0]
    return name in ("numpy", "math") and not isinstance(x, types.ModuleType)
