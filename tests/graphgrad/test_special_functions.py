"""Special functions beyond the samples of their records: where they are negative, poles, and higher
derivatives, against SciPy."""

import numpy as np
import pytest
import scipy.special

import graphgrad as gg

NEGATIVE = -np.array([0.1, 0.5, 1.25, 2.9, 7.5, 20.3, 1e-3, 1e-20])
POSITIVE = np.array([1e-20, 1e-3, 0.4, 1.0, 1.4616, 2.0, 2.5, 7.99, 8.0, 31.0, 1e6, 1e300])
LINE = np.concatenate([NEGATIVE, POSITIVE])
P = np.array([1e-300, 1e-12, 0.01, 0.3, 0.5, 0.7, 0.99, 1 - 1e-12])
ROWS = {  # a function, what SciPy gives, and where
    "lgamma": (gg.math.lgamma, scipy.special.gammaln, LINE),
    "digamma": (gg.math.digamma, scipy.special.digamma, LINE),
    "trigamma": (
        lambda x: gg.math.polygamma(1.0, x), lambda x: scipy.special.polygamma(1, x), POSITIVE[1:]
    ),
    "polygamma": (
        lambda x: gg.math.polygamma(4.0, x), lambda x: scipy.special.polygamma(4, x), POSITIVE[1:11]
    ),
    "zeta": (
        lambda x: gg.math.zeta(2.5, x), lambda x: scipy.special.zeta(2.5, x), POSITIVE[1:11]
    ),
    "ndtri": (gg.math.ndtri, scipy.special.ndtri, P),
    "erfinv": (lambda p: gg.math.erfinv(2 * p - 1), lambda p: scipy.special.erfinv(2 * p - 1), P),
    "erfcinv": (lambda p: gg.math.erfcinv(2 * p), lambda p: scipy.special.erfcinv(2 * p), P),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_function_is_scipys(name):
    f, wanted, x = ROWS[name]
    for wrap in (lambda f: f, gg.function):
        np.testing.assert_allclose(wrap(f)(gg.constant(x)), wanted(x), rtol=4e-14, atol=1e-15)


def test_poles_and_ends():
    x = gg.constant([0.0, -1.0, -2.0, -np.inf, np.inf])
    ends = gg.constant([0.0, 1.0, -0.1, 1.1])
    for wrap in (lambda f: f, gg.function):
        np.testing.assert_array_equal(wrap(gg.math.lgamma)(x), [np.inf] * 5)
        np.testing.assert_array_equal(wrap(gg.math.digamma)(x), [*[np.nan] * 4, np.inf])
        np.testing.assert_array_equal(
            wrap(lambda x: gg.math.polygamma(1.0, x))(x), [np.inf] * 3 + [np.nan, 0]
        )
        np.testing.assert_array_equal(wrap(gg.math.ndtri)(ends), [-np.inf, np.inf, np.nan, np.nan])
        np.testing.assert_array_equal(wrap(gg.math.polygamma)([-1.0, 1.5, 2.0], -0.5), [np.nan] * 3)


def test_derivatives_go_on():
    """Each derivative of lgamma is the next polygamma."""
    f = gg.math.lgamma
    x = gg.constant(np.array(2.3))
    for order in range(4):
        f = gg.grad(f)
        wanted = scipy.special.polygamma(order, 2.3)
        np.testing.assert_allclose(f(x), wanted, rtol=1e-13)
        np.testing.assert_allclose(gg.function(f)(x), wanted, rtol=1e-13)
    np.testing.assert_allclose(
        gg.grad(lambda x: gg.math.zeta(3.0, x))(x), -3 * scipy.special.zeta(4, 2.3), rtol=1e-13
    )


def test_kernels_name_them():
    f = gg.function(lambda x: gg.math.lgamma(x) + gg.math.erfinv(x))
    f(gg.constant([0.5]))
    text = str(f.kernels())
    assert "lgamma(" in text
    assert "erfinv(" in text
