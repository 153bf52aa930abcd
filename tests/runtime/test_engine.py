"""The two engines: the same results, objects that load anywhere, errors instead of aborts."""

import ctypes
import platform
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest

from graphgrad.runtime import engine, llvm_engine, numba_engine
from graphgrad.runtime.engine import (
    ENGINES,
    Library,
    chosen_engine,
    compile_module,
    host_target,
    load_object,
)
from graphgrad.runtime.executor import object_key
from graphgrad.runtime.program import Target
from tests.runtime.programs import elementwise

STEP = """
declare ptr @memcpy(ptr, ptr, i64)

define private i32 @helper(i32 %x) alwaysinline {
  %y = mul i32 %x, VALUE
  ret i32 %y
}

define i32 @step(ptr %status, ptr %table) {
  %t = alloca i32
  call ptr @memcpy(ptr %t, ptr %table, i64 4)
  %x = load i32, ptr %t
  %y = call i32 @helper(i32 %x)
  ret i32 %y
}
"""


def call(library: Library, value: int) -> int:
    word = ctypes.c_int64(value)
    step = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)
    return step(library.address("step"))(None, ctypes.addressof(word))


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ENGINES)
def test_engines_and_levels_agree(name, level, monkeypatch):
    monkeypatch.setenv("GRAPHGRAD_ENGINE", name)
    library, code = compile_module(STEP.replace("VALUE", "3"), host_target(), level)
    assert library.engine == name
    assert call(library, 14) == 42
    assert call(load_object(code), -5) == -15


def test_equal_symbols_of_two_modules_do_not_meet():
    made = [compile_module(STEP.replace("VALUE", str(k)), host_target()) for k in (3, 5)]
    loaded = [load_object(code) for _, code in made]
    assert [call(library, 7) for library, _ in made] == [21, 35]
    assert [call(library, 7) for library in loaded] == [21, 35]


def test_a_library_outlives_others_that_go():
    _, code = compile_module(STEP.replace("VALUE", "9"), host_target())
    kept = load_object(code)
    for _ in range(50):
        assert call(load_object(code), 1) == 9
    assert call(kept, 2) == 18


def test_a_symbol_that_is_not_there_is_a_key_error():
    library, code = compile_module(STEP.replace("VALUE", "2"), host_target())
    for each in (library, load_object(code)):
        with pytest.raises(KeyError, match="nonesuch"):
            each.address("nonesuch")


@pytest.mark.parametrize("name", ENGINES)
def test_unknown_functions_and_bad_text_are_errors_not_aborts(name, monkeypatch):
    monkeypatch.setenv("GRAPHGRAD_ENGINE", name)
    with pytest.raises(LookupError, match="no_such_function"):
        compile_module("declare void @no_such_function()", host_target())
    with pytest.raises(RuntimeError, match="parsing error"):
        compile_module("define i32 @step( {", host_target())
    with pytest.raises(RuntimeError, match="own value"):
        compile_module("define i32 @f() {\n %x = add i32 %x, 1\n ret i32 %x\n}", host_target())


def test_an_object_with_an_unresolved_symbol_is_an_error_not_an_abort():
    ll = llvm_engine.llvm()
    target = host_target()
    machine = llvm_engine.create_machine(target, 1)
    module = ll.parse_assembly(
        "declare i32 @nope()\ndefine i32 @step() {\n  %x = call i32 @nope()\n  ret i32 %x\n}"
    )
    module.triple = target.triple
    library = load_object(machine.emit_object(module))
    with pytest.raises(KeyError):
        library.address("step")


def test_the_environment_forces_a_cpu(monkeypatch):
    assert host_target() == host_target()
    monkeypatch.setenv("GRAPHGRAD_CPU", "x86-64-v3")
    target = host_target()
    assert target.cpu == "x86-64-v3"
    assert "+avx2" in target.features
    assert "avx512" not in target.features


def test_the_target_is_that_of_the_processor_at_hand(monkeypatch):
    """As on ARM: what LLVM says of the processor is the target, and so names the cached object."""
    ll = llvm_engine.llvm()
    monkeypatch.setattr(engine, "_processor", lambda: "")  # what the cache knows is not asked
    found = {}
    for cpu, features in (("neoverse-n1", "+neon,-sve"), ("neoverse-v1", "+neon,+sve")):
        flags = types.SimpleNamespace(flatten=lambda features=features: features)
        monkeypatch.setattr(ll, "get_process_triple", lambda: "aarch64-unknown-linux-gnu")
        monkeypatch.setattr(ll, "get_host_cpu_name", lambda cpu=cpu: cpu)
        monkeypatch.setattr(ll, "get_host_cpu_features", lambda flags=flags: flags)
        target = engine._target.__wrapped__("", "ilp64", True)
        assert target == Target("aarch64-unknown-linux-gnu", cpu, features, "ilp64", True)
        assert llvm_engine.converts_half(target)
        found[cpu] = object_key(elementwise(), target)
    assert len(set(found.values())) == 2


@pytest.mark.skipif("x86_64" not in host_target().triple, reason="names x86 registers")
@pytest.mark.parametrize("name", ENGINES)
def test_the_target_limits_the_instructions(name, monkeypatch):
    text = """
    define i32 @step(ptr %status, ptr %table) "prefer-vector-width"="512" {
      %x = load <16 x float>, ptr %table, align 4
      %y = fadd <16 x float> %x, %x
      store <16 x float> %y, ptr %table, align 4
      ret i32 0
    }"""
    monkeypatch.setenv("GRAPHGRAD_ENGINE", name)
    for cpu in ("x86-64-v2", "x86-64-v4"):
        monkeypatch.setenv("GRAPHGRAD_CPU", cpu)
        target = host_target()
        assert target.cpu == cpu
        code = compile_text(name, text, target)
        zmm_load = b"\x62\xf1\x7c\x48\x10\x06"  # vmovups (%rsi), %zmm0, as EVEX encodes it
        assert (zmm_load in code) == (cpu == "x86-64-v4")


def compile_text(name, text, target):
    """The object, made but not loaded into this process, which may lack the instructions."""
    if name == "llvmlite":
        return llvm_engine.compile_object(text, target, 1)
    return numba_engine.compile_module(text, target, 1)[2]


def test_the_engine_must_be_one_that_exists(monkeypatch):
    monkeypatch.setenv("GRAPHGRAD_ENGINE", "gcc")
    with pytest.raises(ValueError, match="numba, llvmlite"):
        chosen_engine()


def test_llvmlite_takes_over_where_numba_does_not_fit(monkeypatch):
    def moved(*args):
        raise AttributeError("no JITCodeLibrary")

    monkeypatch.setenv("GRAPHGRAD_ENGINE", "numba")
    monkeypatch.setattr(engine.numba_engine, "compile_module", moved)
    with pytest.warns(RuntimeWarning, match="JITCodeLibrary"):
        library, _ = compile_module(STEP.replace("VALUE", "4"), host_target())
    assert call(library, 2) == 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call(library, 3) == 12


def run_fresh(script: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_imports_are_lazy():
    script = """
import importlib, pkgutil, sys
import graphgrad.runtime
for module in pkgutil.iter_modules(graphgrad.runtime.__path__):
    importlib.import_module(f"graphgrad.runtime.{module.name}")
print(sorted({"numba", "llvmlite"} & set(sys.modules)))
"""
    assert run_fresh(script) == "[]\n"


def test_a_fresh_process_loads_an_object_without_numba(tmp_path):
    _, code = compile_module(STEP.replace("VALUE", "6"), host_target())
    path = tmp_path / "object"
    path.write_bytes(code)
    script = """
import ctypes, sys
from graphgrad.runtime.engine import load_object
library = load_object(open(sys.argv[1], "rb").read())
word = ctypes.c_int64(7)
step = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)(library.address("step"))
print(step(None, ctypes.addressof(word)), "numba" in sys.modules)
"""
    assert run_fresh(script, str(path)) == "42 False\n"


CONVERT = """
define void @widen(ptr %x, ptr %y, i64 %n) {
entry:
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %head ]
  %from = getelementptr half, ptr %x, i64 %i
  %to = getelementptr float, ptr %y, i64 %i
  %v = load <8 x half>, ptr %from, align 2
  %w = fpext <8 x half> %v to <8 x float>
  store <8 x float> %w, ptr %to, align 4
  %next = add i64 %i, 8
  %more = icmp slt i64 %next, %n
  br i1 %more, label %head, label %done
done:
  ret void
}
"""
NARROW = (
    CONVERT.replace("fpext <8 x half> %v to <8 x float>", "fptrunc <8 x float> %v to <8 x half>")
    .replace("load <8 x half>, ptr %from, align 2", "load <8 x float>, ptr %from, align 4")
    .replace("store <8 x float> %w, ptr %to, align 4", "store <8 x half> %w, ptr %to, align 2")
    .replace("%from = getelementptr half", "%from = getelementptr float")
    .replace("%to = getelementptr float", "%to = getelementptr half")
    .replace("@widen", "@narrow")
)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="an x86 CPU's features")
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("cpu", ["", "x86-64", "x86-64-v2"])
def test_float16_on_cpus_that_do_not_convert_it(
    name: str, cpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All values, and floats beside and halfway between two of them."""
    monkeypatch.setenv("GRAPHGRAD_ENGINE", name)
    monkeypatch.setenv("GRAPHGRAD_CPU", cpu)
    assert not cpu or not llvm_engine.converts_half(host_target())
    library, _ = compile_module(CONVERT + NARROW, host_target())
    signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    wide = np.empty(65536, np.float32)
    signature(library.address("widen"))(halves.ctypes.data, wide.ctypes.data, wide.size)
    np.testing.assert_array_equal(wide, halves.astype(np.float32))
    steps = np.array([0, 1, -1, 0xFFF, 0x1000, 0x1001], np.int32)
    floats = (wide.view(np.int32)[:, None] + steps).ravel().view(np.float32)
    near = np.empty(floats.size, np.float16)
    signature(library.address("narrow"))(floats.ctypes.data, near.ctypes.data, near.size)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(near, floats.astype(np.float16))
    assert (np.signbit(near) == np.signbit(floats)).all()
