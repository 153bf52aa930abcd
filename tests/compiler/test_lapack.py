"""Factorisations and systems in compiled code: calls of LAPACK, against NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.driver import compile_in_full
from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.op import ops
from graphgrad.compiler.transform.controlflow import while_values
from graphgrad.runtime import blas, engine, executor
from graphgrad.runtime.executor import KernelFailure
from graphgrad.runtime.program import Native
from tests.compiler.compiling import compile_full, graph_of, prepared, t, with_threads

pytestmark = pytest.mark.skipif(not blas.has_lapack(), reason="this BLAS is without LAPACK")

NAMES = ("cholesky", "solve", "adjoint", "inv", "upper", "lower", "det", "slogdet",
         "eigh", "eigvalsh")  # fmt: skip


def positive(x: Any) -> Any:
    return x @ np.swapaxes(x, -1, -2) + np.eye(x.shape[-1], dtype=x.dtype)


def call(name: str, a: Any, b: Any) -> Any:
    if name == "solve" or name == "adjoint":
        return ops["solve"](a, b, name == "adjoint")
    if name == "upper" or name == "lower":
        return ops["triangular_solve"](a, b, name == "lower", name == "upper")
    return ops[name](a)


def results(name: str, a: Any, b: Any) -> list[Any]:
    """What NumPy gives, node by node."""
    graph = graph_of(lambda a, b: call(name, a, b), *(t(*x.shape, dtype=x.dtype) for x in (a, b)))
    (node,) = [n for n in graph.nodes if n.op.name != "constant"]
    with np.errstate(all="ignore"):
        return list(node.op.evaluate([a, b][: len(node.inputs)], node.attrs))


def agree(got: Any, wanted: Any, name: str = "") -> None:
    """To the bit where the routine is the very one that NumPy calls."""
    own = name not in ("upper", "lower") and blas._blas() is blas._numpys_own()
    eps = np.finfo(got.dtype).eps
    tolerances = (0, 0) if own else (1e3 * eps, 1e2 * eps)
    np.testing.assert_allclose(got, wanted, *tolerances)


def native(fn: Callable[..., Any], *types: Any) -> executor.Executable:
    compilation = compile_full(graph_of(fn, *types))
    assert all(isinstance(s, Native) for s in compilation.program.steps)
    assert not compilation.program.python_calls
    return prepared(compilation)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sizes(name: str, dtype: str) -> None:
    stack, rng = (2, 3), np.random.default_rng(0)
    for lanes in ((), stack):
        scope = DimScope()
        n, k = scope.symbol("n", 0, len(lanes)), scope.symbol("k", 1, len(lanes) + 1)
        run = native(
            lambda a, b: call(name, a, b),
            t(*lanes, n, n, dtype=dtype),
            t(*lanes, n, k, dtype=dtype),
        )
        for size, columns in ((0, 2), (1, 1), (2, 0), (4, 1), (7, 3), (33, 9)):
            a = positive(rng.normal(size=(*lanes, size, size))).astype(dtype)
            b = rng.normal(size=(*lanes, size, columns)).astype(dtype)
            for got, wanted in zip(run.run([a, b]), results(name, a, b), strict=True):
                agree(got, wanted, name)


def test_what_is_not_read_may_be_anything() -> None:
    a, b = positive(np.random.default_rng(1).normal(size=(5, 5))), np.ones((5, 2))
    for name, keep in (("cholesky", np.tril), ("lower", np.tril), ("upper", np.triu)):
        dirty = np.where(keep(np.ones((5, 5))) > 0, a, np.nan)
        run = native(
            lambda a, b, name=name: call(name, a, b), t(5, 5, dtype=a.dtype), t(5, 2, dtype=b.dtype)
        )
        clean = run.run([a, b])
        np.testing.assert_array_equal(run.run([dirty, b]), clean)
        assert np.isfinite(clean).all()


@pytest.mark.parametrize("name", ["cholesky", "solve", "inv", "lower"])
def test_errors_say_which_matrix(name: str) -> None:
    bad = np.array([[1.0, 2.0], [2.0, 1.0]]) if name == "cholesky" else np.ones((2, 2))
    if name == "lower":
        bad = np.array([[1.0, 0.0], [1.0, 0.0]])
    for lanes, place, text in (
        ((), (), "the matrix is"), ((4,), (2,), "matrix 2 is"), ((2, 3), (1, 0), "matrix 1, 0 is"),
        ((2, 3, 4), (1, 2, 3), "matrix 1, 2, 3 is"),
    ):  # fmt: skip
        a, b = np.tile(np.eye(2), (*lanes, 1, 1)), np.ones((*lanes, 2, 1))
        run = native(
            lambda a, b: call(name, a, b), t(*a.shape, dtype=a.dtype), t(*b.shape, dtype=b.dtype)
        )
        run.run([a, b])
        a[place] = bad
        with pytest.raises(ArgumentError) as eager:
            results(name, a, b)
        with pytest.raises(KernelFailure) as caught:
            run.run([a, b])
        message = caught.value.failure.message.format(
            index=caught.value.index, a=caught.value.a, b=caught.value.b
        )
        assert message == str(eager.value)
        assert text in message
        run.run([np.tile(np.eye(2), (*lanes, 1, 1)), b])  # and the next call is well


@pytest.mark.parametrize("name", ["det", "slogdet"])
def test_determinants_of_singular_and_odd_matrices(name: str) -> None:
    a = np.array([
        np.ones((2, 2)), np.zeros((2, 2)), [[0, 1], [1, 0]], [[-1, 0], [0, 1e300]],
        [[np.nan, 0], [0, 1]], [[np.inf, 0], [0, 1]], [[1e-200, 0], [0, 1e-200]],
    ])  # fmt: skip
    run = native(lambda a: call(name, a, None), t(7, 2, 2, dtype=a.dtype))
    for got, wanted in zip(run.run([a]), results(name, a, a), strict=True):
        agree(got, wanted)


@pytest.mark.parametrize("name", ["eigh", "eigvalsh"])
def test_eigenvalues_of_what_is_not_finite(name: str) -> None:
    run = native(lambda a: call(name, a, None), t(3, 3, dtype="float64"))
    for a in (np.full((3, 3), np.nan), np.diag([1.0, np.inf, 2.0]), np.diag([1.0, np.nan, 2.0])):
        for got, wanted in zip(run.run([a]), results(name, a, a), strict=True):
            agree(got, wanted)


def test_stacks_on_threads() -> None:
    a = positive(np.random.default_rng(2).normal(size=(200, 24, 24)))
    fns = {name: lambda a, name=name: call(name, a, a) for name in ("solve", "cholesky", "slogdet")}
    for name, fn in fns.items():
        run = native(fn, t(200, 24, 24, dtype=a.dtype))
        for found in with_threads(lambda run=run: run.run([a])):
            for got, wanted in zip(found, results(name, a, a), strict=True):
                agree(got, wanted)


def test_a_filter_of_kalman_is_native() -> None:
    """One step needs an inverse, a factor and a system; so does the next."""

    def f(p: Any, h: Any) -> Any:
        def body(i: Any, p: Any, total: Any) -> Any:
            s = h @ p @ h.transpose((1, 0)) + np.eye(2)
            factor = ops["cholesky"](s)
            gain = ops["solve"](s, h @ p, False).transpose((1, 0))
            p = p - gain @ h @ p + ops["inv"](p) * 0.01 + np.eye(3)
            return [i + 1, p, total + ops["slogdet"](factor)[1]]

        return while_values(lambda i, *_: i < 5, body, [0, p, np.float64(0)])[1:]

    rng = np.random.default_rng(3)
    p, h = positive(rng.normal(size=(3, 3))), rng.normal(size=(2, 3))
    got = native(f, t(3, 3, dtype=p.dtype), t(2, 3, dtype=h.dtype)).run([p, h])
    total = 0.0
    for _ in range(5):
        s = h @ p @ h.T + np.eye(2)
        total += np.linalg.slogdet(s)[1] / 2
        p = p - np.linalg.solve(s, h @ p).T @ h @ p + np.linalg.inv(p) * 0.01 + np.eye(3)
    np.testing.assert_allclose(got[0], p, rtol=1e-10)
    np.testing.assert_allclose(got[1], total, rtol=1e-10)


def test_without_lapack_it_is_a_host_step() -> None:
    target = replace(engine.host_target(), lapack=False)
    graph = graph_of(ops["inv"], t(3, 3, dtype="float64"))
    compilation = compile_in_full(graph, target)
    assert [s.kind for s in compilation.steps] == ["host"]
    program = compile_full(graph).program
    found = blas._blas()
    bare = replace(found, addresses={r: found.addresses[r] for r in blas.ROUTINES})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blas, "_blas", lambda: bare)
        with pytest.raises(ValueError, match="may call LAPACK"):
            executor.prepare(program, replace(target, lapack=True))


def test_the_text_for_narrow_integers() -> None:
    """Where LAPACK takes 32-bit sizes, as the systems' own libraries do."""
    target = replace(engine.host_target(), blas="lp64", lapack=True)
    fns = [lambda a, name=name: call(name, a, a) for name in NAMES]
    for dtype in ("float32", "float64"):
        graph = graph_of(lambda a: [z for fn in fns for z in flat(fn(a))], t(2, 3, 3, dtype=dtype))
        program = compile_in_full(graph, target).program
        assert "i64 %d1 to i32" in program.module
        engine.compile_module(program.module, target)


def flat(x: Any) -> list[Any]:
    return list(x) if isinstance(x, tuple) else [x]
