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


# One row for each family of operations: what is done with x and y, their shapes, and the text.
FAMILIES = [
    (lambda x, y: x + y, (2, 3), (4,),
     "add: shapes [2, 3] and [4] do not broadcast: sizes 3 and 4"),
    (lambda x, y: gg.where(x > 0, x, y), (2, 3), (2, 2),
     "where: shapes [2, 3] and [2, 3] and [2, 2]"),
    (lambda x, y: gg.clip_by_value(x, y, 1.0), (2, 3), (4,),
     "clip_by_value: shapes [2, 3] and [4]"),
    (lambda x, y: gg.complex(x, y), (2, 3), (2, 4), "complex: shapes [2, 3] and [2, 4] do not"),
    (lambda x, y: gg.floor(gg.complex(x, y)), (2,), (2,),
     "floor: takes no complex numbers, got c64[2]"),
    (lambda x, y: gg.bitwise.bitwise_and(x, y), (2,), (1,),
     "takes integers, got f32[2] and f32[1]"),
    (lambda x, y: gg.concat([x, y], 0), (2, 3), (2, 4), "concat: f32[2, 4] does not fit f32[2, 3]"),
    (lambda x, y: gg.stack([x, y]), (2, 3), (2, 4),
     "stack: f32[2, 4] has not the shape of f32[2, 3]"),
    (lambda x, y: gg.unstack(x, 5), (2, 3), (),
     "unstack: axis 0 of f32[2, 3] has no 5 slices (num)"),
    (lambda x, y: gg.split(x, 2, 1), (2, 3), (),
     "split: axis 1 of f32[2, 3] does not divide into 2"),
    (lambda x, y: gg.reshape(x, [4]), (2, 3), (), "reshape: f32[2, 3] has 6 elements, [4] needs 4"),
    (lambda x, y: gg.squeeze(x, 0), (2, 3), (), "squeeze: axis 0 of f32[2, 3] has size 2, not 1"),
    (lambda x, y: gg.pad(x, [[2, 2], [0, 0]], "REFLECT"), (2, 3), (),
     "pad: axis 0 of f32[2, 3] has 1"),
    (lambda x, y: x[0, 1, 2], (2, 3), (), "index: 3 indices for the 2 axes of f32[2, 3]"),
    (lambda x, y: gg.gather(x, y), (2, 3), (3,), "gather: indices are integers, got f32[3]"),
    (lambda x, y: gg.scatter_nd([[0], [1]], x, [4, 5]), (2, 3), (),
     "updates f32[2, 3] should have the shape [2, 5], by the indices i32[2, 1] into [4, 5]"),
    (lambda x, y: gg.boolean_mask(x, y > 0), (2, 3), (3,),
     "mask b1[3] does not fit [2], the axes of f32"),
    (lambda x, y: gg.math.unsorted_segment_sum(x, [0, 1, 2], 3), (2, 3), (),
     "the segment ids i32[3] do not fit the first axes of f32[2, 3]"),
    (lambda x, y: gg.tensordot(x, y, 1), (2, 3), (4, 5),
     "tensordot: axis 1 of f32[2, 3] is 3, and axis 0 of f32[4, 5] is 4"),
    (lambda x, y: gg.einsum("ij,jk->ik", x, y), (2, 3), (4, 5),
     "einsum: 'j' is 3 in f32[2, 3] and 4 in f32[4, 5]"),
    (lambda x, y: gg.linalg.matvec(x, y), (2, 3), (4,),
     "matvec: inner sizes differ, 3 (a is f32[2, 3]) and 4 (b is f32[4])"),
    (lambda x, y: gg.linalg.inv(x), (2, 3), (), "inv: takes square matrices, got f32[2, 3]"),
    (lambda x, y: gg.linalg.solve(x, y), (2, 2), (3, 1),
     "solve: the matrix has 2 columns (it is f32[2, 2])"),
    (lambda x, y: gg.linalg.set_diag(x, y), (2, 3), (3,),
     "longest diagonal of f32[2, 3] has 2 elements"),
    (lambda x, y: gg.reduce_sum(x, 2), (2, 3), (), "sum: axis 2 is out of range for 2 dimensions"),
    (lambda x, y: gg.math.top_k(x, 5), (2, 3), (), "k is 5, and the last axis of f32[2, 3] has 3"),
    (lambda x, y: gg.searchsorted(x, y), (2, 3), (3, 1),
     "sequences f32[2, 3] and values f32[3, 1] differ"),
    (lambda x, y: gg.nn.softmax_cross_entropy_with_logits(x, y), (2, 3), (2, 4),
     "labels f32[2, 3] should have the shape of logits f32[2, 4]"),
    (lambda x, y: gg.losses.mean_squared_error(x, y), (2, 3), (2, 4),
     "mean_squared_error: y_true f32[2, 3] does not broadcast with y_pred f32[2, 4]"),
    (lambda x, y: gg.nn.bias_add(x, y), (2, 3), (2,), "axis 1 of the value f32[2, 3], got f32[2]"),
    (lambda x, y: gg.random.categorical(y, 3), (), (3,),
     "logits are floats [batch, classes], got f32[3]"),
    (lambda x, y: gg.vmap(gg.add)(x, y), (2, 3), (4, 3), "vmap: the batch axes have sizes [2, 4]"),
    (lambda x, y: gg.jvp(gg.square, (x,), (y,)), (2, 3), (4,),
     "jvp: the tangent f32[4] does not fit the primal f32[2, 3] at [0]"),
    (lambda x, y: gg.scan(lambda a, r: (a[0], r), x, (x,)), (2, 3), (),
     "the state of a loop and what its"),
    (lambda x, y: gg.while_loop(lambda a: True, lambda a: (a, a), [x]), (), (),
     "the loop variables and what the body returns differ at the top"),
    (lambda x, y: gg.grad(gg.square)(x), (2, 3), (),
     "the function is to give one number, it gave shape (2, 3)"),
]  # fmt: skip


@pytest.mark.parametrize(("f", "first", "second", "fragment"), FAMILIES, ids=lambda x: str(x)[:24])
def test_one_text_eager_and_in_functions(f, first, second, fragment):
    texts = both(f, gg.ones(first), gg.ones(second))
    assert texts[0].splitlines()[0] == texts[1].splitlines()[0]
    for text in texts:
        assert fragment in text
        assert "in test_errors.py:" in text


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
    @gg.function(autograph=False)
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
    f = gg.function(use, autograph=False)
    assert fragment in message(lambda: f(gg.constant(1)), gg.errors.TraceError)


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
