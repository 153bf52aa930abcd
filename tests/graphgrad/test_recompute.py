"""gg.recompute_grad: values, derivatives and memory, in every mode."""

import numpy as np
import pytest

import graphgrad as gg
from tests.graphgrad.modes import called, in_every_mode


def derivatives(f, v):
    """The value, the gradient by x and v, and the gradient of their sum."""

    def run(x):
        with gg.GradientTape() as outer:
            outer.watch(x)
            with gg.GradientTape() as inner:
                inner.watch(x)
                y = f(x)
            dx, dv = inner.gradient(y, [x, v])
            total = gg.reduce_sum(dx) * dv
        return y, dx, dv, *outer.gradient(total, [x, v])

    return run


@in_every_mode
@called
def test_first_and_second_order_with_variables(mode, wrap):
    v, count = gg.Variable(2.0), gg.Variable(0.0, trainable=False)

    def f(x):
        count.assign_add(1.0)
        return gg.exp(gg.sin(x) * v) * x * count

    x = gg.constant([0.5, 1.0])
    expected = derivatives(f, v)(x)
    for g in (f, lambda x: gg.recompute_grad(f)(x)):
        count.assign(0.0)
        found = mode(derivatives(wrap(gg.recompute_grad(g)), v))(x)
        assert float(count) == 1  # the second run writes nothing
        for a, b in zip(found, expected):
            np.testing.assert_allclose(a, b, rtol=1e-5)


@in_every_mode
@called
def test_random_draws_are_replayed(mode, wrap):
    def dropped(x):
        return x * gg.cast(gg.random.uniform(x.shape) > 0.5, gg.float32) * x

    def run(f, x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return y, tape.gradient(y, x)

    x = gg.constant(np.arange(1.0, 33.0, dtype=np.float32))
    drawn = []
    for f in (dropped, wrap(gg.recompute_grad(dropped))):
        gg.random.set_seed(3)
        y, g = mode(lambda x, f=f: run(f, x))(x)
        drawn.append((y.numpy(), g.numpy(), gg.random.uniform((2,)).numpy()))
    for a, b in zip(*drawn):
        np.testing.assert_array_equal(a, b)
    assert 0 < np.count_nonzero(drawn[0][1]) < 32


@in_every_mode
def test_gradients_flow_through_what_is_assigned(mode):
    v = gg.Variable(1.0)

    @gg.recompute_grad
    def put(x):
        v.assign(x * x)
        return x

    def run(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            put(x)
            y = v * v
        return tape.gradient(y, [x, v])

    assert [float(g) for g in mode(run)(gg.constant(3.0))] == [108, 18]
    assert float(v) == 9


@in_every_mode
def test_structures_keywords_and_python_arguments(mode):
    @gg.recompute_grad
    def f(p, power, *, scale, training=True):
        assert training is True
        return {"y": p["x"] ** power * scale, "n": None, "name": "f"}

    def run(x, s):
        with gg.GradientTape() as tape:
            tape.watch([x, s])
            found = f({"x": x, "rest": None}, 3, scale=s, training=True)
        assert (found["n"], found["name"]) == (None, "f")
        return tape.gradient(found["y"], [x, s])

    assert [float(g) for g in mode(run)(gg.constant(2.0), gg.constant(5.0))] == [60, 8]


def test_python_control_flow_on_values():
    f = gg.recompute_grad(lambda x: x * x if x > 1 else x)
    for value, slope in ((3.0, 6), (0.5, 1)):
        assert float(gg.grad(f)(value)) == slope


def test_with_the_other_transforms():
    def f(x):
        return gg.exp(gg.sin(x)) * x

    g = gg.recompute_grad(f)
    x = gg.constant([0.3, 0.7, 1.1])
    for transform in (
        lambda f: gg.jvp(f, (x,), (gg.ones(3),))[1],
        lambda f: gg.function(lambda x: gg.jvp(f, (x,), (gg.ones(3),))[1])(x),
        lambda f: gg.vmap(gg.grad(f))(x),
        lambda f: gg.jacrev(f)(x),
        lambda f: gg.jacfwd(f)(x),
        lambda f: gg.hessian(lambda x: gg.reduce_sum(f(x)))(x),
        lambda f: gg.hvp(gg.function(lambda x: gg.reduce_sum(f(x))), x, gg.ones(3)),
    ):
        np.testing.assert_allclose(transform(g), transform(f), rtol=1e-5)


def test_a_failing_call_leaves_nothing_behind():
    v = gg.Variable(1.0)

    @gg.recompute_grad
    def f(x):
        raise KeyError("mine")

    with gg.GradientTape() as tape:
        with pytest.raises(KeyError, match="mine"):
            f(v)
        y = v * v
    assert float(tape.gradient(y, v)) == 2


# -- memory


W = gg.Variable(np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32) / 8)


def block(h):
    for _ in range(4):
        h = gg.sin(gg.exp(gg.tanh(h) * 0.1) @ W)
    return h


def network(f):
    def run(x):
        for _ in range(4):
            x = f(x)
        return gg.reduce_sum(x)

    return run


X = gg.constant(np.random.default_rng(1).standard_normal((256, 64)).astype(np.float32))


def kept_bytes(tape):
    return sum(y.array.nbytes for r in tape._records for y in r.outputs)


@called
def test_a_tape_keeps_the_ends_of_blocks_alone(wrap):
    kept, gradients = [], []
    for f in (block, gg.recompute_grad(block)):
        with gg.GradientTape() as tape:
            y = wrap(network(f))(X)
        kept.append(kept_bytes(tape))
        gradients.append(tape.gradient(y, W).numpy())
    assert kept[1] <= 4 * X.array.nbytes + 100
    assert kept[0] >= 12 * X.array.nbytes
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [256, None])
def test_a_step_needs_less_memory(rows):
    arenas, gradients = [], []
    for f in (block, gg.recompute_grad(block)):

        @gg.function(input_signature=[gg.TensorSpec([rows, 64])])
        def step(x, f=f):
            with gg.GradientTape() as tape:
                y = network(f)(x)
            return tape.gradient(y, W)

        gradients.append(step(X).numpy())
        report = step.report()
        line = next(line for line in report.split("\n") if "temporaries" in line)
        number, unit = line.split()[:2]
        arenas.append(float(number) * {"kB": 1e3, "MB": 1e6}[unit])
    assert arenas[1] < 0.6 * arenas[0]
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-4)


def test_no_examples():
    @gg.function(input_signature=[gg.TensorSpec([None, 64])])
    def step(x):
        with gg.GradientTape() as tape:
            y = network(gg.recompute_grad(block))(x)
        return tape.gradient(y, W)

    np.testing.assert_array_equal(step(gg.zeros((0, 64))), np.zeros((64, 64)))
    assert np.count_nonzero(step(X))
