"""NumPy's functions of sorting and linear algebra on tensors: NumPy's values, and gradients."""

import numpy as np
import pytest

import graphgrad as gg

RNG = np.random.default_rng(3)
M = RNG.normal(size=(3, 3)) + 3 * np.eye(3)
T = RNG.normal(size=(4, 3))
S = M @ M.T
STACK = RNG.normal(size=(2, 3, 3))

CALLS = {
    "sort": lambda m: np.sort(m),
    "sort flat": lambda m: np.sort(m, axis=None),
    "sort columns": lambda m: np.sort(m, 0, stable=True),
    "argsort": lambda m: np.argsort(m, kind="stable"),
    "count_nonzero": lambda m: np.count_nonzero(m, axis=1, keepdims=True),
    "einsum": lambda m: np.einsum("ij,kj->ik", m, m),
    "einsum, optimized": lambda m: np.einsum("ij,kj,kl->il", m, m, m, optimize=True),
    "einsum of numbers": lambda m: np.einsum(m, [0, 1], m, [2, 1], [0, 2]),
    "einsum of numbers, implicit": lambda m: np.einsum(m, [..., 1, 0]),
    "tensordot": lambda m: np.tensordot(m, m),
    "inner": lambda m: np.inner(m, m),
    "vdot": lambda m: np.vdot(m, m),
    "trace": lambda m: np.trace(m),
    "outer": lambda m: np.outer(m[0], m),
    "cross": lambda m: np.cross(m, m[::-1]),
    "norm": lambda m: np.linalg.norm(m),
    "norm 1": lambda m: np.linalg.norm(m, 1),
    "norm 3 of a vector": lambda m: np.linalg.norm(m[0], 3),
    "norms": lambda m: np.linalg.norm(m, axis=1, keepdims=True),
    "nuclear norm": lambda m: np.linalg.norm(m, "nuc", (0, 1)),
    "inv": lambda m: np.linalg.inv(m),
    "det": lambda m: np.linalg.det(m),
    "slogdet": lambda m: np.linalg.slogdet(m).logabsdet,
    "solve": lambda m: np.linalg.solve(m, m[0]),
    "cholesky": lambda m: np.linalg.cholesky(m),
    "cholesky, upper": lambda m: np.linalg.cholesky(m, upper=True),
    "qr": lambda m: np.linalg.qr(m).R,
    "svd": lambda m: np.linalg.svd(m).Vh,
    "svd, values": lambda m: np.linalg.svd(m, compute_uv=False),
    "eigh": lambda m: np.linalg.eigh(m).eigenvectors,
    "eigvalsh": lambda m: np.linalg.eigvalsh(m, "U"),
    "pinv": lambda m: np.linalg.pinv(m),
    "matrix_rank": lambda m: np.linalg.matrix_rank(m),
    "maximum.accumulate": lambda m: np.maximum.accumulate(m),
    "minimum.accumulate": lambda m: np.minimum.accumulate(m, axis=1),
    "logaddexp.accumulate": lambda m: np.logaddexp.accumulate(m),
    "std": lambda m: np.std(m, axis=0),
    "var": lambda m: np.var(m),
}


@pytest.mark.parametrize("name", CALLS)
def test_values_are_numpys_and_gradients_flow(name):
    """In and outside of functions; a gradient lost would warn, which fails."""
    x = gg.constant(S)
    expected = CALLS[name](S)
    for call in (CALLS[name], gg.function(CALLS[name])):
        with gg.GradientTape() as tape:
            tape.watch(x)
            found = call(x)
        assert isinstance(found, gg.Tensor)
        assert found.shape == np.shape(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
        if found.dtype.is_floating:
            assert np.isfinite(tape.gradient(found, x).numpy()).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda m: np.linalg.qr(m, "complete")[0],
        lambda m: np.linalg.svd(m)[2],
        lambda m: np.linalg.svd(m, full_matrices=False).U,
        lambda m: np.linalg.pinv(m),
        lambda m: np.trace(np.tensordot(m, m, 0), axis1=0, axis2=2),
    ],
)
def test_values_of_tall_matrices_are_numpys(call):
    np.testing.assert_allclose(call(gg.constant(T)), call(T), atol=1e-12)


def test_the_dot_product_of_complex_numbers_conjugates_the_left():
    z = M[0] + 1j * M[1]
    np.testing.assert_allclose(np.vdot(gg.constant(z), z * 1j), np.vdot(z, z * 1j))
    np.testing.assert_allclose(np.inner(gg.constant(z), z), np.inner(z, z))


def test_traces_of_stacks_are_those_of_each_module():
    x = gg.constant(STACK)
    np.testing.assert_allclose(np.trace(x), np.trace(STACK))
    np.testing.assert_allclose(np.linalg.trace(x), np.linalg.trace(STACK))


def test_errors_name_the_call():
    with pytest.raises(gg.errors.ArgumentError, match=r"np\.linalg\.norm: ord of f64\[2, 3, 3\]"):
        np.linalg.norm(gg.constant(STACK), 1)
    with pytest.raises(gg.errors.ArgumentError, match="'reduced', 'complete' or 'r', not 'raw'"):
        np.linalg.qr(gg.constant(M), "raw")
