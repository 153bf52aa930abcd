"""One text for every processor: equal results, and code that uses what each one has."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from graphgrad.runtime import engine, llvm_engine
from graphgrad.runtime.executor import prepare
from tests.compiler.emulation import EmulationMissing, run_on_arm
from tests.compiler.targets import (
    ARM_CPUS,
    LOOKED_AT,
    PRODUCTS,
    PROGRAMS,
    X86_LEVELS,
    arm_target,
    assert_same_bits,
    code_for,
    inputs_of,
    program_for,
    undefined_symbols,
    x86_target,
)

HOST = engine.host_target()
C_LIBRARY = {"fmod", "fmodf", "memcpy", "memset", "memmove"}
NO_FMA = {"fma", "fmaf"}  # calls, where the processor has no such instruction


def runs_here(level: str) -> bool:
    """Has this processor all instructions of an x86-64 level?"""
    own = set(HOST.features.split(","))
    return HOST.triple.startswith("x86_64") and set(x86_target(level).features.split(",")) <= own


def knows(triple: str) -> bool:
    """Can this LLVM make code for a processor?"""
    ll = llvm_engine.llvm()
    ll.initialize_all_targets()
    try:
        ll.Target.from_triple(triple)
    except RuntimeError:
        return False
    return True


x86_code = pytest.mark.skipif(not knows("x86_64-linux"), reason="this LLVM has no x86 target")
arm_code = pytest.mark.skipif(not knows("aarch64-linux"), reason="this LLVM has no ARM target")


@pytest.mark.parametrize("level", X86_LEVELS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_results_do_not_depend_on_the_processor(name: str, level: str) -> None:
    if not runs_here(level):
        pytest.skip(f"this processor is less than {level}")
    target, arrays = x86_target(level), inputs_of(name)
    expected = prepare(program_for(name, HOST), HOST).run(arrays)
    assert_same_bits(prepare(program_for(name, target), target).run(arrays), expected)


@pytest.mark.skipif(not runs_here("x86-64-v3"), reason="needs fused multiply-adds")
def test_a_contracted_product_would_be_seen() -> None:
    target, arrays = x86_target("x86-64-v3"), inputs_of("layer norm")
    program = program_for("layer norm", target)
    text = re.sub(r"= f(mul|add|sub) ", r"= f\1 contract ", program.module)
    expected = prepare(program, target).run(arrays)
    contracted = prepare(replace(program, module=text), target).run(arrays)
    with pytest.raises(AssertionError):
        assert_same_bits(contracted, expected)


def test_zeros_differ_by_sign_and_nans_do_not() -> None:
    nan, negative = np.array([np.nan]), np.array([-np.nan])
    assert_same_bits([nan], [negative])
    with pytest.raises(AssertionError):
        assert_same_bits([np.array([0.0])], [np.array([-0.0])])


@pytest.mark.parametrize("level", X86_LEVELS)
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_depend_on_the_processor_by_rounding_alone(name: str, level: str) -> None:
    """They multiply and add in one instruction where there is one."""
    if not runs_here(level):
        pytest.skip(f"this processor is less than {level}")
    target, arrays = x86_target(level), inputs_of(name)
    (got,) = prepare(program_for(name, target), target).run(arrays)
    (expected,) = prepare(program_for(name, HOST), HOST).run(arrays)
    if level != "x86-64-v2" and runs_here("x86-64-v3"):
        assert_same_bits([got], [expected])
    tolerance = 64 * np.finfo(got.dtype).eps
    np.testing.assert_allclose(got, expected, tolerance, tolerance)


@x86_code
@pytest.mark.parametrize("name", LOOKED_AT)
def test_each_level_of_x86_uses_its_registers(name: str) -> None:
    for level, widest in zip(X86_LEVELS, ("xmm", "ymm", "zmm"), strict=True):
        assembly, code = code_for(program_for(name, x86_target(level)), x86_target(level))
        used = set(re.findall(r"%([xyz]mm)\d", assembly))
        if name == "batch of products":  # vectors of three lanes fill no more
            widest = "xmm"
        assert max(used) == widest, level
        assert undefined_symbols(code) <= C_LIBRARY | (NO_FMA if level == "x86-64-v2" else set())


@arm_code
@pytest.mark.parametrize(
    ("name", "cpu"), [*((n, "generic") for n in LOOKED_AT), *(("layer norm", c) for c in ARM_CPUS)]
)
def test_arm_code_is_vectors_without_helpers(name: str, cpu: str) -> None:
    """Cross-compiled: conversions of float16 and the like, which LLVM leaves to a library on some
    processors, are instructions, and what is read and written on the stack is little."""
    target = arm_target(cpu)
    assembly, code = code_for(program_for(name, target), target)
    lines = [x for x in assembly.splitlines() if x.startswith("\t") and not x.startswith("\t.")]
    vectors = [x for x in lines if re.search(r"\bv\d+\.(16b|8b|8h|4h|4s|2s|2d)|\bq\d+", x)]
    assert len(vectors) > 0.1 * len(lines)
    assert undefined_symbols(code) <= C_LIBRARY
    stack = [x for x in lines if "[sp" in x]
    assert len(stack) < 0.25 * len(lines)


# What needs the C library (fmod, on a rare path) is not linked with it.
@arm_code
@pytest.mark.parametrize("name", [n for n in PROGRAMS if n != "remainders"])
def test_arm_code_computes_the_same_bits(name: str) -> None:
    target, arrays = arm_target("generic"), inputs_of(name)
    program = program_for(name, target)
    _, code = code_for(program, target)
    try:
        got = run_on_arm(program, code, arrays)
    except EmulationMissing as missing:
        pytest.skip(str(missing))
    assert_same_bits(got, prepare(program_for(name, HOST), HOST).run(arrays))


@arm_code
@pytest.mark.parametrize("name", PRODUCTS)
def test_arm_products_are_right(name: str) -> None:
    target, arrays = arm_target("generic"), inputs_of(name)
    program = program_for(name, target)
    _, code = code_for(program, target)
    try:
        (got,) = run_on_arm(program, code, arrays)
    except EmulationMissing as missing:
        pytest.skip(str(missing))
    (expected,) = prepare(program_for(name, HOST), HOST).run(arrays)
    tolerance = 64 * np.finfo(got.dtype).eps
    np.testing.assert_allclose(got, expected, tolerance, tolerance)
