"""The native entry of compiled calls: loads entry.ll and writes the records that it reads.

What a call needs is laid down in a `Form` (a trace: what arguments fit, where captured values are,
what becomes of the outputs), with a plan for each tuple of open sizes; a function's `Forms` are
tried in turn. `Roles` says which objects hold arrays. Python writes these records, once.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from graphgrad.runtime import engine, layout, llvm_engine
from graphgrad.runtime.cache import cache_key, default_cache
from graphgrad.runtime.executor import Executable, NativeParts
from graphgrad.runtime.memory import Array, address

SOURCE = Path(__file__).with_name("entry.ll")
_LEVELS = (
    1,
    0,
)  # of passes and code generator: a fifth of the time to compile, 30 to 60 ns more a call
_FIRST_PLAN, _CALLS = 8, 16  # words of a form
_NEXT, _RELEASE = 0, 3  # words of a plan
_PLANS = 16  # of one form
_FASTCALL = 0x82  # METH_FASTCALL | METH_KEYWORDS

# How the tensors of a result are put together.
SINGLE, TUPLE, LIST, BUILT = range(4)


class Roles(NamedTuple):
    """The classes and objects of the layer above, of which the entry knows places only."""

    tensor: tuple[type, str]  # what holds an array, and the slot that holds it
    variable: tuple[type, str]  # what holds a tensor that can be replaced
    function: tuple[type, str]  # what is called; its slot holds `Forms`
    state: Any  # of a thread: calls are plain where `builder` is not None or `recorders` not ()


class Parameter(NamedTuple):
    """The name by which an argument may be given, and what it is when it is not given."""

    name: str | None
    default: Any = None
    has_default: bool = False


class Words:
    """Records of 8-byte words, and the objects whose addresses they hold."""

    def __init__(self) -> None:
        self.keep: list[Any] = []

    def record(self, words: Sequence[int]) -> int:
        """The address of a record of these words."""
        array = np.array([*words, 0], np.int64)  # never empty
        self.keep.append(array)
        return address(array)

    def object(self, x: Any) -> int:
        """The address of `x`, which will not be freed."""
        self.keep.append(x)
        return id(x)


class ArgumentCode(Words):
    """The instructions that check a call's arguments: see `fits` in entry.ll."""

    def __init__(self, parameters: Sequence[Parameter], positional: int) -> None:
        super().__init__()
        self.parameters = parameters
        self.positional = positional  # so many may be given by position
        self.registers = len(parameters)
        self.tensors = 0
        self.sizes = 0
        self.words: list[int] = []

    def tensor(self, register: int, dtype: np.dtype[Any], shape: Sequence[int | None]) -> None:
        """A tensor or array; None is a size that is left open."""
        sizes = [-1 if n is None else n for n in shape]
        self.words += [1, register, self.object(dtype), len(sizes), *sizes]
        self.tensors += 1
        self.sizes += sizes.count(-1)

    def same(self, register: int, x: Any, compare: bool) -> None:
        """The object `x`, or with `compare` one that is equal and of its type."""
        self.words += [2, register, self.object(x), self.object(type(x)) if compare else 0]

    def float(self, register: int, bits: bytes) -> None:
        """A float of these bits."""
        self.words += [3, register, int.from_bytes(bits, "little", signed=True)]

    def reference(self, register: int, get: Callable[[], Any]) -> None:
        """The object that `get` returns now."""
        self.words += [4, register, self.object(get)]

    def sequence(self, register: int, kind: type, length: int) -> int:
        """A tuple or list; returns the register of its first item."""
        first = self.registers
        self.registers += length
        self.words += [5 if kind is tuple else 6, register, length, first]
        return first

    def dictionary(self, register: int, keys: Sequence[Any]) -> int:
        """A dict with these keys; returns the register of the first one's value."""
        first = self.registers
        self.registers += len(keys)
        self.words += [7, register, len(keys)]
        for i, key in enumerate(keys):
            self.words += [8, register, self.object(key), first + i]
        return first


class CaptureCode(Words):
    """The instructions that find captured arrays: see `capture` in entry.ll."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[int] = []
        self.count = 0

    def array(self, x: Array) -> None:
        """This very array, which is contiguous."""
        self.words += [1, self.object(x)]
        self.count += 1

    def variable(self, x: Any, dtype: np.dtype[Any], shape: Sequence[int]) -> None:
        """The array of the variable `x` at the time of the call."""
        self.words += [2, self.object(x), self.object(dtype), len(shape), *shape]
        self.count += 1

    def getter(self, get: Callable[[], Any], dtype: np.dtype[Any], shape: Sequence[int]) -> None:
        """The array of the tensor that `get` returns."""
        self.words += [3, self.object(get), self.object(dtype), len(shape), *shape]
        self.count += 1


class Results(NamedTuple):
    """What becomes of a program's outputs: the first `returned` form the result, put together as
    `kind` says, and each of the others is the new value of a variable; `sources` has the inputs
    that are these variables' old values, or -1."""

    returned: int
    kind: int
    builder: Callable[[list[Any]], Any]
    variables: list[Any]
    sources: list[int]


class Form(Words):
    """A trace as the entry sees it."""

    def __init__(
        self,
        arguments: ArgumentCode,
        captures: CaptureCode,
        results: Results,
        check: Callable[[], bool] | None,
        locks: Sequence[Any],
    ) -> None:
        super().__init__()
        self.inputs = arguments.tensors + captures.count
        self.results = results
        self.plans: dict[tuple[int, ...], int] = {}  # 0 for sizes that Python has to run
        self._records: dict[tuple[tuple[int, ...], int], Array] = {}  # by sizes and threads
        self.keep += [arguments, captures]
        pairs = [self.object(f) for lock in locks for f in (lock.acquire, lock.release)]
        parameters = arguments.parameters
        names = [0 if p.name is None else self.object(sys.intern(p.name)) for p in parameters]
        defaults = [self.object(p.default) if p.has_default else 0 for p in parameters]
        at = self.record([
            len(parameters), arguments.positional, self.record(names), self.record(defaults),
            arguments.registers, self.record(arguments.words),
            arguments.tensors, arguments.sizes, 0, 0 if check is None else self.object(check),
            len(locks), self.record(pairs), self.record(captures.words), results.returned,
            results.kind, self.object(results.builder), 0,
        ])  # fmt: skip
        self.address = at
        self.words: Array = self.keep[-1]

    @property
    def calls(self) -> int:
        """How many calls the entry has made."""
        return int(self.words[_CALLS])

    def wants(self, sizes: tuple[int, ...]) -> bool:
        """Is it unknown yet whether calls with these open sizes can be native?"""
        return sizes not in self.plans and not self.full

    @property
    def full(self) -> bool:
        """Is there no room for more plans?"""
        return len(self.plans) >= _PLANS

    def forget_plans(self) -> None:
        """Leave calls to Python again; plans that calls in flight are using stay as they are."""
        self.words[_FIRST_PLAN] = 0
        self.plans = {}

    def add_plan(
        self, sizes: tuple[int, ...], executable: Executable, arrays: Sequence[Array], release: bool
    ) -> bool:
        """Have the entry run `executable` for arguments with open sizes `sizes`.

        `arrays` are inputs of such a call; `release` says whether others may run Python meanwhile.
        """
        self.plans[sizes] = 0
        parts = executable.native_parts(arrays)
        if parts is None or len(arrays) != self.inputs:
            return False
        key = sizes, parts.plan.threads
        if key not in self._records:
            self._records[key] = self._record_of(sizes, executable, parts, arrays)
        record = self._records[key]
        record[_NEXT], record[_RELEASE] = self.words[_FIRST_PLAN], release
        self.plans[sizes] = address(record)
        self.words[_FIRST_PLAN] = self.plans[sizes]
        if not executable.is_current(parts.plan):  # the number of threads has changed meanwhile
            self.forget_plans()
            return False
        return True

    def _record_of(
        self, sizes: tuple[int, ...], executable: Executable, parts: NativeParts,
        arrays: Sequence[Array],
    ) -> Array:  # fmt: skip
        """A plan, as entry.ll reads it; it serves again whenever there are as many threads."""
        frame, specs = parts.frame, parts.plan.outputs
        outputs: list[int] = []
        for k, (shape, dtype, _) in enumerate(specs):
            variable, source = 0, -1
            if k >= self.results.returned:
                i = k - self.results.returned
                variable = self.object(self.results.variables[i])
                j = parts.donations.get(k, -2)
                if j == self.results.sources[i] and arrays[j].shape == shape:
                    source = j
            outputs += [self.object(dtype), len(shape), self.record(shape), variable, source]
        room = [0] * len(specs)
        self.keep.append((executable, frame))
        self.record([
            0, self.record(sizes), 0, 0,
            ctypes.addressof(frame.table), ctypes.addressof(frame.status), len(parts.entries),
            self.record(parts.entries), len(specs), self.record(outputs),
            self.record([0] * self.inputs), self.record(room), self.record(room),
        ])  # fmt: skip
        record: Array = self.keep[-1]
        return record


class Forms:
    """The forms of one function, in the order in which they are tried; always the same ones."""

    __slots__ = ("words", "forms")

    def __init__(self, forms: Sequence[Form]) -> None:
        self.forms = tuple(forms)
        self.words = np.array([len(forms), 0, *(form.address for form in forms)], np.int64)

    @property
    def latest(self) -> Form | None:
        """The form of the last call, if it was native."""
        return next((form for form in self.forms if form.address == self.words[1]), None)


class _MethodDefinition(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


class Entry:
    """The native code, loaded for one set of roles."""

    def __init__(self, library: engine.Library, settings: dict[str, int]) -> None:
        self.library = library
        for name, value in settings.items():
            self._global(name).value = value
        self._definition = _MethodDefinition(
            b"__call__", library.address("call"), _FASTCALL, b"Call the function."
        )

    def _global(self, name: str) -> ctypes.c_int64:
        return ctypes.c_int64.from_address(self.library.address(name))

    def switch(self, on: bool) -> None:
        """Whether calls are native at all."""
        self._global("off").value = not on

    def install(self, cls: type, plain: Callable[..., Any]) -> None:
        """Make the entry the `__call__` of `cls`; it calls `plain` for what it leaves alone."""
        self._global("plain").value = id(plain)
        self._keep = plain
        new = ctypes.pythonapi.PyDescr_NewMethod
        new.restype, new.argtypes = ctypes.py_object, [ctypes.py_object, ctypes.c_void_p]
        type.__setattr__(cls, "__call__", new(cls, ctypes.addressof(self._definition)))
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))  # finalizers may call when Python ends

    def probe(self, dtype: np.dtype[Any], shape: Sequence[int]) -> Any:
        """A tensor made as calls make their results."""
        words = Words()
        output = [words.object(dtype), len(shape), words.record(shape), 0, -1]
        function = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p)
        return function(self.library.address("probe"))(words.record(output))


def load(roles: Roles) -> tuple[Entry | None, str]:
    """The entry, or None and the reason why calls are plain here."""
    if os.environ.get("GRAPHGRAD_ENTRY", "") == "plain":
        return None, "GRAPHGRAD_ENTRY is plain"
    reason = layout.unlike()
    if reason:
        return None, reason
    settings, missing = _settings(roles)
    if missing:
        return None, f"no {missing}"
    library = _library()
    if library is None:
        return None, "entry.ll does not load"
    entry = Entry(library, settings)
    made, name = entry.probe(np.dtype(np.float32), (2, 3)), roles.tensor[1]
    array = getattr(made, name)
    if type(made) is not roles.tensor[0] or (array.shape, array.dtype.str) != ((2, 3), "<f4"):
        return None, "a tensor made natively is another"
    return entry, ""


def _settings(roles: Roles) -> tuple[dict[str, int], str]:
    """The values of entry.ll's globals, and the name of one that could not be found or ""."""
    places = {
        "tensor_array": layout.slot_offset(*roles.tensor),
        "tensor_weak": layout.weak_offset(roles.tensor[0]),
        "variable_tensor": layout.slot_offset(*roles.variable),
        "function_forms": layout.slot_offset(*roles.function),
        "forms_words": layout.slot_offset(Forms, "words"),
        "new_array": layout.new_array_routine(),
    }
    objects = {
        "none": None, "true": True, "empty": (), "float_type": float, "tuple_type": tuple,
        "list_type": list, "dict_type": dict, "array_type": np.ndarray,
        "tensor_type": roles.tensor[0], "forms_type": Forms, "state": roles.state,
        "dict_name": _DICT, "builder_name": _BUILDER, "recorders_name": _RECORDERS,
    }  # fmt: skip
    missing = [name for name, place in places.items() if place is None]
    kind = type(roles.state)
    if not isinstance(roles.state, threading.local) or (kind.builder, kind.recorders) != (None, ()):
        missing.append("state of a thread")
    settings = {name: id(x) for name, x in objects.items()}
    settings |= {name: place or 0 for name, place in places.items()}
    return settings, next(iter(missing), "")


# Kept here, since the native code holds their ids.
_DICT, _BUILDER, _RECORDERS = map(sys.intern, ("__dict__", "builder", "recorders"))


def _library() -> engine.Library | None:
    """entry.ll in machine code: from the cache, else compiled, without Numba."""
    text = SOURCE.read_text(encoding="utf-8")
    target, cache = engine.host_target(), default_cache()
    key = cache_key("entry", text, target.triple, target.cpu, target.features, str(_LEVELS))
    found = _loaded(cache.get(key))
    if found is None:
        try:
            code = llvm_engine.compile_object(text, target, *_LEVELS)
        except (LookupError, OSError, RuntimeError):  # a routine that this Python does not have
            return None
        found = _loaded(code)
        if found is not None:
            cache.put(key, code)
    return found


def _loaded(code: bytes | None) -> engine.Library | None:
    if code is None:
        return None
    try:
        library = engine.load_object(code)
        library.address("call")
    except (KeyError, RuntimeError):  # no object file, or it needs what is not here
        return None
    return library
