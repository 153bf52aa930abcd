"""Object files loaded without LLVM: what LLVM emits for x86-64 Linux, placed, linked and protected.

LLVM's library takes 40 MB of memory and 20 ms to load, in each process that only wants to run what
an earlier one compiled. The objects that it emits here are simple: code, constants and variables,
whose addresses are filled in as 64-bit words. Whatever else an object may hold, `load` leaves it to
LLVM.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import platform
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")

_IDENTITY = b"\x7fELF\x02\x01\x01"  # 64 bits, little-endian
_RELOCATABLE, _X86_64 = 1, 62
_SYMBOLS, _RELOCATIONS, _NO_BITS, _RELOCATIONS_WITHOUT_ADDENDS = 2, 4, 8, 9
_UNWINDING = 0x70000001  # how exceptions pass through the code: none do
_WRITE, _ALLOCATE, _THREAD_LOCAL = 1, 2, 0x400
# R_X86_64_64, _PC32, _PLT32, _PC64
_ABSOLUTE_64, _RELATIVE_32, _CALL_32, _RELATIVE_64 = 1, 2, 4, 24
_UNDEFINED = 0  # the section number of symbols that the process has
_JUMP = b"\xff\x25\0\0\0\0"  # jmp through the 8 bytes that follow
_JUMP_BYTES = 16


class Unsupported(Exception):
    """The object holds something that this loader does not know."""


# What a damaged object may lead to, a system that forbids new code, and an unknown function.
_BROKEN = (struct.error, IndexError, ValueError, OverflowError, OSError, AttributeError)


@dataclass(frozen=True, slots=True)
class Section:
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int


def load(code: bytes) -> tuple[Callable[[str], int], Any] | None:
    """The object's functions by name, 0 for others, and what keeps them in memory.

    None where this is not x86-64 Linux, the object holds something else or needs a symbol that the
    process does not have, or the system does not allow new code.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    try:
        found, keep = _Loader(code).run()
    except (Unsupported, *_BROKEN):
        return None
    return (lambda symbol: found.get(symbol, 0)), keep


class _Loader:
    def __init__(self, code: bytes) -> None:
        self.code = code
        identity, kind, machine, *_, start, _, _, _, _, size, count, _ = _HEADER.unpack_from(code)
        if identity[:7] != _IDENTITY or (kind, machine, size) != (
            _RELOCATABLE, _X86_64, _SECTION.size,
        ):  # fmt: skip
            raise Unsupported("not an object file for x86-64")
        self.sections = []
        for k in range(count):
            _, kind, flags, _, offset, length, link, info, alignment, _ = _SECTION.unpack_from(
                code, start + k * size
            )
            self.sections.append(Section(kind, flags, offset, length, link, info, alignment))
        self.places: dict[int, int] = {}  # of loaded sections, in the image
        self.jumps: dict[int, int] = {}  # to functions that may be far away, by address

    def run(self) -> tuple[dict[str, int], Any]:
        """Code and constants first, then jumps, then on pages of their own variables."""
        jumps = self.lay_out(0, writable=False)
        outside = sum(s[3] == _UNDEFINED for s in self.symbol_table())
        variables = _next_page(jumps + outside * _JUMP_BYTES)
        end = self.lay_out(variables, writable=True)
        image = mmap.mmap(-1, max(end, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        buffer = (ctypes.c_char * len(image)).from_buffer(image)
        base = ctypes.addressof(buffer)
        for k, place in self.places.items():
            if self.sections[k].kind != _NO_BITS:
                image[place : place + self.sections[k].size] = self.content(k)
        values, names = self.symbols(base)
        for address in {v for v in values if v is not None}:
            if not base <= address < base + end:
                self.jumps[address] = base + jumps
                jump = _JUMP + struct.pack("<Q", address)
                image[jumps : jumps + len(jump)] = jump
                jumps += _JUMP_BYTES
        for section in self.sections:
            if section.kind == _RELOCATIONS and section.info in self.places:
                self.relocate(image, base, section, values)
        _protect(base, variables)
        return names, (buffer, image)

    def content(self, k: int) -> bytes:
        section = self.sections[k]
        return self.code[section.offset : section.offset + section.size]

    def lay_out(self, end: int, writable: bool) -> int:
        """Give the sections of one kind that are loaded their places from `end` on; where they
        end."""
        for k, section in enumerate(self.sections):
            loaded = section.flags & _ALLOCATE and section.size and section.kind != _UNWINDING
            if not loaded or bool(section.flags & _WRITE) != writable:
                continue
            if section.flags & _THREAD_LOCAL or section.kind == _RELOCATIONS_WITHOUT_ADDENDS:
                raise Unsupported("a section of another kind")
            end += -end % max(section.alignment, 1)
            self.places[k] = end
            end += section.size
        return end

    def symbol_table(self) -> list[tuple[int, ...]]:
        (table,) = (k for k, s in enumerate(self.sections) if s.kind == _SYMBOLS)
        return list(_SYMBOL.iter_unpack(self.content(table)))

    def symbols(self, base: int) -> tuple[list[int | None], dict[str, int]]:
        """The address of each symbol by number, and those of global functions by name."""
        (names,) = (self.content(s.link) for s in self.sections if s.kind == _SYMBOLS)
        values: list[int | None] = []
        defined = {}
        for name_at, info, _, section, value, _ in self.symbol_table():
            name = names[name_at : names.index(b"\0", name_at)].decode()
            if section in self.places:
                values.append(base + self.places[section] + value)
                if info >> 4:  # not local
                    defined[name] = base + self.places[section] + value
            elif section == _UNDEFINED and name:
                values.append(_process_address(name))
            else:
                values.append(None)  # a file's name, an empty section
        return values, defined

    def relocate(
        self, image: mmap.mmap, base: int, section: Section, values: list[int | None]
    ) -> None:
        """Fill the addresses of symbols into one section."""
        start = self.places[section.info]
        content = self.code[section.offset : section.offset + section.size]
        for offset, info, addend in _RELOCATION.iter_unpack(content):
            value, kind = values[info >> 32], info & 0xFFFFFFFF
            if value is None:
                raise Unsupported("a symbol without a place")
            at = start + offset
            if kind == _ABSOLUTE_64:
                struct.pack_into("<Q", image, at, value + addend & 0xFFFFFFFFFFFFFFFF)
            elif kind == _RELATIVE_64:
                struct.pack_into("<q", image, at, value + addend - (base + at))
            elif kind in (_RELATIVE_32, _CALL_32):  # struct.error where it is too far away
                value = self.jumps.get(value, value) if kind == _CALL_32 else value
                struct.pack_into("<i", image, at, value + addend - (base + at))
            else:
                raise Unsupported(f"relocation {kind}")


@functools.cache
def _process() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _process_address(name: str) -> int:
    """The address of a function of this process; AttributeError if there is none."""
    return ctypes.cast(getattr(_process(), name), ctypes.c_void_p).value or 0


def _next_page(end: int) -> int:
    return -(-end // mmap.PAGESIZE) * mmap.PAGESIZE


def _protect(address: int, nbytes: int) -> None:
    """Make memory executable, and no longer writable."""
    protect = _process().mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    if protect(address, nbytes, mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "mprotect")
