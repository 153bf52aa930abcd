"""Lists that grow in branches and loops over tensors, in functions and as their results."""

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.conversion.convert import convert


def collected(x, n):
    found = []
    for i in range(n):
        if i != 1:
            found.append(x * gg.cast(i, gg.float32))
    return found


def pairs(x, n):
    found = []
    for i in range(n):
        found.append((x, {"i": i}))
    return found


def popped(x, n):
    found = [x, 2.0 * x, 3.0 * x]
    taken = x * 0.0
    while n > 0:
        taken = found.pop(0)
        found.append(taken * 10.0)
        n -= 1
    return found, taken


def replaced(x, n):
    found = [x, x, x]
    for i in range(n):
        found[i] = found[i] * gg.cast(i, gg.float32)
    return found


def kept_length(x, n):
    found = [x, x]
    if n > 2:
        found[1] = x * 2.0
        found.append(x * 3.0)
    else:
        found.append(x)
    return found


@pytest.mark.parametrize("f", [collected, pairs, popped, replaced, kept_length])
@pytest.mark.parametrize("n", [0, 1, 3])
def test_results_are_lists(f, n):
    x = gg.constant([1.0, 2.0])
    compiled = gg.function(f)
    wanted = f(x, n)
    for _ in range(4):  # plain, and by native code
        got = compiled(x, gg.constant(n))
        gg.nest.assert_same_structure(got, wanted)
        for a, b in zip(gg.nest.flatten(got), gg.nest.flatten(wanted)):
            np.testing.assert_allclose(a, b)
    with gg.GradientTape() as tape:
        tape.watch(x)
        ends = [gg.reduce_sum(v * v) for v in gg.nest.flatten(compiled(x, gg.constant(n))[:2])
                if v.dtype is gg.float32]  # fmt: skip
    with gg.GradientTape() as plain:
        plain.watch(x)
        given = [gg.reduce_sum(v * v) for v in gg.nest.flatten(f(x, n)[:2])
                 if isinstance(v, gg.Tensor)]  # fmt: skip
    if given:
        np.testing.assert_allclose(tape.gradient(ends, x), plain.gradient(given, x))


def test_lists_are_tensors_to_operations():
    @gg.function
    def f(x, n):
        found = collected_here(x, n)
        if found:
            x = found[-1]
        return x, len(found), gg.stack(found, 1), gg.concat(found, -1), gg.reduce_sum(found)

    collected_here = convert(collected)
    x = gg.constant([1.0, 2.0])
    last, count, stacked, joined, total = f(x, gg.constant(4))
    np.testing.assert_array_equal(last, [3, 6])
    assert int(count) == 3
    np.testing.assert_array_equal(stacked, [[0, 2, 3], [0, 4, 6]])
    np.testing.assert_array_equal(joined, [0, 0, 2, 4, 3, 6])
    assert float(total) == 15
    assert int(f(x, gg.constant(0))[1]) == 0


def test_functions_hand_lists_to_functions():
    inner = gg.function(collected)

    @gg.function
    def outer(x, n):
        total = gg.zeros_like(x)
        for v in inner(x, n):
            total += v
        return total

    np.testing.assert_array_equal(outer(gg.constant([1.0, 2.0]), gg.constant(4)), [5, 10])


def test_items_out_of_range():
    @gg.function
    def f(x, n, i):
        return collected_here(x, n)[i]

    collected_here = convert(collected)
    x = gg.constant([1.0])
    assert float(f(x, gg.constant(3), gg.constant(1))[0]) == 2
    with pytest.raises(IndexError):
        f(x, gg.constant(3), gg.constant(2))


def grown_in_every_way(x, n):
    found, k = [x], 0
    for i in range(n):
        found.extend([x * 2.0, x * 3.0])
        found.insert(1, x * gg.cast(i, gg.float32))
        found.insert(-1, x * 5.0)
        found += [x * 7.0]
    while k < n:
        x = x + found.pop() * found.pop(0)
        k += 1
    return found, x


def queue(x, n):
    waiting, count = [n], 0
    while waiting and count < 20:
        if waiting.pop(0) > 0:
            waiting.append(n - count - 1)
        count += 1
    return waiting, x * gg.cast(count, gg.float32)


@pytest.mark.parametrize("f", [grown_in_every_way, queue])
@pytest.mark.parametrize("n", [0, 1, 3])
def test_methods_of_lists(f, n):
    x = gg.constant([1.0, 2.0])
    (got, total), (wanted, expected) = gg.function(f)(x, gg.constant(n)), f(x, gg.constant(n))
    np.testing.assert_allclose(total, expected)
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted):
        np.testing.assert_allclose(a, b)


def test_only_their_own_function_changes_lists_that_grow():
    def add(xs, x):
        xs.append(x)

    @gg.function
    def f(x, n):
        found = []
        for _ in range(n):
            found.append(x)
            add(found, x)
        return found

    with pytest.raises(AttributeError, match=r"list.append: .* write xs.append\(v\)"):
        f(gg.constant(1.0), gg.constant(3))
