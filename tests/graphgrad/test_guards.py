"""What a trace took from Python's state is guarded: a change leads to a new trace."""

import numpy as np
import pytest

import graphgrad as gg

pytestmark = pytest.mark.usefixtures("entry")

RATE = 2.0
TABLE = {"k": 3.0}
WEIGHT = gg.constant([2.0] * 20)


def count(f):
    return f.experimental_get_tracing_count()


def helper(x):
    return x * RATE


@pytest.fixture
def _restore(monkeypatch):
    monkeypatch.setitem(globals(), "RATE", 2.0)
    monkeypatch.setitem(globals(), "WEIGHT", WEIGHT)
    monkeypatch.setitem(TABLE, "k", 3.0)


X = gg.constant(1.0)


@pytest.mark.usefixtures("_restore")
def test_globals():
    f = gg.function(lambda x: x * RATE)
    assert float(f(X)) == 2
    globals()["RATE"] = 5.0
    assert float(f(X)) == 5
    globals()["RATE"] = 2.0
    assert float(f(X)) == 2
    assert count(f) == 2
    globals()["RATE"] = 2
    f(X)
    assert count(f) == 3
    assert "the Python value `RATE`" in f.traces()[1].difference


@pytest.mark.usefixtures("_restore")
def test_globals_of_helpers():
    f = gg.function(lambda x: helper(x) + 1)
    assert float(f(X)) == 3
    globals()["RATE"] = 5.0
    assert float(f(X)) == 6


@pytest.mark.usefixtures("_restore")
def test_containers_by_contents():
    f = gg.function(lambda x: x * TABLE["k"])
    assert float(f(X)) == 3
    TABLE["k"] = 4.0
    assert float(f(X)) == 4


def test_closure_cells():
    rate = 2.0

    def set_rate(value):
        nonlocal rate
        rate = value

    f = gg.function(lambda x: x * rate)
    assert float(f(X)) == 2
    set_rate(7.0)
    assert float(f(X)) == 7
    assert count(f) == 2


def test_lists():
    factors = [2.0, 3.0]

    @gg.function
    def f(x):
        for k in factors:
            x = x * k
        return x

    assert float(f(X)) == 6
    factors.append(4.0)
    assert float(f(X)) == 24
    factors[0] = 1.0
    assert float(f(X)) == 12
    nested = [[1.0], {"a": [2.0]}]
    g = gg.function(lambda x: x * nested[1]["a"][0])
    assert float(g(X)) == 2
    nested[1]["a"][0] = 5.0
    assert float(g(X)) == 5


def test_attributes_of_self_and_of_what_it_calls():
    class Layer:
        def __init__(self, k):
            self.k = k

        def __call__(self, x):
            return x * self.k

    class Model:
        def __init__(self):
            self.rate = 2.0
            self.layers = [Layer(3.0), Layer(5.0)]
            self.inner = Layer(7.0)

        def scaled(self, x):
            return x * self.rate

        @property
        def half(self):
            return self.rate / 2

        @gg.function
        def __call__(self, x):
            for layer in self.layers:
                x = layer(x)
            return self.scaled(x) + self.inner(x) * self.half

    m = Model()
    assert float(m(X)) == 15 * 2 + 15 * 7
    m.rate = 4.0
    assert float(m(X)) == 15 * 4 + 15 * 7 * 2
    m.layers[1].k = 1.0
    assert float(m(X)) == 3 * 4 + 3 * 7 * 2
    m.inner.k = 0.0
    assert float(m(X)) == 12
    m.layers.append(Layer(2.0))
    assert float(m(X)) == 24


def test_attributes_through_a_local_name():
    class Config:
        rate = 2.0

    config = Config()

    @gg.function
    def f(x):
        c = config
        return x * c.rate

    assert float(f(X)) == 2
    config.rate = 3.0
    assert float(f(X)) == 3


@pytest.mark.usefixtures("_restore")
def test_rebound_tensors_are_read_anew():
    f = gg.function(lambda x: x * WEIGHT)
    assert float(f(X)[0]) == 2
    globals()["WEIGHT"] = gg.constant([5.0] * 20)
    assert float(f(X)[0]) == 5
    assert count(f) == 1
    globals()["WEIGHT"] = gg.constant([5.0] * 21)
    assert f(X).shape == (21,)
    assert count(f) == 2


def test_rebound_variables_lead_to_a_new_trace():
    box = {"v": gg.Variable(2.0)}
    f = gg.function(lambda x: x * box["v"])
    assert float(f(X)) == 2
    box["v"].assign(3.0)
    assert float(f(X)) == 3
    assert count(f) == 1
    box["v"] = gg.Variable(9.0)
    assert float(f(X)) == 9


def test_arrays_by_contents():
    a = np.array([1.0, 2.0], np.float32)
    f = gg.function(lambda x: x * a)
    np.testing.assert_array_equal(f(X), [1, 2])
    a[0] = 7
    np.testing.assert_array_equal(f(X), [7, 2])


def test_functions_by_identity():
    box = [lambda x: x * 2]
    f = gg.function(lambda x: box[0](x))
    assert float(f(X)) == 2
    box[0] = lambda x: x * 3
    assert float(f(X)) == 3


def test_module_attributes():
    import types

    module = types.ModuleType("user_config")
    module.rate = 2.0
    f = gg.function(lambda x: x * module.rate)
    assert float(f(X)) == 2
    module.rate = 3.0
    assert float(f(X)) == 3


def test_no_guards_where_nothing_is_read():
    f = gg.function(lambda x: gg.sin(x) * 2)
    f(X)
    assert f.traces()[0].check is None


def test_side_effects_are_reported_once_and_do_not_retrace():
    seen = []

    class Counter:
        n = 0

        @gg.function
        def __call__(self, x):
            self.n += 1
            seen.append(self.n)
            return x * 2

    c = Counter()
    with pytest.warns(
        gg.errors.SideEffectWarning,
        match=r"changes the Python value `(self.n|seen)` \(in test_guards.py:\d+",
    ):
        c(X)
    c(X)
    assert c.n == 1
    assert seen == [1]


def test_a_nan_guard_holds():
    value = float("nan")
    f = gg.function(lambda x: x * value)
    f(X)
    f(X)
    assert count(f) == 1
