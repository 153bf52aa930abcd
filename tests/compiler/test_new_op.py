"""Adding an elementwise op is one record: every mode, the docs and the tests then have it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import scipy.special

import graphgrad as gg
from docs import ops_page
from graphgrad.compiler.families import Elementwise
from graphgrad.compiler.op import Op, Samples, ops
from tests.compiler import op_cases


@pytest.fixture
def log_erfc() -> Iterator[Op]:
    """log(erfc(x)), defined as any op is, and taken away again."""
    op = Elementwise(
        name="log_erfc",
        inputs="float",
        ref=lambda x: np.log(scipy.special.erfc(x)).astype(x.dtype),
        scalar=lambda s, x: s.log(s.erfc(x)),
        partials=(lambda z, x: -2 / np.sqrt(np.pi) * ops["exp"](-x * x) / ops["exp"](z),),
        samples=Samples(domain=(-3.0, 3.0), oracle=lambda x: np.log(scipy.special.erfc(x))),
        doc="The logarithm of erfc(x), element by element.",
    )
    yield op
    del ops["log_erfc"]


X = np.linspace(-2, 2, 21)
VALUES = np.log(scipy.special.erfc(X))
SLOPES = -2 / np.sqrt(np.pi) * np.exp(-X * X) / scipy.special.erfc(X)


def test_one_record_gives_every_mode(log_erfc: Any) -> None:
    x = gg.constant(X)
    compiled = gg.function(lambda x: log_erfc(x))
    batched = gg.vmap(lambda row: gg.reduce_sum(log_erfc(row)))
    np.testing.assert_allclose(log_erfc(x), VALUES, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(compiled(x), VALUES, rtol=1e-13, atol=1e-14)
    assert "log_erfc" in compiled.ir("after")
    assert "log(erfc(" in str(compiled.kernels())
    for f in (log_erfc, compiled):
        slope = gg.grad(lambda x, f=f: gg.reduce_sum(f(x)))
        np.testing.assert_allclose(slope(x), SLOPES, rtol=1e-12)
        np.testing.assert_allclose(gg.function(slope)(x), SLOPES, rtol=1e-12)
    rows = gg.reshape(x, (3, 7))
    np.testing.assert_allclose(batched(rows), VALUES.reshape(3, 7).sum(1), rtol=1e-13)


def test_it_appears_in_the_docs_and_in_the_op_tests(log_erfc: Any) -> None:
    assert "| `log_erfc` | `log_erfc` | Elementwise |" in ops_page.page()
    assert log_erfc in op_cases.sampled_ops()
    assert list(op_cases.cases_of(log_erfc, "float64"))
