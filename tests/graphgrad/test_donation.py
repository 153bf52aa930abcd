"""Donated arguments: results take memory that nobody else sees; using them is an error."""

import pickle

import numpy as np
import pytest

import graphgrad as gg

N = 1000
X = gg.constant(np.arange(N, dtype=np.float32))


def address(x):
    return x.array.__array_interface__["data"][0]


def update(s, x):
    return s * 0.5 + x


def fresh(k=1.0):
    return gg.constant(np.full(N, k, np.float32))


def test_results_take_the_memory():
    f = gg.function(update, donate_argnums=0)
    s, k = fresh(), gg.constant(3.0)
    place = address(s)
    for _ in range(6):
        s = f(s, k)
        assert address(s) == place
    expected = np.full(N, 1.0, np.float32)
    for _ in range(6):
        expected = expected * np.float32(0.5) + np.float32(3)
    np.testing.assert_array_equal(s, expected)
    assert "in the place of inputs that nobody else holds" in f.report()
    assert float(k) == 3


def test_memory_that_somebody_sees_is_left_alone():
    f = gg.function(update, donate_argnums=[0])
    whole = gg.constant(np.zeros((2, N), np.float32))
    for make in (lambda: fresh(3.0), lambda: whole[0], lambda: gg.reshape(whole[1], [N])):
        f(fresh(), X)
        s = make()
        seen = s.numpy()
        before = seen.copy()
        out = f(s, X)
        np.testing.assert_array_equal(seen, before)
        np.testing.assert_array_equal(out, before * np.float32(0.5) + X.numpy())
    np.testing.assert_array_equal(whole, np.zeros((2, N)))
    s = fresh()
    other = gg.reshape(s, [10, -1])
    f(s, X)
    np.testing.assert_array_equal(other, np.ones((10, N // 10)))
    array = np.ones(N, np.float32)
    np.testing.assert_array_equal(f(array, X), 0.5 + X.numpy())
    np.testing.assert_array_equal(array, 1)
    s = fresh()
    np.testing.assert_array_equal(f(s, s), np.full(N, 1.5))


@pytest.mark.parametrize(
    "use",
    [
        lambda s: s + 1,
        lambda s: s.numpy(),
        lambda s: s[0],
        gg.sin,
        np.sum,
        lambda s: gg.function(update)(s, X),
        lambda s: gg.function(update, donate_argnums=0)(s, X),
        lambda s: gg.function(lambda: s * 2)(),
        lambda s: gg.Variable(s),
        pickle.dumps,
        lambda s: s.shape,
    ],
)
def test_a_use_afterwards_names_the_function_and_the_line(use):
    f = gg.function(update, donate_argnums=0)
    for _ in range(3):
        s = fresh()
        f(s, X)
    with pytest.raises(
        gg.errors.DonatedTensorError, match="the tensor was donated to `update`"
    ) as e:
        use(s)
    assert "f(s, X): a result may lie in its memory" in str(e.value)
    assert repr(s) == str(s) == f"{s}" == "<gg.Tensor: donated to `update`>"
    with pytest.raises(AttributeError):
        _ = s.nothing


def test_structures_keywords_and_methods():
    class Model:
        @gg.function(donate_argnums=(0, 2))
        def step(self, state, x, more=None):
            return {"w": [w + x for w in state["w"]]}, more

    m, state, x = Model(), {"w": [fresh(), fresh(2.0)]}, fresh(3.0)
    m.step(x=x, state=state, more=(fresh(),))
    for w in state["w"]:
        with pytest.raises(RuntimeError, match="donated to `step`"):
            w + 1
    np.testing.assert_array_equal(x, 3)


def test_variables_are_written_as_well():
    v = gg.Variable(fresh())

    @gg.function(donate_argnums=0)
    def f(s):
        v.assign_add(s)
        return s * v

    for k in (1.0, 2.0):
        s = fresh(k)
        place = address(s)
        out = f(s)
        assert address(out) == place
    np.testing.assert_array_equal(v, 4)
    np.testing.assert_array_equal(out, 8)


def test_a_call_that_fails_gives_it_back():
    f = gg.function(lambda s, i: s // i, donate_argnums=0)
    s = gg.constant([4, 6])
    with pytest.raises(ZeroDivisionError):
        f(s, gg.constant([1, 0]))
    np.testing.assert_array_equal(s, [4, 6])
    np.testing.assert_array_equal(f(s, gg.constant([1, 2])), [4, 3])


def test_nothing_is_given_away_under_tapes_and_in_other_functions():
    f = gg.function(update, donate_argnums=0)
    s = fresh()
    with gg.GradientTape() as tape:
        tape.watch(s)
        y = f(s, X)
    np.testing.assert_array_equal(tape.gradient(y, s), np.full(N, 0.5))
    gg.function(lambda s: f(s, X))(s)
    f.get_concrete_function(s, X)(s, X)
    with gg.config.disable_jit():
        f(s, X)
    np.testing.assert_array_equal(s, 1)


def test_interpreted():
    f = gg.function(update, donate_argnums=0, jit_compile=False)
    s = fresh()
    np.testing.assert_array_equal(f(s, X), 0.5 + X.numpy())
    with pytest.raises(RuntimeError, match="donated to `update`"):
        s + 1


@pytest.mark.parametrize("argnums", [2, -1, [0, 5], "x"])
def test_positions_that_are_none(argnums):
    with pytest.raises(ValueError, match=r"donate_argnums has .* takes 2 positional arguments"):
        gg.function(update, donate_argnums=argnums)
