"""Memory for arrays: aligned allocation, fast addresses, and recycled blocks for large outputs."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

ALIGNMENT = 64  # a cache line, and the widest vector register
POOL_THRESHOLD = 1 << 20  # below it malloc keeps its pages, so np.empty is already cheap
POOL_BYTES = 512 << 20
_PROBES = 16  # blocks looked at before a fresh one is made
_IDLE = 256  # a block that so many large outputs did not need is given back


def empty_aligned(nbytes: int) -> Array:
    """`nbytes` uninitialised bytes that start at a multiple of 64.

    >>> block = empty_aligned(100)
    >>> block.nbytes, address(block) % 64
    (100, 0)
    """
    raw = np.empty(aligned_bytes(nbytes), np.uint8)
    start = -address(raw) % ALIGNMENT
    return raw[start : start + nbytes]


def aligned_bytes(nbytes: int) -> int:
    """What `empty_aligned(nbytes)` allocates."""
    return nbytes + ALIGNMENT


def _fast_address() -> Callable[[Array], int] | None:
    """An `address` that reads the data pointer out of the array object: 70 ns instead of 800.

    NumPy's stable ABI puts `char *data` right after the object header. That is checked here on
    a few arrays; where it does not hold, the documented attribute is used.
    """
    header = object.__basicsize__
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8 or header % 8:
        return None
    # All of the lower half of the address space as one array of words: user memory lies there.
    words = (ctypes.c_uint64 * (1 << 44)).from_address(0)
    offset = header // 8

    def read(array: Array) -> int:
        return words[(id(array) >> 3) + offset]

    samples = [np.empty(3), np.arange(12.0).reshape(3, 4)[1:, ::2], np.empty((), np.int8)]
    if any(read(a) != a.__array_interface__["data"][0] for a in samples):
        return None
    return read


def _slow_address(array: Array) -> int:
    pointer: int = array.__array_interface__["data"][0]
    return pointer


address: Callable[[Array], int] = _fast_address() or _slow_address
"""The address of an array's first element."""

# Without the GIL another thread may take a reference between the count and its use.
RECYCLING = sys.version_info < (3, 13) or sys._is_gil_enabled()


class Block(np.ndarray[Any, np.dtype[Any]]):
    """Bytes that an output lies on.

    Only one array is made directly on a Block. The type keeps NumPy from shortening chains of
    bases past that array: any view of it holds the array, and so the Block. Hence the reference
    counts of the two tell whether anybody can still see the memory.
    """

    __slots__ = ("used",)
    used: int  # the number of the pool's output that lies, or lay last, on it


def _holders(items: Sequence[Any] | Mapping[int, Any], index: int) -> int:
    return sys.getrefcount(items[index])


_ALONE = _holders([np.empty(1)], 0)  # what it counts when nothing but `items` holds the object


def held_once(arrays: Sequence[Array] | Mapping[int, Array], index: int) -> bool:
    """Whether nothing but the container `arrays` holds `arrays[index]`, or any view of its memory.

    The memory must be the array's own or a Block; it is never so for memory that NumPy merely
    wraps, for a view, for read-only arrays, and without a GIL.
    """
    if not RECYCLING or _holders(arrays, index) != _ALONE:
        return False
    array = arrays[index]
    if not array.flags.writeable:
        return False
    return array.flags.owndata if array.base is None else type(array.base) is Block


def _size_class(nbytes: int) -> int:
    """`nbytes` rounded up to a quarter of its power of two, so that near sizes share blocks."""
    step = 1 << max(nbytes.bit_length() - 3, 12)
    return -(-nbytes // step) * step


class OutputPool:
    """Arrays for large outputs, on blocks that are used again once nobody can see them.

    Fresh pages cost more than most kernels: the system zeroes each of them. A block is reused
    only if its reference count says that no array lies on it any more. Blocks that are out count
    towards `limit_bytes`; beyond it, outputs are ordinary fresh arrays. Blocks that nobody has
    needed for a while go back to the system as others are asked for, and all free ones at `clear`.
    """

    def __init__(self, limit_bytes: int = POOL_BYTES, threshold: int = POOL_THRESHOLD) -> None:
        self.limit_bytes = limit_bytes
        self.threshold = threshold
        self.bytes = 0  # of all blocks, in use or free
        self.count = 0  # of outputs so far
        self.reused = 0
        self._blocks: dict[int, deque[Block]] = {}
        self._lock = threading.Lock()

    def takes(self, nbytes: int) -> bool:
        """Does an output of so many bytes lie on a block, if others leave room for it?"""
        return RECYCLING and nbytes >= self.threshold and _size_class(nbytes) <= self.limit_bytes

    def block_bytes(self, nbytes: int) -> int:
        """What the block for an output of so many bytes allocates."""
        return aligned_bytes(_size_class(nbytes))

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], nbytes: int) -> Array:
        """An uninitialised array; `nbytes` is its size, which callers know already."""
        if not self.takes(nbytes):
            return np.empty(shape, dtype)
        size = _size_class(nbytes)
        with self._lock:
            self.count += 1
            if self.count % _IDLE == 0:
                self._drop_free(self.bytes, self.count - _IDLE)
            blocks = self._blocks.get(size)
            if blocks is None:
                blocks = self._blocks[size] = deque()
            for _ in range(min(len(blocks), _PROBES)):
                block = [blocks.popleft()]
                free = _holders(block, 0) == _ALONE
                if free:
                    block[0].used = self.count
                    array = _on_block(block[0], shape, dtype)
                blocks.append(block[0])
                if free:
                    self.reused += 1
                    return array
            if self.bytes + size > self.limit_bytes:
                self._drop_free(self.bytes + size - self.limit_bytes)
            if self.bytes + size > self.limit_bytes:
                return np.empty(shape, dtype)
            fresh = Block((aligned_bytes(size),), np.uint8)
            fresh.used = self.count
            array = _on_block(fresh, shape, dtype)
            self._blocks.setdefault(size, blocks).append(fresh)
            self.bytes += size
            return array

    def _drop_free(self, nbytes: int, before: int | None = None) -> None:
        """Release blocks that nobody uses, until `nbytes` are gone; the lock is held.

        With `before`, only those that served last before that output.
        """
        for size, blocks in list(self._blocks.items()):
            for _ in range(len(blocks)):
                if nbytes <= 0:
                    return
                block = [blocks.popleft()]
                idle = before is None or block[0].used < before
                if idle and _holders(block, 0) == _ALONE:
                    self.bytes -= size
                    nbytes -= size
                else:
                    blocks.append(block[0])
            if not blocks:
                del self._blocks[size]

    def clear(self) -> int:
        """Release every free block; those in use stay until their arrays go. The bytes released."""
        with self._lock:
            before = self.bytes
            self._drop_free(self.bytes)
            return before - self.bytes

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # another thread may have held it


def trim() -> None:
    """Have the C library give freed memory back to the system, where it can be told to."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is not None and hasattr(library, "malloc_trim"):  # glibc
        library.malloc_trim(ctypes.c_size_t(0))


def aligned_copy(array: Array) -> Array:
    """A copy in row-major order that begins at a multiple of 64, and is as good as one that owns
    its memory (`held_once`).

    >>> copy = aligned_copy(np.ones((3, 5)))
    >>> address(copy) % 64, copy.sum()
    (0, np.float64(15.0))
    """
    block = Block((aligned_bytes(array.nbytes),), np.uint8)
    copy = _on_block(block, array.shape, array.dtype)
    copy[...] = array
    return copy


def _on_block(block: Block, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    return np.ndarray(shape, dtype, buffer=block, offset=-address(block) % ALIGNMENT)


outputs = OutputPool(int(os.environ.get("GRAPHGRAD_POOL_BYTES", POOL_BYTES)))
"""The pool that every executable draws from."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=outputs._after_fork)
