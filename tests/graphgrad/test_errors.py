"""The texts of errors: what is wrong, the user's own line, and the way out."""

import traceback
import warnings

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.compiler.source import is_internal


def message(f, kind=gg.errors.GraphgradError):
    with pytest.raises(kind) as e:
        f()
    return str(e.value)


def both(f, *args):
    """The text of the eager error and of the one of a function."""
    texts = []
    for g in (f, gg.function(f)):
        texts.append(message(lambda g=g: g(*args)))
    return texts


def matmul(x, w):
    return gg.matmul(x, w)


def test_shapes_that_do_not_fit():
    for text in both(matmul, gg.zeros((2, 3)), gg.zeros((4, 5))):
        first, second = text.splitlines()[:2]
        assert (
            first == "matmul: inner sizes differ, 3 (left is f32[2, 3]) and 4 (right is f32[4, 5])"
        )
        assert second.strip().startswith("in test_errors.py:")
        assert second.endswith("return gg.matmul(x, w)")


def test_values_that_kernels_refuse():
    def divide(x, y):
        return x // y

    for text in both(divide, gg.constant([1, 2, 3]), gg.constant([1, 0, 1])):
        assert "division by zero" in text
        assert "return x // y" in text

    def pick(x, i):
        return gg.gather(x, i)

    for text in both(pick, gg.zeros(5), gg.constant([1, 7])):
        assert "gather: index 7 is out of range for axis 0 with size 5" in text
        assert "return gg.gather(x, i)" in text


def test_errors_in_gradients_name_the_users_line():
    @gg.function
    def loss(x, i):
        return gg.reduce_sum(gg.gather(x, i))

    x = gg.zeros(5)
    with gg.GradientTape() as tape:
        tape.watch(x)
        text = message(lambda: loss(x, gg.constant([9])), IndexError)
    assert "return gg.reduce_sum(gg.gather(x, i))" in text


def test_python_conditions_on_symbolic_tensors():
    @gg.function
    def f(x):
        if x > 0:
            return x
        return -x

    text = message(lambda: f(gg.constant(1.0)), gg.errors.TraceError)
    assert text.startswith(
        "a Python condition (if, while, and, or, not, assert) needs the value of a symbolic "
        "tensor b1[]"
    )
    assert "use gg.cond(pred, true_fn, false_fn), gg.while_loop or gg.where" in text
    assert "if x > 0:" in text


@pytest.mark.parametrize(
    ("use", "fragment"),
    [
        (lambda x: x.numpy(), ".numpy() needs the value"),
        (lambda x: float(x), "float() needs the value"),
        (lambda x: np.asarray(x), "converting to a NumPy array needs the value"),
        (lambda x: [1, 2][x], "a Python index or range() needs the value"),
        (lambda x: range(x), "a Python index or range() needs the value"),
    ],
)
def test_values_that_are_not_there_yet(use, fragment):
    assert fragment in message(lambda: gg.function(use)(gg.constant(1)), gg.errors.TraceError)


def test_built_in_classes():
    assert issubclass(gg.errors.ShapeError, ValueError)
    assert issubclass(gg.errors.DTypeError, TypeError)
    assert issubclass(gg.errors.IndexOutOfRange, IndexError)
    assert issubclass(gg.errors.DivisionByZero, ZeroDivisionError)
    assert issubclass(gg.errors.TraceError, RuntimeError)
    assert issubclass(gg.errors.LeakedTensorError, TypeError)


def test_structures_that_differ_name_the_path():
    f = gg.function(
        lambda p: p["w"], input_signature=[{"w": gg.TensorSpec([2]), "b": [gg.TensorSpec([])]}]
    )
    text = message(lambda: f({"w": gg.zeros(2), "b": gg.zeros(())}))
    assert "argument `p` and its input signature differ at ['b']: list against" in text


def test_a_failed_trace_leaves_nothing_behind():
    @gg.function
    def f(x):
        raise KeyError("mine")

    with pytest.raises(KeyError):
        f(gg.zeros(2))
    assert f.experimental_get_tracing_count() == 0
    np.testing.assert_array_equal(gg.ones(2) + 1, [2, 2])
    x = gg.constant(1.0)
    with gg.GradientTape() as tape:
        tape.watch(x)
        with pytest.raises(KeyError):
            f(x)
        y = x * 2
    assert float(tape.gradient(y, x)) == 2


def test_tracebacks_show_the_users_frames():
    def inner(x):
        return gg.matmul(x, gg.zeros((7, 7)))

    @gg.function
    def f(x):
        return inner(x)

    def frames():
        with pytest.raises(gg.errors.ShapeError) as e:
            f(gg.zeros((2, 3)))
        return [s.name for s in traceback.extract_tb(e.value.__traceback__)]

    short = frames()
    assert short[-2:] == ["f", "inner"]
    gg.config.set_traceback_filtering(False)
    try:
        full = frames()
    finally:
        gg.config.set_traceback_filtering(True)
    assert len(full) > len(short)
    assert "inner" in full


def test_writing_to_a_tensor_by_numpy():
    x = gg.zeros(2)
    with pytest.raises(TypeError, match="tensors are immutable"):
        np.add(x, 1, out=x)


def test_open_sizes_are_shown_with_their_values():
    spec = gg.TensorSpec([None])
    f = gg.function(lambda a, b: a + b, input_signature=[spec, spec])
    with pytest.raises(ValueError, match=r"shapes \[n=2\] and \[m=3\] do not broadcast: sizes n=2"):
        f(gg.ones(2), gg.ones(3))
    h = gg.function(lambda x: x @ gg.ones((3, 1)), input_signature=[gg.TensorSpec([None, None])])
    with pytest.raises(ValueError, match="inner sizes differ, m=4"):
        h(gg.ones((2, 4)))
    g = gg.function(lambda x: x[0], input_signature=[spec])
    with pytest.raises(IndexError, match="0 is out of range for axis 0 with size n=0"):
        g(gg.ones(0))


def framework_frames(f):
    try:
        f()
    except gg.errors.GraphgradError as e:
        files = [t.filename for t in traceback.extract_tb(e.__traceback__)]
        return sum(is_internal(name) for name in files)
    raise AssertionError("no error")


def test_tracebacks_show_the_users_code():
    x = gg.ones(2)
    inner = gg.function(lambda x: x + gg.ones(3))
    for f in (
        lambda: gg.matmul(gg.zeros((2, 3)), gg.zeros((4, 5))),
        lambda: x + gg.ones(3),
        lambda: x[5],
        lambda: gg.reshape(x, [3]),
        lambda: gg.function(lambda x: inner(x) * 2)(x),
        lambda: gg.function(lambda x, i: gg.gather(x, i))(x, gg.constant(5)),
    ):
        assert framework_frames(f) <= 2


def test_tensors_of_an_ended_trace_say_so():
    kept = {}

    def f(x):
        kept["y"] = x * 2
        return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gg.function(f)(gg.constant(1.0))
    for use in (lambda y: y.numpy(), bool, float, lambda y: y + 1):
        with pytest.raises(gg.errors.LeakedTensorError, match="is used outside of its trace"):
            use(kept["y"])
