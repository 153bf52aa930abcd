"""Vectors over channels, or over the channels of neighbouring windows where they are few.

Both read and write the elements of windows (`load`, `put`), which lie `stride` places apart from
window to window, and what there is one of a window (`load_flat`, `put_flat`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from graphgrad.compiler.codegen.llvm_columns import Columns, Memory, Result, literal

VECTOR_BYTES = 64


class Lanes(Protocol):
    """The vectors at work."""

    @property
    def types(self) -> list[str]: ...
    def load(self, pointer: str) -> list[str]: ...
    def put(self, pointer: str, values: Sequence[str], add: bool) -> None: ...
    def load_flat(self, pointer: str) -> list[str]: ...
    def put_flat(self, pointer: str, values: Sequence[str]) -> None: ...


class ChannelLanes:
    """Vectors of one window's channels."""

    def __init__(self, memory: Memory, columns: Sequence[Columns]) -> None:
        self.memory, self.columns = memory, columns

    @property
    def types(self) -> list[str]:
        return [self.memory.type(v.lanes) for v in self.columns]

    def load(self, pointer: str) -> list[str]:
        return [
            self.memory.load(self.memory.at(pointer, v.start), v.lanes, v.mask)
            for v in self.columns
        ]

    def put(self, pointer: str, values: Sequence[str], add: bool) -> None:
        write = self.memory.add if add else self.memory.store
        for v, value in zip(self.columns, values, strict=True):
            write(self.memory.at(pointer, v.start), value, v.lanes, v.mask)

    load_flat = load

    def put_flat(self, pointer: str, values: Sequence[str]) -> None:
        self.put(pointer, values, add=False)


class PixelLanes:
    """One vector of the channels of `pixels` neighbouring windows, or of fewer: `limit`."""

    def __init__(
        self, memory: Memory, channels: int, stride: int, pixels: int, lanes: int,
        limit: str | None = None,
    ) -> None:  # fmt: skip
        self.memory, self.channels, self.stride, self.pixels = memory, channels, stride, pixels
        self.lanes = lanes
        self.limit = limit
        if limit is not None:
            text = memory.text
            count = text.assign(f"trunc i64 {limit} to i32")
            vector = f"<{self.lanes} x i32>"
            one = text.assign(f"insertelement {vector} poison, i32 {count}, i64 0")
            self.limits = text.assign(
                f"shufflevector {vector} {one}, {vector} poison, {vector} zeroinitializer"
            )

    @property
    def types(self) -> list[str]:
        return [self.memory.type(self.lanes)]

    def mask(self, pixel_of: Sequence[int | None]) -> str | None:
        """The lanes that belong to a window."""
        inside = [p is not None for p in pixel_of]
        if self.limit is None:
            return literal(inside)
        numbers = ", ".join(f"i32 {self.pixels if p is None else p}" for p in pixel_of)
        return self.memory.text.assign(f"icmp slt <{self.lanes} x i32> <{numbers}>, {self.limits}")

    def flat(self) -> str | None:
        count = self.pixels * self.channels
        return self.mask([k // self.channels if k < count else None for k in range(self.lanes)])

    def places(self) -> list[int]:
        """Where the elements of the windows lie, from the first on."""
        step = self.stride * self.channels
        return [p * step + c for p in range(self.pixels) for c in range(self.channels)]

    def pieces(self) -> list[tuple[int, str | None]]:
        """The vectors that the elements lie in: the first element of each, and its mask."""
        lane_of = {place: k for k, place in enumerate(self.places())}
        found = []
        for start in range(0, max(lane_of) + 1, self.lanes):
            lanes = [lane_of.get(start + i) for i in range(self.lanes)]
            found.append(
                (start, self.mask([None if k is None else k // self.channels for k in lanes]))
            )
        return found

    def load(self, pointer: str) -> list[str]:
        if self.stride == 1:
            return self.load_flat(pointer)
        parts = [
            self.memory.load(self.memory.at(pointer, start), self.lanes, mask)
            for start, mask in self.pieces()
        ]
        places = self.places()
        picked = [*places, *[0] * (self.lanes - len(places))]
        second = parts[1] if len(parts) > 1 else "poison"
        return [self.memory.shuffle(parts[0], second, self.lanes, picked)]

    def put(self, pointer: str, values: Sequence[str], add: bool) -> None:
        write = self.memory.add if add else self.memory.store
        if self.stride == 1:
            write(pointer, values[0], self.lanes, self.flat())
            return
        lane_of = {place: k for k, place in enumerate(self.places())}
        for start, mask in self.pieces():
            picked = [lane_of.get(start + i, 0) for i in range(self.lanes)]
            value = self.memory.shuffle(values[0], "poison", self.lanes, picked)
            write(self.memory.at(pointer, start), value, self.lanes, mask)

    def load_flat(self, pointer: str) -> list[str]:
        return [self.memory.load(pointer, self.lanes, self.flat())]

    def put_flat(self, pointer: str, values: Sequence[str]) -> None:
        self.memory.store(pointer, values[0], self.lanes, self.flat())


class FilterLanes(Protocol):
    """Vectors of output channels, `multiplier` of which have one input channel: arrays are wide,
    with output channels, or narrow, with input channels."""

    @property
    def types(self) -> list[str]: ...
    def load_wide(self, pointer: str) -> list[str]: ...
    def load_narrow(self, pointer: str) -> list[str]: ...
    def wide_results(self, values: Sequence[str]) -> list[Result]: ...
    def narrow_results(self, values: Sequence[str]) -> list[Result]: ...
    def load_filter(self, pointer: str) -> list[str]: ...


class WideLanes(ChannelLanes):
    """Vectors of one place's output channels; input channels are repeated as they are read, and
    what has one is summed as they are written."""

    def __init__(self, memory: Memory, columns: Sequence[Columns], multiplier: int) -> None:
        super().__init__(memory, columns)
        self.multiplier = multiplier

    @property
    def narrow(self) -> list[tuple[int, str | None]]:
        """Of each vector, its first input channel, and the mask of its input channels."""
        m = self.multiplier
        return [
            (v.start // m, literal([i < v.count // m for i in range(v.lanes)]))
            for v in self.columns
        ]

    def load_wide(self, pointer: str) -> list[str]:
        return self.load(pointer)

    load_filter = load_wide

    def load_narrow(self, pointer: str) -> list[str]:
        if self.multiplier == 1:
            return self.load(pointer)
        found = []
        for v, (start, mask) in zip(self.columns, self.narrow, strict=True):
            x = self.memory.load(self.memory.at(pointer, start), v.lanes, mask)
            picked = [i // self.multiplier for i in range(v.lanes)]
            found.append(self.memory.shuffle(x, "poison", v.lanes, picked))
        return found

    def wide_results(self, values: Sequence[str]) -> list[Result]:
        return [
            Result(v.start, x, tuple(i < v.count for i in range(v.lanes)), v.start)
            for v, x in zip(self.columns, values, strict=True)
        ]

    def narrow_results(self, values: Sequence[str]) -> list[Result]:
        m, found = self.multiplier, []
        if m == 1:
            return self.wide_results(values)
        for v, value in zip(self.columns, values, strict=True):
            type_, total = self.memory.type(v.lanes), ""
            for j in range(m):
                picked = [(i * m + j) % v.lanes for i in range(v.lanes)]
                term = self.memory.shuffle(value, "poison", v.lanes, picked)
                total = self.memory.text.assign(f"fadd {type_} {total}, {term}") if j else term
            inside = tuple(i < v.count // m for i in range(v.lanes))
            found.append(Result(v.start // m, total, inside, v.start // m))
        return found


class SeveralPixels:
    """The vectors of neighbouring places: so many elements apart where arrays are narrow, and where
    they are wide."""

    def __init__(self, lanes: WideLanes | TiledLanes, pixels: int, narrow: int, wide: int) -> None:
        self.lanes, self.pixels, self.narrow, self.wide = lanes, pixels, narrow, wide

    @property
    def types(self) -> list[str]:
        return self.lanes.types * self.pixels

    def places(self, pointer: str, step: int) -> list[str]:
        return [self.lanes.memory.at(pointer, i * step) for i in range(self.pixels)]

    def load_wide(self, pointer: str) -> list[str]:
        return [x for p in self.places(pointer, self.wide) for x in self.lanes.load_wide(p)]

    def load_narrow(self, pointer: str) -> list[str]:
        return [x for p in self.places(pointer, self.narrow) for x in self.lanes.load_narrow(p)]

    def load_filter(self, pointer: str) -> list[str]:
        return self.lanes.load_filter(pointer) * self.pixels

    def wide_results(self, values: Sequence[str]) -> list[Result]:
        return self.moved(self.wide, [self.lanes.wide_results(own) for own in self.each(values)])

    def narrow_results(self, values: Sequence[str]) -> list[Result]:
        rows = [self.lanes.narrow_results(own) for own in self.each(values)]
        return self.moved(self.narrow, rows)

    def each(self, values: Sequence[str]) -> list[Sequence[str]]:
        """The vectors of each place."""
        n = len(self.lanes.types)
        return [values[i * n : (i + 1) * n] for i in range(self.pixels)]

    def moved(self, step: int, rows: Sequence[Sequence[Result]]) -> list[Result]:
        return [replace(r, offset=i * step + r.offset) for i, row in enumerate(rows) for r in row]


class TiledLanes(PixelLanes):
    """One vector of the channels of neighbouring places; the filter is repeated for each."""

    def load_filter(self, pointer: str) -> list[str]:
        mask = literal([i < self.channels for i in range(self.lanes)])
        x = self.memory.load(pointer, self.lanes, mask)
        picked = [i % self.channels for i in range(self.lanes)]
        return [self.memory.shuffle(x, "poison", self.lanes, picked)]

    def load_wide(self, pointer: str) -> list[str]:
        return self.load_flat(pointer)

    def load_narrow(self, pointer: str) -> list[str]:
        return self.load(pointer)

    def wide_results(self, values: Sequence[str]) -> list[Result]:
        count = self.pixels * self.channels
        return [Result(0, values[0], tuple(k < count for k in range(self.lanes)), 0)]

    def narrow_results(self, values: Sequence[str]) -> list[Result]:
        if self.stride == 1:
            return self.wide_results(values)
        found, lane_of = [], {place: k for k, place in enumerate(self.places())}
        for start in range(0, max(lane_of) + 1, self.lanes):
            lanes = [lane_of.get(start + i) for i in range(self.lanes)]
            value = self.memory.shuffle(values[0], "poison", self.lanes, [k or 0 for k in lanes])
            found.append(Result(start, value, tuple(k is not None for k in lanes), 0))
        return found


def pixels_together(channels: int, stride: int, lanes: int) -> int:
    """How many windows share a vector: their elements lie in two at most. 1: each has its own."""
    if stride == 1:
        return max(lanes // channels, 1)
    return max(min(lanes // channels, (2 * lanes - channels) // (stride * channels) + 1), 1)
