"""Makes a function of a converted tree: the user's in all but its code."""

from __future__ import annotations

import ast
import types
from opcode import opmap
from typing import Any

from graphgrad.conversion.context import Context

_ANNOTATIONS = 0x1000000  # the flag of `from __future__ import annotations`
_OPERATORS = {opmap[n] for n in ("BINARY_OP", "COMPARE_OP", "CONTAINS_OP", "IS_OP")}


def compiled(
    tree: ast.FunctionDef | ast.Lambda, function: types.FunctionType, extra: list[str]
) -> types.CodeType:
    """The code of the definition `tree` in the place of `function`, with `extra` free names.

    The names that it binds itself, and that of its class, mean to it what they mean around it.
    """
    code = function.__code__
    free = [*code.co_freevars, *extra]
    if isinstance(tree, ast.FunctionDef):
        tree.name = "".join(["_", *free, *code.co_names])  # none of the names in it
    holder = tree if isinstance(tree, ast.FunctionDef) else ast.Expr(tree)
    body: list[ast.stmt] = [holder]
    name = _class_name(function.__qualname__)
    if name:  # private names are those of the class
        held: Any = ast.ClassDef(name, [], [], [holder], [])
        held.type_params = []
        body = [held] if name in free else [ast.Global([name]), held]
    outer: Any = ast.FunctionDef("_", Context.arguments(free), body, [], None)
    outer.type_params = []
    module = Context.place(ast.Module([outer], []), tree)
    flags = code.co_flags & _ANNOTATIONS
    made = compile(module, code.co_filename, "exec", flags, dont_inherit=True)
    return _found(made, 3 if name else 2)


def _found(code: types.CodeType, depth: int) -> types.CodeType:
    for _ in range(depth):
        code = next(x for x in code.co_consts if isinstance(x, types.CodeType))
    return code


def _class_name(qualified: str) -> str | None:
    """The class that a function's private names belong to."""
    names = qualified.split(".")[:-1]
    while names and names[-1] == "<locals>":
        names = names[:-2]
    return names[-1] if names else None


def user_code(
    tree: ast.FunctionDef | ast.Lambda, function: types.FunctionType, context: Context
) -> types.CodeType:
    """The code of the converted `tree`, under the names that the user knows."""
    code = compiled(tree, function, [context.operators])
    own = function.__code__
    code = code.replace(co_name=own.co_name, co_qualname=own.co_qualname)
    return _renamed(code, context.generated, own.co_name)


def is_source_of(tree: ast.FunctionDef | ast.Lambda, function: types.FunctionType) -> bool:
    """Does `tree` say what `function` does?"""
    return _essence(compiled(tree, function, [])) == _essence(function.__code__)


def _essence(code: types.CodeType) -> Any:
    """What code has of its source. How methods are called also depends on imports elsewhere."""
    constants = [_essence(x) if isinstance(x, types.CodeType) else x for x in code.co_consts]
    operators = [
        tuple(code.co_code[k : k + 2])
        for k in range(0, len(code.co_code), 2)
        if code.co_code[k] in _OPERATORS
    ]
    return code.co_names, code.co_varnames, code.co_freevars, repr(constants), operators


def with_code(
    function: types.FunctionType, code: types.CodeType, operators: str, module: Any
) -> types.FunctionType:
    """A function with another code, and all else shared with `function`: its globals, the cells of
    its closure, defaults, annotations and names.

    `operators` is the one name that is new in the code, that of the `module` of operators.
    """
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or ()))
    cells[operators] = types.CellType(module)
    closure = tuple(cells[n] for n in code.co_freevars)
    made: Any = types.FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, closure
    )
    made.__kwdefaults__ = function.__kwdefaults__
    made.__annotations__ = function.__annotations__
    made.__doc__ = function.__doc__
    made.__qualname__ = function.__qualname__
    made.__module__ = function.__module__
    made.__dict__.update(function.__dict__)
    if hasattr(function, "__type_params__"):
        made.__type_params__ = function.__type_params__
    return made


def _renamed(code: types.CodeType, generated: set[str], name: str) -> types.CodeType:
    """`code` with the user's names: parts that were made of a function bear that function's."""
    if code.co_name in generated:
        code = code.replace(co_name=name, co_qualname=name)
    own = code.co_name
    constants = tuple(
        _renamed(x, generated, own) if isinstance(x, types.CodeType) else x for x in code.co_consts
    )
    return code.replace(co_consts=constants)
