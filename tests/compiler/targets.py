"""Programs and processors for tests of what text becomes on each, and what it then computes."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.driver import compile_in_full
from graphgrad.compiler.op import ops
from graphgrad.compiler.types import TensorType
from graphgrad.runtime import llvm_engine
from graphgrad.runtime.program import Program, Target
from tests.compiler import models
from tests.compiler.compiling import Array, graph_of, samples, t

Case = tuple[Callable[..., Any], tuple[TensorType, ...]]

f64 = functools.partial(t, dtype="float64")
half = functools.partial(t, dtype="float16")
i32 = functools.partial(t, dtype="int32")

UNARY = "exp expm1 log log1p tanh sigmoid softplus sin cos erf erfc sqrt rsqrt reciprocal floor"


def elementary(x: Any) -> list[Any]:
    return [ops[name](x) for name in UNARY.split()]


def halves(x: Any) -> list[Any]:
    return [ops["tanh"](x) * x, ops["sqrt"](x) + 0.1, x.sum((0,))]


def casts(x: Any) -> list[Any]:
    kinds = (dtypes.int8, dtypes.uint8, dtypes.int32, dtypes.int64, dtypes.bool_)
    floats = (dtypes.float16, dtypes.bfloat16, dtypes.float64)
    return [x.cast(d) for d in (*kinds, *floats)]


def draws(key: Any) -> list[Any]:
    return [
        ops["random_bits"](key, shape=(70,), dtype=dtypes.uint32),
        ops["random_uniform"](key, shape=(70,), dtype=dtypes.float32),
        ops["random_uniform"](key, shape=(7, 9), dtype=dtypes.float64),
        ops["random_normal"](key, shape=(70,), dtype=dtypes.float32),
    ]


def pieces(x: Any, y: Any) -> list[Any]:
    joined = ops["concat"]([x, y * 2.0], 0)
    return [joined, ops["slice"](joined, (1, 6), (9, 3), (2, -2)), joined.transpose((1, 0))]


def statistics(x: Any) -> list[Any]:
    return [
        x.sum((0, 1)), ops["prod"](x * 0.1 + 1.0, 1), ops["max"](x, 0), ops["min"](x, (0, 1)),
        ops["all"](ops["greater"](x, -9.0), 1), ops["any"](ops["isnan"](x), 0),
    ]  # fmt: skip


def across(x: Any, y: Any) -> list[Any]:
    turned = y.transpose((1, 0))
    return [ops["exp"](x) + turned, ops["tanh"](turned).transpose((1, 0)) * y, x.transpose((1, 0))]


def short_rows(x: Any, y: Any) -> list[Any]:
    shown = ops["greater"](x, 0.0).transpose((1, 0))
    return [models.softmax(x), (ops["exp"](x) * y).sum((0,)), x * y, shown, ops["max"](x, 0)]


def every_few(x: Any) -> list[Any]:
    """x[:, ::3] and x[:, :6:-2]"""
    return [
        ops["exp"](ops["slice"](x, (0, 0), (5, 33), (1, 3))),
        ops["slice"](x, (0, 98), (5, 46), (1, -2)) * 2.0,
    ]


PROGRAMS: dict[str, Case] = {
    "softmax": (models.softmax, (t(9, 100),)),
    "cross entropy": (
        models.value_and_gradients(models.cross_entropy, (0,)),
        (t(9, 10), i32(9, 1)),
    ),
    "layer norm": (
        models.value_and_gradients(models.layer_norm_loss, (0, 1, 2)),
        (t(9, 33), t(33), t(33), t(9, 33)),
    ),
    "column sums": (models.column_sums, (t(64, 35), t(35))),
    "statistics": (statistics, (t(9, 35),)),
    "statistics, f64": (statistics, (f64(9, 35),)),
    "elementary": (elementary, (t(70),)),
    "elementary, f64": (elementary, (f64(70),)),
    "float16": (halves, (half(70),)),
    "bfloat16": (models.half, (t(8, 70), t(8, 70, dtype="bfloat16"))),
    "power": (lambda x, y: ops["pow"](x, y), (t(70), t(70))),
    "power, f64": (lambda x, y: ops["pow"](x, y), (f64(70), f64(70))),
    "remainders": (lambda x, y: [ops["mod"](x, y), ops["floordiv"](x, y)], (t(70), t(70))),
    "checked integers": (models.checked, (i32(70), i32(70))),
    "casts": (casts, (t(70),)),
    "gather": (lambda x, i: ops["gather"](x, i, 0) * 2.0, (t(30, 33), i32(40))),
    "pieces": (pieces, (t(9, 7), t(9, 7))),
    "random": (draws, (t(2, dtype="int64"),)),
    "across": (across, (t(33, 70), t(70, 33))),
    "across, int8": (
        lambda x, y: x + y.transpose((1, 0)),
        (t(33, 70, dtype="int8"), t(70, 33, dtype="int8")),
    ),
    "short rows": (short_rows, (t(517, 3), t(3))),
    "short rows, f64": (short_rows, (f64(517, 3), f64(3))),
    "every few": (every_few, (t(5, 99),)),
}
PRODUCTS: dict[str, Case] = {
    "batch of products": (lambda a, b: ops["matmul"](a, b), (t(9, 3, 5), t(9, 5, 3))),
    "turned products": (
        lambda a, b: ops["matmul"](a, b, False, True),
        (f64(9, 13, 5), f64(9, 7, 5)),
    ),
    "tall product": (lambda a, b: ops["matmul"](a, b), (t(531, 16), t(16, 19))),
}
# Those whose code is looked at: every kind of memory access, reduction and conversion.
LOOKED_AT = (
    "softmax", "layer norm", "column sums", "float16", "bfloat16", "remainders", "casts", "gather",
    "pieces", "across", "short rows", "every few", *PRODUCTS,
)  # fmt: skip
X86_LEVELS = ("x86-64-v2", "x86-64-v3", "x86-64-v4")
ARM_CPUS = ("neoverse-n1", "apple-m1")

# Values at which processors differ if they differ anywhere.
_EDGES = (0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e30, -3e9, 255.5, 2.5, 1e5, -1e-3)

NO_EDGES = ("layer norm", "column sums", "short rows", "short rows, f64")


def inputs_of(name: str) -> list[Array]:
    """Random values, edge values among them; indices in range and no division by zero."""
    types = (PROGRAMS | PRODUCTS)[name][1]
    arrays = samples(types, seed=1)
    for x in arrays:
        if x.dtype.kind == "f" and x.ndim == 1 and name not in NO_EDGES:
            with np.errstate(over="ignore"):
                x[3 : 3 + len(_EDGES)] = np.array(_EDGES).astype(x.dtype)
    if name == "checked integers":
        arrays[1][arrays[1] == 0] = 3
    elif name in ("gather", "cross entropy"):
        arrays[1] = np.abs(arrays[1]) % 10
    return arrays


def x86_target(level: str) -> Target:
    return Target("x86_64-unknown-linux-gnu", *llvm_engine.cpu_and_features(level))


def arm_target(cpu: str) -> Target:
    return Target("aarch64-unknown-linux-gnu", cpu, "")


def program_for(name: str, target: Target) -> Program:
    fn, types = (PROGRAMS | PRODUCTS)[name]
    return compile_in_full(graph_of(fn, *types), target).program


def code_for(program: Program, target: Target) -> tuple[str, bytes]:
    """Assembly and object file of a program, for any processor that LLVM knows."""
    ll = llvm_engine.llvm()
    ll.initialize_all_targets()
    ll.initialize_all_asmprinters()
    machine = llvm_engine.create_machine(target, 1)
    layout = str(machine.target_data)
    module = llvm_engine.parse(program.module, target, layout, ll.create_context())
    llvm_engine.optimise(module, machine, 1)
    return machine.emit_assembly(module), machine.emit_object(module)


def undefined_symbols(code: bytes) -> set[str]:
    """The functions that an ELF object of 64 bits takes from elsewhere."""
    start = struct.unpack_from("<Q", code, 40)[0]
    size, count = struct.unpack_from("<HH", code, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", code, start + i * size) for i in range(count)]
    found = set()
    for _, kind, _, _, offset, length, link, *_ in sections:
        if kind == 2:  # the symbol table; its first entry is empty
            for at in range(offset + 24, offset + length, 24):
                name, _, _, section = struct.unpack_from("<IBBH", code, at)
                if section == 0:
                    text = sections[link][4] + name
                    found.add(code[text : code.index(b"\0", text)].decode())
    return found


def bits(array: Array) -> Array:
    """The bits of an array, every NaN as the same one: its sign and payload are the processor's."""
    if array.dtype.kind in "biu":
        return array
    words = array.view(f"u{array.dtype.itemsize}").copy()
    words[np.isnan(array.astype(np.float64))] = 1
    return words


def assert_same_bits(got: list[Array], expected: list[Array]) -> None:
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(bits(a), bits(b))
