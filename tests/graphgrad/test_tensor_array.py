"""gg.TensorArray by TensorFlow's methods, and the list that converted loops use."""

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.arrays import Growable
from tests.graphgrad.modes import in_every_mode

ROWS = np.arange(6.0).reshape(3, 2)


def array(**options):
    return gg.TensorArray(gg.float64, **{"size": 3, **options})


USES = {
    "write and stack": (lambda x: array().write(2, x[1]).write(0, x[0]).stack(),
                        [[0, 1], [0, 0], [2, 3]]),
    "read": (lambda x: array().unstack(x).read(2) + array().write(1, x[0]).read(1), [4, 6]),
    "read twice": (lambda x: (lambda a: a.read(0) * a.read(0))(array().unstack(x)), [0, 1]),
    "gather": (lambda x: array().unstack(x).gather([2, 0]), [[4, 5], [0, 1]]),
    "scatter": (lambda x: array().scatter([2, 0], x[:2]).stack(), [[2, 3], [0, 0], [0, 1]]),
    "scatter by a tensor": (
        lambda x: array(element_shape=[2]).scatter(gg.cast(x[1], gg.int32) - 1, x[:2]).stack(),
        [[0, 0], [0, 1], [2, 3]],
    ),
    "concat": (lambda x: array().unstack(x).concat(), [0, 1, 2, 3, 4, 5]),
    "concat of different sizes": (
        lambda x: array(size=2, infer_shape=False).write(0, x[0]).write(1, x[1, :1]).concat(),
        [0, 1, 2],
    ),
    "split": (
        lambda x: array(infer_shape=False).split(gg.reshape(x, [-1]), [1, 0, 5]).read(2),
        [1, 2, 3, 4, 5],
    ),
    "overwritten": (lambda x: array().unstack(x).write(1, x[0]).stack(), [[0, 1], [0, 1], [4, 5]]),
    "grows": (
        lambda x: array(size=0, dynamic_size=True).write(1, x[1]).stack(), [[0, 0], [2, 3]],
    ),
    "grows by a tensor": (
        lambda x: array(size=1, dynamic_size=True).write(gg.cast(x[1, 0], gg.int32), x[1]).stack(),
        [[0, 0], [0, 0], [2, 3]],
    ),
    "never written": (lambda x: array(element_shape=[1]).stack() + x[:, :1] * 0, [[0], [0], [0]]),
    "size": (
        lambda x: gg.cast(array(size=0, dynamic_size=True).write(4, x).size(), gg.float64), 5,
    ),
}  # fmt: skip


@in_every_mode
@pytest.mark.parametrize("name", USES)
def test_values_and_gradients(name, mode):
    f, expected = USES[name]
    np.testing.assert_array_equal(mode(f)(gg.constant(ROWS)), expected)
    if name not in ("never written", "size", "read"):
        g = mode(gg.grad(lambda x: gg.reduce_sum(gg.square(f(x)))))(gg.constant(ROWS))
        weights = np.zeros_like(ROWS)  # how often each element counts: its value tells which it is
        for v in np.ravel(expected):
            weights.flat[int(v)] += 1
        if name == "read twice":
            np.testing.assert_array_equal(g, [[0, 4], [0, 0], [0, 0]])
        else:
            np.testing.assert_array_equal(g, 2 * ROWS * weights)


def test_it_is_a_value():
    a = array().write(0, [1.0, 2.0])
    b = a.write(0, [3.0, 4.0])
    assert a.read(0).numpy().tolist() == [1, 2]
    assert b.read(0).numpy().tolist() == [3, 4]
    assert (a.dtype, a.dynamic_size, a.element_shape) == (gg.float64, False, (2,))
    assert a.identity() is a
    f = gg.function(lambda a, i: a.write(i, a.read(0) * 2))
    assert f(a, gg.constant(2)).stack().numpy().tolist() == [[1, 2], [0, 0], [2, 4]]


@in_every_mode
def test_what_is_wrong_is_said(mode):
    x = gg.constant(ROWS)

    def says(error, text, f):
        with pytest.raises(error, match=text):
            mode(f)(x)

    errors = gg.errors
    says(errors.IndexOutOfRange, "tried to write to index 3, but the array size is 3",
         lambda x: array().write(3, x[0]).stack())  # fmt: skip
    says(errors.IndexOutOfRange, "tried to read from index 4", lambda x: array().read(4))
    says(errors.IndexOutOfRange, "TensorArray.read: index -1 is out of range",
         lambda x: array().unstack(x).read(gg.cast(x[0, 0], gg.int32) - 1))  # fmt: skip
    says(errors.DTypeError, "the elements are float64, got f32",
         lambda x: array().write(0, gg.cast(x[0], gg.float32)).stack())  # fmt: skip
    says(errors.ShapeError, r"the elements have shape \(2,\), got \[3, 2\]",
         lambda x: array().write(0, x[0]).write(1, x).stack())  # fmt: skip
    says(errors.ArgumentError, "nothing was written", lambda x: array().stack())
    says(errors.ArgumentError, "4 elements do not fit into an array of 3",
         lambda x: array().unstack(gg.concat([x, x[:1]], 0)).stack())  # fmt: skip


@in_every_mode
def test_a_growable_is_a_list(mode):
    def f(x, i):
        xs = Growable.of([x[0], x[1]]).appended(x[2])
        xs, last = xs.popped()
        xs, first = xs.popped(i)
        xs = xs.appended(last * 10).appended(first).set(0, x[0] + 0.5)
        return (
            xs.stack(),
            xs[-1],
            xs[i : i + 2].stack() if isinstance(i, int) else xs[i],
            xs.length(),
        )

    rows, last, some, n = mode(f)(gg.constant(ROWS), gg.constant(0))
    assert rows.numpy().tolist() == [[0.5, 1.5], [40, 50], [0, 1]]
    assert (last.numpy().tolist(), some.numpy().tolist(), int(n)) == ([0, 1], [0.5, 1.5], 3)
    with pytest.raises(gg.errors.IndexOutOfRange, match="list pop: index -1 is out of range"):
        mode(lambda x: Growable.of([x]).popped()[0].popped()[1])(gg.constant(1.0))
    with pytest.raises(gg.errors.IndexOutOfRange, match="list index: index 2 is out of range"):
        mode(lambda x, i: Growable.of([x, x])[i])(gg.constant(1.0), gg.constant(2))
    with pytest.raises(
        gg.errors.DTypeError, match="list append: the elements are float32, got i32"
    ):
        mode(lambda x: Growable.of([x]).appended(gg.constant(1)).stack())(gg.constant(1.0))
    with pytest.raises(gg.errors.ShapeError, match=r"the elements have shape \[2\], got \[\]"):
        mode(lambda x: Growable.of([x]).appended(1.0).stack())(gg.ones(2))
