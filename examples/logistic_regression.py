"""Logistic regression by L-BFGS: scipy.optimize minimises, a compiled function gives value and
gradient.

The data are scikit-learn's breast cancer records: 569 patients, 30 measurements each. SciPy passes
float64 vectors; the function takes them as they are, and is traced once.

    python -m examples.logistic_regression
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.datasets import load_breast_cancer

import graphgrad as gg

PENALTY = 1.0  # times half the squared norm of the weights, as in scikit-learn's C = 1


def data() -> tuple[Any, Any]:
    """Measurements of mean 0 and variance 1, [n, 30], and labels 0 or 1: float64."""
    x, y = load_breast_cancer(return_X_y=True)
    return (x - x.mean(axis=0)) / x.std(axis=0), y.astype(np.float64)


def objective(x: Any, y: Any) -> Any:
    """The penalised loss of a parameter vector (weights, then the offset), and its gradient."""

    @gg.function
    def value_and_gradient(parameters: Any) -> tuple[Any, Any]:
        with gg.GradientTape() as tape:
            tape.watch(parameters)
            weights, offset = parameters[:-1], parameters[-1]
            logits = gg.linalg.matvec(gg.constant(x), weights) + offset
            losses = gg.nn.sigmoid_cross_entropy_with_logits(labels=gg.constant(y), logits=logits)
            loss = gg.reduce_sum(losses) + PENALTY * gg.nn.l2_loss(weights)
        return loss, tape.gradient(loss, parameters)

    return value_and_gradient


def fit(x: Any, y: Any) -> tuple[Any, Any]:
    """SciPy's result, and the function that it called."""
    f = objective(x, y)

    def for_scipy(parameters: Any) -> tuple[float, Any]:
        loss, gradient = f(parameters)
        return float(loss), gradient.numpy()

    start = np.zeros(x.shape[1] + 1)
    options = {"maxiter": 500, "ftol": 1e-14, "gtol": 1e-8}
    return minimize(for_scipy, start, jac=True, method="L-BFGS-B", options=options), f


def main(show: Callable[[str], Any] = print) -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = data()
    result, f = fit(x, y)
    accuracy = float(np.mean((x @ result.x[:-1] + result.x[-1] > 0) == y))
    show(f"L-BFGS: {result.nit} iterations, {result.nfev} calls, loss {result.fun:.6f}")
    show(f"accuracy {100 * accuracy:.1f} %; traces: {f.experimental_get_tracing_count()}")
    reference = LogisticRegression(C=1 / PENALTY, tol=1e-10, max_iter=10_000).fit(x, y)
    assert np.allclose(result.x[:-1], reference.coef_[0], atol=1e-3)
    assert np.allclose(result.x[-1], reference.intercept_[0], atol=1e-3)
    assert accuracy > 0.98
    assert f.experimental_get_tracing_count() == 1


if __name__ == "__main__":
    main()
