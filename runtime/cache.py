"""Compiled objects on disk: safe between processes, bounded, and a miss whenever in doubt."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import itertools
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ABI_VERSION = "2"  # of the table, the status record and the entries: raise it when they change
LIMIT_BYTES = 256 << 20
_MAGIC = b"graphgrad-cache-1\n"
_DIGEST_BYTES = 16
_MARK_SECONDS = 3600.0  # a mark of use is renewed after this; a temporary file this old is dead
_RESCAN_PUTS = 32  # other processes write too, so the folder is measured anew after so many


@dataclass(slots=True)
class CacheStats:
    """What a cache has done in this process. `off` says why it does nothing, or is empty."""

    folder: str
    off: str = ""
    hits: int = 0
    misses: int = 0
    stored: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    corrupt: int = 0
    evicted: int = 0
    errors: int = 0


class DiskCache:
    """A folder of entries, named by their keys.

    Entries appear by an atomic rename and carry a checksum over key and content. Whatever cannot
    be read, is damaged, or lies in a folder that is not ours alone, is a miss; nothing raises.
    """

    def __init__(self, folder: str | os.PathLike[str], limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = Path(folder)
        self.limit_bytes = limit_bytes
        self._stats = CacheStats(str(folder))
        self._ready = False  # the folder exists and is private
        self._bytes = 0
        self._puts = 0
        self._names = itertools.count()

    def get(self, key: str) -> bytes | None:
        """The content stored under `key`, or None."""
        content = self._read(key) if self._usable(make=False) else None
        if content is None:
            self._stats.misses += 1
        else:
            self._stats.hits += 1
            self._stats.bytes_read += len(content)
        return content

    def put(self, key: str, content: bytes) -> None:
        """Store `content` under `key`, if the folder can be written and the content fits."""
        if len(content) > self.limit_bytes or not self._usable(make=True):
            return
        entry = _MAGIC + _digest(key, content) + content
        # No other process has this pid, and no other thread this number.
        temporary = self.folder / f".{key}.{os.getpid()}.{next(self._names)}.tmp"
        try:
            with open(temporary, "xb") as file:
                file.write(entry)
            os.replace(temporary, self.folder / key)
        except OSError:
            self._stats.errors += 1
            with contextlib.suppress(OSError):
                temporary.unlink()
            return
        self._stats.stored += 1
        self._stats.bytes_written += len(entry)
        self._bytes += len(entry)
        if self._puts % _RESCAN_PUTS == 0 or self._bytes > self.limit_bytes:
            self._trim(self.limit_bytes)
        self._puts += 1

    @property
    def off(self) -> str:
        """Why the cache does nothing, or ""."""
        return self._stats.off

    def clear(self) -> None:
        """Remove every entry."""
        if self._usable(make=False):
            self._trim(0)

    def stats(self) -> dict[str, Any]:
        """The counts so far, by name: see `CacheStats`."""
        return asdict(self._stats)

    def _read(self, key: str) -> bytes | None:
        path = self.folder / key
        try:
            with open(path, "rb") as file:
                entry = file.read()
                age = time.time() - os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        start = len(_MAGIC) + _DIGEST_BYTES
        content = entry[start:]
        if entry[:start] != _MAGIC + _digest(key, content):
            self._stats.corrupt += 1
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        if age > _MARK_SECONDS:  # the time of change is the time of last use
            with contextlib.suppress(OSError):
                os.utime(path)
        return content

    def _usable(self, make: bool) -> bool:
        """Whether the folder is there and ours alone; `make` creates it."""
        if self._ready:
            return True
        if self._stats.off:
            return False
        try:
            if make:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            elif not self.folder.exists():
                return False  # nothing stored yet
            self._stats.off = _not_private(self.folder)
        except OSError as error:
            self._stats.off = f"{self.folder}: {error.strerror or error}"
        self._ready = not self._stats.off
        return self._ready

    def _trim(self, limit: int) -> None:
        """Remove dead temporary files and, if entries exceed `limit`, the least recently used."""
        now = time.time()
        entries = []
        for name, size, used in self._listing():
            if not name.endswith(".tmp"):
                entries.append((used, size, name))
            elif now - used > _MARK_SECONDS:
                self._remove(name)
        self._bytes = sum(size for _, size, _ in entries)
        if self._bytes <= limit:
            return
        for _, size, name in sorted(entries):
            if self._bytes <= limit * 0.9:  # some room, so that not every put has to trim
                break
            self._remove(name)
            self._stats.evicted += 1
            self._bytes -= size

    def _listing(self) -> Iterator[tuple[str, int, float]]:
        try:
            found = list(os.scandir(self.folder))
        except OSError:
            return
        for item in found:
            with contextlib.suppress(OSError):  # another process removed it meanwhile
                status = item.stat(follow_symlinks=False)
                yield item.name, status.st_size, status.st_mtime

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            (self.folder / name).unlink()


def _digest(key: str, content: bytes) -> bytes:
    """Over the key too: an entry that was copied to another name is foreign there."""
    digest = hashlib.blake2b(key.encode(), digest_size=_DIGEST_BYTES)
    digest.update(content)
    return digest.digest()


def _not_private(folder: Path) -> str:
    """Why machine code from `folder` must not be run, or "". Others' rights are taken away."""
    if os.name == "nt":
        return ""  # profiles are private there, and modes mean nothing
    status = folder.stat()
    if status.st_uid != os.geteuid():
        return f"{folder} belongs to another user"
    if status.st_mode & 0o077:
        folder.chmod(0o700)
    return ""


def default_folder() -> Path | None:
    """Where this user's cache lies, or None where there is no home to keep it in."""
    chosen = os.environ.get("GRAPHGRAD_CACHE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME")
    if not base or not os.path.isabs(base):
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            return None
        caches = {"darwin": ("Library", "Caches"), "win32": ("AppData", "Local")}
        base = os.path.join(home, *caches.get(sys.platform, (".cache",)))
    return Path(base, "graphgrad")


def default_cache() -> DiskCache:
    """The cache that the environment chooses; the same one for the same choice."""
    switch = os.environ.get("GRAPHGRAD_CACHE", "").lower()
    folder = default_folder()
    limit = int(os.environ.get("GRAPHGRAD_CACHE_BYTES", LIMIT_BYTES))
    off = "GRAPHGRAD_CACHE is 0" if switch in ("0", "off", "false") else ""
    if folder is None:
        off = off or "there is no home folder"
    return _cache_at(folder or Path(), limit, off)


@functools.cache
def _cache_at(folder: Path, limit_bytes: int, off: str) -> DiskCache:
    cache = DiskCache(folder, limit_bytes)
    cache._stats.off = off
    return cache


def cache_key(*parts: str) -> str:
    """A name for what `parts` and the versions of everything that compiles it determine."""
    digest = hashlib.sha256(_versions())
    for part in parts:
        data = part.encode()
        digest.update(b"%d:" % len(data))  # so that ("ab", "c") and ("a", "bc") differ
        digest.update(data)
    return digest.hexdigest()


@functools.cache
def _versions() -> bytes:
    own = getattr(sys.modules.get(__name__.partition(".")[0]), "__version__", "")
    python = f"{sys.implementation.cache_tag} {sys.version_info[:3]} {sys.platform}"
    return " ".join(
        (ABI_VERSION, own, package_version("llvmlite"), package_version("numba"), python)
    ).encode()


@functools.cache
def package_version(name: str) -> str:
    """The version of an installed package, without importing it; "" if there is none.

    `importlib.metadata` takes 36 ms to import, so the file that holds the version is read.
    """
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module without a spec, such as a test's stand-in
        spec = None
    if spec is None or not spec.origin:
        return ""
    try:
        text = (Path(spec.origin).parent / "_version.py").read_text(encoding="utf-8")
    except OSError:
        text = ""
    match = re.search(r"""^\s*['"]?(?:version|version_version|__version__)['"]?\s*[:=]\s*"""
                      r"""['"]([^'"]+)['"]""", text, re.MULTILINE)  # fmt: skip
    if match:
        return match[1]
    from importlib import metadata  # slow, and hardly ever needed

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
