"""Complex tensors as users meet them, in every mode. Expected figures are TensorFlow 2.21's."""

import pickle

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.compiler.driver import compile_in_full
from graphgrad.compiler.errors import GraphgradError
from graphgrad.compiler.families import Control
from graphgrad.compiler.op import ops
from graphgrad.runtime.engine import host_target
from graphgrad.runtime.program import Host
from tests.compiler.op_cases import Case, cases_of, sampled_ops

Z = [1 + 2j, -3 - 1j, 0.5j]
W = [2 - 1j, 1 + 1j, -1 - 0.25j]
MATRICES = np.array([[1 + 1j, 2], [0, 1 - 2j]]), np.array([[1j, 1], [2, 3 - 1j]])


def z64():
    return gg.constant(Z, gg.complex64)


# Dtypes


PROMOTIONS = [
    (gg.float32, 1j, gg.complex64),
    (gg.float64, 1j, gg.complex128),
    (gg.bfloat16, 1j, gg.complex64),
    (gg.int32, 1j, gg.complex128),
    (gg.complex64, 1j, gg.complex64),
    (gg.complex64, 2.5, gg.complex64),
    (gg.complex64, np.array([2.5]), gg.complex64),
    (gg.complex64, np.array([1j]), gg.complex64),
    (gg.float32, np.array([1j]), gg.complex128),
    (gg.float64, np.array([1j], np.complex64), gg.complex128),
    (gg.float32, [1j], gg.complex64),
]


@pytest.mark.parametrize(("dtype", "other", "wanted"), PROMOTIONS, ids=repr)
def test_promotion(dtype, other, wanted):
    x = gg.ones([1], dtype)
    for result in (x + other, other + x, gg.function(lambda v: v * other)(x)):
        assert result.dtype is wanted


def test_promotion_between_tensors():
    for a, b, wanted in (
        (gg.complex64, gg.float32, gg.complex64),
        (gg.complex64, gg.float64, gg.complex128),
        (gg.complex64, gg.int64, gg.complex64),
        (gg.complex64, gg.complex128, gg.complex128),
        (gg.bool, gg.complex64, gg.complex64),
    ):
        assert (gg.ones([1], a) * gg.ones([1], b)).dtype is wanted


def test_a_dtype_says_what_it_is():
    assert gg.constant(1j).dtype is gg.complex128
    assert gg.as_dtype(complex) is gg.as_dtype("c128") is gg.complex128
    assert (gg.complex64.is_complex, gg.complex64.is_floating) == (True, False)
    assert (gg.complex64.real_dtype, gg.float64.real_dtype) == (gg.float32, gg.float64)
    assert (gg.complex64.eps, gg.complex128.size) == (gg.float32.eps, 16)
    with pytest.raises(TypeError, match="complex64 has no order"):
        _ = gg.complex64.max


def test_it_prints_as_in_tensorflow():
    assert repr(gg.constant([1 + 2j])) == (
        "<gg.Tensor: shape=(1,), dtype=complex128, numpy=array([1.+2.j])>"
    )
    assert str(gg.constant(1 - 2j)) == "gg.Tensor((1-2j), shape=(), dtype=complex128)"


def test_into_numpy_and_out_of_it():
    z = z64()
    array = z.numpy()
    assert (array.dtype, array.flags.writeable) == (np.complex64, False)
    for function in (np.real, np.imag, np.conj, np.angle, np.abs, np.exp, np.sum):
        result = function(z)
        assert isinstance(result, gg.Tensor)
        np.testing.assert_allclose(result, function(array), rtol=1e-6)
    np.testing.assert_array_equal(z.real, array.real)
    np.testing.assert_array_equal(z.imag, array.imag)
    np.testing.assert_array_equal(z.conj(), array.conj())
    assert (complex(z[0]), z.tolist()) == (1 + 2j, array.tolist())
    assert pickle.loads(pickle.dumps(z)).dtype is gg.complex64
    with pytest.raises(TypeError, match=r"c64\[\] does not convert to float"):
        float(z[0])


def test_creation():
    assert gg.zeros(2, gg.complex64).numpy().tolist() == [0j, 0j]
    assert gg.eye(2, dtype="complex128").numpy().tolist() == [[1, 0], [0, 1]]
    assert gg.fill([2], 1j).dtype is gg.complex128
    assert gg.ones_like(z64()).dtype is gg.complex64
    assert gg.dtypes.complex(1.0, 2.0).numpy() == np.complex64(1 + 2j)
    assert gg.complex(gg.constant(1.0, gg.float64), 2.0).dtype is gg.complex128


def test_casts():
    assert gg.cast([1.7 + 2j, -1.7 + 0j], gg.int32).numpy().tolist() == [1, -1]
    assert gg.cast([1j, 0j], gg.bool).numpy().tolist() == [True, False]
    assert gg.cast([1.5], gg.complex64).numpy() == np.complex64(1.5)


# Derivatives

GRADIENTS = {
    "exp": (gg.exp, [-1.1312043837568135 - 2.4717266720048188j,
                     0.02690006784157161 + 0.041894373450204546j,
                     0.8775825618903728 - 0.479425538604203j]),
    "log": (gg.math.log, [0.2 + 0.4j, -0.3 - 0.1j, 2j]),
    "sqrt": (gg.sqrt, [0.28443224050289156 + 0.17578879212707146j,
                       0.04503854740225024 - 0.2775400345033212j, 0.5 + 0.5j]),
    "sin": (gg.sin, [2.0327230070196656 + 3.0518977991518j,
                     -1.5276382501165433 + 0.1658444019189788j, 1.1276259652063807]),
    "tanh": (gg.tanh, [-0.30200159823596096 - 0.5681030208920801j,
                       -0.004093794939137307 + 0.009052839881333352j, 1.2984464104095248]),
    "sigmoid": (gg.sigmoid, [0.14088880756994154 + 0.4207182797053216j,
                             0.028613007911291045 + 0.03745593613977941j, 0.2662998741832125]),
    "abs": (gg.abs, [0.4472135954999579 + 0.8944271909999159j,
                     -0.9486832980505138 - 0.31622776601683794j, 1j]),
    "angle": (gg.math.angle, [-0.4 + 0.2j, 0.1 - 0.3j, -2]),
    "real": (gg.math.real, [1, 1, 1]),
    "imag": (gg.math.imag, [1j, 1j, 1j]),
    "conj": (gg.math.conj, [1, 1, 1]),
    "square": (gg.square, [2 - 4j, -6 + 2j, -1j]),
    "prod": (gg.reduce_prod, [0.5 + 1.5j, -1 - 0.5j, -1 + 7j]),
    "mean": (gg.reduce_mean, [1 / 3, 1 / 3, 1 / 3]),
    "cumsum": (gg.cumsum, [3, 2, 1]),
    "cumprod": (gg.math.cumprod, [-1.5 + 2.5j, -2.5j, -1 + 7j]),  # TensorFlow forgets to conjugate
    "mul": (lambda z: z * W, [2 + 1j, 1 - 1j, -1 + 0.25j]),
    "div": (lambda z: W / z, np.conj(-np.array(W) / np.square(Z))),
    "pow": (lambda z: z**W, [14.932414869644557 + 2.4284477476830713j,
                             -8.487475318064423 - 22.15198535079722j,
                             5.579820243131584 - 2.4801949352591706j]),
    "exponent": (lambda z: gg.constant(W, gg.complex128) ** z,
                 np.conj(np.power(W, Z) * np.log(W))),
    "cast": (lambda z: gg.cast(z, gg.float64) ** 2.0, [2, -6, 0]),
}  # fmt: skip


def gradient(f, x):
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    return tape.gradient(y, x)


MODES = {
    "eager": gradient,
    "the tape in a function": lambda f, x: gg.function(lambda v: gradient(f, v))(x),
    "a function on the tape": lambda f, x: gradient(gg.function(f), x),
    "interpreted": lambda f, x: gg.function(lambda v: gradient(f, v), jit_compile=False)(x),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient(name, mode):
    f, wanted = GRADIENTS[name]
    found = MODES[mode](f, gg.constant(Z))
    assert found.dtype is gg.complex128
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_the_gradient_of_a_matrix_product(mode):
    a, b = map(gg.constant, MATRICES)
    by_a = MODES[mode](lambda a: gg.matmul(a, b, adjoint_a=True), a)
    by_b = MODES[mode](lambda b: gg.matmul(a, b, adjoint_a=True), b)
    np.testing.assert_allclose(by_a, [[1 + 1j, 1 + 1j], [5 - 1j, 5 - 1j]])
    np.testing.assert_allclose(by_b, [[3 + 1j, 3 + 1j], [1 - 2j, 1 - 2j]])


@pytest.mark.parametrize("mode", MODES)
def test_the_gradient_of_a_squared_modulus(mode):
    square = {
        "by abs": lambda z: gg.abs(z) ** 2.0,
        "by conj": lambda z: gg.math.real(z * gg.math.conj(z)),
        "by parts": lambda z: gg.math.real(z) ** 2.0 + gg.math.imag(z) ** 2.0,
    }
    for f in square.values():
        np.testing.assert_allclose(MODES[mode](f, gg.constant(1 + 2j)), 2 + 4j)


@pytest.mark.parametrize("mode", MODES)
def test_real_inputs_have_real_gradients(mode):
    x = gg.constant([1.0, 2.0])
    by_parts = MODES[mode](lambda x: gg.abs(gg.exp(gg.complex(x, x * x))), x)
    assert by_parts.dtype is gg.float32
    np.testing.assert_allclose(by_parts, np.exp([1.0, 2.0]), rtol=1e-6)
    np.testing.assert_allclose(MODES[mode](lambda x: x * (2 + 3j), x), [2, 2])


@pytest.mark.parametrize("mode", MODES)
def test_gradients_where_a_modulus_is_zero(mode):
    z = gg.constant([0j, 3 + 4j])
    np.testing.assert_allclose(MODES[mode](gg.abs, z), [0, 0.6 + 0.8j])
    guarded = lambda z: gg.where(gg.abs(z) > 0, gg.math.log(z), 0)  # noqa: E731
    np.testing.assert_allclose(MODES[mode](guarded, z), [0, 1 / (3 - 4j)])


FUNCTIONS = {
    "quotients": lambda z: gg.exp(z) * gg.abs(z) / (z + 2),
    "reductions": lambda z: gg.cumsum(z) * z[0] + gg.reduce_prod(z) - gg.reduce_mean(z),
    "parts": lambda z: gg.complex(gg.math.angle(z), gg.math.imag(z * z)),
    "powers": lambda z: z**3 + z ** (0.5 + 1j) + 2.0**z,
    "functions": lambda z: gg.tanh(z) * gg.sqrt(z) + gg.sigmoid(gg.cos(z)) + gg.math.rsqrt(z),
    "products": lambda z: gg.linalg.adjoint(gg.reshape(z, (3, 1))) @ gg.reshape(z * z, (3, 1)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_both_orders_by_differences(name):
    gg.testing.check_grads(FUNCTIONS[name], gg.constant(Z) + 0.25)


def test_the_check_sees_a_missing_conjugate():
    @gg.custom_gradient
    def wrong(z):
        return z * z, lambda g: g * 2.0 * z

    with pytest.raises(AssertionError, match="reverse mode"):
        gg.testing.check_grads(wrong, gg.constant(Z), order=1, modes=("reverse",))


def test_a_complex_target_is_seeded_with_ones():
    found = gg.grad(lambda z: gg.reduce_sum(gg.exp(z)))(gg.constant(Z))
    np.testing.assert_allclose(found, np.exp(np.conj(Z)))


def test_hot_tapes():
    z = z64()
    found = [gradient(lambda v: gg.abs(gg.exp(v) * v), z).numpy() for _ in range(60)]
    for g in found[1:]:
        np.testing.assert_allclose(g, found[0], rtol=1e-5)


# Functions


def host_steps(f, *args):
    """The ops that the compiled function leaves to NumPy."""
    graph = gg.function(f).get_concrete_function(*args).graph
    done = compile_in_full(graph, host_target())
    hosts = [s.nodes[0].op.name for s in done.steps if s.kind == "host"]
    assert bool(hosts) is any(isinstance(s, Host) for s in done.program.steps)
    return hosts


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n not in ("reductions", "products")])
def test_kernels_compute_on_parts(name):
    f = FUNCTIONS[name]
    assert host_steps(f, z64()) == []  # so the program can be kept on disk
    assert host_steps(lambda z: gradient(lambda v: gg.abs(f(v)), z), z64()) == []
    np.testing.assert_allclose(gg.function(f)(z64()), f(z64()), rtol=1e-5)


def test_a_chain_is_one_kernel_and_two_copies():
    graph = gg.function(lambda z: gg.exp(z * 2j) / (z + 1)).get_concrete_function(z64()).graph
    assert len(compile_in_full(graph, host_target()).steps) <= 3


def test_what_has_no_form_in_parts_is_numpys():
    def f(a, b):
        return gg.math.cumprod(gg.transpose(a * 2), 1) * b[:, :2] + 1j

    a, b = (gg.constant(m.astype(np.complex64)) for m in MATRICES)
    np.testing.assert_allclose(gg.function(f)(a, b), f(a, b), rtol=1e-6)
    assert "linear_recurrence" in host_steps(f, a, b)


def test_products_are_four_of_real_matrices():
    def f(a, b):
        return gg.matmul(gg.exp(a), b, adjoint_a=True) @ b[:, :2]

    a, b = (gg.constant(m.astype(np.complex64)) for m in MATRICES)
    np.testing.assert_allclose(gg.function(f)(a, b), f(a, b), rtol=1e-5)
    assert host_steps(f, a, b) == []


def test_a_state_of_complex_numbers_in_a_loop():
    u = np.linalg.qr(np.array(MATRICES[0], np.complex128))[0]

    @gg.function
    def f(psi):
        for _ in gg.range(5):
            psi = gg.linalg.matvec(u, psi) * gg.exp(gg.constant(0.1j, gg.complex128))
        return psi

    psi = np.arange(len(u)) + 1j
    wanted = np.linalg.matrix_power(u * np.exp(0.1j), 5) @ psi
    np.testing.assert_allclose(f(gg.constant(psi)), wanted, rtol=1e-12)
    assert host_steps(f, gg.constant(psi)) == []


def test_a_value_is_returned_twice_and_read_by_a_product():
    def f(a):
        y = gg.exp(a)
        return y, y, gg.math.real(y), y @ y, a, gg.transpose(a), gg.transpose(y)

    a = gg.constant(MATRICES[0].astype(np.complex64))
    for got, wanted in zip(gg.function(f)(a), f(a)):
        assert got.type == wanted.type
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_a_long_chain():
    def f(z):
        for _ in range(1500):
            z = z * 1.0001 + 0.001j
        return z

    z = gg.constant([0.5 + 0.5j, -1j])
    np.testing.assert_allclose(gg.function(f)(z), f(z), rtol=1e-9)


def test_open_sizes_as_numbers():
    f = gg.function(
        lambda z: z * z.shape[0] / (z.shape[0] + 1),
        input_signature=[gg.TensorSpec([None], gg.complex64)],
    )
    for n in (1, 3):
        np.testing.assert_allclose(f(np.full(n, 1 + 2j, np.complex64)), (1 + 2j) * n / (n + 1))


def test_open_sizes():
    f = gg.function(
        lambda z: gg.exp(z) * 2, input_signature=[gg.TensorSpec([None, 2], gg.complex64)]
    )
    for n in (1, 3, 40):
        z = np.full((n, 2), 0.5 + 1j, np.complex64)
        np.testing.assert_allclose(f(z), np.exp(z) * 2, rtol=1e-6)


@pytest.mark.parametrize("n", [0, 1, 7, 16, 1000])
def test_lengths(n):
    rng = np.random.default_rng(n)
    z = (rng.normal(size=n) + 1j * rng.normal(size=n)).astype(np.complex64)
    f = gg.function(lambda z: (z * z + gg.math.conj(z), gg.reduce_sum(gg.abs(z))))
    sums = f(gg.constant(z))
    np.testing.assert_allclose(sums[0], z * z + z.conj(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sums[1], np.abs(z).sum(), rtol=1e-5)


def test_control_flow():
    def f(z):
        z = gg.cond(gg.abs(z[0]) > 1, lambda: z * 1j, lambda: z + 1)
        return gg.while_loop(lambda i, z: i < 3, lambda i, z: (i + 1, z * z + 0.1), (0, z))[1]

    z = z64() * 0.5
    np.testing.assert_allclose(gg.function(f)(z), f(z), rtol=1e-5)
    by = gradient(gg.function(lambda z: gg.reduce_sum(gg.abs(f(z)))), z)
    np.testing.assert_allclose(by, gradient(lambda z: gg.reduce_sum(gg.abs(f(z))), z), rtol=1e-4)


def test_a_variable_is_trained_in_a_function():
    v = gg.Variable([1 + 1j, 2 - 1j], dtype=gg.complex64)

    @gg.function
    def step():
        with gg.GradientTape() as tape:
            loss = gg.reduce_sum(gg.abs(v - [1j, 1.0]) ** 2.0)
        v.assign_sub(0.25 * tape.gradient(loss, v))
        return loss

    losses = [float(step()) for _ in range(30)]
    assert losses[0] == pytest.approx(3.0)  # |1|**2 + |1 - 1j|**2
    assert losses[-1] < 1e-12
    np.testing.assert_allclose(v, [1j, 1], atol=1e-6)


def test_vmap_and_jvp():
    rows = np.array([[1j, 2], [3, 4j]])
    product = lambda z: gg.reduce_sum(z * z.conj())  # noqa: E731
    np.testing.assert_allclose(gg.vmap(product)(gg.constant(rows)), [5, 25])
    value, tangent = gg.jvp(lambda z: gg.abs(z), (gg.constant(Z),), (gg.constant(W),))
    np.testing.assert_allclose(tangent, np.real(np.conj(Z) * W) / np.abs(Z))
    assert value.dtype is tangent.dtype is gg.float64


@pytest.mark.parametrize("seed", range(4))
def test_random_programs(seed):
    rng = np.random.default_rng(seed)
    unary = [gg.exp, gg.sin, gg.tanh, gg.square, gg.math.conj, gg.negative, gg.sigmoid]
    unary += [lambda z: gg.complex(gg.abs(z), gg.math.imag(z)), lambda z: z[::-1], gg.cumsum]
    binary = [gg.add, gg.multiply, gg.subtract, lambda x, y: x / (y + 3)]
    choices = rng.integers(0, 10, (8, 4))

    def f(x, y):
        values = [x, y]
        for a, b, c, _ in choices:
            one, other = values[a % len(values)], values[b % len(values)]
            u = unary[c](one) * 0.5
            values.append(binary[b % 4](u, other) / (1 + gg.abs(other)))
        return values[-1], gg.reduce_sum(values[-2])

    xs = [gg.constant(rng.normal(size=5) + 1j * rng.normal(size=5)) for _ in range(2)]
    for got, wanted in zip(gg.function(f)(*xs), f(*xs)):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)
    loss = lambda x: gg.abs(f(x, xs[1])[1])  # noqa: E731
    compiled = gg.function(lambda x: gradient(loss, x))(xs[0])
    np.testing.assert_allclose(compiled, gradient(loss, xs[0]), rtol=1e-8, atol=1e-8)


# Edges

INF, NAN = np.inf, np.nan
POINTS = [complex(a, b) for a in (0.0, -0.0, 1.0, -1.0) for b in (0.0, -0.0, 2.0, -2.0)]
ENDLESS = {
    "exp": [complex(-INF, 1), complex(INF, 0), complex(-800, 3), complex(710, 1.5)],
    "log": [complex(INF, 0), complex(-INF, 1), complex(0, INF), 1e200 + 1e200j, 1 + 1e-9j],
    "sqrt": [complex(INF, 1), complex(-INF, 1), complex(2, INF), complex(-2, -INF)],
    "tanh": [complex(800, 1), complex(-30, 2), complex(INF, 0.5)],
    "abs": [complex(INF, NAN), 1e200 + 1e200j, 3e-200j],
    "reciprocal": [complex(INF, 0), 1e200 + 1e200j],
    "square": [1e200 + 0j],
    "expm1": [1e-10 + 1e-12j, 1e-300 + 1e-200j, complex(-800, 1)],
    "log1p": [1e-10 + 1e-12j, 1e-300 + 1e-200j, 1e200j, -1 + 1e-9j],
    "tan": [30j, complex(1, -800), 1e-300j],
    "isfinite": [complex(INF, 1), complex(1, NAN)],
    "isnan": [complex(INF, 1), complex(1, NAN), complex(NAN, INF)],
    "isinf": [complex(INF, 1), complex(1, -INF), complex(NAN, INF)],
    "sigmoid": [complex(800, 1), complex(-800, 1)],
}


@pytest.mark.parametrize("name", ENDLESS)
def test_edges_are_numpys_when_compiled(name):
    z = np.array([*ENDLESS[name], *(p for p in POINTS if p != 0 or name != "reciprocal")])
    got = gg.function(lambda v: ops[name](v))(gg.constant(z)).numpy()
    wanted = ops[name](gg.constant(z)).numpy()
    np.testing.assert_allclose(got.real, wanted.real, rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(got.imag, wanted.imag, rtol=1e-13, atol=1e-300)
    if name in ("sqrt", "log"):  # on both sides of the cut
        np.testing.assert_array_equal(np.signbit(got.imag), np.signbit(wanted.imag))


def test_powers():
    z = gg.constant(Z)
    for n in (0, 1, 2, 3, 7, -1, -2, 120):
        f = lambda v, n=n: v**n  # noqa: E731
        np.testing.assert_allclose(gg.function(f)(z), np.array(Z) ** n, rtol=1e-12)
    for y in (0.5, 0j, 1 + 1j, -1):
        got = gg.function(lambda v, y: v**y)(gg.constant([0j, 2j]), gg.constant(y))
        np.testing.assert_allclose(got, ops["pow"](gg.constant([0j, 2j]), y))


# What takes no complex numbers says so

REAL_ONLY = [
    op.name
    for op in sampled_ops()
    if not op.takes_complex
    and not isinstance(op, Control)
    and op.samples is not None
    and "float32" in op.samples.dtypes
    and any(a.dtype == np.float32 for c in cases_of(op, "float32", edges=False) for a in c.arrays)
]


@pytest.mark.parametrize("name", REAL_ONLY)
def test_a_real_op_refuses_complex_numbers(name):
    case = next(
        c
        for c in cases_of(ops[name], "float32", edges=False)
        if any(a.dtype == np.float32 for a in c.arrays)
    )
    arrays = [a.astype(np.complex64) if a.dtype == np.float32 else a for a in case.arrays]
    xs = list(map(gg.constant, arrays))
    call = Case(ops[name], tuple(arrays), case.attrs).call
    for run in (call, gg.function(call)):
        with pytest.raises((GraphgradError, TypeError), match=r"complex|c64"):
            run(*xs)


def test_an_order_is_refused_with_the_reason():
    with pytest.raises(TypeError, match=r"less: takes no complex numbers, .*no order: compare gg"):
        _ = z64() < 1
    with pytest.raises(TypeError, match="Cannot convert 1j to a tensor of dtype float32"):
        gg.constant(1j, gg.float32)
    with pytest.raises(TypeError, match=r"softmax: takes floats, got c64\[3\]"):
        gg.nn.softmax(z64())


def test_conjugate_transposes():
    z = gg.constant([[1 + 2j, 3j]])
    np.testing.assert_array_equal(gg.transpose(z, conjugate=True), [[1 - 2j], [-3j]])
    np.testing.assert_array_equal(
        gg.linalg.matrix_transpose(z, conjugate=True), gg.linalg.adjoint(z)
    )


def test_scatters_add_complex_numbers_and_order_none():
    z = z64()
    found = gg.tensor_scatter_nd_add(z, [[0], [0]], z[1:])
    np.testing.assert_allclose(found, [-2 + 1.5j, -3 - 1j, 0.5j])
    with pytest.raises(TypeError, match=r"no order|no complex"):
        gg.tensor_scatter_nd_max(z, [[0]], z[:1])
