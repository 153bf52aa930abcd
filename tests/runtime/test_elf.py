"""Objects loaded without LLVM: the same functions, and None for whatever is not understood."""

from __future__ import annotations

import ctypes
import os
import platform
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from graphgrad.runtime import elf, engine, llvm_engine
from graphgrad.runtime.engine import compile_module, host_target, load_object

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="loads x86-64 Linux objects"
)

# Constants of three sections, a call of another function, one of the C library, and its address.
TEXT = """
declare ptr @memcpy(ptr, ptr, i64)

@table = private unnamed_addr constant [4 x double] [double 1.0, double 2.5, double 4.0, double 8.0]

define internal double @inner(double %x) noinline {
  %y = fadd double %x, 0x3FB999999999999A
  ret double %y
}

define i32 @step(ptr %status, ptr %table) {
  %t = alloca double
  call ptr @memcpy(ptr %t, ptr %table, i64 8)
  %f = select i1 true, ptr @memcpy, ptr null
  %x = load double, ptr %t
  %k = fptosi double %x to i64
  %at = getelementptr double, ptr @table, i64 %k
  %c = load double, ptr %at
  %s = call double @inner(double %c)
  %u = fmul double %s, 1.0e1
  %r = fptosi double %u to i32
  ret i32 %r
}

define i32 @second(ptr %status, ptr %table) {
  %v = load <16 x float>, ptr %table, align 4
  %w = fmul <16 x float> %v, <float 1.0, float 2.0, float 3.0, float 4.0, float 5.0, float 6.0,
    float 7.0, float 8.0, float 9.0, float 10.0, float 11.0, float 12.0, float 13.0, float 14.0,
    float 15.0, float 16.0>
  store <16 x float> %w, ptr %table, align 4
  ret i32 0
}
"""
ENTRY = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)


def object_of(text: str, level: int = 1) -> bytes:
    return compile_module(text, host_target(), level)[1]


def emitted(text: str, **options: str) -> bytes:
    """An object that LLVM emits with other relocations than ours."""
    ll = llvm_engine.llvm()
    target = host_target()
    made = ll.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, **options
    )
    module = ll.parse_assembly(text)
    module.triple = target.triple
    code: bytes = made.emit_object(module)
    return code


def check(library: engine.Library) -> None:
    step, second = (ENTRY(library.address(name)) for name in ("step", "second"))
    for k, expected in enumerate((11, 26, 41, 81)):
        assert step(None, ctypes.byref(ctypes.c_double(k))) == expected
    values = (ctypes.c_float * 16)(*[2.0] * 16)
    assert second(None, values) == 0
    assert list(values) == [2.0 * (k + 1) for k in range(16)]


@pytest.mark.parametrize("name", engine.ENGINES)
@pytest.mark.parametrize("level", [0, 1, 3])
def test_objects_run_as_llvm_loads_them(name, level, monkeypatch):
    monkeypatch.setenv("GRAPHGRAD_ENGINE", name)
    code = object_of(TEXT, level)
    found = elf.load(code)
    assert found is not None
    check(engine.Library("", *found))
    check(engine.Library("", *llvm_engine.load(code)))
    assert found[0]("inner") == 0  # not global
    assert found[0]("nonesuch") == 0


@pytest.mark.parametrize("model", ["small", "large"])
@pytest.mark.parametrize("reloc", ["static", "pic"])
def test_other_relocations_run_or_are_left_to_llvm(model, reloc):
    code = emitted(TEXT, codemodel=model, reloc=reloc)
    found = elf.load(code)
    assert found is None or (model, reloc) != ("small", "static")
    if found is not None:
        check(engine.Library("", *found))
    if model == "large" and reloc == "static":
        assert found is not None


@pytest.mark.parametrize(
    "text",
    [
        "@x = thread_local global i32 3\ndefine ptr @f() {\n  ret ptr @x\n}",
        "declare i32 @no_such_function()\n"
        "define i32 @f() {\n  %x = call i32 @no_such_function()\n  ret i32 %x\n}",
    ],
    ids=["thread-local", "unknown function"],
)
def test_what_is_not_understood_is_left_to_llvm(text):
    assert elf.load(emitted(text, codemodel="large", reloc="static")) is None


def test_variables_can_be_written_and_are_each_librarys_own():
    text = """
    @count = global i64 40, align 64
    @zeros = internal global [3 x i64] zeroinitializer
    @at = global ptr @count
    @one = private unnamed_addr constant i64 1

    define i32 @step(ptr %status, ptr %table) {
      %where = load ptr, ptr @at
      %n = load i64, ptr %where
      %one = load i64, ptr @one
      %m = add i64 %n, %one
      store i64 %m, ptr %where
      %slot = getelementptr [3 x i64], ptr @zeros, i64 0, i64 2
      %z = load i64, ptr %slot
      %y = add i64 %z, 100
      store i64 %y, ptr %slot
      %sum = add i64 %m, %z
      %r = trunc i64 %sum to i32
      ret i32 %r
    }"""
    code = object_of(text)
    assert elf.load(code) is not None
    libraries = [load_object(code) for _ in range(2)]
    for library in libraries:
        step = ENTRY(library.address("step"))
        assert [step(None, None) for _ in range(3)] == [41, 142, 243]
        word = ctypes.c_int64.from_address(library.address("count"))
        assert (word.value, library.address("count") % 64) == (43, 0)
        word.value = 0
        assert step(None, None) == 301


def test_broken_objects_are_refused_or_harmless():
    code = object_of(TEXT)
    assert elf.load(b"") is None
    assert elf.load(b"\x7fELF") is None
    assert elf.load(code[:18] + b"\xb7\0" + code[20:]) is None  # for 64-bit ARM
    rng = random.Random(0)
    for _ in range(300):  # cut anywhere: the tables at the end go first
        assert elf.load(code[: rng.randrange(len(code) - 64)]) is None
    for _ in range(300):  # damaged tables must not crash the loader; nothing is called
        damaged = bytearray(code)
        for _ in range(3):
            damaged[rng.randrange(len(code))] = rng.randrange(256)
        elf.load(bytes(damaged))


def test_code_can_not_be_written_once_it_can_be_run():
    library = load_object(object_of(TEXT))
    address = library.address("step")
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end, rights = re.match(r"(\w+)-(\w+) (\S+)", line).groups()
        if int(start, 16) <= address < int(end, 16):
            assert rights == "r-xp"
            break
    else:
        pytest.fail("the code lies nowhere")


def test_code_goes_with_its_library():
    def executable_bytes() -> int:
        lines = Path("/proc/self/maps").read_text().splitlines()
        ranges = [line.split()[0].split("-") for line in lines if "r-xp" in line]
        return sum(int(end, 16) - int(start, 16) for start, end in ranges)

    code = object_of(TEXT)
    before = executable_bytes()
    libraries = [load_object(code) for _ in range(20)]
    assert executable_bytes() >= before + 20 * 4096
    del libraries
    assert executable_bytes() == before


def test_a_system_that_forbids_new_code_leaves_it_to_llvm(monkeypatch):
    def refuse(address: int, nbytes: int) -> None:
        raise OSError(13, "mprotect")

    code = object_of(TEXT)
    monkeypatch.setattr(elf, "_protect", refuse)
    assert elf.load(code) is None
    check(load_object(code))


def test_a_second_process_needs_neither_numba_nor_llvm(tmp_path):
    program = """
import sys
import graphgrad as gg
w = gg.Variable(gg.ones((40, 30)))
@gg.function
def step(x):
    with gg.GradientTape() as tape:
        loss = gg.reduce_mean(gg.nn.softmax(gg.tanh(x @ w)) ** 2)
    w.assign_sub(tape.gradient(loss, w))
    return loss
print(step(gg.ones((20, 40))).numpy(), step(gg.ones((20, 40))).numpy())
print(sorted(m for m in ("numba", "llvmlite") if m in sys.modules))
"""
    environ = os.environ | {"GRAPHGRAD_CACHE_DIR": str(tmp_path)}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for _ in range(2)
    ]
    assert outputs[0][0] == outputs[1][0]
    assert outputs[1][1] == "[]"
