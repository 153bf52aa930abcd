"""gg.random: the same draws eager and compiled; generators advance in functions too."""

import numpy as np
import pytest

import graphgrad as gg


def test_seeds_repeat():
    gg.random.set_seed(3)
    a = gg.random.uniform((5,)), gg.random.normal((5,))
    gg.random.set_seed(3)
    b = gg.random.uniform((5,)), gg.random.normal((5,))
    for x, y in zip(a, b):
        np.testing.assert_array_equal(x, y)
    assert not np.array_equal(a[0], gg.random.uniform((5,)))


def test_eager_and_compiled_draw_the_same():
    f = gg.function(
        lambda: (
            gg.random.uniform((7,)),
            gg.random.normal((3, 3)),
            gg.random.uniform((4,), maxval=10, dtype=gg.int32),
        )
    )
    gg.random.set_seed(5)
    eager = [f.python_function() for _ in range(2)]
    gg.random.set_seed(5)
    compiled = [f() for _ in range(2)]
    for e, c in zip(eager, compiled):
        np.testing.assert_array_equal(e[0], c[0])
        np.testing.assert_allclose(e[1], c[1], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(e[2], c[2])


def test_functions_draw_anew_at_each_call():
    f = gg.function(lambda: gg.random.normal((4,)))
    assert not np.array_equal(f(), f())
    assert f.experimental_get_tracing_count() == 1


def test_draws_in_a_loop_differ():
    @gg.function
    def f():
        return gg.while_loop(
            lambda i, a, b: i < 2, lambda i, a, b: (i + 1, b, gg.random.uniform(())), (0, 0.0, 0.0)
        )[1:]

    a, b = f()
    assert float(a) != float(b)


def test_generators():
    g = gg.random.Generator.from_seed(1)
    a = g.uniform((3,), minval=2.0, maxval=3.0)
    assert ((a.numpy() >= 2) & (a.numpy() < 3)).all()
    g.reset_from_seed(1)
    np.testing.assert_array_equal(a, g.uniform((3,), minval=2.0, maxval=3.0))
    one, two = g.split(2)
    assert not np.array_equal(one.normal((3,)), two.normal((3,)))
    g.skip(10)
    key, counter = g.state.numpy()
    later = g.normal((3,))
    g.reset_from_key_counter(key, counter)
    np.testing.assert_array_equal(g.normal((3,)), later)
    assert g.make_seeds(3).shape == (2, 3)
    assert gg.random.Generator.from_non_deterministic_state().state.trainable is False


def test_stateless():
    a = gg.random.stateless_uniform((4,), seed=[1, 2])
    np.testing.assert_array_equal(a, gg.random.stateless_uniform((4,), seed=[1, 2]))
    assert not np.array_equal(a, gg.random.stateless_uniform((4,), seed=[1, 3]))
    b = gg.random.stateless_normal((4,), seed=gg.constant([1, 2]), mean=5.0, dtype=gg.float64)
    assert b.dtype is gg.float64
    seeds = gg.random.split([1, 2], 3)
    assert seeds.shape == (3, 2)
    assert len({tuple(s) for s in seeds.numpy().tolist()}) == 3
    assert gg.random.fold_in([1, 2], 7).shape == (2,)


def test_moments():
    gg.random.set_seed(0)
    x = gg.random.normal((20000,), mean=1.0, stddev=2.0).numpy()
    assert abs(x.mean() - 1) < 0.05
    assert abs(x.std() - 2) < 0.05
    u = gg.random.uniform((20000,), maxval=6, dtype=gg.int64).numpy()
    assert set(u.tolist()) == {0, 1, 2, 3, 4, 5}
    with pytest.raises(ValueError, match="maxval"):
        gg.random.uniform((2,), dtype=gg.int32)


def test_open_shapes():
    f = gg.function(
        lambda x: gg.random.uniform(x.shape) + x, input_signature=[gg.TensorSpec([None, 2])]
    )
    assert f(gg.zeros((3, 2))).shape == (3, 2)
    assert f(gg.zeros((5, 2))).shape == (5, 2)
    assert f.experimental_get_tracing_count() == 1


def test_arguments_that_make_no_sense():
    with pytest.raises(ValueError, match=r"random_normal: a negative size in \[-1\]"):
        gg.random.normal([-1])
    with pytest.raises(ValueError, match="Need minval < maxval, got 5 >= 5"):
        gg.random.uniform([2], 5, 5, gg.int32)


# Distributions made of uniform draws

STATEFUL = {
    "uniform": lambda r, **k: r.uniform([4, 3], -1.0, 2.0, **k),
    "integers": lambda r, **k: r.uniform([4, 3], 0, 9, gg.int32, **k),
    "normal": lambda r, **k: r.normal([4, 3], 1.0, 2.0, **k),
    "truncated": lambda r, **k: r.truncated_normal([4, 3], 1.0, 2.0, **k),
    "bernoulli": lambda r, **k: r.bernoulli([4, 3], [0.1, 0.5, 0.9], **k),
    "categorical": lambda r, **k: r.categorical(gg.constant([[0.0, 1.0], [2.0, 0.0]]), 5, **k),
    "shuffle": lambda r, **k: r.shuffle(gg.range(20), **k),
}
STATELESS = {
    "uniform": lambda s: gg.random.stateless_uniform([5], s),
    "normal": lambda s: gg.random.stateless_normal([5], s),
    "truncated": lambda s: gg.random.stateless_truncated_normal([5], s),
    "bernoulli": lambda s: gg.random.stateless_bernoulli([5], s),
    "categorical": lambda s: gg.random.stateless_categorical([[0.0, 1.0]], 5, s),
    "shuffle": lambda s: gg.random.stateless_shuffle(gg.range(20), s),
}


def close(a, b):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", STATEFUL)
def test_each_seed_has_a_sequence_of_its_own(name):
    draw = STATEFUL[name]

    def three():
        return [draw(gg.random, seed=11), draw(gg.random, seed=12), draw(gg.random, seed=11)]

    gg.random.set_seed(4)
    eager = three() + three()
    assert not np.array_equal(eager[0], eager[2])
    gg.random.set_seed(4)
    f = gg.function(three)
    for a, b in zip(eager, f() + f()):
        close(a, b)
    gg.random.set_seed(4)  # the function goes back to the start as well
    for a, b in zip(eager, f()):
        close(a, b)
    gg.random.set_seed(5)
    assert not np.array_equal(eager[0], three()[0])


@pytest.mark.parametrize("name", STATEFUL)
def test_generators_draw_the_same_in_every_mode(name):
    def draw(g):
        return STATEFUL[name](g), STATEFUL[name](g)

    eager = draw(gg.random.Generator.from_seed(8))
    for compiled in (True, False):
        g = gg.random.Generator.from_seed(8)
        found = gg.function(lambda g=g: draw(g), jit_compile=compiled)()
        for a, b in zip(eager, found):
            close(a, b)
    assert not np.array_equal(*eager)


@pytest.mark.parametrize("name", STATELESS)
def test_stateless_draws_depend_on_the_seed_alone(name):
    draw = STATELESS[name]
    eager = draw([1, 2])
    close(eager, gg.function(draw)(gg.constant([1, 2], gg.int64)))
    assert not np.array_equal(eager, draw([1, 3]))
    seeds = gg.constant([[1, 2], [3, 4]], gg.int64)
    close(gg.vmap(draw)(seeds), np.stack([draw([1, 2]), draw([3, 4])]))


DRAWS = {
    "two": lambda x: x * gg.random.normal([5]) + gg.reduce_sum(gg.random.uniform([3])),
    "dropout": lambda x: gg.nn.dropout(x, 0.5),
    "seeded": lambda x: x + gg.random.uniform([2, 1], seed=3),
    "nested": lambda x: gg.vmap(lambda v: v + gg.random.normal([2]))(x),
    "gradient": gg.grad(lambda x: gg.reduce_sum(x * x * gg.random.normal([5]))),
}


@pytest.mark.parametrize("name", DRAWS)
def test_examples_draw_as_in_a_loop(name):
    draw, xs = DRAWS[name], gg.reshape(gg.range(20.0), [4, 5])
    runs = {
        "loop": lambda: gg.stack([draw(x) for x in xs]),
        "vmap": lambda: gg.vmap(draw)(xs),
        "compiled": gg.function(lambda: gg.vmap(draw)(xs)),
        "symbolic": lambda: gg.function(
            lambda xs: gg.vmap(draw)(xs), input_signature=[gg.TensorSpec([None, 5])]
        )(xs),
    }  # fmt: skip
    found = {}
    for mode, run in runs.items():
        gg.random.set_seed(8)
        found[mode] = run().numpy(), run().numpy(), gg.random.normal([2]).numpy()
    for mode in runs:
        for got, wanted in zip(found[mode], found["loop"]):
            close(got, wanted)
    assert not np.array_equal(*found["vmap"][:2])


def test_draws_in_a_loop_of_an_example_are_refused():
    def walk(x):
        return gg.while_loop(lambda x: x < 3.0, lambda x: x + gg.random.uniform([]), [x])

    with pytest.raises(gg.errors.GraphgradError, match="a random draw moves on"):
        gg.vmap(walk)(gg.zeros([2]))


def test_distributions_have_their_moments():
    gg.random.set_seed(1)
    n = 20_000
    t = gg.random.truncated_normal([n]).numpy()
    assert np.abs(t).max() <= 2
    assert abs(t.mean()) < 0.02
    assert abs(t.std() - 0.8796) < 0.01  # sqrt(1 - 4 phi(2) / erf(sqrt 2))
    b = gg.random.bernoulli([n], 0.3).numpy()
    assert b.dtype == bool
    assert abs(b.mean() - 0.3) < 0.015
    logits = np.log([[0.1, 0.2, 0.7], [0.5, 0.5, 1e-9]]).astype(np.float32)
    c = gg.random.categorical(logits, n)
    assert c.dtype is gg.int64
    shares = np.stack([(c.numpy() == k).mean(1) for k in range(3)], 1)
    np.testing.assert_allclose(shares, [[0.1, 0.2, 0.7], [0.5, 0.5, 0]], atol=0.02)
    places = np.stack([gg.random.shuffle(gg.range(5)).numpy() for _ in range(500)])
    for k in range(5):  # each number comes to each place about as often
        np.testing.assert_allclose((places == k).mean(0), 0.2, atol=0.08)


def test_classes_without_probability_are_never_drawn():
    inf = float("inf")
    c = gg.random.categorical([[-inf, 0.0, -inf, 0.0, -inf], [500.0, -500.0, 0.0, 0.0, 0.0]], 2000)
    assert set(c[0].numpy()) == {1, 3}
    assert set(c[1].numpy()) == {0}


def test_shuffles_are_permutations_with_derivatives():
    x = gg.constant(np.arange(12.0).reshape(6, 2))
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = gg.reduce_sum(gg.random.shuffle(x, seed=3) * gg.constant([[1.0, 2.0]], gg.float64))
    assert tape.gradient(y, x).numpy().tolist() == [[1.0, 2.0]] * 6
    shuffled = gg.random.shuffle(x).numpy()
    assert sorted(map(tuple, shuffled)) == sorted(map(tuple, x.numpy()))


def test_random_errors():
    failing = [
        (lambda: gg.random.categorical([1.0, 2.0], 3), "logits are floats"),
        (lambda: gg.random.bernoulli([2], 1.5), "between 0 and 1, got 1.5"),
        (lambda: gg.random.bernoulli([2], [0.1, 0.2, 0.3]), "broadcast"),
        (lambda: gg.random.shuffle(1.0), "takes a tensor with an axis"),
        (lambda: gg.random.truncated_normal([2], dtype=gg.int32), "draws floats, not int32"),
    ]
    for f, text in failing:
        for g in (f, gg.function(f)):
            with pytest.raises(gg.errors.GraphgradError, match=text):
                g()


def test_seeds_without_end_do_not_pile_up():
    from graphgrad.random import _seeded

    f = gg.function(lambda: gg.random.uniform([1], seed=-1))
    gg.random.set_seed(2)
    first = [f().numpy()]
    for seed in range(_seeded.KEPT + 10):
        _seeded.get(seed)
    assert len(_seeded.recent) == _seeded.KEPT
    # the function's own lives on, and eager calls share it
    second = gg.random.uniform([1], seed=-1).numpy()
    gg.random.set_seed(2)
    assert [f().numpy(), f().numpy()] == [first[0], second]


def test_generator_state_can_be_kept_and_restored():
    g = gg.random.Generator.from_seed(5)
    g.normal([3])
    state = g.state.numpy()
    a = g.normal([3])
    close(a, gg.random.Generator.from_state(state).normal([3]))
    g.reset(state)
    close(a, g.normal([3]))
    assert g.algorithm == "philox"
    assert int(g.key) == state[0]
    close(gg.random.Generator.from_key_counter(*state).normal([3]), a)
    assert g.uniform_full_int([2], gg.int64).dtype is gg.int64
