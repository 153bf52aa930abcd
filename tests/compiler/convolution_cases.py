"""Geometries of convolutions, and arrays beyond whose end nothing may be touched."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphgrad.compiler.ops.convolution_reference import output_sizes
from graphgrad.runtime import engine
from tests.compiler.compiling import Array
from tests.compiler.targets import x86_target

HOST = engine.host_target()


@dataclass(frozen=True)
class Geometry:
    """Images, spatial sizes, inputs and outputs of a group; the filter."""

    images: int
    sizes: tuple[int, ...]
    inputs: int
    outputs: int
    taps: tuple[int, ...]
    strides: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilations: tuple[int, ...] = ()
    groups: int = 1
    dtype: str = "float32"

    @property
    def attrs(self) -> dict[str, Any]:
        one = (1,) * len(self.taps)
        return {
            "strides": self.strides or one,
            "padding": self.padding or tuple((0, 0) for _ in one),
            "dilations": self.dilations or one,
        }

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        places: Any = output_sizes(self.sizes, self.taps, **self.attrs)
        return {
            "x": (self.images, *self.sizes, self.inputs * self.groups),
            "w": (*self.taps, self.inputs, self.outputs * self.groups),
            "y": (self.images, *places, self.outputs * self.groups),
        }


def guarded(shape: Sequence[int], dtype: Any) -> Array:
    """An array whose last byte is the last of a page, with a page after it that traps on Linux."""
    count = int(np.prod(shape))
    size = count * np.dtype(dtype).itemsize
    if not size:
        return np.empty(shape, dtype)
    pages = -(-size // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    if sys.platform == "linux":
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        trap = ctypes.c_void_p(start + pages * mmap.PAGESIZE)
        assert ctypes.CDLL(None).mprotect(trap, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    first = pages * mmap.PAGESIZE - size
    array: Array = np.frombuffer(memory, dtype, count, first).reshape(shape)
    return array


def runs_here(level: str) -> bool:
    """Has this processor all instructions of a level?"""
    own = set(HOST.features.split(","))
    return HOST.triple.startswith("x86_64") and set(x86_target(level).features.split(",")) <= own
