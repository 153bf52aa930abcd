"""Sorts, running extrema, sums of products and matrix functions, as users call them: in every
mode, to second order, with the line of what fails."""

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.testing import check_grads

RNG = np.random.default_rng(5)
X = RNG.normal(size=(3, 3))


def positive(x):
    return x @ gg.transpose(x) + gg.eye(3, dtype=gg.float64)


SMOOTH = {
    "std": lambda x: gg.math.reduce_std(x, axis=1),
    "norm": lambda x: gg.norm(x, ord=3, axis=0),
    "clip_by_global_norm": lambda x: gg.clip_by_global_norm([x, x * x], 1.0)[0],
    "sort": lambda x: gg.sort(x * x, axis=0, direction="DESCENDING"),
    "top_k": lambda x: gg.math.top_k(gg.sin(x), k=2).values,
    "cummax": lambda x: gg.math.cummax(x * x, axis=1, reverse=True),
    "cumulative_logsumexp": lambda x: gg.math.cumulative_logsumexp(x * x),
    "einsum": lambda x: gg.einsum("ij,kj,kl->il", x, gg.sin(x), x),
    "tensordot": lambda x: gg.tensordot(x, x, [[0], [0]]),
    "bincount": lambda x: gg.math.bincount([[0, 2, 0]] * 3, weights=x * x, axis=1),
    "solve": lambda x: gg.linalg.solve(positive(x), x),
    "slogdet": lambda x: gg.linalg.slogdet(positive(x)).log_abs_determinant,
    "cholesky": lambda x: gg.linalg.cholesky(positive(x)),
    "qr": lambda x: gg.linalg.qr(x),
    "svd": lambda x: gg.linalg.svd(x[:2]),
    "eigh": lambda x: gg.linalg.eigh(positive(x)),
    "pinv": lambda x: gg.linalg.pinv(x[:, :2]),
    "expm": lambda x: gg.linalg.expm(x * x),
    "lstsq": lambda x: gg.linalg.lstsq(x[:, :2], x, l2_regularizer=0.1),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_to_second_order_eager_and_compiled(name):
    check_grads(SMOOTH[name], X)
    compiled = gg.function(lambda x: gg.nest.flatten(SMOOTH[name](x)))
    check_grads(compiled, X, order=1, modes=["reverse"])
    for a, b in zip(gg.nest.flatten(SMOOTH[name](gg.constant(X))), compiled(gg.constant(X))):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in SMOOTH if n != "clip_by_global_norm"])
def test_examples_one_by_one_and_at_once(name):
    stack = gg.constant(np.stack([X, X[::-1], X.T]))
    many = gg.nest.flatten(gg.vmap(SMOOTH[name])(stack))
    each = [gg.nest.flatten(SMOOTH[name](x)) for x in stack]
    for found, *alone in zip(many, *each):
        for f, a in zip(found, alone):
            np.testing.assert_allclose(f, a, rtol=1e-9, atol=1e-12)


def test_results_have_names_in_functions_too():
    @gg.function
    def named(x):
        return gg.math.top_k(x, 2), gg.linalg.qr(x), gg.linalg.svd(x), gg.linalg.eigh(positive(x))

    for call in (named, named.python_function):
        top, qr, svd, eigh = call(gg.constant(X))
        assert (top.values.shape, top.indices.dtype) == ((3, 2), gg.int32)
        np.testing.assert_allclose(qr.q @ qr.r, X, atol=1e-12)
        np.testing.assert_allclose((svd.u * svd.s) @ gg.transpose(svd.v), X, atol=1e-12)
        np.testing.assert_allclose(positive(gg.constant(X)) @ eigh.v, eigh.v * eigh.e, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: gg.linalg.inv(gg.zeros((2, 2))), "inv: the matrix is singular"),
        (lambda: gg.linalg.cholesky(-gg.eye(2)), "cholesky: the matrix is not positive definite"),
        (lambda: gg.math.bincount(gg.constant([2, -1]), minlength=4, maxlength=4),
         "bincount: -1 is negative"),
        (lambda: gg.math.confusion_matrix([0, 3], [0, 1], num_classes=3),
         "confusion_matrix: label 3 is out of range for 3 classes"),
        (lambda: gg.math.top_k([1.0, 2.0], 3), "top_k: k is 3, and the last axis of f32[2] has 2"),
        (lambda: gg.einsum("ij,jk", gg.ones((2, 3)), gg.ones((2, 3))), "'j' is 3 in f32[2, 3]"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("wrap", [lambda f: f, gg.function], ids=["eager", "function"])
def test_errors_name_the_line(call, text, wrap):
    with pytest.raises(gg.errors.GraphgradError) as found:
        wrap(call)()
    assert text in str(found.value)
    assert "test_linear_algebra.py" in str(found.value)


def test_counts_whose_size_the_values_decide():
    count = gg.function(lambda x: gg.math.bincount(x, minlength=2))
    weigh = gg.function(lambda x, w: gg.reduce_sum(gg.math.bincount(x, weights=w) ** 2))
    confuse = gg.function(lambda a, b: gg.math.confusion_matrix(a, b))
    for x in ([1, 1, 3], [0, 0, 0], [5, 2, 5]):
        np.testing.assert_array_equal(count(gg.constant(x)), np.bincount(x, minlength=2))
        w = gg.Variable([1.0, 2.0, 4.0])
        with gg.GradientTape() as tape:
            y = weigh(gg.constant(x), w)
        np.testing.assert_allclose(y, (np.bincount(x, [1, 2, 4]) ** 2).sum())
        np.testing.assert_allclose(tape.gradient(y, w), 2 * np.bincount(x, [1, 2, 4])[x])
        wanted = np.zeros((max(x) + 1,) * 2)
        np.add.at(wanted, (x, x[::-1]), 1)
        np.testing.assert_array_equal(confuse(gg.constant(x), gg.constant(x[::-1])), wanted)


def test_counts_of_one_size():
    count = gg.function(lambda x: gg.math.bincount(x, minlength=3, maxlength=3))
    np.testing.assert_array_equal(count(gg.constant([1, 1, 7])), [0, 2, 0])
    lanes = gg.vmap(lambda x: gg.math.bincount(x, minlength=3, maxlength=3))
    np.testing.assert_array_equal(lanes(gg.constant([[1, 1], [0, 7]])), [[0, 2, 0], [1, 0, 0]])


COMPLEX = {
    "einsum": (lambda z: gg.einsum("ij,kj->ik", z, z), lambda z: z @ z.T),
    "einsum of a diagonal": (lambda z: gg.einsum("ii->i", z), np.diag),
    "tensordot": (lambda z: gg.tensordot(z, z, 1), lambda z: z @ z),
    "matvec": (lambda z: gg.linalg.matvec(z, z[0], adjoint_a=True), lambda z: z.conj().T @ z[0]),
    "trace": (gg.linalg.trace, np.trace),
    "cross": (lambda z: gg.linalg.cross(z, z * z), lambda z: np.cross(z, z * z)),
    "outer": (lambda z: gg.linalg.outer(z, z), lambda z: np.outer(z, z)),
    "norm": (lambda z: gg.norm(z, axis=1), lambda z: np.linalg.norm(z, axis=1)),
    "norm, 1": (lambda z: gg.norm(z, 1, axis=(0, 1)), lambda z: np.linalg.norm(z, 1)),
    "clip_by_norm": (lambda z: gg.clip_by_norm(z, 1.0), lambda z: z / np.linalg.norm(z)),
    "clip_by_global_norm": (
        lambda z: gg.clip_by_global_norm([z, None], 1.0)[0][0],
        lambda z: z / np.linalg.norm(z),
    ),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_products_and_norms_of_complex_numbers(name):
    """Values, and the gradient of a real function of them along a direction."""
    fn, wanted = COMPLEX[name]
    z, d = (RNG.normal(size=(3, 3)) + 1j * RNG.normal(size=(3, 3)) for _ in range(2))

    def size(v):
        y = fn(v)
        return gg.reduce_sum(gg.abs(y * y + 1.0))

    v = gg.constant(z)
    for call in (fn, gg.function(fn)):
        np.testing.assert_allclose(call(v), wanted(z), rtol=1e-12)
    with gg.GradientTape() as tape:
        tape.watch(v)
        y = size(v)
    slope = np.real(np.vdot(tape.gradient(y, v), d))
    difference = size(gg.constant(z + 1e-6 * d)) - size(gg.constant(z - 1e-6 * d))
    np.testing.assert_allclose(slope, float(difference) / 2e-6, rtol=1e-6)


def test_large_means_cost_no_digits():
    x = np.float32(4096) + np.float32(RNG.normal(size=(4, 1000)))
    wanted = np.std(x.astype(np.float64), axis=1)
    for std in (gg.math.reduce_std, gg.function(gg.math.reduce_std)):
        np.testing.assert_allclose(std(gg.constant(x), axis=1), wanted, rtol=1e-6)


@pytest.mark.parametrize("value", [0.1, 1e30, -3e-39])
def test_the_deviation_of_equal_elements_has_the_gradient_0(value):
    x = gg.Variable(np.full((3, 70), value, np.float32))

    def slope():
        with gg.GradientTape() as tape:
            y = gg.math.reduce_std(x, axis=1)
        return y, tape.gradient(y, x)

    for call in (slope, gg.function(slope)):
        y, g = call()
        np.testing.assert_array_equal(y, np.zeros(3))
        np.testing.assert_array_equal(g, np.zeros((3, 70)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint32, np.uint64])
@pytest.mark.parametrize("size", [50, 5000])
def test_orders_are_stable_however_they_are_found(dtype, size):
    """Few different values, of which each has many places."""
    x = RNG.integers(0, 9, (2, size)).astype(dtype)
    if np.dtype(dtype).kind == "f":
        x[:, ::7], x[:, 1::9], x[:, 2::9] = np.nan, -0.0, 0.0
        negative = -np.where(np.isnan(x), np.inf, x)
    else:
        negative = -x.astype(np.int64)
    order = gg.argsort(gg.constant(x))
    np.testing.assert_array_equal(order, np.argsort(x, kind="stable"))
    np.testing.assert_array_equal(
        gg.argsort(gg.constant(x), direction="DESCENDING"), np.argsort(negative, kind="stable")
    )
    values, places = gg.math.top_k(gg.constant(x), 20)
    np.testing.assert_array_equal(places, np.argsort(negative, kind="stable")[:, :20])
    np.testing.assert_array_equal(values, np.take_along_axis(x, places.numpy(), 1))
