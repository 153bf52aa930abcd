"""Allocation and ownership: memory that anybody can see is never used again."""

import threading
import weakref

import numpy as np
import pytest

from graphgrad.runtime import memory
from graphgrad.runtime.memory import (
    ALIGNMENT,
    RECYCLING,
    Block,
    OutputPool,
    address,
    aligned_copy,
    empty_aligned,
    held_once,
)

F32 = np.dtype(np.float32)
recycles = pytest.mark.skipif(not memory.RECYCLING, reason="needs the GIL")


def fill(pool: OutputPool, count: int, value: float) -> np.ndarray:
    array = pool.empty((count,), F32, count * 4)
    array[:] = value
    return array


@pytest.mark.parametrize("nbytes", [1, 63, 64, 65, 4096, 1 << 20])
def test_aligned_blocks_start_at_a_cache_line(nbytes):
    block = empty_aligned(nbytes)
    assert block.nbytes == nbytes
    assert block.dtype == np.uint8
    assert address(block) % 64 == 0


@pytest.mark.parametrize(
    "array",
    [
        np.arange(5),
        np.arange(24.0).reshape(4, 6)[1:, ::2],
        np.array(3),
        np.empty(0),
        np.frombuffer(b"abcdefgh", np.int16),
        np.broadcast_to(np.float32(1), (3, 3)),
    ],
    ids=["vector", "strided", "scalar", "empty", "bytes", "broadcast"],
)
def test_addresses_are_those_that_numpy_reports(array):
    expected = array.__array_interface__["data"][0]
    assert address(array) == expected
    assert memory._slow_address(array) == expected


def test_small_outputs_are_plain_arrays():
    pool = OutputPool()
    array = pool.empty((3, 4), F32, 48)
    assert (array.shape, array.dtype, array.base) == ((3, 4), F32, None)
    assert pool.bytes == 0


@recycles
def test_a_block_is_reused_when_its_array_is_gone():
    pool = OutputPool(threshold=1024)
    array = fill(pool, 1000, 1)
    place = address(array)
    assert place % 64 == 0
    assert array.flags.c_contiguous
    assert array.flags.writeable
    del array
    again = pool.empty((10, 100), F32, 4000)
    assert address(again) == place
    assert pool.reused == 1


HOLDS = {
    "array": lambda array: array,
    "view": lambda array: array[5:],
    "view of a view": lambda array: array.reshape(10, 100)[2:].T[3:],
    "other dtype": lambda array: array.view(np.int32),
    "memoryview": memoryview,
    "slice of memoryview": lambda array: memoryview(array)[3:5],
    "array over a memoryview": lambda array: np.asarray(memoryview(array)[7:]),
    "dlpack": np.from_dlpack,
    "read-only view": lambda array: np.broadcast_to(array, (2, 1000)),
    "subclass": lambda array: array.view(np.matrix),
    "flat": lambda array: array.flat,
    "frombuffer": lambda array: np.frombuffer(array, np.uint8),
    "ctypes": lambda array: np.ctypeslib.as_ctypes(array),
    "block": lambda array: array.base,
}


@recycles
@pytest.mark.parametrize("hold", HOLDS.values(), ids=HOLDS.keys())
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_what_anybody_holds_is_never_changed(hold):
    pool = OutputPool(threshold=1024)
    held = hold(fill(pool, 1000, 1))
    others = [fill(pool, 1000, value) for value in range(2, 8)]
    assert pool.reused == 0
    assert [other[0] for other in others] == list(range(2, 8))
    del held
    fill(pool, 1000, 9)
    assert pool.reused == 1


@recycles
def test_held_arrays_keep_their_values_through_many_outputs():
    pool = OutputPool(threshold=1024)
    random = np.random.default_rng(0)
    held: dict[int, np.ndarray] = {}
    for value in range(2000):
        array = fill(pool, int(random.integers(257, 600)), value)
        held[int(random.integers(20))] = array[random.integers(5) :] if value % 3 else array
        for kept in held.values():
            assert kept.min() == kept.max()
    assert pool.reused > 500


@recycles
def test_threads_never_share_a_block():
    pool = OutputPool(threshold=1024)
    wrong = []

    def work(value):
        for _ in range(300):
            array = fill(pool, 5000, value)
            other = fill(pool, 5000, -value)
            if array.min() != value or other.max() != -value:
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert pool.reused > 0


@recycles
def test_the_pool_keeps_to_its_limit():
    pool = OutputPool(limit_bytes=20_000, threshold=1024)
    held = [fill(pool, 1024, k) for k in range(20)]
    assert pool.bytes <= 20_000
    assert [array[0] for array in held] == list(range(20))
    del held
    assert pool.bytes > 0
    fill(pool, 4000, 0)  # another size: free blocks make room for it
    assert 16_000 <= pool.bytes <= 20_000
    pool.clear()
    assert pool.bytes == 0


@recycles
def test_clear_leaves_blocks_in_use():
    pool = OutputPool(threshold=1024)
    held = fill(pool, 1000, 1)
    pool.clear()
    assert pool.bytes > 0
    assert held.sum() == 1000
    del held
    pool.clear()
    assert pool.bytes == 0


@recycles
def test_blocks_that_nobody_needs_any_more_are_given_back(monkeypatch):
    monkeypatch.setattr(memory, "_IDLE", 8)
    pool = OutputPool(threshold=1024)
    once = [fill(pool, 100_000, k) for k in range(3)]
    kept = once.pop()
    del once
    for k in range(20):  # another size from now on
        fill(pool, 1000, k)
    assert pool.bytes == memory._size_class(400_000) + memory._size_class(4000)
    assert kept.min() == kept.max() == 2
    assert pool.reused == 19
    del kept
    assert pool.clear() == memory._size_class(400_000) + memory._size_class(4000)


@recycles
def test_blocks_go_with_their_pool():
    pool = OutputPool(threshold=1024)
    block = weakref.ref(fill(pool, 1000, 1).base)
    assert isinstance(block(), Block)
    del pool
    assert block() is None


@recycles
@pytest.mark.parametrize("large", [False, True])
def test_held_once_sees_every_other_holder(large):
    pool = OutputPool(threshold=1024 if large else 1 << 20)
    arrays = [fill(pool, 1000, 1)]
    assert held_once(arrays, 0)
    for name, hold in HOLDS.items():
        if name not in ("block", "subclass"):
            held = hold(arrays[0])
            assert not held_once(arrays, 0), name
            del held
    assert held_once(arrays, 0)
    arrays.append(arrays[0])
    assert not held_once(arrays, 0)


def test_memory_that_numpy_only_wraps_is_not_held_once():
    data = bytearray(80)
    view = np.arange(10.0)
    read_only = np.arange(10.0)
    read_only.flags.writeable = False
    arrays = [np.frombuffer(data), view[2:], read_only]
    assert not any(held_once(arrays, k) for k in range(3))


def test_aligned_copies_are_as_good_as_arrays_that_own_their_memory():
    source = np.arange(40000.0).reshape(200, 200).T
    copies = [aligned_copy(source)]
    assert address(copies[0]) % ALIGNMENT == 0
    assert copies[0].flags.c_contiguous
    np.testing.assert_array_equal(copies[0], source)
    assert held_once(copies, 0) == RECYCLING
    views = [copies[0][:2]]
    assert not held_once(copies, 0)
    views.clear()
    assert held_once(copies, 0) == RECYCLING
