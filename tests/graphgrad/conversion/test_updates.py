"""x[i] = v in functions: a new tensor for the name, differentiable, and never a stale one read."""

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.conversion.convert import convert

KEYS = {
    "an int": lambda i: 1,
    "a negative int": lambda i: -1,
    "a slice": lambda i: slice(1, 3),
    "a slice with a step": lambda i: slice(None, None, 2),
    "a slice backwards": lambda i: slice(3, 0, -1),
    "an ellipsis": lambda i: Ellipsis,
    "two slices": lambda i: (slice(0, 2), slice(1, None)),
    "an int and an ellipsis": lambda i: (Ellipsis, 0),
    "a new axis": lambda i: (None, slice(0, 2)),
    "a tensor": lambda i: i,
    "a tensor and a slice": lambda i: (i, slice(0, 2)),
    "a list of ints": lambda i: [0, 2],
    "index tensors": lambda i: (gg.constant([0, 1]), gg.constant([2, 0])),
    "a mask of rows": lambda i: np.array([True, False, True, False]),
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_updates_are_numpys(key):
    def changed(x, i, v):
        y = x * 1.0
        y[key(i)] = v
        y[key(i)] += 2.0
        return y

    def numpys(x, i, v):
        y = x.copy()
        k = key(i)
        k = tuple(map(np.asarray, k)) if isinstance(k, tuple) and hasattr(k[0], "numpy") else k
        y[k] = v
        y[k] += 2.0
        return y

    x, f = np.arange(12, dtype=np.float32).reshape(4, 3), gg.function(changed)
    args = gg.constant(x), gg.constant(2), gg.constant(7.0)
    wanted = numpys(x, 2, 7.0)
    np.testing.assert_array_equal(f(*args), wanted)
    gg.config.run_functions_eagerly(True)
    try:
        np.testing.assert_array_equal(f(*args), wanted)
    finally:
        gg.config.run_functions_eagerly(False)
    with gg.GradientTape() as tape:
        tape.watch([args[0], args[2]])
        y = gg.reduce_sum(f(*args))
    dx, dv = tape.gradient(y, [args[0], args[2]])
    kept = numpys(x, 2, np.nan)
    np.testing.assert_array_equal(dx, ~np.isnan(kept))
    assert dv == np.isnan(kept).sum()


def test_reads_before_and_after_a_write_have_their_own_gradients():
    @gg.function
    def f(x):
        before = gg.reduce_sum(x * x)
        x[0] = x[1] * 3.0
        return before + gg.reduce_sum(x * x)

    x = gg.constant([2.0, 5.0])
    with gg.GradientTape() as outer:
        outer.watch(x)
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        first = tape.gradient(y, x)
        total = gg.reduce_sum(first)
    np.testing.assert_allclose(y, 29 + 225 + 25)
    np.testing.assert_allclose(first, [4, 10 + 90 + 10])
    np.testing.assert_allclose(outer.gradient(total, x), [2, 22])


def test_updates_in_loops_and_branches():
    @gg.function
    def cumulated(x, n):
        for i in range(1, n):
            if x[i] > 0:
                x[i] += x[i - 1]
            else:
                x[i] = 0.5 * x[i - 1]
        return x

    def plain(x, n):
        x = x.copy()
        for i in range(1, n):
            x[i] = x[i] + x[i - 1] if x[i] > 0 else 0.5 * x[i - 1]
        return x

    x = np.float32([1, 2, -3, 4])
    for n in (0, 3, 4):
        np.testing.assert_array_equal(cumulated(gg.constant(x), gg.constant(n)), plain(x, n))
    t = gg.constant(x)
    with gg.GradientTape() as tape:
        tape.watch(t)
        y = gg.reduce_sum(cumulated(t, gg.constant(4)))
    np.testing.assert_allclose(tape.gradient(y, t), [3.0, 2.0, 0.0, 1.0])


def test_containers_and_variables_are_changed_in_place():
    v = gg.Variable([1.0, 2.0, 3.0])

    @gg.function
    def f(x):
        parts = {"a": x}
        parts["b"] = x * 2.0
        parts["a"] += 1.0
        w = v
        for i in range(gg.constant(2)):
            w[i] = x
        v[1:].assign(v[1:] * 10.0)
        return parts["a"] * parts["b"]

    assert float(f(gg.constant(3.0))) == 24
    np.testing.assert_array_equal(v, [3, 30, 30])


def alias(x):
    y = x
    x[0] = 1.0
    return x + y


def alias_in_a_branch(x):
    y = x
    if x[1] > 0:
        x[0] = 1.0
    return x + y


def alias_in_a_loop(x):
    y = x
    for i in range(gg.cast(x[1], gg.int32)):
        x[i] += y[i]
    return x


def alias_after_a_loop(x):
    y = x
    for i in range(gg.cast(x[1], gg.int32)):
        x[i] += 1.0
    return y


def set_first(x):
    x[0] = 5.0


def changed_by_a_callee(x):
    set_first(x)
    return x


@pytest.mark.parametrize(
    "f", [alias, alias_in_a_branch, alias_in_a_loop, alias_after_a_loop, changed_by_a_callee],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_stale_names_are_refused(f):
    with pytest.raises(
        gg.errors.TraceError, match="replaced by an assignment to a part of 'x'"
    ) as e:
        gg.function(f)(gg.constant([1.0, 2.0]))
    text = str(e.value)
    assert text.count("test_updates.py:") == 2
    assert "gg.identity" in text
    assert "] = " in text or "] += " in text


def test_copies_and_the_other_branch_are_not_stale():
    @gg.function
    def f(x):
        y = gg.identity(x)
        if x[1] > 0:
            x[0] = 1.0
        else:
            x = x * 2.0
        return x + y

    np.testing.assert_array_equal(f(gg.constant([4.0, 2.0])), [5, 4])
    np.testing.assert_array_equal(f(gg.constant([4.0, -2.0])), [12, -6])


def test_values_keep_the_kind_of_the_tensor():
    def f(x, v):
        x[0] = v
        return x

    f = gg.function(f)
    assert f(gg.constant([1.0, 2.0]), gg.constant(3)).dtype is gg.float32
    assert f(gg.constant([1.0, 2.0]), gg.constant(3.0, gg.float64)).dtype is gg.float32
    for x, v in (([1, 2], gg.constant(2.5)), ([True, False], gg.constant(2))):
        with pytest.raises(gg.errors.DTypeError, match=r"'x\[...\]' = value.*cast the value"):
            f(gg.constant(x), v)


class Held:
    def __init__(self, x):
        self.x = x
        self.parts = {"a": [x * 1.0, x * 2.0]}


def held(x, n):
    h, pair = Held(x * 1.0), (x * 1.0, [x * 1.0])
    h.x[0] = 3.0
    h.parts["a"][1][1:] += h.x[0]
    pair[0][1] *= 2.0
    pair[1][0][0] = -1.0
    for i in range(n):
        h.x[i] += x[1] * 2.0
        if i > 0:
            h.parts["a"][0][i] = pair[0][1]
            pair[1][0] = pair[1][0] * x
    return h.x, h.parts["a"][0], h.parts["a"][1], pair[0], pair[1][0]


def test_elements_of_what_objects_and_containers_hold():
    def derivatives(f, x, n):
        with gg.GradientTape() as tape:
            tape.watch(x)
            found = f(x, n)
            total = gg.add_n([gg.reduce_sum(v * v) for v in found])
        return [*found, tape.gradient(total, x)]

    for n in (0, 1, 2):
        args = gg.constant([1.0, 4.0]), gg.constant(n)
        wanted = derivatives(convert(held), *args)
        for a, b in zip(derivatives(gg.function(held), *args), wanted):
            np.testing.assert_allclose(a, b)
    np.testing.assert_allclose(wanted[0], [11, 12])
    np.testing.assert_allclose(wanted[1], [1, 8])
    np.testing.assert_allclose(wanted[4], [-1, 16])


def test_values_of_deep_elements_are_evaluated_once_and_in_order():
    seen = []

    def see(x):
        seen.append(x)
        return x

    @convert
    def f(x):
        d = {"k": [x, x]}
        d[see("k")][see(1)][see(0)] += see(5.0)
        return d["k"][1]

    np.testing.assert_array_equal(f(gg.constant([1.0, 2.0])), [6, 2])
    assert seen == ["k", 1, 0, 5.0]
