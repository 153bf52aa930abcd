"""What runs when a compiled function runs: printing, assertions, and Python in the middle."""

import gc
import itertools
import logging
import threading
import weakref

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.compiler.ir import trace
from graphgrad.compiler.kernels.fusion import Fusion
from graphgrad.compiler.op import ops
from graphgrad.compiler.ops.callback import Callback, callback
from graphgrad.compiler.types import tensor_type


def lines(capsys):
    return capsys.readouterr().err.splitlines()


# Printing: the expected texts are TensorFlow 2.21's


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.14159265, "3.14159274"),
        (1.0, "1"),
        (1e10, "1e+10"),
        (1e-7, "1e-07"),
        (123456789.0, "123456792"),
        (float("nan"), "nan"),
        (-0.0, "-0"),
        (np.float64(0.1), "0.1"),
        (np.float64(1 / 3), "0.33333333333333331"),
        (np.float64(1e16), "1e+16"),
        (100000.5, "100000.5"),
        (16777216.0, "16777216"),
        (True, "1"),
        ([True, False], "[1 0]"),
        ([1.5, 2.25, 3.0], "[1.5 2.25 3]"),
        (np.arange(10), "[0 1 2 ... 7 8 9]"),
        (np.zeros((2, 2, 2), np.int32), "[[[0 0]\n  [0 0]]\n\n [[0 0]\n  [0 0]]]"),
        ([[1.123456789, 22.5], [3, 4]], "[[1.12345684 22.5]\n [3 4]]"),
        (np.zeros((0, 3)), "[]"),
        (gg.constant(1.5, gg.bfloat16), "1.5"),
        (np.float16(1.1), "1.09960938"),
    ],
)
def test_print_formats_as_tensorflow_does(value, text, mode, capsys):
    x = gg.constant(value)
    mode(lambda v: gg.print(v))(x)
    assert capsys.readouterr().err == text + "\n"


def test_print_shows_the_ends_of_large_arrays(capsys):
    gg.print(gg.reshape(gg.range(100), (10, 10)))
    rows = lines(capsys)
    assert rows[0] == "[[0 1 2 ... 7 8 9]"
    assert rows[3] == " ..."
    assert rows[-1] == " [90 91 92 ... 97 98 99]]"
    gg.print(gg.range(7), summarize=-1)
    gg.print(gg.range(7), summarize=2)
    assert lines(capsys) == ["[0 1 2 3 4 5 6]", "[0 1 ... 5 6]"]


def test_print_takes_structures_and_python_values(mode, capsys):
    def show(x):
        gg.print("a", 1, 2.5, True, None, {"z": x, "b": [x * 2, 3]}, (x,), sep="|", end="!\n")

    mode(show)(gg.constant([1.0, 2.0]))
    assert lines(capsys) == ["a|1|2.5|True|None|{'b': [[2 4], 3], 'z': [1 2]}|([1 2],)!"]


def test_print_writes_where_it_is_told(mode, capsys, caplog, tmp_path):
    import sys

    def show(x):
        gg.print("out", x, output_stream=sys.stdout)
        gg.print("file", x, output_stream=f"file://{tmp_path / 'log'}")
        with caplog.at_level(logging.INFO):
            gg.print("log", x, output_stream=logging.warning)

    f = mode(show)
    f(gg.constant(1))
    f(gg.constant(2))
    assert capsys.readouterr().out == "out 1\nout 2\n"
    assert (tmp_path / "log").read_text() == "file 1\nfile 2\n"
    assert [r.getMessage() for r in caplog.records] == ["log 1", "log 2"]
    with pytest.raises(gg.errors.ArgumentError, match="a stream is"):
        gg.print(1, output_stream="nowhere")


def test_prints_keep_their_order_and_number(mode, capsys):
    v = gg.Variable(0.0)

    def step(x):
        gg.print("before", v)
        v.assign_add(x)
        y = gg.py_function(lambda a: a * 2, [v.value()], gg.float32)
        gg.print("between", y)
        v.assign(y)
        gg.print("after", v)
        return x * 3  # nothing that is returned depends on the prints

    f = mode(step)
    for _ in range(4):
        f(gg.constant(1.0))
    expected, value = [], 0.0
    for _ in range(4):
        expected += [f"before {value:g}", f"between {2 * (value + 1):g}"]
        value = 2 * (value + 1)
        expected.append(f"after {value:g}")
    assert lines(capsys) == expected


def test_only_the_branch_that_is_taken_prints(capsys):
    def side(text, x):
        gg.print(text)
        return x

    @gg.function
    def f(x):
        return gg.cond(x > 0, lambda: side("yes", x), lambda: side("no", -x))

    assert float(f(gg.constant(1.0))) == 1
    assert float(f(gg.constant(-2.0))) == 2
    assert lines(capsys) == ["yes", "no"]


def test_prints_in_loops(capsys):
    @gg.function
    def f(n):
        def body(i):
            gg.print("i", i)
            return (i + 1,)

        return gg.while_loop(lambda i: i < n, body, (0,))

    f(gg.constant(3))
    assert lines(capsys) == ["i 0", "i 1", "i 2"]


def test_a_derivative_does_not_print_again(capsys):
    @gg.function
    def f(x):
        y = gg.sin(x)
        gg.print("y", y)
        return gg.reduce_sum(y * y)

    x = gg.Variable([1.0, 2.0])
    for _ in range(3):
        with gg.GradientTape() as tape:
            loss = f(x)
        tape.gradient(loss, x)
    assert len(lines(capsys)) == 3

    @gg.function
    def inside(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            loss = f(x)
        return tape.gradient(loss, x)

    inside(gg.constant([1.0, 2.0]))
    assert len(lines(capsys)) == 1


def test_a_batch_prints_example_by_example(capsys):
    def f(x, y):
        gg.print(x, y)
        return x

    gg.vmap(f, in_axes=(0, None))(gg.constant([1, 2]), gg.constant(5))
    assert lines(capsys) == ["1 5", "2 5"]


# The order of steps


def test_effects_and_what_raises_keep_program_order():
    """Groups that a node starts early may depend on late callbacks."""
    order = []

    def make(name):
        def run(*arrays):
            order.append(name)
            return [arrays[0]] if arrays else []

        return Callback(run, name)

    t = tensor_type((3,), gg.float32)
    for picks in itertools.product(range(3), repeat=3):
        made = [make(i) for i in range(3)]

        def build(x, picks=picks, made=made):
            ys = [gg.sin(x), x * 2.0, x]
            for f, p in zip(made, picks, strict=True):
                (y,) = callback(ys[p], function=f, shapes=((3,),), dtypes=(gg.float32,))
                ys.append(y)
                ys[p] = ys[p] + y
            return [gg.exp(ys[0]) + ys[1] * ys[2] + sum(ys[3:])]

        graph, _ = trace(build, [t])
        steps = Fusion(graph).run().steps
        names = [s.node.attrs["function"].name for s in steps if s.node is not None]
        assert names == [0, 1, 2]


def test_an_assertion_comes_before_what_it_guards(mode):
    def divide(x, n):
        gg.debugging.assert_positive(n, "a divisor")
        return x // n

    f = mode(divide)
    assert f(gg.constant([6, 8]), gg.constant([2, 4])).numpy().tolist() == [3, 2]
    for _ in range(4):
        with pytest.raises(gg.errors.AssertionFailed, match="a divisor"):
            f(gg.constant([6, 8]), gg.constant([2, 0]))


def test_what_raises_first_keeps_a_later_print_from_running(mode, capsys):
    def f(x, n):
        y = x // n
        gg.print("fine", y)
        return y

    with pytest.raises(gg.errors.DivisionByZero):
        mode(f)(gg.constant([6, 8]), gg.constant([2, 0]))
    assert not lines(capsys)


# Python in the middle


def test_py_function_is_differentiable_to_second_order(mode):
    def cube(x):
        return gg.py_function(lambda v: v * v * v, [x], gg.float32)

    def both(x):
        with gg.GradientTape() as outer:
            outer.watch(x)
            with gg.GradientTape() as inner:
                inner.watch(x)
                y = gg.reduce_sum(cube(x) * 2.0)
            g = inner.gradient(y, x)
        return y, g, outer.gradient(g, x)

    y, g, h = mode(both)(gg.constant([1.0, 2.0]))
    assert float(y) == 18.0
    assert g.numpy().tolist() == [6.0, 24.0]
    assert h.numpy().tolist() == [12.0, 24.0]


def test_py_function_under_forward_mode_and_batches():
    def f(x):
        return gg.py_function(lambda v: v * v, [x], gg.float32)

    value, tangent = gg.jvp(gg.function(f), (gg.constant([3.0]),), (gg.constant([1.0]),))
    assert (value.numpy().tolist(), tangent.numpy().tolist()) == ([9.0], [6.0])
    x = gg.constant([[1.0], [2.0], [3.0]])
    assert gg.vmap(f)(x).numpy().tolist() == [[1.0], [4.0], [9.0]]
    slope = gg.vmap(gg.grad(lambda v: gg.reduce_sum(f(v))))(x)
    assert slope.numpy().tolist() == [[2.0], [4.0], [6.0]]


def python_product(a, b):
    return gg.py_function(lambda a, b: a * a * b, [a, b], gg.TensorSpec(a.shape, gg.float64))


def test_python_functions_of_examples_have_gradients_of_every_order(mode):
    a = gg.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], gg.float64)
    b = gg.constant([7.0, 8.0], gg.float64)
    loss = lambda f: lambda a, b: gg.reduce_sum(gg.vmap(f, in_axes=(0, None))(a, b))  # noqa: E731
    slope = lambda f: lambda a, b: gg.reduce_sum(gg.grad(loss(f))(a, b) ** 2)  # noqa: E731
    for order in (loss, slope):
        found = mode(gg.grad(order(python_product), argnums=(0, 1)))(a, b)
        expected = gg.grad(order(lambda a, b: a * a * b), argnums=(0, 1))(a, b)
        for x, y in zip(found, expected):
            np.testing.assert_allclose(x, y)


def test_python_functions_of_no_examples():
    f = gg.grad(lambda a: gg.reduce_sum(gg.vmap(lambda x: python_product(x, x))(a)))
    assert f(gg.zeros([0, 2], gg.float64)).shape == (0, 2)


def test_py_function_sees_eager_tensors_and_variables(mode):
    seen, v = [], gg.Variable(2.0)

    def inner(a, b):
        seen.append((type(a).__name__, float(a.numpy()), float(v)))
        return a + 1.0, gg.cast(b, gg.int32)

    def f(x):
        return gg.py_function(inner, [x, 3.7], [gg.float32, gg.int32])

    one, two = mode(f)(gg.constant(1.0))
    assert (float(one), int(two)) == (2.0, 3)
    assert seen == [("EagerTensor", 1.0, 2.0)]


def test_functions_without_results(mode):
    seen = []

    def f(x):
        assert gg.py_function(lambda v: seen.append(float(v)), [x], None) is None
        gg.numpy_function(lambda v: seen.append(v.item()), [x], [])
        return x

    mode(f)(gg.constant(4.0))
    assert seen == [4.0, 4.0]


def test_numpy_function_owns_its_arrays(mode):
    kept = []

    def spoil(a):
        kept.append(a)
        a += 1
        return a

    def f(x):
        y = x * 2.0
        return gg.numpy_function(spoil, [y], gg.float32), y

    g = mode(f)
    for _ in range(3):
        z, y = g(gg.constant([1.0]))
        assert (z.numpy().tolist(), y.numpy().tolist()) == ([3.0], [2.0])
    assert [a.tolist() for a in kept] == [[3.0]] * 3


@pytest.mark.parametrize(
    ("result", "Tout", "text"),
    [
        (lambda v: v.astype(np.float64), gg.float32, r"returned f64\[2\]; Tout declares float32"),
        (lambda v: (v, v), [gg.float32], "returned"),
        (lambda v: (v, v), [gg.float32] * 3, "returned 2 values; Tout declares 3"),
    ],
)
def test_results_that_are_not_as_declared(result, Tout, text, mode):
    def f(x):
        return gg.numpy_function(result, [x], Tout)

    with pytest.raises(gg.errors.GraphgradError, match=text):
        mode(f)(gg.constant([1.0, 2.0]))


def test_shapes_are_checked_and_the_way_out_is_named():
    def f(x):
        return gg.numpy_function(np.sum, [x], gg.float32)

    with pytest.raises(gg.errors.ShapeError, match=r"Tout=gg.TensorSpec\(shape, dtype\)"):
        gg.function(f)(gg.constant([1.0, 2.0]))
    declared = gg.function(lambda x: gg.numpy_function(np.sum, [x], gg.TensorSpec([])))
    assert float(declared(gg.constant([1.0, 2.0]))) == 3.0


def test_errors_of_the_users_own_pass_through(mode):
    def fail(v):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        mode(lambda x: gg.py_function(fail, [x], gg.float32))(gg.constant(1.0))


def test_the_callers_tape_does_not_see_inside():
    v = gg.Variable(3.0)
    f = gg.function(lambda x: x * 2.0 + gg.numpy_function(lambda a: a * float(v), [x], gg.float32))
    x = gg.constant(1.0)
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    assert tape.watched_variables() == ()
    assert float(tape.gradient(y, x)) == 2.0


def test_callbacks_go_away_with_their_function():
    class Scale:
        def __call__(self, v):
            return v * 2.0

    def made(scale):
        f = gg.function(lambda x: gg.py_function(scale, [x], gg.float32))
        f(gg.constant(1.0))
        return weakref.ref(scale)

    ref = made(Scale())
    gc.collect()
    assert ref() is None


def test_many_threads_print_whole_lines(capsys):
    f = gg.function(lambda x: gg.print("value", x, "end"))
    f(gg.constant(0))
    threads = [threading.Thread(target=lambda: [f(gg.constant(7)) for _ in range(50)])
               for _ in range(4)]  # fmt: skip
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    found = lines(capsys)
    assert found == ["value 0 end"] + ["value 7 end"] * 200


def test_the_graph_text_names_the_callback():
    f = gg.function(lambda x: gg.print(x))
    f(gg.constant(1.0))
    assert "callback" in f.ir()
    assert ops["callback"].effect
