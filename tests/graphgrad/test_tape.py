"""Gradient tapes over eager operations; test_tape_modes.py holds them in every mode."""

import numpy as np
import pytest

import graphgrad as gg

USED_UP = "A non-persistent GradientTape can only be used to compute one set of gradients"


def test_square():
    x = gg.constant(3.0)
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    assert tape.gradient(y, x).numpy() == 6


def test_variables_are_watched_also_those_made_inside():
    outside, frozen = gg.Variable(2.0), gg.Variable(2.0, trainable=False)
    with gg.GradientTape() as tape:
        inside = gg.Variable(3.0)
        y = outside * inside * frozen
    assert [
        None if g is None else float(g) for g in tape.gradient(y, [outside, inside, frozen])
    ] == [6, 4, None]
    assert [v is w for v, w in zip(tape.watched_variables(), [outside, inside])] == [True, True]


def test_watch_accessed_variables_can_be_off():
    v, w = gg.Variable(2.0), gg.Variable(3.0)
    with gg.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(v)
        y = v * w
    assert tape.gradient(y, [v, w])[1] is None


def test_what_cannot_be_watched():
    with gg.GradientTape() as tape:
        with pytest.raises(ValueError, match=r"Passed in object 3 of type 'int', not gg\.Tensor"):
            tape.watch(3)
        with pytest.warns(UserWarning, match="dtype of the watched tensor must be floating"):
            tape.watch(gg.constant(1))


def test_one_set_of_gradients():
    x = gg.constant(3.0)
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    tape.gradient(y, x)
    with pytest.raises(RuntimeError, match=USED_UP):
        tape.gradient(y, x)


def test_persistent():
    x = gg.constant(3.0)
    with gg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
        z = y * y
    assert tape.gradient(z, x).numpy() == 108
    assert tape.gradient(y, x).numpy() == 6


def test_reentering_an_active_tape():
    with gg.GradientTape() as tape:
        with pytest.raises(
            ValueError, match="Tape is still recording, This can happen if you try to"
        ):
            tape.__enter__()


def test_structure_of_sources_and_targets():
    x, y = gg.constant(2.0), gg.constant([1.0, 2.0])
    with gg.GradientTape(persistent=True) as tape:
        tape.watch({"x": x, "rest": [y]})
        a, b = x * x, y * x
    grads = tape.gradient([a, b], {"x": x, "rest": [y]})
    assert float(grads["x"]) == 7
    np.testing.assert_array_equal(grads["rest"][0], [2, 2])
    seeded = tape.gradient([a, b], x, output_gradients=[gg.constant(10.0), gg.constant([1.0, 0.0])])
    assert float(seeded) == 41


def test_unconnected():
    x, y = gg.constant(2.0), gg.constant([1.0, 2.0])
    with gg.GradientTape(persistent=True) as tape:
        tape.watch([x, y])
        z = x * x
    assert tape.gradient(z, y) is None
    np.testing.assert_array_equal(tape.gradient(z, y, unconnected_gradients="zero"), [0, 0])
    zero = gg.UnconnectedGradients.ZERO
    np.testing.assert_array_equal(tape.gradient(z, [y], unconnected_gradients=zero)[0], [0, 0])


def test_integer_targets_warn_and_give_none():
    x = gg.constant(2.0)
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = gg.cast(x, gg.int32)
    with pytest.warns(UserWarning, match="dtype of the target tensor must be floating"):
        assert tape.gradient(y, x) is None


def test_inside_and_outside():
    x = gg.constant(3.0)
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    z = y * y
    assert tape.gradient(z, x) is None


def test_stop_recording_and_reset():
    x = gg.constant(3.0)
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = x * x
        with tape.stop_recording():
            z = y * x
        assert tape.gradient(z, x) is None
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = x * x
        tape.reset()
        tape.watch(x)
        z = x * x * x
    assert tape.gradient(y + z, x) is None
    with gg.GradientTape() as tape:
        tape.watch(x)
        tape.reset()
        tape.watch(x)
        z = x * x * x
    assert tape.gradient(z, x).numpy() == 27


def test_stop_gradient():
    x = gg.constant(3.0)
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = x * gg.stop_gradient(x)
    assert tape.gradient(y, x).numpy() == 3


@pytest.mark.parametrize("compiled", [False, True])
def test_nested_tapes_give_higher_orders(compiled):
    def third(x):
        with gg.GradientTape() as t3:
            t3.watch(x)
            with gg.GradientTape() as t2:
                t2.watch(x)
                with gg.GradientTape() as t1:
                    t1.watch(x)
                    y = x**4
                first = t1.gradient(y, x)
            second = t2.gradient(first, x)
        return first, second, t3.gradient(second, x)

    f = gg.function(third) if compiled else third
    np.testing.assert_allclose([float(v) for v in f(gg.constant(2.0))], [32, 48, 48])


def test_gradient_inside_its_own_context_is_recorded():
    x = gg.constant(2.0)
    with gg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x**3
        first = tape.gradient(y, x)
    np.testing.assert_allclose(tape.gradient(first, x), 12)


def test_tape_around_functions_to_second_order():
    @gg.function
    def f(x):
        return gg.reduce_sum(gg.sin(x) * x)

    x = gg.constant(np.linspace(0.1, 1, 5))
    with gg.GradientTape() as outer:
        outer.watch(x)
        with gg.GradientTape() as inner:
            inner.watch(x)
            y = f(x)
        first = inner.gradient(y, x)
    v = x.numpy()
    np.testing.assert_allclose(first, np.cos(v) * v + np.sin(v))
    np.testing.assert_allclose(outer.gradient(first, x), 2 * np.cos(v) - v * np.sin(v))


@pytest.mark.parametrize("compiled", [False, True])
def test_values_are_versioned(compiled):
    v = gg.Variable(2.0)

    def run():
        with gg.GradientTape() as tape:
            y = v * v
            v.assign_add(1.0)
            y = y + v * v
        return tape.gradient(y, v)

    assert float((gg.function(run) if compiled else run)()) == 10


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_flow_through_assigned_values(compiled):
    v, x = gg.Variable(1.0), gg.constant(3.0)

    def run(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            v.assign(x * x)
            y = v * v
        return tape.gradient(y, [x, v])

    got = (gg.function(run) if compiled else run)(x)
    assert [float(g) for g in got] == [108, 18]


def test_gradients_flow_through_values_that_a_function_assigns():
    v, x = gg.Variable(1.0), gg.constant(3.0)

    @gg.function
    def put(x):
        v.assign(x * x)

    with gg.GradientTape() as tape:
        tape.watch(x)
        put(x)
        y = v * v
    assert [float(g) for g in tape.gradient(y, [x, v])] == [108, 18]


def test_training_steps_inside_one_persistent_tape():
    v = gg.Variable(1.0)
    with gg.GradientTape(persistent=True) as tape:
        for _ in range(3):
            loss = v * v
            with tape.stop_recording():
                pass
            v.assign_sub(0.1 * tape.gradient(loss, v))
    np.testing.assert_allclose(v.numpy(), 0.8**3, rtol=1e-6)


def test_function_variables_are_watched():
    v = gg.Variable([1.0, 2.0])

    @gg.function
    def f(x):
        return gg.reduce_sum(v * x)

    with gg.GradientTape() as tape:
        y = f(gg.constant([3.0, 4.0]))
    np.testing.assert_array_equal(tape.gradient(y, v), [3, 4])


def test_sum_of_everything_once():
    x = gg.constant([1.0, 2.0])
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = x * x + x
    np.testing.assert_array_equal(tape.gradient(y, x), [3, 5])


@pytest.mark.parametrize("compiled", [False, True])
def test_custom_gradient(compiled):
    @gg.custom_gradient
    def f(x):
        return x * x, lambda g: g * 100.0 * x

    def both(x):
        with gg.GradientTape() as outer:
            outer.watch(x)
            with gg.GradientTape() as inner:
                inner.watch(x)
                y = f(x) * 2.0
            first = inner.gradient(y, x)
        return y, first, outer.gradient(first, x)

    got = (gg.function(both) if compiled else both)(gg.constant(3.0))
    assert [float(v) for v in got] == [18, 600, 200]


def test_custom_gradient_in_a_function_under_an_outer_tape():
    @gg.custom_gradient
    def f(x):
        return gg.identity(x), lambda g: gg.minimum(g, 1.0)

    g = gg.function(lambda x: f(x) * 5.0)
    x = gg.constant(3.0)
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = g(x)
    assert float(y) == 15
    assert float(tape.gradient(y, x)) == 1


@pytest.mark.parametrize("compiled", [False, True])
def test_custom_gradient_with_variables(compiled):
    v = gg.Variable(2.0)

    @gg.custom_gradient
    def f(x):
        def grad_fn(g, variables):
            return g * 10.0, [g * 100.0 for _ in variables]

        return x * v, grad_fn

    def run(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, [x, v])

    got = (gg.function(run) if compiled else run)(gg.constant(3.0))
    assert [float(g) for g in got] == [10, 100]


def test_custom_gradient_must_know_of_variables():
    v = gg.Variable(2.0)
    f = gg.custom_gradient(lambda x: (x * v, lambda g: g))
    with (
        gg.GradientTape(),
        pytest.raises(TypeError, match="must accept a 'variables' keyword argument"),
    ):
        f(gg.constant(1.0))


def test_grad_pass_through():
    x = gg.constant(1.6)
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = gg.grad_pass_through(gg.floor)(x) * 3.0
    assert (float(y), float(tape.gradient(y, x))) == (3, 3)


@pytest.mark.parametrize("compiled", [False, True])
def test_unstable_forms_have_right_gradients(compiled):
    def run(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = gg.math.log(1.0 + gg.exp(x))
        return tape.gradient(y, x)

    f = gg.function(run) if compiled else run
    np.testing.assert_allclose(f(gg.constant([0.0, 100.0, 1000.0])), [0.5, 1, 1])


def test_a_tape_in_a_thread_does_not_see_other_threads():
    import threading

    x = gg.constant(2.0)
    out = []
    with gg.GradientTape() as tape:
        tape.watch(x)
        thread = threading.Thread(target=lambda: out.append(x * x))
        thread.start()
        thread.join()
    assert tape.gradient(out[0], x) is None


@pytest.mark.parametrize("compiled", [False, True])
def test_jacobian(compiled):
    w = gg.Variable([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])

    def run(x):
        with gg.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = gg.reduce_sum(w * x * x, 1)
        jx, jw = tape.jacobian(y, [x, w])
        return jx, jw, tape.jacobian(y, gg.constant([1.0])) is None

    x = np.float32([7.0, 8.0])
    jx, jw, unconnected = (gg.function(run) if compiled else run)(gg.constant(x))
    np.testing.assert_allclose(jx, w.numpy() * 2 * x)
    expected = np.zeros((3, 3, 2))
    for i in range(3):
        expected[i, i] = x * x
    np.testing.assert_allclose(jw, expected)
    assert unconnected


def test_batch_jacobian():
    x = gg.constant(np.arange(6.0).reshape(2, 3))
    with gg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = gg.stack([x[:, 0] * x[:, 1], x[:, 2] ** 2], 1)
    got = tape.batch_jacobian(y, x)
    full = tape.jacobian(y, x).numpy()
    assert got.shape == (2, 2, 3)
    for i in range(2):
        np.testing.assert_allclose(got[i], full[i, :, i])
    text = (
        r"Need first dimension of target shape \(\(2, 2\)\) and source shape \(\(3, 2\)\) to match"
    )
    with pytest.raises(ValueError, match=text):
        tape.batch_jacobian(y, gg.zeros((3, 2)))


def test_a_jacobian_uses_the_tape_up():
    x = gg.constant([1.0])
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    tape.jacobian(y, x)
    with pytest.raises(RuntimeError, match=USED_UP):
        tape.gradient(y, x)


def test_a_variable_as_target():
    v, x = gg.Variable(2.0), gg.constant(3.0)
    with gg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = v
        read = gg.Variable(0.0)
        read.assign(x * x)
    assert float(tape.gradient(y, v)) == 1
    assert float(tape.gradient(read, x)) == 6
    with gg.GradientTape(watch_accessed_variables=False) as tape:
        y = v
    assert tape.gradient(y, v) is None


def test_seeds_that_do_not_fit():
    x = gg.constant([1.0, 2.0])
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    text = r"gradient: output_gradients holds f32\[3\] for the target f32\[2\]"
    with pytest.raises(ValueError, match=text):
        tape.gradient(y, x, output_gradients=gg.ones(3))


def test_a_tape_from_outside_of_the_function_it_is_asked_in():
    x = gg.constant([1.0, 2.0])
    with gg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
    f = gg.function(lambda: tape.gradient(y, x))
    np.testing.assert_array_equal(f(), [2, 4])


LEAKED_USES = {
    "watched": lambda tape, y, v, z: tape.watch([v, z]),
    "target": lambda tape, y, v, z: tape.gradient({"a": y, "b": z}, v),
    "source": lambda tape, y, v, z: tape.gradient(y, [v, z]),
    "cotangent": lambda tape, y, v, z: tape.gradient(y, v, output_gradients=z),
    "rows": lambda tape, y, v, z: tape.jacobian(z, v),
    "columns": lambda tape, y, v, z: tape.jacobian(y, z),
    "batch": lambda tape, y, v, z: tape.batch_jacobian(z, v),
    "in another trace": lambda tape, y, v, z: gg.function(lambda: tape.gradient(z, v))(),
}


@pytest.mark.parametrize("use", LEAKED_USES)
def test_a_tensor_that_left_its_trace(use):
    kept = []

    @gg.function
    def leaky(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            kept[:] = [x * 2.0, tape]
        return x

    with pytest.warns(UserWarning, match="changes the Python value `kept`"):
        leaky(gg.constant([[1.0, 2.0]]))
    z, inner = kept
    v = gg.Variable([[1.0, 2.0]])
    with gg.GradientTape(persistent=True) as tape:
        y = v * v
        with pytest.raises(gg.errors.LeakedTensorError, match=r"`leaky`.*\n?.*x \* 2\.0") as e:
            LEAKED_USES[use](tape, y, v, z)
    assert "test_tape.py" in str(e.value)
    with pytest.raises(gg.errors.LeakedTensorError, match="`leaky`"):
        inner.gradient(z, v)
    np.testing.assert_array_equal(tape.gradient(y, v), [[2.0, 4.0]])
