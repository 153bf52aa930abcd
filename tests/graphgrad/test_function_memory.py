"""What functions hold on to: nothing that is not needed for a call that may come."""

import gc
import warnings
import weakref

import numpy as np
import pytest

import graphgrad as gg

pytestmark = pytest.mark.usefixtures("entry")

ONE = gg.constant(1.0)


class Object:
    pass


class Array(np.ndarray):
    """An array that can be referred to weakly."""


class Model:
    def __init__(self):
        self.w = gg.Variable(gg.ones(100))
        self.other = Object()

    @gg.function
    def __call__(self, x):
        return self.scaled(x) * 2

    @gg.function
    def step(self, x):
        self.w.assign_sub(x)
        return x

    def scaled(self, x):
        return x * self.w


def called(f, *args):
    for _ in range(5):
        f(*args)
    return f


def gone(*references):
    gc.collect()
    return [r() is None for r in references]


def test_functions_and_what_they_close_over():
    def make():
        array, tensor, kept = np.zeros(1000, np.float32).view(Array), gg.zeros(1000), Object()

        def python_function(x):
            return x + array + tensor if kept else x

        f = called(gg.function(python_function), ONE)
        with gg.GradientTape() as tape:
            tape.watch(ONE)
            y = f(ONE)
        tape.gradient(y, ONE)
        return [weakref.ref(x) for x in (array, tensor, kept, python_function, f, f._all[0])]

    assert all(gone(*make()))


def test_arguments_and_results():
    f = gg.function(lambda x, p: {"y": x * p["k"]})
    x, k = gg.zeros(1000), np.ones(1000, np.float32).view(Array)
    called(f, x, {"k": k})
    y = f(x, {"k": k})["y"]
    references = weakref.ref(x), weakref.ref(x.array), weakref.ref(k), weakref.ref(y)
    del x, k, y
    assert all(gone(*references))


def test_models_with_methods():
    m = Model()
    called(m, ONE)
    called(m.step, ONE)
    with gg.GradientTape() as tape:
        y = m(ONE)
    tape.gradient(y, m.w)
    references = [weakref.ref(x) for x in (m, m.w, m.other, m.step, m.__call__)]
    del m, tape, y
    assert all(gone(*references))
    assert not [r for r, _ in Model.__dict__["step"]._bound.values() if r() is None]


def test_functions_of_bound_methods():
    m = Model()
    f = called(gg.function(m.scaled), ONE)
    references = weakref.ref(m), weakref.ref(m.w), weakref.ref(f)
    del m, f
    assert all(gone(*references))


@pytest.mark.parametrize("get", [lambda m: m, lambda m: m.scaled], ids=["object", "method"])
def test_objects_that_are_arguments_take_their_traces_with_them(get):
    f = gg.function(lambda call, x: call(x))
    m, other = Model(), Model()
    called(f, get(m), ONE)
    called(f, get(other), ONE)
    assert len(f.traces()) == 2
    references = weakref.ref(m), weakref.ref(m.w), weakref.ref(m.other)
    del m
    assert all(gone(*references))
    assert len(f.traces()) == 1
    called(f, get(other), ONE)
    assert f.experimental_get_tracing_count() == 2


def test_what_a_dropped_function_argument_closed_over():
    f = gg.function(lambda g, x: g(x))

    def make():
        kept = Object()
        return lambda x: x * 2 if kept else x, weakref.ref(kept)

    g, reference = make()
    called(f, g, ONE)
    del g
    assert gone(reference) == [True]


def test_functions_made_in_a_trace():
    references = []

    @gg.function
    def outer(x):
        inner = gg.function(lambda y: y * 2)
        references.append(weakref.ref(inner))
        return inner(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it changes `references`
        called(outer, ONE)
    assert gone(*references) == [True]


def test_functions_that_fail_while_they_are_traced():
    def make():
        kept = Object()

        @gg.function
        def f(x):
            raise ValueError(kept)

        return f, weakref.ref(kept)

    f, reference = make()
    with pytest.raises(ValueError):
        f(gg.ones(3))
    references = reference, weakref.ref(f)
    del f
    assert all(gone(*references))


def test_an_object_that_goes_while_a_function_is_traced():
    f = gg.function(lambda m, x, then: then(x))
    m = Model()
    box = [m]
    f(m, ONE, gg.sin)

    def drops(x):
        box.clear()
        gc.collect()
        return x * 3

    del m
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert float(f(None, ONE, drops)) == 3
    f(None, gg.ones(2), gg.sin)
    assert len(f.traces()) == 2  # without that of the model


def test_large_tensors_of_arrays_begin_at_a_cache_line():
    for make in (gg.constant, gg.Variable, gg.convert_to_tensor):
        for _ in range(3):
            x = make(np.zeros((300, 300), np.float32))
            assert np.asarray(x).ctypes.data % 64 == 0
