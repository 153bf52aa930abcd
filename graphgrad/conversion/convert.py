"""From a function to one whose control flow is made of operators (`graphgrad.conversion`)."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import threading
import types
from dataclasses import dataclass
from typing import Any

from graphgrad.compiler.source import is_internal
from graphgrad.conversion import factory, operators
from graphgrad.conversion.context import Context
from graphgrad.conversion.control_flow import convert_body
from graphgrad.conversion.jumps import NotConverted
from graphgrad.conversion.library import MARK, is_library_code, weakly
from graphgrad.conversion.scan import held_functions
from graphgrad.conversion.source import tree_of
from graphgrad.methods import WeakMethod

# Their results depend on the variables of their caller, or lead to them.
_LOOK_ROUND = {"dir", "eval", "exec", "locals", "vars"}
_NOTHING = "there is nothing to convert in it"
_PYTHONS_OWN = (
    "here Python itself decides: in a comprehension, a generator, a `match`, or in what a Python "
    "function calls; write an `if` or a `for` loop in its place"
)
_LATER = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_lock = threading.RLock()


@dataclass(slots=True)
class Recipe:
    """How functions with one piece of code are converted: other code, or the reason why not."""

    code: types.CodeType | None = None
    operators: str = ""  # what the code calls their module
    reason: str = ""
    updates: bool = False  # elements of tensors are assigned
    watch: Any = None  # lets go of the recipe when the user's code is gone


_recipes: dict[int, Recipe] = {}  # by identity of the user's code
_made: dict[int, Any] = {}  # weak references to codes that came of conversion


def convert(f: Any) -> Any:
    """`f` with its control flow on tensors converted, or `f` where there is nothing to convert.

    Functions, methods, partial functions and callable objects of the user's are converted;
    libraries, builtins, classes, generators and coroutines stay as they are.
    """
    if isinstance(f, types.FunctionType):
        return _converted(f)
    if isinstance(f, types.MethodType):
        inner = convert(f.__func__)
        return f if inner is f.__func__ else types.MethodType(inner, f.__self__)
    if isinstance(f, functools.partial):
        inner = convert(f.func)
        return f if inner is f.func else functools.partial(inner, *f.args, **f.keywords)
    if isinstance(f, WeakMethod):
        inner = convert(f.__func__)
        return f if inner is f.__func__ else types.MethodType(inner, f.__self__)
    if isinstance(f, type | types.BuiltinFunctionType):
        return f
    call = getattr(type(f), "__call__", None)  # noqa: B004
    if isinstance(call, types.FunctionType):
        inner = convert(call)
        return f if inner is call else types.MethodType(inner, f)
    return f


def _converted(f: types.FunctionType) -> Any:
    if MARK in f.__dict__:
        return f
    if is_internal(f.__code__.co_filename):
        return _holding(f)
    recipe = recipe_of(f)
    if recipe.code is None:
        return f
    # Made each time: what is kept for `f` would keep alive what its closure refers to.
    return factory.with_code(f, recipe.code, recipe.operators, operators)


def _holding(f: types.FunctionType) -> Any:
    """`f`, which graphgrad has made of functions that it holds: with those converted."""
    changed = {}
    for held in held_functions(f):
        inner = convert(held)
        if inner is not held:
            changed[id(held)] = inner
    if not changed:
        return f
    cells = [_other_cell(cell, changed) for cell in f.__closure__ or ()]
    made = types.FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, tuple(cells))
    made.__kwdefaults__ = f.__kwdefaults__
    made.__dict__.update(f.__dict__)
    return made


def _other_cell(cell: Any, changed: dict[int, Any]) -> Any:
    try:
        found = id(cell.cell_contents)
    except ValueError:  # not filled in yet
        return cell
    return types.CellType(changed[found]) if found in changed else cell


def recipe_of(f: types.FunctionType) -> Recipe:
    """What conversion makes of the code of `f`."""
    code = f.__code__
    found = _recipes.get(id(code))
    if found is None:
        if id(code) in _made:
            return Recipe(reason="it is converted already")
        with _lock:
            found = _recipes.get(id(code))
            if found is None:
                found = _recipe(f)
                _remember(code, found)
    return found


def _remember(code: types.CodeType, recipe: Recipe) -> None:
    recipe.watch = weakly(code, _recipes)
    _recipes[id(code)] = recipe
    if recipe.code is not None:
        _mark(recipe.code)


def _mark(code: types.CodeType) -> None:
    """Remember that `code` and the functions in it came of conversion."""
    _made[id(code)] = weakly(code, _made)
    for x in code.co_consts:
        if isinstance(x, types.CodeType):
            _mark(x)


def _recipe(f: types.FunctionType) -> Recipe:
    try:
        tree, context = converted_tree(f)
    except NotConverted as e:
        _tell(f, f"is not converted: {e}")
        return Recipe(reason=str(e))
    _tell(f, "is converted", tree)
    if not context.changes:
        return Recipe(reason=_NOTHING)
    try:
        code = factory.user_code(tree, f, context)
    except (SyntaxError, RecursionError) as e:  # such as too many nested blocks
        return Recipe(reason=f"Python cannot compile what it is converted to ({e})")
    return Recipe(code, context.operators, updates=context.updates)


def converted_tree(f: types.FunctionType) -> tuple[ast.FunctionDef | ast.Lambda, Context]:
    """The converted definition of `f`; NotConverted says why there is none."""
    code = f.__code__
    if is_library_code(code, f.__globals__):
        raise NotConverted(f"it is part of the library {f.__module__.partition('.')[0]}")
    if code.co_flags & _LATER:
        raise NotConverted("it is a generator or coroutine")
    tree = tree_of(f)
    if isinstance(tree, ast.FunctionDef):
        tree.decorator_list, tree.returns = [], None
    a = tree.args
    a.defaults, a.kw_defaults = [], [None for _ in a.kwonlyargs]
    for x in (*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))):
        x.annotation = None
    used, asserts = set(code.co_freevars), False
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                used.add(node.id)
            elif node.id in _LOOK_ROUND:
                raise NotConverted(f"line {node.lineno}: `{node.id}` looks at its variables")
        elif isinstance(node, ast.arg):
            used.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            used.add(node.name)
        asserts = asserts or isinstance(node, ast.Assert)
    if not asserts and not factory.is_source_of(tree, f):
        raise NotConverted(f"{code.co_filename} has changed since the function was loaded")
    context = Context(used, f.__globals__)
    convert_body(tree, context)
    return tree, context


def why_not(f: types.FunctionType) -> str:
    """Why `f` is as it was: a part of a sentence, "" where it is converted."""
    if MARK in f.__dict__:
        return "it is marked with gg.autograph.experimental.do_not_convert"
    return recipe_of(f).reason


def reason_of(code: types.CodeType) -> str:
    """Why conditions in `code` are Python's own, a sentence; "" where nobody knows."""
    found = _recipes.get(id(code))
    if id(code) in _made or (found is not None and found.reason == _NOTHING):
        return _PYTHONS_OWN
    name = "the lambda" if code.co_name == "<lambda>" else f"`{code.co_name}`"
    return "" if found is None else f"{name} is not converted: {found.reason}"


def set_verbosity(level: int, alsologtostdout: bool = False) -> None:
    """Print which functions are converted (from level 1 on), and to what (from level 3 on).

    They go to the standard error stream, or to the standard output if `alsologtostdout`.

    >>> import graphgrad as gg
    >>> gg.autograph.set_verbosity(0)
    """
    _Verbosity.level, _Verbosity.to_output = int(level), bool(alsologtostdout)


class _Verbosity:
    level = 0
    to_output = False


def _tell(f: types.FunctionType, text: str, tree: ast.AST | None = None) -> None:
    if _Verbosity.level > 0:
        code = f.__code__
        stream = sys.stdout if _Verbosity.to_output else sys.stderr
        print(
            f"autograph: {f.__name__} ({code.co_filename}:{code.co_firstlineno}) {text}",
            file=stream,
        )
        if tree is not None and _Verbosity.level > 2:
            print(ast.unparse(tree), file=stream)
