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
