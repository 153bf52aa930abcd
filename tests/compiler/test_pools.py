"""Kernels of pooling: against the references over shapes, processors and cuts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.compiler import dtypes
from graphgrad.compiler.codegen import llvm_pools, llvm_program
from graphgrad.compiler.codegen.python_pools import python_pool
from graphgrad.compiler.dims import to_size
from graphgrad.compiler.driver import compile_in_full
from graphgrad.compiler.kernels.loops import Division
from graphgrad.compiler.kernels.pools import pool_of
from graphgrad.compiler.op import Attrs, ops
from graphgrad.compiler.ops import pooling_reference as reference
from graphgrad.runtime import threads
from graphgrad.runtime.program import Host
from tests.compiler.compiling import Array, compile_full, graph_of, run_compiled, t, with_threads
from tests.compiler.targets import x86_target

ROUTINES = (
    "max_pool", "max_pool_tangent", "max_pool_gradient", "mean_pool", "mean_pool_gradient"
)  # fmt: skip
CHANNELS = (1, 2, 3, 6, 7, 16, 33, 70)


def geometry(rng: np.random.Generator, rank: int) -> Attrs:
    def numbers(low: int, high: int) -> tuple[int, ...]:
        return tuple(int(n) for n in rng.integers(low, high, rank))

    padded = bool(rng.integers(0, 2))
    pairs = rng.integers(0, 3, (rank, 2)) * padded
    return {
        "window": numbers(1, 5), "strides": numbers(1, 4), "dilations": numbers(1, 3),
        "padding": tuple((int(a), int(b)) for a, b in pairs),
    }  # fmt: skip


def inputs(rng: np.random.Generator, routine: str, x: Array, attrs: Attrs) -> tuple[Any, Attrs]:
    """The arguments of an op over windows of x."""
    z = reference.max_pool(x, **attrs)
    g = rng.normal(size=z.shape).astype(x.dtype)
    given: dict[str, tuple[Array, ...]] = {
        "max_pool": (x,), "mean_pool": (x,), "max_pool_gradient": (g, x),
        "max_pool_tangent": (rng.normal(size=x.shape).astype(x.dtype), x),
        "mean_pool_gradient": (g,),
    }  # fmt: skip
    size = {"input_size": x.shape[1:-1]} if routine == "mean_pool_gradient" else {}
    return given[routine], {**attrs, **size}


def images(rng: np.random.Generator, rank: int, channels: int, dtype: Any) -> Array:
    """Few numbers, so that there are ties, and sometimes a NaN and infinities among them."""
    sizes = rng.integers(1, 10 if rank > 1 else 40, rank)
    x = rng.integers(0, 9, (int(rng.integers(1, 4)), *sizes, channels)).astype(dtype)
    if x.dtype.kind == "f" and rng.integers(0, 2):
        x.ravel()[rng.integers(0, x.size, 3)] = [np.nan, -np.inf, np.inf]
    return x


def compiled(routine: str, arrays: Any, attrs: Attrs, target: Any = None) -> Array:
    types = [t(*a.shape, dtype=dtypes.as_dtype(a.dtype)) for a in arrays]
    graph = graph_of(lambda *xs: ops[routine](*xs, **attrs), *types)
    found = compile_full(graph) if target is None else compile_in_full(graph, target)
    assert not any(isinstance(step, Host) for step in found.program.steps)
    (z,) = run_compiled(found, arrays)
    return z


def check(routine: str, arrays: Any, attrs: Attrs, got: Array) -> None:
    with np.errstate(all="ignore"):
        wanted = ops[routine].ref(*arrays, **attrs)
    if routine == "max_pool":
        np.testing.assert_array_equal(got, wanted)
    else:
        eps = np.finfo(wanted.dtype).eps
        np.testing.assert_allclose(got, wanted, rtol=16 * eps, atol=64 * eps)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("routine", ROUTINES)
def test_kernel_is_the_reference(routine: str, channels: int) -> None:
    rng = np.random.default_rng(channels)
    for rank in (1, 2, 2, 3):
        x = images(rng, rank, channels, rng.choice(["float32", "float64"]))
        arrays, attrs = inputs(rng, routine, x, geometry(rng, rank))
        check(routine, arrays, attrs, compiled(routine, arrays, attrs))


@pytest.mark.parametrize("name", ["int8", "uint16", "int32", "uint64"])
def test_extremes_of_integers(name: str) -> None:
    dtype = np.dtype(name)
    limits = np.iinfo(dtype)
    x = np.random.default_rng(1).integers(
        limits.min, limits.max, (2, 6, 5, 3), dtype=dtype, endpoint=True
    )
    attrs = {"window": (3, 2), "strides": (2, 2), "padding": ((1, 1), (0, 1)), "dilations": (1, 1)}
    check("max_pool", (x,), attrs, compiled("max_pool", (x,), attrs))


@pytest.mark.parametrize("level", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_other_processors(level: str) -> None:
    target = x86_target(level)
    rng = np.random.default_rng(5)
    for routine in ROUTINES:
        x = images(rng, 2, 6, "float32")
        arrays, attrs = inputs(rng, routine, x, geometry(rng, 2))
        check(routine, arrays, attrs, compiled(routine, arrays, attrs, target))


EMPTY = ((0, 4, 4, 3), (2, 0, 4, 3), (2, 1, 4, 3))


@pytest.mark.parametrize("shape", EMPTY)
@pytest.mark.parametrize("routine", ROUTINES)
def test_no_images_and_no_windows(routine: str, shape: tuple[int, ...]) -> None:
    x = np.ones(shape, np.float32)
    geometry = {"window": (3, 2), "strides": (2, 2), "padding": ((0, 1), (0, 0))}
    arrays, attrs = inputs(np.random.default_rng(0), routine, x, {**geometry, "dilations": (1, 1)})
    check(routine, arrays, attrs, compiled(routine, arrays, attrs))


def test_a_window_in_nothing_but_padding() -> None:
    x = np.full((1, 2, 3), 7.0, np.float32)
    attrs = {"window": (2,), "strides": (1,), "padding": ((2, 2),), "dilations": (1,)}
    highest = compiled("max_pool", (x,), attrs)
    np.testing.assert_array_equal(highest[0, :, 0], [-np.inf, 7, 7, 7, -np.inf])
    np.testing.assert_array_equal(compiled("mean_pool", (x,), attrs)[0, :, 0], [0, 7, 7, 7, 0])


@pytest.mark.skipif(not threads.available(), reason="no threads here")
@pytest.mark.parametrize("channels", [3, 20])
@pytest.mark.parametrize("routine", ROUTINES)
def test_results_do_not_depend_on_the_cut(
    routine: str, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(channels)
    x = rng.integers(0, 6, (2, 9, 8, channels)).astype(np.float32)
    geometry = {"window": (3, 3), "strides": (1, 2), "padding": ((1, 1), (0, 1))}
    arrays, attrs = inputs(rng, routine, x, {**geometry, "dilations": (1, 1)})
    whole = compiled(routine, arrays, attrs)
    for grain in (1, 4):  # slices that share windows, in pieces of so many
        monkeypatch.setattr(
            llvm_program, "pool_division",
            lambda pool, n=grain: Division("rows", to_size(pool.parts), 0, n),
        )  # fmt: skip
        (found,) = with_threads(lambda: compiled(routine, arrays, attrs), (3,))
        assert found.tobytes() == whole.tobytes()


@pytest.mark.parametrize("routine", ROUTINES)
def test_as_python(routine: str) -> None:
    for seed, dtype in enumerate(("float32", "float64", "float32", "int32")):
        if dtype == "int32" and routine != "max_pool":
            continue
        rng = np.random.default_rng(seed)
        rank = 1 + seed % 3
        attrs, x = geometry(rng, rank), images(rng, rank, 3, dtype)
        arrays, given = inputs(rng, routine, x, attrs)
        types = [t(*a.shape, dtype=dtypes.as_dtype(a.dtype)) for a in arrays]
        graph = graph_of(lambda *xs, a=given: ops[routine](*xs, **a), *types)
        scope: dict[str, Any] = {"np": np}
        exec(python_pool(graph.nodes[-1], "kernel"), scope)
        wanted = ops[routine].ref(*arrays, **given)
        made = np.full_like(wanted, 7)
        with np.errstate(all="ignore"):
            scope["kernel"](*arrays, made)
        check(routine, arrays, given, made)


def test_functions_show_their_pools() -> None:
    @gg.function
    def halved(x: Any) -> Any:
        return gg.nn.max_pool(x, 2, 2, "VALID")

    x = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
    expected = halved(gg.constant(x)).numpy()
    scope: dict[str, Any] = {"np": np}
    exec(halved.kernels(), scope)
    (name,) = (k for k in scope if k.startswith("k_max_pool"))
    made = np.empty_like(expected)
    scope[name](x, made)
    np.testing.assert_array_equal(made, expected)


def test_sixteen_bits_and_unknown_channels_are_host_steps() -> None:
    attrs = {"window": (2,), "strides": (2,), "padding": ((0, 0),), "dilations": (1,)}
    graph = graph_of(lambda x: ops["max_pool"](x, **attrs), t(2, 4, 3, dtype="bfloat16"))
    assert pool_of(graph.nodes[-1]) is None
    assert any(isinstance(s, Host) for s in compile_full(graph).program.steps)


def test_one_text_serves_all_sizes() -> None:
    """Sizes are arguments of the function, so that a network's layers share its code."""
    attrs = {"window": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0)), "dilations": (1, 1)}

    def text(*shape: int) -> str:
        graph = graph_of(lambda x: ops["max_pool"](x, **attrs), t(*shape))
        kernel = compile_full(graph).steps[-1].kernel
        assert kernel is not None
        return kernel.text

    assert text(2, 8, 8, 32) == text(5, 28, 28, 32)
    assert text(2, 8, 8, 32) != text(2, 8, 8, 16)


@pytest.mark.parametrize(
    ("routine", "method", "planted"),
    [
        ("max_pool", "lowest", lambda self: "0.0"),
        ("mean_pool", "seen", lambda self, lanes, taps: [
            self.splat(x, "4.0") for x in lanes.types
        ]),
        ("max_pool_gradient", "some", lambda self, lanes, counts: [
            self.splat(x, "1.0") for x in lanes.types
        ]),
        ("mean_pool_gradient", "adds", property(lambda self: False)),
    ],
)  # fmt: skip
def test_the_check_sees_a_planted_mistake(
    routine: str, method: str, planted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = -np.random.default_rng(2).integers(1, 4, (2, 7, 7, 5)).astype(np.float32)
    geometry = {"window": (3, 3), "strides": (2, 2), "padding": ((1, 1), (1, 1))}
    arrays, attrs = inputs(np.random.default_rng(0), routine, x, {**geometry, "dilations": (1, 1)})
    check(routine, arrays, attrs, compiled(routine, arrays, attrs))
    monkeypatch.setattr(llvm_pools.PoolEmitter, method, planted)
    with pytest.raises(AssertionError):
        check(routine, arrays, attrs, compiled(routine, arrays, attrs))
