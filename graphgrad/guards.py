"""Guards: what a trace took from Python's state, and whether it is still so.

What code reads by name is read from the code: globals, closure cells, and attributes of modules and
classes. Attributes of the user's objects are noticed as they are read (`reads.py`). One generated
function compares them all at each call.

Not seen are elements of large arrays and containers, attributes of objects whose classes are
written in C unless they are reached by names, methods that are replaced on their class, and a name
by which a library's function was imported (`from graphgrad import tanh`) bound to something else.
"""

from __future__ import annotations

import dis
import enum
import functools
import inspect
import os
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from graphgrad.compiler.arith import Arith
from graphgrad.compiler.ir import Value
from graphgrad.configured import Configured, options_of
from graphgrad.reads import Reads
from graphgrad.snapshots import CONTAINERS, SCALARS, Snapshot, snapshot

DATA = (Arith, np.ndarray, *SCALARS, *CONTAINERS)
FOLLOWED = 10_000  # elements: of larger containers no element is followed
_FAILURES = (KeyError, AttributeError, ValueError, TypeError)
_OPAQUE = {"graphgrad", "numpy", "builtins", *sys.stdlib_module_names} - {"argparse"}
_OPERATORS = ("add", "sub", "mul", "truediv", "matmul", "pow", "mod", "floordiv")
_IMPLICIT = {  # methods that Python calls without reading an attribute
    "__call__", "__getitem__", "__iter__", "__next__", "__len__", "__contains__", "__enter__",
    "__bool__", "__getattr__", "__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__neg__",
    *(f"__{side}{name}__" for name in _OPERATORS for side in ("", "r")),
}  # fmt: skip


class Guard(NamedTuple):
    """One thing read: the expression that reads it, what it was, and who reads it where.

    Without a line, it is graphgrad that reads it, and the label is a phrase.
    """

    expression: str
    label: str
    was: Snapshot
    line: str = ""


class Guards:
    """The guards of one trace; `names` is what their expressions refer to."""

    def __init__(self) -> None:
        self.guards: dict[str, Guard] = {}
        self.names: dict[str, Any] = {}
        self.complete = True  # every object that the function may read from is seen through
        self.reads = Reads(self)
        self.stores: dict[str, str] = {}  # names that are assigned: the line
        self._roots: dict[int, str] = {}
        self._written: dict[str, Guard] = {}  # globals and cells among them
        self._seen: set[int] = set()  # functions that were read
        self._inside: set[int] = set()  # containers whose elements are being followed

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

    def add_function(
        self, function: Any, own: bool = False, bound: dict[str, Any] | None = None
    ) -> None:
        """What calling `function` reads by name; it may be any callable.

        The `own` one of the trace lives as long as the trace does. `bound` are arguments whose
        attributes are read by name: reads of them are not noticed.
        """
        if isinstance(function, functools.partial):
            for x in (function.func, *function.args, *function.keywords.values()):
                self.follow(x, "the arguments of a partial")
            return
        code = getattr(function, "__func__", function)
        if not isinstance(code, types.FunctionType):
            written_in_c = isinstance(function, types.MethodType)
            self.follow(function.__self__ if written_in_c else function, type(function).__name__)
            return
        instance = getattr(function, "__self__", None)
        names = code.__code__.co_varnames
        bound = dict(bound or {})
        if instance is not None and names and not self.follow(instance, names[0]):
            bound[names[0]] = instance
        if id(code) in self._seen or is_opaque(code.__module__):
            return
        self._seen.add(id(code))
        self._add_defaults(code)
        cells = self._cells(code, own)
        _Reader(self, code.__globals__, cells, bound).read(code.__code__)

    def _cells(self, function: types.FunctionType, own: bool) -> dict[str, tuple[str, Any]]:
        """The closure cells by name, with expressions for them.

        A cell cannot be held weakly, and may lead to whoever holds its function.
        """
        found = {}
        for i, cell in enumerate(function.__closure__ or ()):
            if own:
                expression = self.root(cell, "C")
            else:
                expression = f"{self.root(function, 'W', weak=True)}.__closure__[{i}]"
            found[function.__code__.co_freevars[i]] = expression, cell
        return found

    def _add_defaults(self, function: types.FunctionType) -> None:
        """Default values that can change, and objects."""
        code = function.__code__
        names = code.co_varnames[: code.co_argcount]
        line = f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}"
        for kind in ("__defaults__", "__kwdefaults__"):
            values = getattr(function, kind)
            if not values:
                continue
            if isinstance(values, tuple):
                values = dict(zip(names[-len(values) :], values))
            if any(isinstance(x, CONTAINERS) for x in values.values()):
                root = self.root(function, "W", weak=True)
                label = f"{function.__name__}.{kind}"
                self.add(f"{root}.{kind}", label, getattr(function, kind), line)
            for name, x in values.items():
                self.follow(x, name)

    def follow(self, x: Any, label: str) -> bool:
        """Have reads through `x` noticed, whatever it is; can attributes of it be?"""
        if isinstance(x, (Arith, np.ndarray, types.ModuleType, enum.Enum, *SCALARS)):
            return False
        if isinstance(x, CONTAINERS):
            self._follow_elements(x, label)
        if isinstance(x, Configured):
            self._follow_options(x, label)
        inner = inspect.getattr_static(x, "_python_function", None)
        if inner is not None and is_opaque(type(x).__module__):
            self.add_function(x.python_function)
        elif isinstance(x, types.FunctionType | types.MethodType | functools.partial):
            self.add_function(x)
        elif not isinstance(x, type) and not is_opaque(type(x).__module__):
            return self._follow_object(x, label)
        return False

    def _follow_options(self, x: Configured, label: str) -> None:
        """Guard the options of one of graphgrad's objects, and what they lead to."""
        x._configure()
        root = self.root(x, "W", weak=True)
        self.add(f"{root}._configuration", f"the options of `{label}`", x._configuration, "")
        for name in options_of(type(x)):
            option = vars(x).get(name)
            if isinstance(option, list | np.ndarray):  # it can change in its place
                self.add(f"{root}.{name}", f"the option `{label}.{name}`", option, "")
            self.follow(option, f"{label}.{name.removeprefix('_')}")

    def _follow_elements(self, x: Any, label: str) -> None:
        if len(x) > FOLLOWED:
            self.complete = False
        elif id(x) not in self._inside:
            self._inside.add(id(x))
            for i, v in x.items() if isinstance(x, Mapping) else enumerate(x):
                self.follow(v, f"{label}[{i!r}]")
            self._inside.remove(id(x))

    def _follow_object(self, x: Any, label: str) -> bool:
        if not self.reads.notice(x, label):
            self.complete = False
            return False
        for kind in type(x).__mro__:
            if not is_opaque(kind.__module__):
                for name in _IMPLICIT & vars(kind).keys():
                    self.add_function(vars(kind)[name])
        return True

    def add(self, expression: str, label: str, value: Any, line: str) -> None:
        """Guard what `expression` gives."""
        if expression not in self.guards and not isinstance(value, Value):
            self.guards[expression] = Guard(expression, label, snapshot(value), line)

    # Using

    def changed(self) -> list[Guard]:
        """The guards that do not hold any more."""
        return [g for g in self.guards.values() if not self._holds(g)]

    def effects(self) -> dict[str, str]:
        """What the trace changed of Python's state, by label, with the line; it is guarded no more.

        What was read is found by its guard, and what was only written by the names that are stored.
        """
        found = {}
        for g in self.changed():
            del self.guards[g.expression]
            found[g.label] = g.line
        for g in self._written.values():
            if not self._holds(g):
                found.setdefault(g.label, g.line)
        for label, name in self.reads.written:
            if name in self.stores:
                found.setdefault(label, self.stores[name])
        self._written = {}
        return found

    def assigned(self, name: str, place: tuple[str, str, Any] | None, line: str) -> None:
        """The code assigns to an attribute, or to the global or cell at `place`."""
        self.stores.setdefault(name, line)
        if place is not None and not isinstance(place[2], Value):
            expression, label, x = place
            self._written.setdefault(expression, Guard(expression, label, snapshot(x), line))

    def _holds(self, g: Guard) -> bool:
        try:
            return g.was.same(eval(g.expression, self.names))
        except _FAILURES:
            return False

    def value(self, g: Guard) -> Any:
        """What the guarded expression gives now; None where it fails."""
        try:
            return eval(g.expression, self.names)
        except _FAILURES:
            return None

    def getter(self, x: Any) -> Callable[[], Any] | None:
        """How to read the captured tensor `x` again, if it was reached by a guarded name."""
        for g in self.guards.values():
            if g.was.value is x:
                return eval(f"lambda: {g.expression}", self.names)
        return None

    def compile(self) -> Callable[[], bool] | None:
        """One function that tells whether all guards hold; None if there are none."""
        if not self.guards:
            return None
        names = dict(self.names)
        lines = ["def check():", "    try:"]
        objects: dict[str, str] = {}  # a weak reference is followed once
        for i, g in enumerate(self.guards.values()):
            root, call, rest = g.expression.partition("()")
            expression = g.expression
            if call and root in self.names:
                if root not in objects:
                    objects[root] = f"o{len(objects)}"
                    lines.append(f"        {objects[root]} = {root}()")
                expression = objects[root] + rest
            test, names[f"k{i}"] = g.was.source
            names[f"same{i}"] = g.was.same
            lines.append(f"        x = {expression}")
            if test == "same(x)":
                lines.append(f"        if not same{i}(x): return False")
            else:
                test = test.replace("k", f"k{i}")
                lines.append(f"        if not ({test}) and not same{i}(x): return False")
        lines += ["    except (KeyError, AttributeError, ValueError, TypeError):"]
        lines += ["        return False", "    return True"]
        exec("\n".join(lines), names)
        return names["check"]


# What these give may differ from call to call.
_IMPURE = {"datetime", "os", "random", "secrets", "sys", "time", "uuid"}


def _is_impure(name: str) -> bool:
    """Is this a module, or in one, that does not give the same each time?"""
    return name.partition(".")[0] in _IMPURE or name.startswith("numpy.random")


def _is_seen(x: Any) -> bool:
    """Is `x` data, the user's own, or something of a library's that does not change?"""
    if isinstance(x, (*DATA, types.ModuleType)) or not is_opaque(type(x).__module__):
        return True
    module = getattr(x, "__module__", None) or ""
    if module.startswith("graphgrad"):
        return True
    of_instance = not isinstance(getattr(x, "__self__", None), types.ModuleType | None)
    return callable(x) and not of_instance and not _is_impure(module)


def _is_imported(x: Any, label: str) -> bool:
    """Is this a function or class of a library, under the name that it has there?"""
    if isinstance(x, types.MethodType) or not is_opaque(type(x).__module__):
        return False
    own = getattr(x, "__name__", None)
    return own == label.rpartition(".")[2] and is_opaque(getattr(x, "__module__", None))


def is_opaque(module: str | None) -> bool:
    """Is a module's state no part of the user's program: graphgrad's, NumPy's, Python's?"""
    return (module or "").partition(".")[0] in _OPAQUE and not (module or "").startswith("__main__")


_SKIP = {"COPY", "CACHE", "PUSH_NULL", "NOP", "PRECALL", "RESUME"}
_ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD"}
_STORES = {"STORE_GLOBAL": "LOAD_GLOBAL", "STORE_DEREF": "LOAD_DEREF", "STORE_ATTR": ""}
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
    """Finds what one piece of code reads by name, by following chains of loads.

    A chain ends where attributes are noticed as they are read, or belong to no one.
    """

    def __init__(
        self,
        guards: Guards,
        scope: dict[str, Any],
        cells: dict[str, tuple[str, Any]],
        bound: dict[str, Any],
    ) -> None:
        self.guards = guards
        self.scope = scope
        self.cells = cells
        self.bound = bound  # arguments whose attributes are read by name
        self.line = ""  # of the instruction being read

    def read(self, code: types.CodeType) -> None:
        self.line = f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}"
        self._chains([i for i in instructions_of(code) if i.opname not in _SKIP], code)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                inherited = {k: v for k, v in self.bound.items() if k in constant.co_freevars}
                _Reader(self.guards, self.scope, self.cells, inherited).read(constant)

    def _chains(self, instructions: list[dis.Instruction], code: types.CodeType) -> None:
        k = 0
        while k < len(instructions):
            i = instructions[k]
            if i.starts_line:
                line = i.positions.lineno if i.positions else i.starts_line
                self.line = f"{os.path.basename(code.co_filename)}:{line}"
            if i.opname in _STORES:
                place = self._start(i._replace(opname=_STORES[i.opname]))
                self.guards.assigned(i.argval, place, self.line)
            found = self._start(i)
            k += 1
            while found and k < len(instructions) and instructions[k].opname in _ATTRIBUTES:
                following = self._attribute(found, instructions[k].argval)
                if following is None:
                    break
                found = following
                k += 1
            if found:
                self._end(*found)

    def _start(self, i: dis.Instruction) -> tuple[str, str, Any] | None:
        name = i.argval
        if i.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            if name in self.scope and not is_opaque(self.scope.get("__name__")):
                root = self.guards.root(self.scope, "G")
                return f"{root}[{name!r}]", name, self.scope[name]
        elif i.opname in ("LOAD_DEREF", "LOAD_CLASSDEREF"):
            expression, cell = self.cells.get(name, ("", None))
            if cell is not None:
                try:
                    return f"{expression}.cell_contents", name, cell.cell_contents
                except ValueError:  # not filled in yet
                    return None
        if name in self.bound and i.opname in ("LOAD_DEREF", *_LOCALS):
            x = self.bound[name]
            return self.guards.root(x, "W", weak=True), name, x
        return None

    def _attribute(self, found: tuple[str, str, Any], name: str) -> tuple[str, str, Any] | None:
        """The attribute of a module, a class, or an object whose reads are not noticed."""
        expression, label, x = found
        if isinstance(x, types.ModuleType):
            if _is_impure(f"{x.__name__}.{name}"):
                self.guards.complete = False
            if is_opaque(x.__name__) or name not in vars(x):
                return None
        elif (
            self.guards.follow(x, label)
            or isinstance(x, DATA)
            or isinstance(inspect.getattr_static(x, name, None), property)
        ):
            return None
        try:
            value = getattr(x, name)
        except Exception:  # a descriptor of the user's may do anything
            return None
        if isinstance(value, types.MethodType) and value.__self__ is x and not isinstance(x, type):
            return None  # `x` is what counts
        return f"{expression}.{name}", f"{label}.{name}", value

    def _end(self, expression: str, label: str, x: Any) -> None:
        argument = expression.endswith("()")  # part of the key already
        if not (argument or isinstance(x, types.ModuleType) or _is_imported(x, label)):
            if isinstance(x, types.MethodType):  # made anew each time it is read from a class
                for part in ("__self__", "__func__"):
                    value = getattr(x, part)
                    self.guards.add(f"{expression}.{part}", f"{label}.{part}", value, self.line)
            else:
                self.guards.add(expression, label, x, self.line)
        if not _is_seen(x):
            self.guards.complete = False
        self.guards.follow(x, label)
