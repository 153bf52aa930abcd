"""Programs on disk: what is served from them, and that nothing stale ever is."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphgrad as gg
from graphgrad import programs
from graphgrad.compiler import driver
from graphgrad.runtime import cache as disk

X = np.linspace(-1, 1, 37, dtype=np.float32)


class Folder:
    """A cache of the test's own, and how often the compiler ran."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.compiled = 0

    def programs(self) -> list[Path]:
        """The entries that hold programs: pickles, which objects are not."""
        entries = sorted(self.path.iterdir())
        return [p for p in entries if b"graphgrad.runtime.program" in p.read_bytes()]

    def objects(self) -> list[Path]:
        """The entries that programs name."""
        named = b"".join(p.read_bytes() for p in self.programs())
        return [p for p in sorted(self.path.iterdir()) if p.name.encode() in named]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    own = Folder(tmp_path / "cache")
    monkeypatch.setenv("GRAPHGRAD_CACHE_DIR", str(own.path))
    for name in ("GRAPHGRAD_CACHE", "GRAPHGRAD_CHECKS", "GRAPHGRAD_ENGINE"):
        monkeypatch.delenv(name, raising=False)
    compile_in_full = driver.compile_in_full

    def counted(*args: Any) -> Any:
        own.compiled += 1
        return compile_in_full(*args)

    monkeypatch.setattr(driver, "compile_in_full", counted)
    yield own
    disk._cache_at.cache_clear()


def again(folder: Folder, make: Callable[[], Any], *args: Any) -> tuple[Any, bool]:
    """The result of a function made anew, as another process would, and whether it was compiled."""
    before = folder.compiled
    result = make()(*args)
    return result, folder.compiled > before


def scaled(factor: Any = 2.0, dtype: Any = None) -> Callable[[], Any]:
    def make() -> Any:
        return gg.function(lambda x: gg.reduce_sum(gg.tanh(x) * gg.constant(factor, dtype)))

    return make


def test_the_second_process_compiles_nothing(folder: Folder) -> None:
    x = gg.constant(X)
    first, compiled = again(folder, scaled(), x)
    assert compiled
    assert (len(folder.programs()), len(folder.objects())) == (1, 1)
    second, compiled = again(folder, scaled(), x)
    assert not compiled
    assert float(second) == float(first)


def test_functions_of_the_tape_are_kept_too(folder: Folder) -> None:
    x = gg.constant(X)

    def make() -> Any:
        f = gg.function(lambda x: gg.reduce_sum(gg.exp(x) * x))

        def gradient(x: Any) -> Any:
            with gg.GradientTape() as tape:
                tape.watch(x)
                y = f(x)
            return tape.gradient(y, x)

        return gradient

    first, compiled = again(folder, make, x)
    assert compiled
    second, compiled = again(folder, make, x)
    assert not compiled
    np.testing.assert_array_equal(second.numpy(), first.numpy())
    np.testing.assert_allclose(first.numpy(), np.exp(X) * (X + 1), rtol=1e-5)


@pytest.mark.parametrize(
    ("factor", "dtype"), [(3.0, None), (np.nextafter(np.float32(2), np.float32(3)), None)]
)
def test_another_constant_is_compiled(folder: Folder, factor: Any, dtype: Any) -> None:
    x = gg.constant(X)
    one, _ = again(folder, scaled(2.0), x)
    other, compiled = again(folder, scaled(factor, dtype), x)
    assert compiled
    np.testing.assert_allclose(float(other), float(one) / 2 * float(factor), rtol=1e-5, atol=1e-6)


def test_a_closure_value_is_compiled(folder: Folder) -> None:
    x = gg.constant(X + 1)
    factor = 2.0

    def make() -> Any:
        return gg.function(lambda x: gg.reduce_sum(x * factor))

    one, _ = again(folder, make, x)
    factor = 5.0
    other, compiled = again(folder, make, x)
    assert compiled
    np.testing.assert_allclose(float(other), 2.5 * float(one), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "int32", "bfloat16"])
def test_another_dtype_is_compiled(folder: Folder, dtype: str) -> None:
    def make() -> Any:
        return gg.function(lambda x: x + x)

    again(folder, make, gg.constant([1.0, 2.0]))
    result, compiled = again(folder, make, gg.constant([1, 2], dtype=dtype))
    assert compiled
    assert result.dtype == dtype


def test_another_shape_is_compiled(folder: Folder) -> None:
    def make() -> Any:
        return gg.function(lambda x: gg.reduce_sum(x))

    again(folder, make, gg.ones([5]))
    result, compiled = again(folder, make, gg.ones([6]))
    assert compiled
    assert float(result) == 6


def test_open_sizes_serve_every_size(folder: Folder) -> None:
    def make() -> Any:
        signature = [gg.TensorSpec([None])]
        return gg.function(lambda x: gg.reduce_sum(x * 3.0), input_signature=signature)

    again(folder, make, gg.ones([5]))
    result, compiled = again(folder, make, gg.ones([7]))
    assert not compiled
    assert float(result) == 21


@pytest.mark.parametrize("package", ["llvmlite", "numba", ""])
def test_another_version_is_compiled(
    folder: Folder, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    again(folder, scaled(), gg.constant(X))
    installed = disk.package_version
    if package:
        changed = {package: "999.0"}
        monkeypatch.setattr(disk, "package_version", lambda n: changed.get(n) or installed(n))
    else:
        monkeypatch.setattr(gg, "__version__", "999.0")
    disk._versions.cache_clear()
    try:
        _, compiled = again(folder, scaled(), gg.constant(X))
    finally:
        monkeypatch.undo()
        disk._versions.cache_clear()
    assert compiled
    assert len(folder.objects()) == 2


def test_another_cpu_is_compiled(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    again(folder, scaled(), gg.constant(X))
    other = "x86-64-v2" if os.environ.get("GRAPHGRAD_CPU") != "x86-64-v2" else "x86-64-v3"
    monkeypatch.setenv("GRAPHGRAD_CPU", other)
    _, compiled = again(folder, scaled(), gg.constant(X))
    assert compiled
    assert len(folder.objects()) == 2


def test_another_engine_is_compiled(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = again(folder, scaled(), gg.constant(X))
    monkeypatch.setenv("GRAPHGRAD_ENGINE", "llvmlite")
    other, compiled = again(folder, scaled(), gg.constant(X))
    assert compiled
    assert len(folder.objects()) == 2
    assert float(one) == float(other)


def test_checks_run_all_passes(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    again(folder, scaled(), gg.constant(X))
    monkeypatch.setenv("GRAPHGRAD_CHECKS", "1")
    assert again(folder, scaled(), gg.constant(X))[1]


def test_a_lost_object_is_compiled_anew(folder: Folder) -> None:
    first, _ = again(folder, scaled(), gg.constant(X))
    for path in folder.objects():
        path.unlink()
    second, compiled = again(folder, scaled(), gg.constant(X))
    assert compiled
    assert float(second) == float(first)
    assert not again(folder, scaled(), gg.constant(X))[1]


@pytest.mark.parametrize("kind", ["programs", "objects"])
@pytest.mark.parametrize("keep", [0, 10, 40, -1])
def test_a_cut_entry_is_a_miss(folder: Folder, kind: str, keep: int) -> None:
    first, _ = again(folder, scaled(), gg.constant(X))
    for path in getattr(folder, kind)():
        path.write_bytes(path.read_bytes()[:keep])
    second, compiled = again(folder, scaled(), gg.constant(X))
    assert compiled
    assert float(second) == float(first)


def test_a_program_that_cannot_be_read_is_a_miss(folder: Folder) -> None:
    """Whole by its checksum, yet no program."""
    first, _ = again(folder, scaled(), gg.constant(X))
    (program,) = folder.programs()
    for content in (b"", b"x" * 64, b"x" * 64 + b"no pickle", b"\xff" * 100):
        disk.default_cache().put(program.name, content)
        second, compiled = again(folder, scaled(), gg.constant(X))
        assert compiled
        assert float(second) == float(first)


def test_without_a_cache_everything_is_compiled(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHGRAD_CACHE", "0")
    for _ in range(2):
        assert again(folder, scaled(), gg.constant(X))[1]
    assert not folder.path.exists()


def test_a_folder_that_cannot_be_used_is_none(folder: Folder) -> None:
    folder.path.write_text("a file in its place")
    results = [again(folder, scaled(), gg.constant(X)) for _ in range(2)]
    assert all(compiled for _, compiled in results)
    assert float(results[0][0]) == float(results[1][0])


def test_a_folder_that_cannot_be_written_costs_time_only(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise PermissionError("read-only file system")

    monkeypatch.setattr(disk.os, "replace", refuse)
    results = [again(folder, scaled(), gg.constant(X)) for _ in range(2)]
    assert all(compiled for _, compiled in results)
    assert float(results[0][0]) == float(results[1][0])
    assert disk.default_cache().stats()["errors"] == 4
    assert not list(folder.path.iterdir())


def test_the_report_of_a_stored_program_is_that_of_a_compiled_one(folder: Folder) -> None:
    def report() -> tuple[list[str], str]:
        f = scaled()()
        f(gg.constant(X))
        lines = f.report().splitlines()
        return [s for s in lines if "kernel" in s or "tanh" in s], f.kernels()

    first = report()
    assert folder.compiled == 1
    assert report() == first
    assert first[0]


def test_threads_that_load_at_once_agree(folder: Folder) -> None:
    first, _ = again(folder, scaled(), gg.constant(X))
    results: list[float] = []
    threads = [
        threading.Thread(target=lambda: results.append(float(scaled()()(gg.constant(X)))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [float(first)] * 4
    assert folder.compiled == 1


def test_what_serves_anything_is_found(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted error: a name that leaves the graph out."""
    monkeypatch.setattr(programs, "cache_key", lambda *parts: disk.cache_key(*parts[:2]))
    again(folder, scaled(2.0), gg.constant(X + 1))
    _, compiled = again(folder, scaled(3.0), gg.constant(X + 1))
    assert not compiled
