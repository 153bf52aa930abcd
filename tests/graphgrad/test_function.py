"""gg.function: keys, signatures, concrete functions, captures, creation, methods, effects."""

import collections
import dataclasses
import gc
import weakref

import numpy as np
import pytest

import graphgrad as gg

pytestmark = pytest.mark.usefixtures("entry")


def count(f):
    return f.experimental_get_tracing_count()


def test_calls_and_traces():
    @gg.function
    def f(x):
        return x * 2 + 1

    x = gg.constant([1.0, 2.0])
    np.testing.assert_array_equal(f(x), [3, 5])
    np.testing.assert_array_equal(f(x), [3, 5])
    assert count(f) == 1
    assert f.__name__ == "f"


def test_one_trace_per_dtype_and_shape():
    f = gg.function(lambda x: x + x)
    for x in (
        gg.zeros(2),
        gg.zeros(2),
        gg.zeros(3),
        gg.zeros((2, 1)),
        gg.zeros(2, gg.float64),
        gg.zeros(2),
    ):
        f(x)
    assert count(f) == 4


def test_python_values_count_by_type_and_value():
    f = gg.function(lambda x, n: x * n)
    x = gg.constant(2.0)
    for n in (1, 1.0, True, 1, 2, 0.0, -0.0):
        assert float(f(x, n)) == 2.0 * n
    assert count(f) == 6
    nan = float("nan")
    f(x, nan)
    f(x, nan)
    f(x, float("nan"))
    assert count(f) == 7


def test_numpy_arguments_are_tensors():
    f = gg.function(lambda x: x * 2)
    np.testing.assert_array_equal(f(np.ones(2, np.float32)), [2, 2])
    np.testing.assert_array_equal(f(gg.ones(2)), [2, 2])
    np.testing.assert_array_equal(f(np.float32(1)), 2)
    assert count(f) == 2


def test_results_that_are_arguments_are_no_aliases_of_the_users_array():
    f = gg.function(lambda x: x)
    a = np.ones(3, np.float32)
    y = f(a)
    a[0] = 9
    assert y.numpy()[0] == 1


Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Pair:
    a: object
    b: object


def test_structures():
    @gg.function
    def f(d, p, q):
        return {
            "sum": d["a"] + d["b"][0],
            "p": Point(p.y, p.x),
            "q": Pair(q.b, q.a),
            "n": None,
            "t": (1.5,),
        }

    one, two = gg.constant(1.0), gg.constant(2.0)
    for _ in range(2):
        out = f({"a": one, "b": [two]}, Point(one, two), Pair(one, two))
        assert float(out["sum"]) == 3
        assert (float(out["p"].x), float(out["q"].a)) == (2, 2)
        assert isinstance(out["p"], Point)
        assert isinstance(out["q"], Pair)
        assert out["n"] is None
        assert float(out["t"][0]) == 1.5
    assert count(f) == 1
    f({"b": [two], "a": one}, Point(one, two), Pair(one, two))
    assert count(f) == 1
    f({"a": one, "b": (two,)}, Point(one, two), Pair(one, two))
    assert count(f) == 2


def test_keywords_and_defaults_are_one_call():
    @gg.function
    def f(x, y=2.0, *, z=1):
        return x * y + z

    x = gg.constant(3.0)
    assert [float(v) for v in (f(x), f(x, 2.0), f(x=x), f(x, y=2.0, z=1), f(y=2.0, x=x))] == [7] * 5
    assert count(f) == 1
    with pytest.raises(TypeError, match=r"f\(\) missing a required argument: 'x'"):
        f()


def test_varargs():
    f = gg.function(lambda *xs, **named: xs[0] + named["k"])
    assert float(f(gg.constant(1.0), k=gg.constant(2.0))) == 3
    assert float(f(gg.constant(1.0), k=gg.constant(2.0))) == 3
    assert count(f) == 1


def test_decorator_forms():
    @gg.function(jit_compile=False, reduce_retracing=True, autograph=False)
    def f(x):
        return gg.reduce_sum(gg.exp(x))

    np.testing.assert_allclose(f(gg.zeros(3)), 3)
    assert float(gg.function(f)(gg.zeros(2))) == 2


def test_input_signature():
    @gg.function(input_signature=[gg.TensorSpec([None, 3], gg.float32)])
    def f(x):
        return gg.reduce_sum(x, 1)

    for n in (1, 2, 5, 2):
        np.testing.assert_array_equal(f(gg.ones((n, 3))), np.full(n, 3))
    assert count(f) == 1
    np.testing.assert_array_equal(f([[1, 2, 3]]), [6])
    with pytest.raises(TypeError) as e:
        f(gg.ones((2, 4)))
    assert str(e.value).startswith(
        "f: argument `x` is TensorSpec(shape=(2, 4), dtype=gg.float32, name=None), and the input "
        "signature wants TensorSpec(shape=(None, 3), dtype=gg.float32, name=None)"
    )
    with pytest.raises(TypeError):
        f(gg.ones((2, 3), gg.float64))


def test_reduce_retracing():
    f = gg.function(lambda x: gg.reduce_sum(x * 2), reduce_retracing=True)
    for n in (1, 2, 3, 4, 2, 7):
        assert float(f(gg.ones(n))) == 2 * n
    assert count(f) == 2


def test_concrete_functions():
    f = gg.function(lambda x, n: {"y": x * n})
    concrete = f.get_concrete_function(gg.TensorSpec([None, 2], gg.float32), 3)
    assert count(f) == 1
    np.testing.assert_array_equal(concrete(gg.ones((4, 2)))["y"], np.full((4, 2), 3))
    np.testing.assert_array_equal(concrete(gg.ones((1, 2)))["y"], np.full((1, 2), 3))
    assert len(concrete.inputs) == 1
    assert concrete.outputs[0].shape.as_list() == [None, 2]
    assert concrete.structured_outputs == {"y": gg.TensorSpec([None, 2])}
    assert concrete.structured_input_signature == ((gg.TensorSpec([None, 2]), 3), {})
    assert concrete.captured_inputs == []
    assert "f32[None, 2]" in repr(concrete)
    assert concrete.output_shapes == {"y": (None, 2)}
    assert concrete.output_dtypes == {"y": gg.float32}
    with pytest.raises(TypeError, match=r"takes f32\[n, 2\] as argument `x`, got f32\[2\]"):
        concrete(gg.ones(2))
    with pytest.raises(TypeError, match="takes `x`, which is missing"):
        concrete()
    x = gg.ones((2, 2))
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = concrete(x)["y"]
    np.testing.assert_array_equal(tape.gradient(y, x), np.full((2, 2), 3))


def test_captures():
    w, v = gg.constant([1.0] * 20), gg.Variable(2.0)
    f = gg.function(lambda x: x * w * v)
    concrete = f.get_concrete_function(gg.TensorSpec([20]))
    assert [c is w or c is v for c in concrete.captured_inputs] == [True, True]
    assert concrete.variables[0] is v
    assert float(f(gg.ones(20))[0]) == 2
    v.assign(5.0)
    assert float(f(gg.ones(20))[0]) == 5


def test_captured_tensors_get_gradients():
    w = gg.constant([3.0, 4.0])
    f = gg.function(lambda x: gg.reduce_sum(x * w))
    with gg.GradientTape() as tape:
        tape.watch(w)
        y = f(gg.constant([1.0, 2.0]))
    np.testing.assert_array_equal(tape.gradient(y, w), [1, 2])


def test_variables_are_created_once():
    class Model:
        v = None

        @gg.function
        def __call__(self, x):
            if self.v is None:
                self.v = gg.Variable(gg.ones(2) * 3.0)
            return self.v * x

    m = Model()
    np.testing.assert_array_equal(m(gg.ones(2)), [3, 3])
    m.v.assign_add([1.0, 1.0])
    np.testing.assert_array_equal(m(gg.ones(2)), [4, 4])

    @gg.function
    def f(x):
        return gg.Variable(1.0) * x

    with pytest.raises(
        ValueError,
        match=r"gg.function only supports singleton gg.Variables created on the first call",
    ):
        f(gg.constant(1.0))


def test_random_initial_values_are_drawn_once():
    state = {}

    @gg.function
    def f(x):
        if "v" not in state:
            state["v"] = gg.Variable(gg.random.normal((3,)))
        return state["v"] * x

    first = f(gg.ones(3)).numpy()
    np.testing.assert_array_equal(f(gg.ones(3)), first)


def test_methods_have_a_cache_of_their_own_that_does_not_leak():
    class Model:
        def __init__(self, rate):
            self.rate = rate

        @gg.function
        def step(self, x):
            return x * self.rate

    a, b = Model(2.0), Model(3.0)
    x = gg.constant(1.0)
    assert (float(a.step(x)), float(b.step(x)), float(a.step(x))) == (2, 3, 2)
    assert count(a.step) == 1
    assert a.step is a.step
    gone = weakref.ref(a)
    del a
    gc.collect()
    assert gone() is None
    assert len(Model.__dict__["step"]._bound) == 1


def test_objects_are_keys_by_identity_and_weakly():
    class Config:
        def __init__(self, n):
            self.n = n

    f = gg.function(lambda c, x: x * c.n)
    a, b = Config(2.0), Config(2.0)
    x = gg.constant(1.0)
    f(a, x)
    f(a, x)
    f(b, x)
    assert count(f) == 2
    a.n = 5.0
    assert float(f(a, x)) == 5
    gone = weakref.ref(a)
    del a
    gc.collect()
    assert gone() is None
    assert len(f.traces()) == 1  # of b
    f(Config(1.0), x)
    assert len(f.traces()) == 1


def test_nested_functions_are_inlined():
    inner = gg.function(lambda x: x * 2)
    outer = gg.function(lambda x: inner(x) + inner(x + 1))
    assert float(outer(gg.constant(1.0))) == 6
    assert count(inner) == 0
    assert outer.ir().count("mul") == 2


def test_recursion():
    @gg.function
    def factorial(x, n):
        return x if n == 0 else factorial(x * n, n - 1)

    assert float(factorial(gg.constant(1.0), 4)) == 24

    @gg.function
    def forever(x):
        return forever(x + 1)

    with pytest.raises(gg.errors.TraceError, match="`forever` calls itself while it is traced"):
        forever(gg.constant(1.0))


def test_variables_are_written_in_program_order():
    v = gg.Variable(1.0)

    @gg.function
    def f(x):
        a = v * 1
        v.assign(x)
        b = v * 1
        v.assign_add(1.0)
        return a, b, v.value()

    assert [float(t) for t in f(gg.constant(5.0))] == [1, 5, 6]
    assert [float(t) for t in f(gg.constant(7.0))] == [6, 7, 8]
    assert float(v) == 8


def test_variables_change_only_if_the_call_succeeds():
    v, i = gg.Variable(1.0), gg.constant([1, 2])

    @gg.function
    def f(d):
        v.assign(9.0)
        return i // d

    with pytest.raises(gg.errors.DivisionByZero):
        f(gg.constant([1, 0]))
    assert float(v) == 1
    f(gg.constant([1, 1]))
    assert float(v) == 9


def test_training_loop():
    rng = np.random.default_rng(0)
    data = rng.standard_normal((64, 3)).astype(np.float32)
    target = data @ np.float32([1, -2, 0.5]) + 3
    w, b = gg.Variable(gg.zeros(3)), gg.Variable(0.0)

    @gg.function
    def step(x, y):
        with gg.GradientTape() as tape:
            loss = gg.reduce_mean(gg.square(gg.reduce_sum(x * w, 1) + b - y))
        for v, g in zip([w, b], tape.gradient(loss, [w, b])):
            v.assign_sub(0.1 * g)
        return loss

    losses = [float(step(data, target)) for _ in range(200)]
    assert losses[-1] < 1e-6 < losses[0]
    assert count(step) == 1
    np.testing.assert_allclose(w, [1, -2, 0.5], atol=1e-3)


def test_running_eagerly():
    f = gg.function(lambda x: x * x.numpy())
    with pytest.raises(gg.errors.TraceError):
        f(gg.constant(2.0))
    gg.config.run_functions_eagerly(True)
    try:
        assert gg.config.functions_run_eagerly()
        assert float(f(gg.constant(2.0))) == 4
    finally:
        gg.config.run_functions_eagerly(False)


def test_interpreted():
    f = gg.function(lambda x: gg.reduce_sum(gg.sin(x)), jit_compile=False)
    x = gg.constant(np.linspace(0, 1, 7))
    np.testing.assert_allclose(f(x), np.sin(np.linspace(0, 1, 7)).sum())
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    np.testing.assert_allclose(tape.gradient(y, x), np.cos(np.linspace(0, 1, 7)))


def test_leaked_tensors():
    kept = []

    @gg.function
    def f(x):
        kept.append(x * 2)
        return x

    with pytest.warns(gg.errors.SideEffectWarning, match="`kept`"):
        f(gg.constant(1.0))
    with pytest.raises(
        TypeError, match=r"a symbolic tensor f32\[\] of the function `f` is used outside"
    ) as e:
        kept[0] + 1
    assert "kept.append(x * 2)" in str(e.value)


def test_max_traces():
    f = gg.function(lambda x: x * 2, max_traces=2)
    f(gg.zeros(1))
    f(gg.zeros(2))
    with pytest.raises(
        gg.errors.TraceError,
        match=r"max_traces=2 times; the new call differs in x: f32\[\d\] -> f32\[3\]",
    ):
        f(gg.zeros(3))
    f(gg.zeros(2))


def test_traces_say_why():
    f = gg.function(lambda x, n: x * n)
    f(gg.zeros(2), 1)
    f(gg.zeros(2), 2)
    f(gg.zeros(3), 2)
    table = f.traces()
    assert len(table) == 3
    assert table[1].difference == "n: int 1 -> int 2"
    assert table[2].difference == "x: f32[2] -> f32[3]"
    text = str(table)
    assert "test_function.py" in text
    assert "(x: f32[2], n: int 1)" in text


def test_inspection():
    f = gg.function(lambda x: gg.reduce_sum(gg.exp(x) * 1.0))
    with pytest.raises(ValueError, match="has not been traced yet"):
        f.ir()
    f(gg.zeros(4))
    assert "mul" in f.ir()
    assert "mul" not in f.ir("after")
    assert "test_function.py" in f.ir()
    assert f.kernels()
    assert "times 1" in f.report()
    with pytest.raises(ValueError, match="before"):
        f.ir("sideways")


def test_functions_of_nothing():
    v = gg.Variable(1.0)
    f = gg.function(lambda: v.assign_add(1.0) * 1)
    assert (float(f()), float(f())) == (2, 3)
    assert gg.function(lambda: None)() is None


def test_constants_and_shapes_in_a_trace():
    @gg.function
    def f(x):
        return x + gg.ones(x.shape) + gg.zeros_like(x) + gg.constant([1.0, 2.0]) + np.float32(1)

    np.testing.assert_array_equal(f(gg.zeros(2)), [3, 4])


def test_large_captured_arrays_are_by_reference():
    table = np.arange(100.0, dtype=np.float32)
    f = gg.function(lambda x: x * table)
    assert float(f(gg.ones(100))[3]) == 3
    table[3] = 50
    assert float(f(gg.ones(100))[3]) == 50


def test_numpy_functions_in_a_trace():
    f = gg.function(lambda x: np.sum(np.sin(x)))
    assert float(f(gg.zeros(3))) == 0
    with pytest.raises(gg.errors.TraceError, match=r"np\.median"):
        gg.function(lambda x: np.median(x))(gg.zeros(3))


def test_views_as_arguments():
    f = gg.function(lambda x: x + 0.0)
    x = gg.transpose(gg.constant([[1.0, 2.0], [3.0, 4.0]]))
    np.testing.assert_array_equal(f(x), [[1, 3], [2, 4]])
    np.testing.assert_array_equal(f(x), [[1, 3], [2, 4]])
    np.testing.assert_array_equal(f(gg.constant([[1.0, 2.0, 3.0]])[:, ::-1]), [[3, 2, 1]])


def test_running_eagerly_gives_what_a_trace_gives():
    v = gg.Variable(2.0)
    f = gg.function(lambda x: (x, 1, v, "text", None, x * v, {"n": np.ones(2)}))
    compiled = f(np.ones(2))
    gg.config.run_functions_eagerly(True)
    try:
        eager = f(np.ones(2))
    finally:
        gg.config.run_functions_eagerly(False)
    for a, b in zip(gg.nest.flatten(compiled), gg.nest.flatten(eager)):
        assert type(a) is type(b)
        if isinstance(a, gg.Tensor):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_what_is_no_function():
    with pytest.raises(TypeError, match=r"gg\.function: takes a function, got 5"):
        gg.function(5)

    def generate(x):
        yield x

    with pytest.raises(ValueError, match="is a generator or coroutine function"):
        gg.function(generate)


def test_wrappers_of_the_library_are_not_guarded():
    scale = 2.0
    f = gg.function(gg.vmap(gg.grad(lambda x: x * x * scale)))
    np.testing.assert_array_equal(f(gg.constant([1.0, 2.0])), [4, 8])
    (trace,) = f._all
    labels = {g.label for g in trace.guards.guards.values()}
    assert "scale" in labels
    assert not labels & {"ops", "state", "nest"}
    scale = 3.0
    np.testing.assert_array_equal(f(gg.constant([1.0, 2.0])), [6, 12])


def test_one_trace_for_every_size_of_a_reversed_axis():
    f = gg.function(lambda x: x[::-1], input_signature=[gg.TensorSpec([None, 2])])
    for n in (3, 1, 0, 1000):
        assert f(gg.ones((n, 2))).shape == (n, 2)
    assert count(f) == 1


def test_arguments_beyond_the_input_signature_count_by_value():
    f = gg.function(lambda x, k=2: x * k, input_signature=[gg.TensorSpec([None])])
    x = gg.constant([1.0, 2.0])
    for _ in range(2):
        np.testing.assert_array_equal(f(x), [2, 4])
        np.testing.assert_array_equal(f(x, 3), [3, 6])
        np.testing.assert_array_equal(f(x, k=4), [4, 8])
    assert count(f) == 3


def test_what_is_no_signature():
    with pytest.raises(ValueError, match="TensorSpec: give the rank"):
        gg.TensorSpec(None)
    with pytest.raises(TypeError, match="input_signature is a list with an entry an argument"):
        gg.function(lambda x: x, input_signature=gg.TensorSpec([None]))
