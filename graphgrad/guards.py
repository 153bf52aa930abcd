"""Guards: what a trace took from Python's state, and whether it is still so.

The code of a function, and of the Python functions it calls, says by name which globals, closure
cells and attributes it reads. Their values at trace time are kept, and one generated function
compares them at each call: numbers and strings by type and value, containers by identity and
contents, functions and other objects by identity, tensors by dtype and shape (they are read anew).

Not seen are attributes reached in other ways than by name: through `getattr`, or of objects that
are handed to another function.
"""

from __future__ import annotations

import dis
import inspect
import os
import struct
import sys
import types
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import is_
from typing import Any

import numpy as np

from graphgrad.compiler.arith import Arith
from graphgrad.compiler.ir import Value

SCALARS = (bool, int, float, complex, str, bytes, type(None), np.generic)
CONTAINERS = (list, dict, set, tuple, frozenset)
DATA = (Arith, np.ndarray, *SCALARS, *CONTAINERS)
SMALL = 64  # elements: up to here the contents of a NumPy array are compared
MANY = 1000  # elements: beyond, of a container only identity and length are compared
# What these give may differ from call to call.
_IMPURE = {"datetime", "os", "random", "secrets", "sys", "time", "uuid"}
_OPAQUE = {"graphgrad", "numpy", "builtins", *sys.stdlib_module_names}


@dataclass(slots=True)
class Guard:
    """One thing read: the expression that reads it, what it was, and who reads it where."""

    expression: str
    label: str
    value: Any
    snapshot: Any = None
    line: str = ""


@dataclass(slots=True)
class Guards:
    """The guards of one trace; `names` is what their expressions refer to."""

    guards: dict[str, Guard] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)
    escaped: bool = False  # something is read that cannot be seen
    _roots: dict[int, str] = field(default_factory=dict)
    _seen: set[tuple[int, int]] = field(default_factory=set)

    # Building

    def root(self, x: Any, prefix: str, weak: bool = False) -> str:
        """An expression for the object `x`, which is held weakly where that is possible."""
        found = self._roots.get(id(x))
        if found is None:
            name = f"{prefix}{len(self._roots)}"
            held: Any = x
            if weak:
                try:
                    held = weakref.ref(x)
                    found = f"{name}()"
                except TypeError:
                    weak = False
            self.names[name] = held
            found = self._roots[id(x)] = found or name
        return found

    def add_function(self, function: Any, bound: dict[str, Any] | None = None) -> None:
        """The reads of a Python function; `bound` are arguments known to be particular objects."""
        if hasattr(function, "__self__") and hasattr(function, "__func__"):
            instance, function = function.__self__, function.__func__
            if not isinstance(function, types.FunctionType):
                return
            first = next(iter(function.__code__.co_varnames), "self")
            bound = {first: instance, **(bound or {})}
        if not isinstance(function, types.FunctionType) or _opaque(function.__module__):
            return
        code = function.__code__
        key = (id(code), id(next(iter((bound or {}).values()), None)))
        if key in self._seen:
            return
        self._seen.add(key)
        cells = dict(zip(code.co_freevars, function.__closure__ or ()))
        for name, default in zip(
            reversed(_positional(code)), reversed(function.__defaults__ or ())
        ):
            if not isinstance(default, SCALARS) and not (bound and name in bound):
                bound = {**(bound or {}), name: default}
        _Reader(self, function.__globals__, cells, bound or {}).read(code)

    def add(self, expression: str, label: str, value: Any, line: str) -> None:
        """Guard what `expression` gives."""
        if expression in self.guards or isinstance(value, Value):
            return
        self.guards[expression] = Guard(expression, label, value, snapshot(value), line)

    # Using

    @property
    def complete(self) -> bool:
        """Is everything seen that the function may read? Objects handed on may be read anywhere."""
        return not self.escaped and all(_seen_through(g.value) for g in self.guards.values())

    def changed(self) -> list[Guard]:
        """The guards that do not hold any more."""
        return [g for g in self.guards.values() if not self._holds(g)]

    def _holds(self, g: Guard) -> bool:
        try:
            return unchanged(eval(g.expression, self.names), g.value, g.snapshot)
        except (KeyError, AttributeError, ValueError):
            return False

    def getter(self, x: Any) -> Callable[[], Any] | None:
        """How to read the captured tensor `x` again, if it was reached by a guarded name."""
        for g in self.guards.values():
            if g.value is x:
                return eval(f"lambda: {g.expression}", self.names)
        return None

    def compile(self) -> Callable[[], bool] | None:
        """One function that tells whether all guards hold; None if there are none."""
        if not self.guards:
            return None
        names: dict[str, Any] = {**self.names, "unchanged": unchanged, "same_items": _same_items}
        lines = ["def check():", "    try:"]
        for i, g in enumerate(self.guards.values()):
            names[f"v{i}"], names[f"s{i}"] = g.value, g.snapshot
            lines.append(f"        x = {g.expression}")
            if isinstance(g.value, list | tuple) and g.snapshot is not None:
                lines.append(f"        if x is not v{i} or not same_items(x, s{i}):")
            elif g.snapshot is not None and not isinstance(g.value, SCALARS):
                lines.append("        if True:")
            else:
                lines.append(f"        if x is not v{i}:")
            lines.append(f"            if not unchanged(x, v{i}, s{i}): return False")
        lines += ["    except (KeyError, AttributeError, ValueError, TypeError):"]
        lines += ["        return False", "    return True"]
        exec("\n".join(lines), names)
        return names["check"]


def _seen_through(x: Any) -> bool:
    """Do guards see all that can be read of `x`: data, and functions that are called by name?"""
    if isinstance(x, list | tuple):
        return len(x) <= MANY and all(map(_seen_through, x))
    if isinstance(x, dict | set | frozenset):
        values = x.values() if isinstance(x, dict) else x
        return len(x) <= MANY and all(
            _seen_through(v) and not isinstance(v, types.FunctionType) for v in values
        )
    known = isinstance(x, (Arith, np.ndarray, *SCALARS, types.FunctionType, type))
    return known or isinstance(getattr(x, "python_function", None), types.FunctionType)


def _impure(name: str) -> bool:
    """Is this a module, or in one, that does not give the same each time?"""
    return name.partition(".")[0] in _IMPURE or name.startswith("numpy.random")


def _fixed(x: Any) -> bool:
    """Is `x`, of a library, a function, class or value of graphgrad's that does not change?"""
    module = getattr(x, "__module__", None) or ""
    if module.startswith("graphgrad"):
        return True
    of_instance = not isinstance(getattr(x, "__self__", None), types.ModuleType | None)
    return callable(x) and not of_instance and not _impure(module)


def _positional(code: types.CodeType) -> tuple[str, ...]:
    return code.co_varnames[: code.co_argcount]


def _opaque(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _OPAQUE and not (module or "").startswith("__main__")


def same_scalar(a: Any, b: Any) -> bool:
    """Equal by type and value: NaN equals itself, and 0.0 is not -0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, np.generic):
        return a.tobytes() == b.tobytes()
    return bool(a == b)


def snapshot(x: Any) -> Any:
    """The contents of `x` that are compared later; None where identity is all."""
    if isinstance(x, np.ndarray):
        return (x.shape, x.dtype, x.tobytes() if x.size <= SMALL else None)
    if isinstance(x, CONTAINERS) and len(x) <= MANY:
        return _items(x)
    return None


def _items(x: Any) -> Any:
    if isinstance(x, dict):
        return tuple((k, v, snapshot(v)) for k, v in x.items())
    if isinstance(x, list | tuple):
        return tuple(x), tuple(map(snapshot, x)) if any(map(_compound, x)) else None
    return tuple(x)


def _compound(x: Any) -> bool:
    return isinstance(x, (np.ndarray, *CONTAINERS))


def _same_items(x: Any, snap: Any) -> bool:
    """The quick half of a list's comparison: the very same elements, all of them simple."""
    items, inner = snap
    return inner is None and len(x) == len(items) and all(map(is_, x, items))


def unchanged(x: Any, old: Any, snap: Any) -> bool:
    """Is `x` what it was: `old`, with the contents `snap`?"""
    if isinstance(old, SCALARS):
        return x is old or same_scalar(x, old)
    if isinstance(old, Arith):
        return x is old or _same_spec(x, old)
    if isinstance(old, np.ndarray):
        return x is old and snap == snapshot(x)
    if isinstance(old, CONTAINERS):
        if type(x) is not type(old) or len(x) != len(old):
            return False
        if isinstance(old, list | dict | set) and x is not old:
            return False
        return snap is None or _unchanged_items(x, snap)
    if isinstance(old, types.FunctionType) and isinstance(x, types.FunctionType):
        return x is old or (
            x.__code__ is old.__code__ and not x.__closure__ and x.__defaults__ == old.__defaults__
        )
    return x is old


def _unchanged_items(x: Any, snap: Any) -> bool:
    if isinstance(x, dict):
        pairs = [(k, v, s) for (k, v), (_, _, s) in zip(x.items(), snap)]
        return len(pairs) == len(snap) and all(
            k == old_k and unchanged(v, old, s) for (k, v, s), (old_k, old, _) in zip(pairs, snap)
        )
    if isinstance(x, list | tuple):
        items, inner = snap
        return len(x) == len(items) and all(map(unchanged, x, items, inner or (None,) * len(items)))
    return set(x) == set(snap)


def _same_spec(x: Any, old: Any) -> bool:
    """A tensor rebound to one of the same type is read anew; a variable is itself."""
    if hasattr(old, "assign") or hasattr(x, "assign") or not isinstance(x, Arith):
        return False
    return x.type == old.type


_SKIP = {"COPY", "CACHE", "PUSH_NULL", "NOP", "PRECALL", "RESUME"}
_ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD"}
_LOCALS = {"LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW"}


def instructions_of(code: types.CodeType) -> Iterable[dis.Instruction]:
    """The instructions, those that Python 3.13 makes two of at once one after the other."""
    for i in dis.get_instructions(code):
        parts = _PAIRS.get(i.opname)
        if parts is None:
            yield i
            continue
        for k, (opname, argval) in enumerate(zip(parts, i.argval)):
            starts = i.starts_line if k == 0 else None
            yield i._replace(opname=opname, argval=argval, starts_line=starts)


_PAIRS = {
    "LOAD_FAST_LOAD_FAST": ("LOAD_FAST", "LOAD_FAST"),
    "LOAD_FAST_BORROW_LOAD_FAST_BORROW": ("LOAD_FAST", "LOAD_FAST"),
    "STORE_FAST_LOAD_FAST": ("STORE_FAST", "LOAD_FAST"),
    "STORE_FAST_STORE_FAST": ("STORE_FAST", "STORE_FAST"),
}


class _Reader:
    """Finds what one piece of code reads, by following chains of loads."""

    def __init__(
        self, guards: Guards, scope: dict[str, Any], cells: dict[str, Any], bound: dict[str, Any]
    ) -> None:
        self.guards = guards
        self.scope = scope
        self.cells = cells
        self.locals: dict[str, list[tuple[str, str, Any]]] = {
            name: [(guards.root(x, "W", weak=True), name, x)]
            for name, x in bound.items()
            if not isinstance(x, (Arith, *SCALARS))
        }
        self.line = ""

    def read(self, code: types.CodeType) -> None:
        self._chains([i for i in instructions_of(code) if i.opname not in _SKIP], code)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                inner = _Reader(self.guards, self.scope, self.cells, {})
                inner.locals = {k: v for k, v in self.locals.items() if k in constant.co_freevars}
                inner.read(constant)

    def _chains(self, instructions: list[dis.Instruction], code: types.CodeType) -> None:
        stored = [i.argval for i in instructions if i.opname == "STORE_FAST"]
        once = {name for name in stored if stored.count(name) == 1}
        k = 0
        while k < len(instructions):
            i = instructions[k]
            if i.starts_line:
                line = i.positions.lineno if i.positions else i.starts_line
                self.line = f"{os.path.basename(code.co_filename)}:{line}"
            found = self._start(i)
            k += 1
            while found and k < len(instructions) and instructions[k].opname in _ATTRIBUTES:
                self._end([x for x in found if isinstance(x[2], DATA)])
                found = [y for x in found for y in self._attribute(x, instructions[k].argval)]
                k += 1
            self._end(found)
            self._bind(found, instructions[k : k + 3], once)

    def _bind(self, found: Any, following: list[dis.Instruction], once: set[str]) -> None:
        """A local that stands for what was read, or for each element of it in a loop."""
        names = [i.opname for i in following]
        if names[:1] == ["STORE_FAST"] and following[0].argval in once:
            self.locals[following[0].argval] = found
        elif names == ["GET_ITER", "FOR_ITER", "STORE_FAST"] and following[2].argval in once:
            elements = []
            for expression, label, x in found:
                if isinstance(x, list | tuple) and len(x) <= MANY:
                    elements += [
                        (f"{expression}[{i}]", f"{label}[{i}]", v) for i, v in enumerate(x)
                    ]
            self.locals[following[2].argval] = elements
            for _, _, x in elements:
                self._call_of(x)

    def _start(self, i: dis.Instruction) -> list[tuple[str, str, Any]]:
        name = i.argval
        if i.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            if name in self.scope and not _opaque(self.scope.get("__name__")):
                root = self.guards.root(self.scope, "G")
                return [(f"{root}[{name!r}]", name, self.scope[name])]
        elif i.opname in ("LOAD_DEREF", "LOAD_CLASSDEREF"):
            cell = self.cells.get(name)
            if cell is not None:
                root = self.guards.root(cell, "C")
                try:
                    return [(f"{root}.cell_contents", name, cell.cell_contents)]
                except ValueError:  # not filled in yet
                    return []
            return self.locals.get(name, [])
        elif i.opname in _LOCALS:
            return self.locals.get(name, [])
        return []

    def _attribute(self, found: tuple[str, str, Any], name: str) -> Iterable[tuple[str, str, Any]]:
        expression, label, x = found
        if isinstance(x, types.ModuleType):
            if _impure(f"{x.__name__}.{name}"):
                self.guards.escaped = True
            if _opaque(x.__name__) or name not in vars(x):
                return []
            return [(f"{expression}.{name}", f"{label}.{name}", vars(x)[name])]
        if isinstance(x, DATA):
            return []
        static = inspect.getattr_static(x, name, None)
        if isinstance(static, property):
            if static.fget is not None:
                self.guards.add_function(static.fget, {"self": x})
            return []
        try:
            return [(f"{expression}.{name}", f"{label}.{name}", getattr(x, name))]
        except Exception:  # a descriptor of the user's may do anything
            return []

    def _end(self, found: list[tuple[str, str, Any]]) -> None:
        for expression, label, x in found:
            ours = isinstance(x, Arith) or hasattr(x, "python_function")
            module = isinstance(x, types.ModuleType)
            if not ours and (module or _opaque(getattr(x, "__module__", None))):
                if not module and not _fixed(x):
                    self.guards.escaped = True
                continue
            if expression.endswith("()"):  # an argument: part of the key already
                self.guards.escaped = True
                self._call_of(x)
                continue
            if not isinstance(x, types.MethodType):  # it would keep its instance alive
                self.guards.add(expression, label, x, self.line)
            self._call_of(x)

    def _call_of(self, x: Any) -> None:
        """What calling `x` would read, and the elements of `x` if it is a container."""
        inner = getattr(x, "python_function", None)
        if inner is not None:
            self.guards.add_function(inner)
        elif isinstance(x, types.FunctionType | types.MethodType):
            self.guards.add_function(x)
        elif isinstance(x, list | tuple) and len(x) <= MANY:
            for v in x:
                if callable(v) and not isinstance(v, Arith):
                    self._call_of(v)
        elif not isinstance(x, type | Arith) and not _opaque(getattr(x, "__module__", None)):
            call = inspect.getattr_static(type(x), "__call__", None)
            if isinstance(call, types.FunctionType):
                self.guards.add_function(types.MethodType(call, x))
