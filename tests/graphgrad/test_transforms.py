"""grad, value_and_grad, vjp, jvp and vmap; check_grads finds planted errors."""

import collections
import itertools
import random
import time
from time import perf_counter

import numpy as np
import pytest

import graphgrad as gg
from graphgrad import batching

MODES = pytest.mark.parametrize("compiled", [False, True])


def mode(f, compiled):
    return gg.function(f) if compiled else f


@MODES
def test_grad(compiled):
    f = mode(gg.grad(lambda x: x**3), compiled)
    assert float(f(gg.constant(2.0))) == 12
    f = mode(gg.grad(gg.grad(lambda x: x**3)), compiled)
    assert float(f(gg.constant(2.0))) == 12


def test_argnums_aux_and_structures():
    value, (dx, dp) = gg.value_and_grad(lambda x, p: x * p["a"], argnums=(0, 1))(
        2.0, {"a": 5.0, "b": 1.0}
    )
    assert [float(v) for v in (value, dx, dp["a"], dp["b"])] == [10, 5, 2, 0]
    gradient, aux = gg.grad(lambda x: (x * x, "more"), has_aux=True)(3.0)
    assert (float(gradient), aux) == (6, "more")
    x = gg.constant(2.0)
    assert [float(g) for g in gg.grad(lambda a, b: a * a * b, argnums=(0, 1))(x, x)] == [8, 4]
    v = gg.Variable(3.0)
    assert float(gg.grad(lambda v: v * v)(v)) == 6
    with pytest.raises(ValueError, match=r"one number, it gave shape \(2,\)"):
        gg.grad(lambda x: x)([1.0, 2.0])
    with pytest.raises(ValueError, match="argument 3 is asked for"):
        gg.grad(lambda x: x, argnums=3)(1.0)


@MODES
def test_vjp_and_jvp(compiled):
    x, v = gg.constant([1.0, 2.0]), gg.constant([1.0, 10.0])

    def reverse(x, v):
        _, back = gg.vjp(lambda x: gg.sin(x) * x, x)
        return back(v)[0]

    def forward(x, v):
        return gg.jvp(lambda x: gg.sin(x) * x, (x,), (v,))[1]

    expected = (np.cos(x.numpy()) * x.numpy() + np.sin(x.numpy())) * v.numpy()
    np.testing.assert_allclose(mode(reverse, compiled)(x, v), expected, rtol=1e-5)
    np.testing.assert_allclose(mode(forward, compiled)(x, v), expected, rtol=1e-5)


def test_forward_over_reverse():
    def hvp(f, x, v):
        return gg.jvp(gg.grad(f), (x,), (v,))[1]

    x = gg.constant([1.0, 2.0])
    np.testing.assert_allclose(
        hvp(lambda x: gg.reduce_sum(x**3), x, gg.ones(2)), [6, 12], rtol=1e-6
    )


@MODES
def test_vmap_equals_a_loop(compiled):
    a = np.random.default_rng(0).standard_normal((4, 3, 2)).astype(np.float32)
    b = np.arange(6, dtype=np.float32).reshape(2, 3)

    def f(x, y):
        return gg.reduce_sum(gg.exp(x) @ y), gg.nn.softmax(x)

    got = mode(lambda a, b: gg.vmap(f, in_axes=(0, None))(a, b), compiled)(a, b)
    for i in range(4):
        total, soft = f(gg.constant(a[i]), gg.constant(b))
        np.testing.assert_allclose(got[0][i], total, rtol=1e-5)
        np.testing.assert_allclose(got[1][i], soft, rtol=1e-5)


def test_vmap_axes():
    x = gg.constant(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(gg.vmap(lambda r: r * 2, in_axes=1, out_axes=1)(x), x.numpy() * 2)
    np.testing.assert_array_equal(gg.vmap(gg.reduce_sum, in_axes=1)(x), x.numpy().sum(0))
    np.testing.assert_array_equal(gg.vmap(gg.vmap(lambda v: v + 1))(x), x.numpy() + 1)
    with pytest.raises(ValueError, match="not equal"):
        gg.vmap(lambda a, b: a)(gg.zeros(2), gg.zeros(3))
    with pytest.raises(ValueError, match="no argument has a batch axis"):
        gg.vmap(lambda a: a, in_axes=None)(gg.zeros(2))


def test_vmap_of_grad_and_grad_of_vmap():
    x = gg.constant([1.0, 2.0, 3.0])
    np.testing.assert_allclose(gg.vmap(gg.grad(lambda x: x**2))(x), [2, 4, 6])
    np.testing.assert_allclose(
        gg.grad(lambda x: gg.reduce_sum(gg.vmap(lambda v: v**2)(x)))(x), [2, 4, 6]
    )
    v = gg.Variable(2.0)
    with gg.GradientTape() as tape:
        y = gg.vmap(lambda a: a * v)(x)
    assert float(tape.gradient(y, v)) == 6


def test_check_grads_accepts_and_refuses():
    gg.testing.check_grads(lambda x, y: gg.reduce_sum(gg.sin(x) * y), [0.3, 0.5], [1.0, 2.0])

    @gg.custom_gradient
    def wrong(x):
        return x * x, lambda g: g * 2.1 * x

    with pytest.raises(AssertionError, match="reverse mode, order 1"):
        gg.testing.check_grads(wrong, 0.7, modes=("reverse",))


def test_integers_have_no_gradient():
    with pytest.raises(TypeError, match="grad: argument 0 is int32, and only floats and comple"):
        gg.grad(lambda x: x**3)(2)
    with pytest.raises(TypeError, match=r"grad: argument 0\[.n.\] is int32"):
        gg.grad(lambda p: p["a"])({"a": 1.0, "n": 3})
    with pytest.raises(TypeError, match="grad: the result is int32"):
        gg.grad(lambda x: gg.cast(x, gg.int32))(1.0)


def test_vmap_axes_in_structures():
    x, y = gg.constant([1.0, 2.0, 3.0]), gg.constant(3.0)
    z = gg.vmap(lambda d: {"s": d["a"] + d["b"]}, in_axes=({"a": 0, "b": None},))({"a": x, "b": y})
    np.testing.assert_array_equal(z["s"], [4, 5, 6])
    m = gg.ones((2, 3))
    first, (second, third) = gg.vmap(lambda r: (r, (r, r)), out_axes=(0, (1, -1)))(m)
    assert (first.shape, second.shape, third.shape) == ((2, 3), (3, 2), (3, 2))
    with pytest.raises(ValueError, match=r"in_axes .* fits no structure with the parts"):
        gg.vmap(lambda d: d["a"], in_axes=({"a": 0},))({"a": x, "b": y})
    with pytest.raises(ValueError, match="there is no axis 5 in the result"):
        gg.vmap(lambda r: r, out_axes=5)(m)


def test_seeds_as_arguments_of_examples():
    seeds = gg.constant([[1, 2], [3, 4]])
    drawn = gg.vmap(lambda s: gg.random.stateless_normal((2,), seed=s))(seeds)
    np.testing.assert_array_equal(drawn[1], gg.random.stateless_normal((2,), seed=[3, 4]))


# -- traces that vmap keeps


def traces_of(monkeypatch):
    """How often a function is traced from now on."""
    made = []
    original = batching.Builder.tracing
    monkeypatch.setattr(
        batching.Builder, "tracing", lambda self: (made.append(self.name), original(self))[1]
    )
    return made


def test_vmap_keeps_its_traces(monkeypatch):
    made = traces_of(monkeypatch)
    f = gg.vmap(lambda x, n, k: {"y": x**n * k, "n": None}, in_axes=(0, None, None))
    x, y = gg.constant([1.0, 2.0]), gg.constant([[1.0], [2.0]])

    def calls(*args):
        del made[:]
        found = f(*args)
        assert found["n"] is None
        return found["y"].numpy().tolist(), len(made)

    assert [calls(x, 2, 3.0)[0] for _ in range(4)] == [[3, 12]] * 4
    assert calls(x, 2, 3.0)[1] == 0
    assert calls(x, 3, 3.0) == ([3, 24], 2)  # another Python value: the trace and its batch
    assert calls(x, True, 3.0)[0] == [3, 6]
    assert calls(x, 1, 3.0)[0] == [3, 6]
    assert calls(y, 2, 3.0)[0] == [[3], [12]]
    assert calls(gg.constant([5.0]), 2, 3.0) == ([75], 1)  # another number of examples
    assert calls(x, 2, 3.0) == ([3, 12], 0)


def test_a_kept_trace_minds_what_the_function_reads():
    global SCALE
    SCALE, table, w = 2.0, {"k": 10.0}, gg.constant(100.0)
    v = gg.Variable(1000.0)

    class Model:
        gain = 1.0

        def __call__(self, x):
            return x * self.gain

        def method(self, x):
            return x * self.gain

    model = Model()
    f = gg.vmap(lambda x: x * SCALE + table["k"] + w + v + gg.grad(lambda y: SCALE * y * y)(x))
    g, h = gg.vmap(model.method), gg.vmap(model)
    x = gg.constant([1.0, 2.0])

    def check():
        for _ in range(3):
            expected = [
                e * SCALE + table["k"] + float(w) + float(v) + 2 * SCALE * e for e in (1.0, 2.0)
            ]
            np.testing.assert_allclose(f(x), expected)
            np.testing.assert_allclose(g(x), x.numpy() * model.gain)
            np.testing.assert_allclose(h(x), x.numpy() * model.gain)

    check()
    SCALE = 3.0
    check()
    table["k"] = 20.0
    check()
    w = gg.constant(200.0)
    check()
    v.assign(2000.0)
    check()
    model.gain = 5.0
    check()


def times(k):
    return lambda r: r * k


def gain_of(model):
    return model.gain


def test_objects_that_are_handed_on_are_read_anew():
    class Model:
        gain = 1.0

        def method(self, x):
            return x * gain_of(self)

        @property
        def doubled(self):
            return gain_of(self) * 2

    model, x = Model(), gg.constant([1.0, 2.0])
    models, functions = {"m": [model]}, {"f": lambda x: x * model.gain}
    wrapped = [
        gg.vmap(f)
        for f in (
            model.method,
            lambda x: model.method(x),
            lambda x: x * gain_of(model),
            lambda x: x * getattr(model, "gain"),  # noqa: B009
            lambda x: x * models["m"][0].gain,
            lambda x: functions["f"](x),
            lambda x: x * model.doubled / 2,
            lambda x: x * (lambda m: m.gain)(model),
        )
    ]
    for gain in (1.0, 5.0, 7.0):
        model.gain = gain
        for f in wrapped:
            for _ in range(3):
                np.testing.assert_array_equal(f(x), [gain, 2 * gain])


def test_what_differs_from_call_to_call_is_read_anew():
    rng, numbers, x = np.random.default_rng(0), itertools.count(), gg.ones(2)
    draw, queue = random.random, collections.deque(range(100))
    for f in (
        lambda x: x + np.random.rand(),
        lambda x: x + random.random(),
        lambda x: x + draw(),
        lambda x: x + time.perf_counter_ns() % 1000003,
        lambda x: x + perf_counter(),
        lambda x: x + rng.normal(),
        lambda x: x + next(numbers),
        lambda x: x + queue.popleft(),
    ):
        g = gg.vmap(f)
        assert len({float(g(x)[0]) for _ in range(6)}) > 4


def test_equal_lambdas_share_a_trace(monkeypatch):
    made = traces_of(monkeypatch)
    x = gg.constant([1.0, 2.0])
    for _ in range(4):
        del made[:]
        assert gg.vmap(lambda r: r * 3.0)(x).numpy().tolist() == [3, 6]
    assert not made
    for k in range(4):  # they do not where they differ in what they hold
        assert gg.vmap(lambda r, k=k: r * k)(x).numpy().tolist() == [k, 2 * k]
        assert gg.vmap(times(k))(x).numpy().tolist() == [k, 2 * k]


def test_kept_traces_and_tapes():
    v = gg.Variable(2.0)
    f = gg.vmap(lambda x: x * x * v)
    x = gg.constant([1.0, 3.0])
    for _ in range(4):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        dx, dv = tape.gradient(y, [x, v])
        np.testing.assert_array_equal(dx, [4, 12])
        assert float(dv) == 10
        assert gg.jvp(f, (x,), (gg.ones(2),))[1].numpy().tolist() == [4, 12]


def test_what_changes_state_is_traced_in_each_call():
    seen, v = [], gg.Variable(0.0)

    def noting(x):
        seen.append(1)
        return x * 2

    f = gg.vmap(noting)
    for i in range(5):
        np.testing.assert_array_equal(f(gg.ones(3)), [2, 2, 2])
        assert len(seen) == i + 1

    def assigning(x):
        v.assign_add(1.0)
        return x

    g = gg.vmap(assigning)
    for call in (g, g, g, gg.function(g)):
        with pytest.raises(RuntimeError, match="a variable is assigned inside of a traced functi"):
            call(gg.ones(3))
    assert float(v) == 0


def test_jvp_runs_python():
    def f(x):
        return x * x if x > 1 else x

    assert [float(gg.jvp(f, (x,), (1.0,))[1]) for x in (3.0, 0.5)] == [6, 1]


def test_integers_and_none_beside_floats():
    _, back = gg.vjp(lambda x, n, q: x**n, 3.0, 2, None)
    dx, dn, dq = back(1.0)
    assert (float(dx), dn.dtype, dq) == (6, gg.int32, None)
    _, t = gg.jvp(lambda x, n, q: (x**n, n, q), (3.0, 2, None), (1.0, None, None))
    assert (float(t[0]), int(t[1]), t[2]) == (6, 0, None)
    assert float(gg.jvp(lambda x, y: x * y, (2.0, 3.0), (None, 1.0))[1]) == 2
    result, back, aux = gg.vjp(lambda x: (x * x, "more"), 3.0, has_aux=True)
    assert (float(result), float(back(1.0)[0]), aux) == (9, 6, "more")
    assert gg.jvp(lambda x: (x * x, "more"), (3.0,), (1.0,), has_aux=True)[2] == "more"


# -- check_grads finds planted errors, in each mode and order


def planted(forward, back):
    @gg.custom_gradient
    def f(x):
        return forward(x), lambda g: g * back(x)

    return f


@pytest.mark.parametrize("modes", [("reverse",), ("forward",)])
def test_check_grads_finds_planted_errors(modes):
    gg.testing.check_grads(planted(gg.sin, gg.cos), 0.7, modes=modes)
    wrong = planted(gg.sin, lambda x: gg.cos(x) * 1.001)
    with pytest.raises(AssertionError, match=f"{modes[0]} mode, order 1"):
        gg.testing.check_grads(wrong, 0.7, modes=modes)
    bent = planted(gg.sin, planted(gg.cos, lambda x: gg.sin(x)))  # the sign of the second is wrong
    gg.testing.check_grads(bent, 0.7, modes=modes, order=1)
    with pytest.raises(AssertionError, match=f"{modes[0]} mode, order 2"):
        gg.testing.check_grads(bent, 0.7, modes=modes)


def test_check_grads_names_the_worst_element():
    @gg.custom_gradient
    def wrong(p):
        mask = gg.constant([[1.0, 1.0, 1.0], [1.0, 1.01, 1.0]], gg.float64)
        return p["x"] ** 2 * p["n"], lambda g: {"x": g * 2 * p["x"] * p["n"] * mask, "n": None}

    p = {"x": np.arange(1.0, 7.0).reshape(2, 3), "n": 3.0}
    for mode in ("reverse", "forward"):
        text = rf"{mode} mode, order 1: .* most by argument \[0\] at \[1, 1\]: "
        with pytest.raises(AssertionError, match=text):
            gg.testing.check_grads(lambda x: wrong({"x": x, "n": 3}), p["x"], modes=(mode,))
        with pytest.raises(AssertionError, match=r"most by argument \[0\]\['n'\]: 0 against "):
            gg.testing.check_grads(lambda p: wrong(p)[0, 0], p, modes=(mode,))
