"""The disk cache: every doubt is a miss, never an error."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graphgrad.runtime import cache as module
from graphgrad.runtime.cache import (
    DiskCache,
    cache_key,
    default_cache,
    default_folder,
    package_version,
)

KEY = "k" * 64


@pytest.fixture
def cache(tmp_path):
    return DiskCache(tmp_path / "cache", 10_000)


def entry(cache: DiskCache) -> Path:
    return cache.folder / KEY


def test_content_comes_back_also_in_another_instance(cache):
    assert cache.get(KEY) is None
    cache.put(KEY, b"code")
    assert cache.get(KEY) == b"code"
    assert DiskCache(cache.folder).get(KEY) == b"code"
    counts = cache.stats()
    assert (counts["hits"], counts["misses"], counts["stored"]) == (1, 1, 1)
    assert counts["bytes_read"] == 4
    assert counts["bytes_written"] > 4
    assert [path.name for path in cache.folder.iterdir()] == [KEY]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:10],
        lambda data: b"",
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: b"x" + data[1:],
        lambda data: data + b"more",
    ],
    ids=["short", "header only", "empty", "bit flip", "magic", "long"],
)
def test_a_damaged_entry_is_a_miss_and_goes(cache, damage):
    cache.put(KEY, b"code" * 10)
    entry(cache).write_bytes(damage(entry(cache).read_bytes()))
    assert cache.get(KEY) is None
    assert not entry(cache).exists()
    assert cache.stats()["corrupt"] == 1
    cache.put(KEY, b"new")
    assert cache.get(KEY) == b"new"


def test_an_entry_under_another_name_is_a_miss(cache):
    cache.put(KEY, b"code")
    (cache.folder / "other").write_bytes(entry(cache).read_bytes())
    assert cache.get("other") is None
    assert cache.get(KEY) == b"code"


def test_a_folder_in_place_of_an_entry_is_a_miss(cache):
    cache.put("other", b"")
    entry(cache).mkdir()
    assert cache.get(KEY) is None
    cache.put(KEY, b"code")
    assert cache.get(KEY) is None
    assert cache.stats()["errors"] == 1
    assert cache.get("other") == b""


@pytest.mark.skipif(os.name == "nt", reason="modes mean nothing there")
def test_the_folder_is_private(cache):
    cache.put(KEY, b"code")
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    cache.folder.chmod(0o755)
    assert DiskCache(cache.folder).get(KEY) == b"code"
    assert cache.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.name == "nt", reason="there are no owners of that kind")
def test_the_folder_of_another_user_is_not_used(cache, monkeypatch):
    cache.put(KEY, b"code")
    monkeypatch.setattr(module.os, "geteuid", lambda: 12345)
    other = DiskCache(cache.folder)
    assert other.get(KEY) is None
    other.put(KEY, b"bad")
    assert "another user" in other.stats()["off"]
    assert cache.get(KEY) == b"code"


def test_a_folder_that_cannot_be_made_turns_the_cache_off(tmp_path):
    (tmp_path / "file").write_text("")
    cache = DiskCache(tmp_path / "file" / "cache")
    assert cache.get(KEY) is None
    cache.put(KEY, b"code")
    cache.clear()
    assert cache.get(KEY) is None
    assert str(cache.folder) in cache.stats()["off"]


def test_a_folder_that_vanishes_is_an_error_count(cache):
    cache.put(KEY, b"code")
    cache.clear()
    cache.folder.rmdir()
    cache.put(KEY, b"code")
    assert cache.get(KEY) is None
    assert cache.stats()["errors"] == 1


def test_the_least_recently_used_entries_go_first(cache):
    now = time.time()
    for k in range(8):
        cache.put(f"key{k}", bytes(1000))
        os.utime(cache.folder / f"key{k}", (now, now - 10_000 + k))
    assert cache.get("key0") is not None  # which marks it as used
    cache.put("last", bytes(3000))
    left = {path.name for path in cache.folder.iterdir()}
    assert sum(path.stat().st_size for path in cache.folder.iterdir()) <= 10_000
    assert {"key0", "key7", "last"} <= left
    assert not {"key1", "key2"} & left
    assert cache.stats()["evicted"] >= 2


def test_content_larger_than_the_limit_is_not_stored(cache):
    cache.put(KEY, bytes(20_000))
    assert cache.stats()["stored"] == 0


def test_dead_temporary_files_go_and_live_ones_stay(cache):
    cache.put(KEY, b"code")
    dead, live = (cache.folder / f".x.{k}.tmp" for k in "ab")
    for path in (dead, live):
        path.write_bytes(b"")
    os.utime(dead, (0, 0))
    DiskCache(cache.folder).put("next", b"code")
    assert not dead.exists()
    assert live.exists()


def test_clear_removes_every_entry(cache):
    for k in range(5):
        cache.put(f"key{k}", b"code")
    cache.clear()
    assert list(cache.folder.iterdir()) == []


def test_two_processes_write_and_trim_the_same_keys(tmp_path):
    script = """
import sys
from graphgrad.runtime.cache import DiskCache
cache = DiskCache(sys.argv[1], 100_000)
for round in range(150):
    key = f"key{round % 30}"
    found = cache.get(key)
    assert found is None or found == key.encode() * 1000, (key, found[:20])
    cache.put(key, key.encode() * 1000)
counts = cache.stats()
assert not counts["corrupt"] and not counts["errors"], counts
"""
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path / "cache")]
    writers = [subprocess.Popen(command) for _ in range(2)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert not list((tmp_path / "cache").glob(".*"))


def test_keys_depend_on_every_part_and_on_their_bounds():
    keys = {cache_key("ab", "c"), cache_key("a", "bc"), cache_key("abc"), cache_key("abc", "")}
    assert len(keys) == 4
    assert cache_key("x") == cache_key("x")
    assert all(len(key) == 64 for key in keys)


@pytest.mark.parametrize("package", ["numba", "llvmlite"])
def test_versions_are_found_without_importing(package):
    from importlib import metadata

    assert package_version(package) == metadata.version(package)


def test_versions_of_packages_without_a_version_file():
    assert package_version("pluggy")
    assert package_version("no_such_package") == ""


def test_the_environment_chooses_the_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("GRAPHGRAD_CACHE", raising=False)
    monkeypatch.setenv("GRAPHGRAD_CACHE_DIR", str(tmp_path / "own"))
    assert default_folder() == tmp_path / "own"
    assert default_cache() is default_cache()
    assert default_cache().stats()["off"] == ""
    monkeypatch.setenv("GRAPHGRAD_CACHE", "0")
    default_cache().put(KEY, b"code")
    assert default_cache().get(KEY) is None
    assert "GRAPHGRAD_CACHE" in default_cache().stats()["off"]


@pytest.mark.skipif(os.name == "nt", reason="follows XDG")
def test_the_folder_follows_xdg_and_then_home(monkeypatch, tmp_path):
    monkeypatch.delenv("GRAPHGRAD_CACHE_DIR", raising=False)
    monkeypatch.delenv("GRAPHGRAD_CACHE", raising=False)
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_folder() == tmp_path / "xdg" / "graphgrad"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "graphgrad"
    monkeypatch.setattr(module.os.path, "expanduser", lambda path: path)
    assert default_folder() is None
    assert "home" in default_cache().stats()["off"]
    assert default_cache().get(KEY) is None
