"""Functions that graphgrad makes of a user's, such as its gradient, and those that loops call."""

import numpy as np
import pytest

import graphgrad as gg

CALLS = []


def halved(x):
    while x > 1.0:
        x = x / 2.0
    return x


slope = gg.grad(halved)


@gg.custom_gradient
def halved_with_slope_seven(x):
    y = x
    while y > 1.0:
        y = y / 2.0
    return y, lambda g: g * 7.0


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (slope, 0.125),
        (gg.value_and_grad(halved), (0.625, 0.125)),
        (lambda x: slope(x) + gg.grad(halved)(x), 0.25),
        (lambda x: gg.vmap(halved)(gg.stack([x, 3.0 * x])), [0.625, 0.9375]),
        (gg.recompute_grad(halved), 0.625),
        (gg.value_and_grad(lambda x: halved_with_slope_seven(x)), (0.625, 7.0)),
        (lambda x: gg.jvp(halved, (x,), (gg.constant(1.0),))[1], 0.125),
    ],
    ids=["grad", "value_and_grad", "made outside", "vmap", "recompute", "custom", "jvp"],
)
def test_what_is_made_of_a_function_converts_it(f, expected):
    found = gg.function(f)(gg.constant(5.0))
    np.testing.assert_allclose(np.asarray(found), expected)


def test_autograph_false_reaches_them():
    with pytest.raises(gg.errors.NoValueError):
        gg.function(slope, autograph=False)(gg.constant(5.0))


def scaled(x, k):
    """No effect of Python's."""
    least = gg.minimum(x, k)
    return x / (1.0 + least * least) if gg.reduce_sum(x) > 0 else -x


def counted(x, k):
    CALLS.append(k)
    return scaled(x, k)


def by_functions(x):
    for i in range(1, 40):
        x[i] = scaled(x[i - 1], 0.5) + gg.norm(x[:2])
    return x


def by_counting(x):
    for i in range(1, 40):
        x[i] = counted(x[i - 1], 0.5)
    return x


def table(x):
    t = gg.zeros([41, 40])
    for i in range(1, 41):
        for j in range(1, 40):
            t[i, j] = gg.maximum(t[i - 1, j], t[i, j - 1]) + x[j] * x[i - 1]
    return t[40, 39]


def slices(x):
    for _ in range(50):
        x[1:-1] += 0.1 * (x[2:] + x[:-2] - 2.0 * x[1:-1])
    return x


@pytest.mark.parametrize("f", [by_functions, table, slices])
def test_long_ranges_with_functions_slices_and_inner_loops_are_loops(f):
    x = np.linspace(0.5, 1.5, 40).astype(np.float32)
    compiled = gg.function(f)
    np.testing.assert_allclose(compiled(gg.constant(x)), unrolled(f, x), rtol=2e-5)
    assert len(compiled.ir("before").splitlines()) < 100  # unrolled: thousands


def unrolled(f, x):
    """What Python's own loop gives."""
    gg.config.run_functions_eagerly(True)
    try:
        return gg.function(f)(gg.constant(x))
    finally:
        gg.config.run_functions_eagerly(False)


def test_functions_with_effects_are_called_in_each_trip():
    CALLS.clear()
    x = np.linspace(0.5, 1.5, 40).astype(np.float32)
    with pytest.warns(gg.errors.SideEffectWarning):
        found = gg.function(by_counting)(gg.constant(x))
    assert len(CALLS) == 39
    np.testing.assert_allclose(found, unrolled(by_counting, x), rtol=2e-5)
