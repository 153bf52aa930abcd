"""gg.function: running eagerly and interpreted, recursion, effects, and creation of variables."""

import contextlib
import inspect
import warnings

import numpy as np
import pytest

import graphgrad as gg

ONE = gg.constant(1.0)


def count(f):
    return f.experimental_get_tracing_count()


class Model:
    def __init__(self):
        self.w = gg.Variable([1.0, 2.0])
        self.calls = gg.Variable(0)
        self.rate = 0.5

    def loss(self, x, y):
        return gg.reduce_mean(gg.square(x * self.w - y))

    def step(self, batch, *, scale=1.0):
        with gg.GradientTape() as tape:
            loss = self.loss(batch["x"], batch["y"]) * scale
        self.w.assign_sub(self.rate * tape.gradient(loss, self.w))
        self.calls.assign_add(1)
        return {"loss": loss, "calls": self.calls.value(), "scale": scale, "none": None}


def run(make):
    m = Model()
    step = make(m.step)
    batch = {"x": np.float32([[1, 2], [3, 4]]), "y": gg.ones((2, 2))}
    outs = [step(batch, scale=s) for s in (1.0, 1.0, 2.0)]
    return [gg.nest.flatten(out) for out in outs], m.w.numpy(), int(m.calls)


@contextlib.contextmanager
def nothing():
    yield


@pytest.mark.parametrize(
    ("make", "manager"),
    [
        (gg.function, gg.config.disable_jit),
        (lambda f: gg.function(f, jit_compile=False), nothing),
        (lambda f: gg.function(f, jit_compile=True), nothing),
        (lambda f: gg.function(lambda *a, **k: gg.function(f)(*a, **k)), nothing),
    ],
    ids=["eagerly", "interpreted", "compiled", "nested"],
)
def test_every_mode_gives_the_same(make, manager):
    wanted, w, calls = run(gg.function)
    with manager():
        found, other_w, other_calls = run(make)
    for a, b in zip(wanted, found):
        assert [type(x) for x in a] == [type(x) for x in b]
        for x, y in zip(a, b):
            if x is not None:
                assert x.dtype == y.dtype
                np.testing.assert_allclose(x, y, rtol=1e-6)
    np.testing.assert_allclose(w, other_w, rtol=1e-6)
    assert calls == other_calls == 3


def test_disabling_is_undone_and_nests():
    with gg.config.disable_jit():
        with gg.config.disable_jit():
            pass
        assert gg.config.functions_run_eagerly()
        with pytest.raises(KeyError), gg.config.disable_jit():
            raise KeyError
        assert gg.config.functions_run_eagerly()
    assert not gg.config.functions_run_eagerly()


def test_input_signatures_apply_eagerly():
    f = gg.function(lambda x: x, input_signature=[gg.TensorSpec([None])])
    with gg.config.disable_jit():
        assert f([1, 2]).dtype == gg.float32
        with pytest.raises(TypeError, match="the input signature wants"):
            f(1.0)


def test_shapes_without_computing():
    spec = gg.TensorSpec

    def f(x, n=2, *, scale):
        return {"sum": gg.reduce_sum(x, 1) * scale, "more": (gg.concat([x] * n, 0), x.shape[0])}

    out = gg.eval_shape(f, spec([None, 3], gg.float64), scale=gg.constant(2.0, gg.float64))
    assert out["sum"] == spec([None], gg.float64)
    assert out["more"] == (spec([None, 3], gg.float64), spec([], gg.int32))
    assert gg.eval_shape(f, np.ones((2, 3)), 3, scale=1.0)["more"][0] == spec([6, 3], gg.float64)
    with pytest.raises(ValueError, match="inner sizes differ"):
        gg.eval_shape(gg.matmul, gg.ones((2, 3)), gg.ones((2, 3)))


def test_recursion_through_others_and_methods():
    @gg.function
    def a(x):
        return b(x)

    @gg.function
    def b(x):
        return a(x)

    with pytest.raises(gg.errors.TraceError, match="`a` calls itself while it is traced"):
        a(ONE)

    class Tree:
        @gg.function
        def walk(self, x):
            return self.walk(x)

    with pytest.raises(gg.errors.TraceError, match="`walk` calls itself while it is traced"):
        Tree().walk(ONE)

    @gg.function
    def grows(x, n):
        return grows(x, n + 1)

    with pytest.raises(
        gg.errors.TraceError, match=r"`grows` calls itself \d+ times .* does it end"
    ):
        grows(ONE, 0)
    assert float(gg.function(lambda x: x + 1)(ONE)) == 2

    @gg.function
    def shrinks(x):
        return x if x.shape[0] == 1 else shrinks(x[:-1])

    assert shrinks(gg.ones(5)).shape == (1,)


def test_methods_of_temporaries():
    class Scaled:
        def __init__(self, k):
            self.k = k

        @gg.function
        def __call__(self, x):
            return x * self.k

        @gg.function
        def call(self, x):
            return Scaled(self.k + 1).call_other(x)

        @gg.function
        def call_other(self, x):
            return x * self.k

    for k in (2.0, 3.0):
        assert float(Scaled(k)(ONE)) == k
        assert float(Scaled(k).call(ONE)) == k + 1
        assert Scaled(k).call.get_concrete_function(ONE) is not None


@pytest.mark.parametrize("kind", ["global", "cell", "list", "dict", "set", "attribute", "array"])
def test_side_effects_of_every_kind_are_noticed_once(kind):
    counter, items, table, elements = 0, [], {}, set()
    state, array = Model(), np.zeros(3)

    def f(x):
        nonlocal counter
        global TRACED
        match kind:
            case "global":
                TRACED += 1
            case "cell":
                counter += 1
            case "list":
                items.append(1)
            case "dict":
                table[len(table)] = 1
            case "set":
                elements.add(len(elements))
            case "attribute":
                state.rate += 1.0
            case "array":
                array[0] += 1
        return x

    line = inspect.getsourcelines(f)[1]
    g = gg.function(f)
    with pytest.warns(gg.errors.SideEffectWarning, match="changes the Python value") as seen:
        [g(x) for x in (ONE, ONE, gg.ones(2))]
    assert len(seen) == 1
    assert seen[0].filename == __file__
    text = str(seen[0].message)
    assert "happens while the function is traced, not at each call; keep state in a gg.Var" in text
    number = int(text.partition("test_function_modes.py:")[2].partition(")")[0])
    assert line < number < line + 20
    assert count(g) == 2


TRACED = 0


def test_what_is_written_and_never_read_is_noticed_too():
    class Plain:
        rate = 0.5

    cell, state = None, Plain()
    state.inner = Plain()

    def helper(m, x):
        m.inner.last = x

    @gg.function
    def f(x):
        nonlocal cell
        global TRACED
        cell = x
        TRACED = "now"
        helper(state, x * 2)
        made = Plain()
        made.rate, made.other = 1.0, x
        return x * made.rate

    with pytest.warns(gg.errors.SideEffectWarning) as seen:
        f(ONE)
    texts = [str(w.message) for w in seen]
    labels = {t.split("`")[3]: t.partition("(in ")[2].partition(")")[0] for t in texts}
    assert labels.keys() == {"cell", "TRACED", "state.inner.last"}
    lines, start = inspect.getsourcelines(test_what_is_written_and_never_read_is_noticed_too)
    for label, part in {
        "cell": "cell = x",
        "TRACED": "TRACED =",
        "state.inner.last": ".last =",
    }.items():
        number = next(i for i, text in enumerate(lines, start) if part in text)
        assert labels[label] == f"test_function_modes.py:{number}"
    assert count(f) == 1
    with pytest.raises(gg.errors.LeakedTensorError):
        state.inner.last + 1


def test_what_is_not_written_after_all_is_not_guarded():
    state, flag = Model(), False

    @gg.function
    def f(x):
        nonlocal flag
        if x.shape == (7,):
            flag = True
            state.last = x
        return x

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f(ONE)
    flag = 5
    f(ONE)
    assert count(f) == 1


def test_reading_is_no_side_effect():
    state, items = Model(), [1.0, 2.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gg.function(lambda x: x * state.rate * items[0] * state.w)(ONE)


def test_variables_that_are_created_where():
    made = {}

    def variable(name, value=2.0):
        if name not in made:
            made[name] = gg.Variable(value)
        return made[name]

    inner = gg.function(lambda x: variable("inner") * x)
    outer = gg.function(lambda x: inner(x) + inner(x))
    assert [float(outer(ONE)), float(outer(ONE)), float(inner(ONE))] == [4, 4, 2]
    branch = gg.function(lambda x: gg.cond(x > 0, lambda: variable("branch") * x, lambda: x))
    assert [float(branch(ONE)), float(branch(-ONE))] == [2, -1]
    lazy = gg.function(lambda x: variable("lazy", lambda: gg.ones(2) * 3) * x)
    np.testing.assert_array_equal(lazy(ONE), [3, 3])
    with gg.GradientTape() as tape:
        y = gg.function(lambda x: variable("tape") * x)(ONE)
    assert float(tape.gradient(y, made["tape"])) == 1

    f = gg.function(lambda x: variable(x.shape[0], 1.0) * x)
    f(gg.ones(2))
    with pytest.raises(ValueError, match=r"only supports singleton gg\.Variables created"):
        f(gg.ones(3))
    assert f(gg.ones(2)).shape == (2,)
    with pytest.raises(RuntimeError, match="must not depend on the arguments of the function"):
        gg.function(lambda x: gg.Variable(x) * 1)(ONE)


def test_user_exceptions_pass_unchanged():
    class Mine(Exception):
        pass

    original = Mine("a", 3)

    @gg.function
    def f(x):
        try:
            raise KeyError
        except KeyError as e:
            raise original from e

    with pytest.raises(Mine) as e:
        f(ONE)
    assert e.value is original
    assert e.value.args == ("a", 3)
    assert isinstance(e.value.__cause__, KeyError)


def test_an_interrupted_trace_leaves_nothing_behind():
    stop = [True]

    @gg.function
    def f(x):
        if stop:
            raise KeyboardInterrupt
        return x * 2

    with pytest.raises(KeyboardInterrupt):
        f(ONE)
    stop.clear()
    assert float(f(ONE)) == 2
    assert float(ONE + 1) == 2
