"""The native entry is not used where objects lie otherwise than it assumes."""

import gc
import sys
import threading

import numpy as np
import pytest

from graphgrad.runtime import entry, layout
from graphgrad.runtime.entry import Roles


class Box:
    __slots__ = ("array", "other", "__weakref__")


class Cell:
    __slots__ = ("first", "box")


class Callee:
    __slots__ = ("forms", "__dict__")


class State(threading.local):
    builder = None
    recorders = ()


@pytest.fixture
def roles(monkeypatch):
    monkeypatch.delenv("GRAPHGRAD_ENTRY", raising=False)
    return Roles((Box, "array"), (Cell, "box"), (Callee, "forms"), State())


def test_it_loads(roles):
    found, reason = entry.load(roles)
    assert found is not None, reason


@pytest.mark.parametrize(
    "place", ["_DATA", "_RANK", "_SIZES", "_STRIDES", "_BASE", "_DTYPE", "_FLAGS", "_HEADER"]
)
@pytest.mark.parametrize("shift", [-8, 8])
def test_another_layout_is_noticed(roles, monkeypatch, place, shift):
    assert layout.unlike() == ""
    monkeypatch.setattr(layout, place, getattr(layout, place) + shift)
    assert layout.unlike() != ""
    assert entry.load(roles) == (None, layout.unlike())


def test_another_interface_of_numpy_is_noticed(roles, monkeypatch):
    for place in layout._API_TYPES:
        with monkeypatch.context() as m:
            m.setitem(layout._API_TYPES, place, int)
            assert entry.load(roles) == (None, "no new_array")


def test_other_holders_are_noticed(roles):
    class NoSlot:
        pass

    class HasDict(Box):
        pass

    class Checks:
        __slots__ = ("_array", "__weakref__")

        @property
        def array(self):
            return getattr(self, "_array", None)

        @array.setter
        def array(self, x):
            self._array = [x]

        @array.deleter
        def array(self):
            del self._array

    class Filled(Box):
        __slots__ = ()

        def __new__(cls):
            x = super().__new__(cls)
            x.other = 1
            return x

    class NoWeak:
        __slots__ = ("array",)

    for cls in (NoSlot, HasDict, Checks, Filled, NoWeak):
        found, reason = entry.load(roles._replace(tensor=(cls, "array")))
        assert found is None
        assert reason in ("no tensor_array", "no tensor_weak")


def test_the_environment_turns_it_off(roles, monkeypatch):
    monkeypatch.setenv("GRAPHGRAD_ENTRY", "plain")
    assert entry.load(roles) == (None, "GRAPHGRAD_ENTRY is plain")


def test_a_missing_routine_of_python_is_noticed(roles, monkeypatch, tmp_path):
    text = (entry.SOURCE.read_text(encoding="utf-8")).replace("PyTuple_New", "PyTuple_Nowhere")
    source = tmp_path / "entry.ll"
    source.write_text(text, encoding="utf-8")
    monkeypatch.setattr(entry, "SOURCE", source)
    assert entry.load(roles) == (None, "entry.ll does not load")


def test_a_damaged_object_is_replaced(roles, monkeypatch, tmp_path):
    monkeypatch.setenv("GRAPHGRAD_CACHE_DIR", str(tmp_path / "cache"))
    cache = entry.default_cache()
    assert entry.load(roles)[0] is not None
    (stored,) = (tmp_path / "cache").iterdir()
    good = cache.get(stored.name)
    for bad in (b"", good[: len(good) // 2], b"text"):
        cache.put(stored.name, bad)
        assert entry.load(roles)[0] is not None
        assert cache.get(stored.name) == good


@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.bool_])
def test_what_it_makes(roles, shape, dtype):
    found, _ = entry.load(roles)
    if found is None:
        pytest.skip("there is no native entry here")
    dtype = np.dtype(dtype)
    gc.collect()
    before = sys.getrefcount(Box), sys.getrefcount(dtype)
    boxes = [found.probe(dtype, shape) for _ in range(1000)]
    for box in boxes:
        assert type(box) is Box
        assert not hasattr(box, "other")
        assert gc.is_tracked(box)
        references = sys.getrefcount(box.array)
        assert references == 2
        assert (box.array.shape, box.array.dtype) == (shape, dtype)
        assert box.array.flags.owndata
        assert box.array.flags.writeable
        assert box.array.flags.carray
        box.array[...] = 1
    del boxes, box
    gc.collect()
    after = sys.getrefcount(Box), sys.getrefcount(dtype)
    assert all(abs(b - a) < 500 for a, b in zip(before, after))


def test_wrong_offsets_do_not_crash(roles, monkeypatch):
    """The layouts are followed in reading only where they have been seen to hold."""
    monkeypatch.setattr(layout, "_SIZES", layout._DATA)
    assert layout.unlike() != ""
    monkeypatch.setattr(layout, "_STRIDES", layout._DATA)
    assert layout.unlike() != ""
