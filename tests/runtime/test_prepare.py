"""From Programs to Executables: the cache of objects, targets and levels."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

from graphgrad.runtime.cache import DiskCache
from graphgrad.runtime.engine import compile_module, host_target
from graphgrad.runtime.executor import ObjectMissing, object_key, prepare
from tests.runtime.programs import elementwise, gemm


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_objects_come_from_the_cache(tmp_path):
    cache = DiskCache(tmp_path)
    first = prepare(elementwise(), cache=cache)
    second = prepare(elementwise(), cache=cache)
    assert (first.cache_hit, second.cache_hit) == (False, True)
    assert first.object_bytes == second.object_bytes > 0
    assert first.compile_seconds > 0
    for executable in (first, second):
        np.testing.assert_array_equal(executable.run([f32(1)])[0], f32(2))


def test_names_differ_by_module_target_level_and_engine(monkeypatch):
    monkeypatch.setenv("GRAPHGRAD_ENGINE", "numba")
    target = host_target()
    keys = {
        object_key(elementwise(), target),
        object_key(elementwise("%z = fadd float %v, 2.0"), target),
        object_key(elementwise(), dataclasses.replace(target, cpu="generic")),
        object_key(elementwise(), dataclasses.replace(target, features="")),
        object_key(elementwise(), target, 3),
    }
    monkeypatch.setenv("GRAPHGRAD_ENGINE", "llvmlite")
    keys.add(object_key(elementwise(), target))
    assert len(keys) == 6
    assert object_key(elementwise(size=7), target) == object_key(
        elementwise(), dataclasses.replace(target, blas="lp64")
    )


def test_a_program_may_come_without_its_module(tmp_path):
    cache = DiskCache(tmp_path)
    bare = dataclasses.replace(elementwise(), module="")
    with pytest.raises(ObjectMissing, match="elementwise"):
        prepare(bare, cache=cache, key="mine")
    prepare(elementwise(), cache=cache, key="mine")
    np.testing.assert_array_equal(prepare(bare, cache=cache, key="mine").run([f32(1)])[0], f32(2))


@pytest.mark.parametrize("other", [False, True], ids=["no object", "another object"])
def test_an_object_that_does_not_load_is_compiled_anew(tmp_path, other):
    cache = DiskCache(tmp_path)
    code = compile_module("define i32 @another() {\n  ret i32 0\n}", host_target())[1]
    cache.put("mine", code if other else b"this is no object file")
    executable = prepare(elementwise(), cache=cache, key="mine")
    assert not executable.cache_hit
    np.testing.assert_array_equal(executable.run([f32(1)])[0], f32(2))
    assert prepare(elementwise(), cache=cache, key="mine").cache_hit


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_every_level_runs(level):
    np.testing.assert_array_equal(prepare(elementwise(), level=level).run([f32(4)])[0], f32(5))


def test_a_warm_process_does_not_import_numba(tmp_path):
    script = """
import sys, numpy as np
from graphgrad.runtime.executor import prepare
from tests.runtime.programs import elementwise
executable = prepare(elementwise())
y, = executable.run([np.array([1, 2], np.float32)])
print(executable.cache_hit, "numba" in sys.modules, y)
"""
    environment = {**os.environ, "GRAPHGRAD_CACHE_DIR": str(tmp_path)}
    for name in ("GRAPHGRAD_CACHE", "GRAPHGRAD_ENGINE"):
        environment.pop(name, None)
    command = [sys.executable, "-c", script]
    texts = [
        subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        for _ in range(2)
    ]
    assert texts == ["False True [2. 3.]\n", "True False [2. 3.]\n"]


def test_another_width_of_integers_is_refused():
    target = host_target()
    other = {"ilp64": "lp64", "lp64": "ilp64"}[target.blas]
    with pytest.raises(ValueError, match="BLAS"):
        prepare(gemm(), dataclasses.replace(target, blas=other))
