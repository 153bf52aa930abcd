"""What converted statements mean on tensors beyond values: types, errors, effects, state."""

import contextlib
import dataclasses
import io

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.errors import ArgumentError, DTypeError, ShapeError, TraceError

F32 = gg.float32


def t(x, dtype=None):
    return gg.constant(x, dtype)


# -- types


def test_python_numbers_adopt_what_they_meet():
    @gg.function
    def f(x, n):
        if n > 0:
            y = x
        else:
            y = 0
        s, i = 0, 0
        while i < n:
            s += x
            i += 1
        return y, s, i

    y, s, i = f(t(2.0, gg.float64), t(3, gg.int64))
    assert (y.dtype, s.dtype, i.dtype) == (gg.float64, gg.float64, gg.int32)
    assert (float(y), float(s), int(i)) == (2, 6, 3)
    y, s, i = f(t(2.0, gg.float64), t(0, gg.int64))
    assert (float(y), float(s), int(i)) == (0, 0, 0)


def test_numbers_that_stay_the_same_stay_python():
    @gg.function
    def f(x, n):
        width, kind = 2, "wide"
        if n > 0:
            x, width, kind = x * 2.0, 2, "wide"
        while n > 0:
            x = gg.reshape(x, [width, -1]) + gg.ones([width, 1])
            width = 2
            n -= 1
        assert type(width) is int
        assert kind == "wide"
        return x

    np.testing.assert_array_equal(f(t([[1.0, 2.0], [3.0, 4.0]]), t(1)), [[3, 5], [7, 9]])


def test_a_first_trip_may_change_types_where_it_is_sure():
    @gg.function
    def f(x):
        total = 0
        for row in x:
            total += row
        return total

    np.testing.assert_array_equal(f(t([[1.0, 2.0], [3.0, 4.0]])), [4, 6])
    np.testing.assert_array_equal(f(t([[1.0, 2.0]])), [1, 2])


def test_open_sizes_may_differ_between_branches():
    @gg.function(input_signature=[gg.TensorSpec([None], F32)])
    def f(x):
        if x[0] > 0:
            y = x[1:]
        else:
            y = gg.concat([x, x], 0)
        return gg.reduce_sum(y * 2.0)

    assert float(f(t([1.0, 2.0, 3.0]))) == 10
    assert float(f(t([-1.0, 2.0]))) == 4


# -- errors


def dtypes_differ(x, n):
    if n > 0:
        y = gg.constant(1)
    else:
        y = x
    return y


def shapes_differ(x, n):
    if n > 0:
        y = x
    else:
        y = gg.stack([x, x])
    return y


def kinds_differ(x, n):
    if n > 0:
        y = x
    else:
        y = None
    return y


def structures_differ(x, n):
    if n > 0:
        d = {"a": x}
    else:
        d = {"a": x, "b": x}
    return d


def strings_differ(x, n):
    mode = "low"
    if n > 0:
        mode = "high"
    return mode


def undefined(x, n):
    if n > 0:
        y = x
    return y


def undefined_after_a_branch(x, n):
    if n > 0:
        pass
    else:
        y = x
    return y


def return_of_one_branch(x, n):
    if n > 0:
        return x


def loop_dtype(x, n):
    while n > 0:
        n = n * 0.5
    return n


def loop_shape(x, n):
    y = gg.stack([x])
    while n > 0:
        y = gg.concat([y, y], 0)
        n -= 1
    return y


def loop_none(x, n):
    best = None
    while n > 0:
        best = x
        n -= 1
    return best


def vector_condition(x, n):
    if gg.stack([x, x]) > 0:
        x = -x
    return x


def vector_and(x, n):
    return x > 0 and gg.stack([x, x]) > 0 and x < 3


def endless(x, n):
    if n > 0:
        return endless(x * 2.0, n - 1)
    return x


def mixed_list(x, n):
    found = []
    for _ in range(n):
        found.append(x)
        found.append("x")
    return found


ERRORS = [
    (dtypes_differ, DTypeError, "'y' has dtype int32 in the main branch, but dtype float32 in the "
     "else branch", ["y = gg.constant(1)", "y = x"]),
    (shapes_differ, ShapeError, "'y' has shape [] in the main branch, but shape [2] in the else "
     "branch", ["y = x", "gg.stack"]),
    (kinds_differ, ArgumentError, "'y' is a tensor f32[] in the main branch, but None in the else",
     ["y = None"]),
    (structures_differ, ArgumentError, "'d' is a dict with 'a' in the main branch, but a dict with "
     "'a', 'b' in the else", []),
    (strings_differ, ArgumentError, "'mode' is 'high' in the main branch, but 'low'", []),
    (undefined, UnboundLocalError, "'y' must also be initialized in the else branch", ["y = x"]),
    (undefined_after_a_branch, ValueError, "'y' must also be initialized in the main branch", []),
    (loop_dtype, DTypeError, "'n' has dtype int32 before the loop, but dtype float32 after one "
     "iteration", ["n * 0.5"]),
    (loop_shape, ShapeError, "'y' has shape [1] before the loop, but shape [2] after one iteration",
     ["gg.stack([x])", "gg.concat([y, y], 0)", "set_loop_options"]),
    (loop_none, ArgumentError, "'best' is None before the loop, but a tensor f32[]", []),
    (vector_condition, ArgumentError, "`if` is the truth of one value", ["gg.reduce_any"]),
    (vector_and, ArgumentError, "`and` is the truth of one value", ["& | ~"]),
    (endless, TraceError, "`endless` (test_operators.py:", ["recursion would never end"]),
    (mixed_list, DTypeError, "('x') with an unsupported type", ["'found' changes its length"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("f", "kind", "message", "more"), ERRORS, ids=lambda x: getattr(x, "__name__", "")
)
def test_errors_teach(f, kind, message, more):
    with pytest.raises(kind) as e:
        gg.function(f)(t(2.0), t(3))
    text = str(e.value)
    assert message in text
    assert all(part in text for part in more), text
    assert "in test_operators.py:" in text


def test_a_branch_without_a_return_is_explained():
    with pytest.raises(gg.errors.GraphgradError, match="value that is returned"):
        gg.function(return_of_one_branch)(t(2.0), t(3))


def test_what_a_loop_without_trips_leaves_undefined_is_found_when_it_runs():
    @gg.function
    def f(x, n):
        for i in range(n):
            y = x * gg.cast(i, F32)
        return y

    assert float(f(t(2.0), t(3))) == 4
    with pytest.raises(UnboundLocalError, match="'y' has no value: the loop made no trip"):
        f(t(2.0), t(0))


def test_recursion_that_python_ends_is_allowed():
    def power(x, k):
        if k == 0:
            return gg.ones_like(x)
        y = power(x, k - 1)
        if x > 100.0:
            y = y * 0.0
        return y * x

    assert float(gg.function(power)(t(2.0), 30)) == 2.0**30


# -- laziness, effects and state


def test_operands_that_may_fail_run_only_if_needed():
    @gg.function
    def f(x, i):
        return i < 3 and x[i] > 0, i >= 3 or 6 // i > 2

    x = t([1.0, -1.0, 2.0])
    assert [bool(v) for v in f(x, t(2))] == [True, True]
    assert [bool(v) for v in f(x, t(7))] == [False, True]
    with pytest.raises(ZeroDivisionError):
        f(x, t(0))


def test_and_gives_the_operand_as_python_does():
    @gg.function
    def f(x, y):
        return x and y, x or y, not x

    for x, y in ((0.0, 2.0), (3.0, 2.0)):
        assert [v.numpy() for v in f(t(x), t(y))] == [x and y, x or y, not x]


def test_effects_keep_their_order():
    v = gg.Variable(1.0)

    @gg.function
    def f(n):
        print("start", n)
        for i in range(n):
            if i > 0:
                v.assign_add(gg.cast(i, F32))
                print("added", i)
            assert v > 0, "v is positive"
        print("end", v)
        return v * 2.0

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert float(f(t(3))) == 8
    assert out.getvalue().split("\n")[:-1] == ["start 3", "added 1", "added 2", "end 4"]
    v.assign(-5.0)
    with pytest.raises(AssertionError, match="v is positive"):
        f(t(1))


def test_only_the_branch_that_is_taken_runs_and_is_differentiated():
    v = gg.Variable(4.0)

    @gg.function
    def f(x):
        if x > 0:
            y = gg.sqrt(x) * v
        else:
            y = 3.0 * x
        return y

    for x, wanted in ((4.0, (1.0, 2.0)), (0.0, (3.0, None))):
        x = t(x)
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        dx, dv = tape.gradient(y, [x, v])
        assert float(dx) == wanted[0]
        assert float(0 if dv is None else dv) == (wanted[1] or 0)


def test_objects_keep_their_state():
    class Counter:
        def __init__(self):
            self.total = gg.constant(0.0)

        def add(self, x, n):
            for _ in range(n):
                if x > 1:
                    self.total = self.total + x
            return self.total

    @gg.function
    def f(x, n):
        counter = Counter()
        counter.add(x, n)
        return counter.add(x * 2.0, n)

    assert float(f(t(2.0), t(3))) == 18
    assert float(f(t(0.75), t(2))) == 3


@dataclasses.dataclass
class Point:
    x: object
    y: object


def test_structures_are_changed_in_place():
    @gg.function
    def f(x, n):
        point, pairs = Point(x, 0.0), [x, (x, 1.0)]
        other, same = point, pairs
        for _ in range(n):
            point.y = point.y + point.x
            pairs[1] = (pairs[0], x + 1.0)
        return other.y, same[1][1]

    got = f(t(2.0), t(3))
    assert [float(v) for v in got] == [6, 3]


def test_options_of_loops():
    @gg.function
    def f(x, n):
        while n > 0:
            gg.autograph.experimental.set_loop_options(
                maximum_iterations=3, shape_invariants=[(x, gg.TensorShape([None]))]
            )
            x = gg.concat([x, x[:1]], 0)
            n -= 1
        return x

    assert f(t([1.0]), t(2)).shape == (3,)
    assert f(t([1.0]), t(9)).shape == (4,)


def test_builtin_functions():
    @gg.function
    def f(x, n):
        rows = sum(x) + max(x) * min(2, n)
        return rows, int(x[0]), float(n), bool(n), abs(x[1]), len(x), sorted(x)

    got = f(t([1.5, -2.0, 1.0]), t(3))
    wanted = [3.5, 1, 3.0, True, 2.0, 3, [-2, 1, 1.5]]
    for a, b in zip(got, wanted):
        np.testing.assert_array_equal(a, b)


# -- transformations


def collatz(n, x):
    steps = 0
    while n > 1:
        if n % 2 == 0:
            n = n // 2
        else:
            n = 3 * n + 1
        x = gg.sin(x)
        steps += 1
    return x * gg.cast(steps, F32)


def test_vmap_through_converted_functions():
    ns, xs = t([1, 6, 7]), t([0.5, 0.25, 1.0])
    got = gg.function(lambda n, x: gg.vmap(collatz)(n, x))(ns, xs)
    wanted = [float(collatz(n, x)) for n, x in zip(ns, xs)]
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_forward_mode_through_converted_functions():
    x = t(0.5)
    with gg.autodiff.ForwardAccumulator(x, t(1.0)) as forward:
        y = gg.function(collatz)(t(6), x)
    slope = gg.grad(lambda x: collatz(t(6), x))(x)
    np.testing.assert_allclose(forward.jvp(y), slope, rtol=1e-6)


def test_interpreted_and_compiled_agree():
    for x in (0.5, 2.0):
        a = gg.function(collatz, jit_compile=False)(t(7), t(x))
        np.testing.assert_allclose(a, gg.function(collatz)(t(7), t(x)), rtol=1e-6)
