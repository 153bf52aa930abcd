"""Why a function was traced again: every cause is named with its argument, and a way out."""

import collections
import gc
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import graphgrad as gg

ONE = gg.constant(1.0)
RATE = {"value": 2.0}


class Model:
    def __init__(self, k=2.0):
        self.k = k


def cause(f, *calls):
    """What the last trace differs in, after calls that each lead to one."""
    for args, kwargs in calls:
        f(*args, **kwargs)
    table = f.traces()
    assert len(table) == len(calls)
    return table[-1].difference


def call(*args, **kwargs):
    return args, kwargs


KEPT = [Model(), Model()]  # objects in arguments live on


@pytest.mark.parametrize(
    ("function", "calls", "text"),
    [
        (lambda x, y: x + y, [call(ONE, gg.ones(2)), call(ONE, gg.ones(3))], "y: f32[2] -> f32[3]"),
        (lambda x: x, [call(ONE), call(gg.ones((2, 2)))], "x: f32[] -> f32[2, 2]"),
        (lambda x: x, [call(ONE), call(np.float64(1))], "x: f32[] -> f64[]"),
        (lambda x, n: x * n, [call(ONE, 1), call(ONE, 2)], "n: int 1 -> int 2"),
        (lambda x, n: x * n, [call(ONE, 1), call(ONE, 1.0)], "n: int 1 -> float 1.0"),
        (lambda x, n: x * n, [call(ONE, ONE), call(ONE, 1)], "n: f32[] -> int 1"),
        (lambda x, n: x, [call(ONE, None), call(ONE, ONE)], "n: NoneType None -> f32[]"),
        (lambda x, m: x, [call(ONE, "a"), call(ONE, m="b")], "m: str 'a' -> str 'b'"),
        (lambda x, m: x, [call(ONE, k) for k in KEPT], "m: object Model -> another"),
        (lambda x, *, k: x, [call(ONE, k=1), call(ONE, k=2)], "k: int 1 -> int 2"),
        (
            lambda x, p: x,
            [call(ONE, {"w": [1, ONE]}), call(ONE, {"w": [1, gg.ones(2)]})],
            "p['w'][1]: f32[] -> f32[2]",
        ),
        (lambda x, p: x, [call(ONE, [1]), call(ONE, [1, 1])], "p: list of 1 -> list of 2"),
        (lambda x, p: x, [call(ONE, [1]), call(ONE, (1,))], "p: list of 1 -> tuple of 1"),
        (
            lambda p: 1,
            [call({"a": {"b": ONE}}), call({"a": {"b": ONE, "c": ONE}})],
            "p['a']: dict with 'b' -> dict with 'b', 'c'",
        ),
        (lambda x, p: x, [call(ONE, [ONE]), call(ONE, ONE)], "p: list of 1 -> f32[]"),
        (lambda *xs: 1, [call(ONE), call(ONE, ONE)], "the number of positional arguments: 1 -> 2"),
        (lambda *xs: 1, [call(ONE, 1), call(ONE, 2)], "xs[1]: int 1 -> int 2"),
        (lambda **kw: 1, [call(a=ONE), call(b=ONE)], "the keyword arguments: a -> b"),
        (
            lambda x, n, y: x,
            [call(ONE, 1, ONE), call(gg.ones(2), 2, ONE)],
            "x: f32[] -> f32[2]; n: int 1 -> int 2",
        ),
    ],
)  # fmt: skip
def test_arguments(function, calls, text):
    assert cause(gg.function(function), *calls) == text


def test_the_nearest_trace_is_the_one_compared_with():
    f = gg.function(lambda x, n: x)
    f(gg.ones(2), 1)
    f(gg.ones((2, 2)), 1000)
    assert cause(f, call(gg.ones(2), 1), call(gg.ones((2, 2)), 1000), call(gg.ones(2), 1000)) == (
        "x: f32[2, 2] -> f32[2]"
    )


def test_python_state(monkeypatch):
    box = SimpleNamespace(rate=2.0, table=gg.constant([1.0] * 20), variable=gg.Variable(1.0))
    names = [1.0]
    f = gg.function(lambda x: x * RATE["value"] * box.rate * box.table * box.variable * names[0])
    f(ONE)

    def after(change):
        change()
        f(ONE)
        return f.traces()[-1].difference

    assert "the Python value `box.rate`: 2.0 -> 3.0" in after(lambda: setattr(box, "rate", 3.0))
    text = after(lambda: setattr(box, "table", gg.constant([1.0] * 21)))
    assert "the Python value `box.table`: f32[20] -> f32[21] (read in test_retracing.py:" in text
    assert "`box.variable`" in after(lambda: setattr(box, "variable", gg.Variable(2.0)))
    assert "`names`" in after(lambda: names.append(2.0))
    assert "`RATE`" in after(lambda: monkeypatch.setitem(RATE, "value", 9.0))


def test_functions_that_are_called():
    box = [lambda x: x * 2]
    f = gg.function(lambda x: box[0](x))
    f(ONE)
    box[0] = lambda x: x * 3
    assert float(f(ONE)) == 3
    assert "the Python value `box`" in f.traces()[1].difference


def test_sizes_on_which_a_trace_relies():
    f = gg.function(
        lambda x: x * 2 if x.shape[0] > 3 else x, input_signature=[gg.TensorSpec([None])]
    )
    f(gg.ones(4))
    f(gg.ones(5))
    f(gg.ones(2))
    assert [t.difference for t in f.traces()] == ["", "the condition n >= 4 on sizes"]


def test_shapes_of_variables():
    v = gg.Variable(gg.ones(2), shape=[None])
    f = gg.function(lambda x: x * v)
    f(ONE)
    v.assign(gg.ones(3))
    f(ONE)
    assert f.traces()[1].difference == "the shape of the variable `Variable:0`: [2] -> [3]"


def test_proposed_signatures():
    def proposed(*calls, function=lambda *args, **kwargs: 1):
        f = gg.function(function)
        for args, kwargs in calls:
            f(*args, **kwargs)
        return f.traces().proposed_input_signature

    spec = gg.TensorSpec
    rows = [call(gg.ones((n, 3)), gg.ones(2)) for n in (1, 2)]
    assert proposed(*rows) == [spec([None, 3]), spec([2])]
    assert proposed(*[call({"w": [gg.ones(n)], "none": None}) for n in (1, 2)]) == [
        {"w": [spec([None])], "none": None}
    ]
    assert proposed(*[call(gg.ones(n), 3) for n in (1, 2)]) == [spec([None])]
    assert proposed(*[call(3, gg.ones(n)) for n in (1, 2)]) is None
    assert proposed(*[call(k=gg.ones(n)) for n in (1, 2)]) is None
    assert proposed(call(gg.ones(1)), call(gg.ones((1, 1)))) is None
    assert proposed(call(gg.ones(1))) is None
    assert proposed(call(ONE, 1), call(ONE, 2)) is None


def test_proposed_signatures_are_python():
    f = gg.function(lambda x, p: gg.reduce_sum(x) * p["k"])
    for n in (1, 2):
        f(gg.ones((n, 3)), {"k": ONE})
    line = str(f.traces()).splitlines()[-1]
    assert line == (
        "  one trace for all sizes: input_signature=[gg.TensorSpec([None, 3], gg.float32), "
        "{'k': gg.TensorSpec([], gg.float32)}]"
    )
    g = eval(f"gg.function(f.python_function, {line.partition(': ')[2]})", {"gg": gg, "f": f})
    for n in (1, 2, 5):
        g(gg.ones((n, 3)), {"k": ONE})
    assert g.experimental_get_tracing_count() == 1


def test_max_traces_says_what_to_do():
    f = gg.function(lambda x: x * 2, max_traces=2)
    f(gg.ones(1))
    f(gg.ones(2))
    with pytest.raises(gg.errors.TraceError) as e:
        f(gg.ones(3))
    text = str(e.value)
    assert "more than max_traces=2 times; the new call differs in x: f32[2] -> f32[3]" in text
    assert "input_signature=[gg.TensorSpec([None], gg.float32)], or reduce_retracing=True" in text
    assert "2 traces" in text
    assert float(f(gg.ones(2))[0]) == 2


def retracing(f, calls):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for args in calls:
            f(*args)
    return seen


@pytest.mark.parametrize(
    ("calls", "cause", "advice"),
    [
        ([(gg.ones(n),) for n in range(1, 8)], "x: f32[4] -> f32[5]",
         "Leave sizes open that vary: input_signature=[gg.TensorSpec([None], gg.float32)], or "
         "reduce_retracing=True."),
        ([(n,) for n in range(1, 8)], "x: int 4 -> int 5",
         "Pass `x` as a tensor: Python numbers count by value."),
        ([(Model(),) for _ in range(7)], "x: object Model -> another",
         "Pass the same object as `x` each time: objects count by identity."),
        ([([1] * n,) for n in range(7)], "x: list of 3 -> list of 4", "Pass `x` in one form."),
    ],
)  # fmt: skip
def test_a_warning_after_five_traces_in_few_calls(calls, cause, advice):
    f = gg.function(lambda x: 1)
    (warning,) = retracing(f, calls)
    assert warning.category is gg.errors.RetracingWarning
    assert warning.filename == __file__
    assert str(warning.message) == (
        "5 out of the last 5 calls to `<lambda>` triggered gg.function retracing, the last one for "
        f"{cause}. Tracing and compiling cost far more than a call. {advice}"
    )


def test_a_warning_for_state_and_for_objects_that_are_gone():
    box = SimpleNamespace(step=0)
    f = gg.function(lambda x: x * box.step)

    def steps():
        for box.step in range(6):
            yield (ONE,)

    (warning,) = retracing(f, steps())
    assert "the Python value `box.step`: 3 -> 4" in str(warning.message)
    assert "Keep in a gg.Variable, or pass as a tensor" in str(warning.message)
    g = gg.function(lambda m: 1)
    (warning,) = retracing(g, ((Model(),) for _ in range(7)))
    assert "m: an object that is gone -> object Model" in str(warning.message)


def test_no_warning_where_traces_are_few_or_wanted():
    def f(x):
        return x * 2

    sizes = [gg.ones(n) for n in range(1, 8)]
    often = [(x,) for x in sizes for _ in range(3)]
    assert retracing(gg.function(f), often) == []
    assert retracing(gg.function(f, reduce_retracing=True), [(x,) for x in sizes]) == []
    assert retracing(gg.function(f, max_traces=10), [(x,) for x in sizes]) == []
    concrete = gg.function(f)
    for x in sizes:
        concrete.get_concrete_function(x)
    assert retracing(concrete, [(x,) for x in sizes]) == []


def test_relaxing_sizes():
    f = gg.function(lambda x, y: gg.reduce_sum(x) * y, reduce_retracing=True)
    for n in (1, 2, 3, 4, 1):
        assert float(f(gg.ones((n, 3)), ONE)) == 3 * n
    assert f.experimental_get_tracing_count() == 2
    assert float(f(gg.ones((2, 5)), ONE)) == 10
    assert float(f(gg.ones((7, 7)), ONE)) == 49
    assert f.experimental_get_tracing_count() == 3
    assert f.traces()[2].signature_text == "x: f32[None, None], y: f32[]"
    f(gg.ones(3), ONE)  # another rank is another trace
    assert f.experimental_get_tracing_count() == 4


def test_ranks_are_not_left_open():
    with pytest.raises(ValueError, match="give the rank, with None for each open size"):
        gg.TensorSpec(None)


def test_traces_of_objects_that_are_gone_do_not_pile_up():
    f = gg.function(lambda g, x: g(x))
    counts = collections.Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(20):
            f(lambda x, i=i: x * i, ONE)
            gc.collect()
            counts[len(f.traces())] += 1
    assert max(counts) <= 1
    assert f.experimental_get_tracing_count() == 20
