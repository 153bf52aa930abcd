"""Notices which attributes of the user's objects are read while a function is traced.

For the time of the trace, the classes of objects that are known to be the user's state (they were
reached from globals, closure cells and arguments) have a `__getattribute__` that tells. What is
read from a known object is known from then on, so no list of names has to be guessed.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from graphgrad.compiler.source import is_internal

if TYPE_CHECKING:
    from graphgrad.guards import Guards

_MISSING = object()


class _Local(threading.local):
    def __init__(self) -> None:
        self.reads: Reads | None = None  # of the innermost trace in progress


_local = _Local()
_lock = threading.Lock()
_patched: dict[type, list[Any]] = {}  # class: [how many traces want it, its own method or missing]


class Reads:
    """The reads of one trace; each becomes a guard. A context manager, entered once."""

    def __init__(self, guards: Guards) -> None:
        self.guards = guards
        self._known: dict[int, tuple[Any, str]] = {}  # by id: the object, held meanwhile, its label
        self._before: dict[int, dict[str, Any]] = {}  # by id: its attributes when it became known
        self.written: list[tuple[str, str]] = []  # labels and names of attributes that were set
        self._last: dict[tuple[int, str], tuple[Any, int]] = {}  # what a read gave, and its length
        self._classes: dict[type, bool] = {}  # those asked for, and whether they can tell
        self._outer: Reads | None = None
        self._open = False

    def __enter__(self) -> Reads:
        self._outer, _local.reads, self._open = _local.reads, self, True
        return self

    def __exit__(self, *unused: Any) -> None:
        _local.reads, self._open = self._outer, False
        self.written = list(self._changes())
        for kind, can_tell in self._classes.items():
            if can_tell:
                _release(kind)
        self._classes, self._known, self._last, self._before = {}, {}, {}, {}
        self._outer = None

    def notice(self, x: Any, label: str) -> bool:
        """Reads of attributes of `x` are noticed from now on; False where they cannot be."""
        kind = type(x)
        if not self._open:
            return False
        if kind not in self._classes:
            self._classes[kind] = _patch(kind)
        if self._classes[kind] and id(x) not in self._known:
            self._known[id(x)] = x, label
            self._before[id(x)] = dict(_attributes(x))
        return self._classes[kind]

    def _changes(self) -> Iterator[tuple[str, str]]:
        """The attributes of known objects that are others than before."""
        for x, label in self._known.values():
            before, now = self._before[id(x)], _attributes(x)
            for name in {**before, **now}:
                if before.get(name, _MISSING) is not now.get(name, _MISSING):
                    yield f"{label}.{name}", name

    def saw(self, x: Any, name: str, value: Any) -> None:
        """The attribute `name` of `x` was read, and is `value`."""
        known = self._known.get(id(x))
        frame = sys._getframe(2)  # beyond the method that tells
        if known is None or name.startswith("__") or is_internal(frame.f_code.co_filename):
            return
        now = value, len(value) if type(value) in (list, tuple, dict) else 0
        before = self._last.get((id(x), name))
        if before is not None and before[0] is value and before[1] == now[1]:
            return
        self._last[id(x), name] = now
        _local.reads = None  # what is read here is no part of the trace
        try:
            line = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
            self._saw(x, name, value, f"{known[1]}.{name}", line)
        finally:
            _local.reads = self

    def _saw(self, x: Any, name: str, value: Any, label: str, line: str) -> None:
        static = inspect.getattr_static(type(x), name, None)
        root = self.guards.root(x, "W", weak=True)
        if value is _MISSING:
            if not hasattr(type(x), "__getattr__"):
                self.guards.add(f"hasattr({root}, {name!r})", label, False, line)
            return
        if isinstance(static, property):
            if static.fget is not None:
                self.guards.add_function(static.fget)
        elif not (isinstance(value, types.MethodType) and value.__self__ is x) and not (
            inspect.isdatadescriptor(static) and not isinstance(static, types.MemberDescriptorType)
        ):
            self.guards.add(f"{root}.{name}", label, value, line)
        self.guards.follow(value, label)


def relied_on(scope: dict[str, Any], name: str, label: str) -> None:
    """The trace in progress, if there is one, relies on a global of graphgrad's."""
    if _local.reads is not None:
        guards = _local.reads.guards
        guards.add(f"{guards.root(scope, 'G')}[{name!r}]", label, scope[name], "")


def _attributes(x: Any) -> dict[str, Any]:
    try:
        return object.__getattribute__(x, "__dict__")
    except AttributeError:  # slots
        return {}


def _patch(kind: type) -> bool:
    """Have the class tell of reads; False where it cannot."""
    with _lock:
        if kind in _patched:
            _patched[kind][0] += 1
            return True
        own = vars(kind).get("__getattribute__", _MISSING)
        try:
            original: Any = kind.__getattribute__
            setattr(kind, "__getattribute__", _telling(original))  # noqa: B010
        except (TypeError, AttributeError):  # written in C, or closed by its metaclass
            return False
        _patched[kind] = [1, own]
        return True


def _release(kind: type) -> None:
    with _lock:
        entry = _patched[kind]
        entry[0] -= 1
        if entry[0]:
            return
        del _patched[kind]
        with suppress(TypeError, AttributeError):  # a metaclass may do anything
            if entry[1] is _MISSING:
                delattr(kind, "__getattribute__")
            else:
                setattr(kind, "__getattribute__", entry[1])  # noqa: B010


def _telling(original: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    @functools.wraps(original)
    def __getattribute__(self: Any, name: str) -> Any:
        reads = _local.reads
        if reads is None:
            return original(self, name)
        try:
            value = original(self, name)
        except AttributeError:
            reads.saw(self, name, _MISSING)
            raise
        reads.saw(self, name, value)
        return value

    return __getattribute__
