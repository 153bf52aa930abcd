"""Tells from bytecode whether a function may need conversion: most need none, and pay nothing.

It does if it, or a function of the user's that it names, branches, loops, negates, or assigns to
elements. Objects are followed from globals, closures and `self`, and a method of something unknown
is taken for the library's if the library has one of that name.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Iterator
from inspect import getattr_static
from opcode import EXTENDED_ARG, opname
from typing import Any

from graphgrad.compiler.source import is_internal
from graphgrad.conversion.library import MARK, is_library_code

_UNKNOWN = object()
_LATER = object()  # of a module that loads it on first use
_BRANCHES = {
    k
    for k, name in enumerate(opname)
    if (name.startswith(("POP_JUMP", "JUMP_IF")) and not name.endswith("NONE"))
    or name in ("FOR_ITER", "UNARY_NOT", "TO_BOOL")
}
_ELEMENTS = {k for k, name in enumerate(opname) if name in ("STORE_SUBSCR", "STORE_SLICE")}
_SILENT = {k for k, n in enumerate(opname) if n in ("CACHE", "PRECALL", "NOP", "COPY", "TO_BOOL")}
# A branch right after one of these is Python's own.
_PLAIN = {"WITH_EXCEPT_START", "CHECK_EXC_MATCH", "CHECK_EG_MATCH", "IS_OP", "GET_LEN"}
COMPREHENSIONS = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}
# Builtins that do something else with tensors of a trace.
_BUILTINS = {"all", "any", "bool", "float", "int", "len", "max", "min", "print", "range", "sum"}
_LOADS = {"LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW", "LOAD_FAST_LOAD_FAST"}
_DEREFS = {"LOAD_DEREF", "LOAD_CLASSDEREF"}


def may_need_conversion(f: Any) -> bool:
    """Does `f` perhaps hold control flow on tensors, or assign to elements of tensors?"""
    return _Scan(_BRANCHES | _ELEMENTS, True).finds(f)


def assigns_elements(f: Any) -> bool:
    """Does `f` perhaps assign to elements of tensors?"""
    return _Scan(_ELEMENTS, False).finds(f)


def held_functions(f: types.FunctionType) -> list[Any]:
    """The functions in the closure of `f`: what graphgrad makes of a function of the user's, such
    as its gradient, holds that."""
    kinds = types.FunctionType, types.MethodType, functools.partial
    found = []
    for cell in f.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not filled in yet
            continue
    return [x for x in found if isinstance(x, kinds)]


class _Scan:
    def __init__(self, wanted: set[int], unknown: bool) -> None:
        self._wanted = wanted
        self._unknown = unknown  # the answer where a function that is called is not known
        self._seen: set[tuple[int, int]] = set()

    def finds(self, f: Any) -> bool:
        """Does calling `f` come to what is wanted?"""
        if isinstance(f, functools.partial):
            return any(map(self.finds, (f.func, *f.args, *f.keywords.values())))
        instance = None
        function = f
        if not isinstance(f, types.FunctionType):
            function = getattr(f, "__func__", None)
            instance = getattr(f, "__self__", None)
            if not isinstance(function, types.FunctionType):
                if isinstance(f, type | types.ModuleType | types.BuiltinFunctionType):
                    return False
                function, instance = getattr_static(type(f), "__call__", None), f
                if not isinstance(function, types.FunctionType):
                    return False
        code = function.__code__
        key = id(code), id(instance)
        if key in self._seen:
            return False
        if is_internal(code.co_filename):
            return any(map(self.finds, held_functions(function)))
        if is_library_code(code, function.__globals__):
            return False
        if MARK in function.__dict__:
            return False
        self._seen.add(key)
        bound: dict[str, Any] = {}
        for name, cell in zip(code.co_freevars, function.__closure__ or ()):
            try:
                bound[name] = cell.cell_contents
            except ValueError:  # not filled in yet
                continue
        if instance is not None and code.co_argcount:
            bound[code.co_varnames[0]] = instance
        for x in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            if callable(x) and self.finds(x):
                return True
        return self._code(code, function.__globals__, bound)

    def _code(self, code: types.CodeType, scope: dict[str, Any], bound: dict[str, Any]) -> bool:
        for x in code.co_consts:
            if isinstance(x, types.CodeType) and self._code(x, scope, bound):
                return True
        comprehension = code.co_name in COMPREHENSIONS
        top: Any = None  # what was loaded last, if it is a chain of names
        before = ""
        for op, arg in _instructions(code):
            name = opname[op]
            own = before in _PLAIN or (comprehension and name == "FOR_ITER")
            if op in self._wanted and not own:
                return True
            if op in _SILENT:
                continue
            previous, top = top, None
            if name == "LOAD_GLOBAL":
                top = scope.get(code.co_names[arg >> 1], _UNKNOWN)
                if top is _UNKNOWN and self._unknown and code.co_names[arg >> 1] in _BUILTINS:
                    return True
            elif name in _LOADS or name in _DEREFS:
                local = _local(code, name, arg)
                top = bound.get(local, _UNKNOWN)
                called = before == "PUSH_NULL" and not _NULL_FOLLOWS
                if called and top is _UNKNOWN and self._unknown:
                    return True
            elif name == "PUSH_NULL" and _NULL_FOLLOWS and previous is _UNKNOWN:
                if self._unknown:
                    return True
            elif name in ("LOAD_ATTR", "LOAD_METHOD"):
                is_method = name == "LOAD_METHOD" or (_METHOD_BIT and arg & 1)
                attribute = code.co_names[arg >> 1 if _METHOD_BIT else arg]
                top = _attribute(previous, attribute)
                unknown = top is _UNKNOWN and is_method and self._unknown
                if unknown and attribute not in _library_methods():
                    return True
            if callable(top) and self.finds(top):
                return True
            before = name
        return False


_NULL_FOLLOWS = sys.version_info >= (3, 13)  # what is called, and was before
_METHOD_BIT = sys.version_info >= (3, 12)  # LOAD_ATTR tells in a bit whether it loads a method


def _instructions(code: types.CodeType) -> Iterator[tuple[int, int]]:
    extended = 0
    raw = code.co_code
    for k in range(0, len(raw), 2):
        op, arg = raw[k], raw[k + 1] | extended
        extended = arg << 8 if op == EXTENDED_ARG else 0
        if op != EXTENDED_ARG:
            yield op, arg


def _local(code: types.CodeType, name: str, arg: int) -> str:
    if name == "LOAD_FAST_LOAD_FAST":
        return code.co_varnames[arg & 15]
    names = (*code.co_varnames, *_own_cells(code), *code.co_freevars)
    return names[arg]


def _own_cells(code: types.CodeType) -> tuple[str, ...]:
    """The cells that have a place of their own: those of arguments lie among the variables."""
    return tuple(n for n in code.co_cellvars if n not in code.co_varnames)


def _attribute(x: Any, name: str) -> Any:
    """The attribute of something known."""
    if x is None or x is _UNKNOWN or x is _LATER:
        return x if x is _LATER else _UNKNOWN
    if isinstance(x, types.ModuleType):
        return vars(x).get(name, _LATER)
    found = getattr_static(x, name, _UNKNOWN)
    if isinstance(found, types.FunctionType) and not isinstance(x, type):
        return types.MethodType(found, x)
    if isinstance(found, staticmethod | classmethod):
        return found.__func__
    if isinstance(found, property | types.MemberDescriptorType):
        return _UNKNOWN
    return found


@functools.cache
def _library_methods() -> frozenset[str]:
    """The names of methods of the objects that programs mostly have."""
    from graphgrad.tape import GradientTape
    from graphgrad.tensor import EagerTensor
    from graphgrad.variable import Variable

    kinds = (EagerTensor, Variable, GradientTape, list, dict, str, set, tuple, float)
    return frozenset({"apply_gradients", "minimize"}.union(*map(dir, kinds)))
