"""Backward walks that run compiled: equal to the plain walk, and only where it is the same walk."""

import gc
import textwrap
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import graphgrad as gg
from graphgrad import hot_tapes, tape_matching, tape_structure
from graphgrad.compiler.op import ops
from tests.compiler.op_cases import cases_of, is_floating, sampled_ops


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """Each test meets its structures for the first time, and they are hot at once."""
    monkeypatch.setattr(hot_tapes, "_known", hot_tapes._Known())
    monkeypatch.setattr(hot_tapes, "_shared", weakref.WeakValueDictionary())
    monkeypatch.setattr(hot_tapes, "COMPILE", 0)
    monkeypatch.setattr(hot_tapes, "COMPILE_RECORD", 0)
    monkeypatch.setattr(hot_tapes, "LEAST", 1)


def state_of(tape):
    """What the tape says of its last gradient, without the report of kernels."""
    return tape.report().splitlines()[0].partition(":")[0]


TOLERANCE = {"float32": 2e-5, "float64": 1e-12, "bfloat16": 4e-2, "float16": 4e-3}


def assert_same(got, wanted, label=""):
    """Equal as the contract between eager and compiled code has it, NaN and infinity exactly."""
    assert (got is None) == (wanted is None), label
    if got is None:
        return
    assert got.type == wanted.type, label
    tolerance = TOLERANCE[got.dtype.name]
    a, b = (np.asarray(t.numpy(), np.float64) for t in (got, wanted))
    finite = np.isfinite(b)
    np.testing.assert_array_equal(a[~finite], b[~finite], err_msg=label)
    scale = np.max(np.abs(b[finite]), initial=1.0)
    np.testing.assert_allclose(
        a[finite], b[finite], rtol=tolerance, atol=tolerance * scale, err_msg=label
    )


def heated(run):
    """The results of the walk operation by operation, and compiled. `run` gives (tape, result)."""
    tape, first = run()
    assert state_of(tape) == "operation by operation"
    for _ in range(2):
        tape, last = run()
    assert state_of(tape) == "compiled", tape.report()
    return first, last


def weights(y):
    rng = np.random.default_rng(y.type.size)
    return gg.cast(rng.uniform(0.5, 1.5, y.shape), y.dtype)


def gradients(case, xs, persistent=False):
    """The tape, and the gradients of the floating inputs for given cotangents."""
    floating = [x for x in xs if x.dtype.is_floating]
    with gg.GradientTape(persistent=persistent) as tape:
        tape.watch(floating)
        ys = [y for y in gg.nest.flatten(case.call(*xs)) if y.dtype.is_floating]
    given = [weights(y) for y in ys]
    return tape, tape.gradient(ys, floating, output_gradients=given)


def second_gradients(case, xs):
    """The outer tape, and the gradients of a weighted sum of the gradients."""
    floating = [x for x in xs if x.dtype.is_floating]
    with gg.GradientTape() as tape:
        tape.watch(floating)
        found = [g for g in gradients(case, xs)[1] if g is not None]
    return tape, tape.gradient(found, floating, output_gradients=[weights(g) for g in found])


def check(compute, case):
    xs = [gg.constant(a) for a in case.arrays]
    _, first = compute(case, xs)
    if all(g is None for g in first):
        return
    for _ in range(2):
        tape, last = compute(case, xs)
    assert state_of(tape) == "compiled", f"{case}: {tape.report()}"
    for got, wanted in zip(last, first, strict=True):
        assert_same(got, wanted, str(case))


DIFFERENTIABLE = [
    op.name
    for op in sampled_ops()
    if not op.nondifferentiable
    and "float32" in op.samples.dtypes
    and any(is_floating(a) for case in cases_of(op, "float32") for a in case.arrays)
]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_every_op_has_the_gradients_of_the_plain_walk(name):
    """At all its samples, edge values among them."""
    for case in cases_of(ops[name], "float32"):
        check(gradients, case)
    taken = ops[name].samples.dtypes
    for dtype in [d for d in ("float64", "bfloat16", "complex64") if d in taken]:
        for case in list(cases_of(ops[name], dtype, edges=False))[:2]:
            check(gradients, case)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_every_op_has_the_second_gradients_of_the_plain_walk(name):
    for case in list(cases_of(ops[name], "float64", edges=False))[:3]:
        check(second_gradients, case)


# Which walks are the same


def floats(*values, dtype=gg.float32):
    return gg.constant(list(values), dtype)


def run(f, *xs, sources=None, target=None, given=None, persistent=False, **options):
    """The gradient of `f(*xs)` by `sources` (`xs` if None); `target` picks from what f returns."""
    with gg.GradientTape(persistent=persistent) as tape:
        tape.watch(xs)
        y = f(*xs)
    y = y if target is None else y[target]
    return tape, tape.gradient(y, xs if sources is None else sources, given, **options)


X, Y = floats(0.5, 1.0, 2.0), floats(3.0, -1.0, 0.25)
SQUARE = gg.constant([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 10.0]])
STRETCHED = gg.broadcast_to(gg.constant(2.0), (3,))


def product(x, y):
    return x * y


def two(x):
    y = x * x
    return y, y * x


# Pairs of walks with equal operations that differ in one thing, and the test of a matcher that
# tells them apart. The first is compiled; were the second taken for it, its result would be wrong.
PAIRS = {
    "an attribute": (
        lambda: run(lambda x: gg.reduce_prod(x, 0), SQUARE),
        lambda: run(lambda x: gg.reduce_prod(x, 1), SQUARE),
        "attributes_key",
    ),
    "a shape": (lambda: run(gg.sin, X), lambda: run(gg.sin, SQUARE), "a.shape"),
    "a dtype": (lambda: run(gg.sin, X), lambda: run(gg.sin, X.cast(gg.float64)), "a.dtype"),
    "which value goes where": (
        lambda: run(lambda x, y: (x * y) * x, X, Y),
        lambda: run(lambda x, y: (x * y) * y, X, Y),
        "x1 is not v",
    ),
    "two values that are one": (
        lambda: run(product, X, Y, sources=[X]),
        lambda: run(lambda x: x * x, X, sources=[X]),
        "len(ids)",
    ),
    "the target": (
        lambda: run(two, X, target=0),
        lambda: run(two, X, target=1),
        "t0 is not",
    ),
    "a cotangent": (
        lambda: run(product, X, Y),
        lambda: run(product, X, Y, given=floats(1.0, 2.0, 3.0)),
        "g0 is not None",
    ),
    "the source": (
        lambda: run(product, X, Y, sources=[X]),
        lambda: run(product, X, Y, sources=[Y]),
        "s0 is not",
    ),
    "a source without a path": (
        lambda: run(lambda x, y, z: x * y, X, Y, SQUARE, sources=[X, SQUARE]),
        lambda: run(product, X, Y, sources=[X, Y]),
        "in ids",
    ),
    "a constant that is stretched": (
        lambda: run(product, X, STRETCHED, sources=[X]),
        lambda: run(product, X, Y, sources=[X]),
        "stretched",
    ),
    "what a stability rule asks about": (
        lambda: run(lambda x: gg.math.log(1.0 + gg.exp(x)), X),
        lambda: run(lambda x: gg.math.log(3.0 + gg.exp(x)), X),
        "same(constant",
    ),
}


def heat(walk):
    for _ in range(3):
        tape, result = walk()
    assert state_of(tape) == "compiled", tape.report()
    return result


def plainly(walk):
    gg.config.compile_hot_tapes(False)
    try:
        return walk()[1]
    finally:
        gg.config.compile_hot_tapes(True)


def assert_all_same(got, wanted):
    for a, b in zip(gg.nest.flatten(got), gg.nest.flatten(wanted), strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("difference", PAIRS)
def test_walks_that_differ_share_no_program(difference):
    first, second, _ = PAIRS[difference]
    assert_all_same(heat(first), plainly(first))
    tape, result = second()
    assert state_of(tape) != "compiled"
    assert_all_same(result, plainly(second))
    assert_all_same(heat(second), plainly(second))
    assert_all_same(first()[1], plainly(first))


@pytest.mark.parametrize("difference", PAIRS)
def test_a_matcher_that_forgets_a_difference_is_caught(difference, monkeypatch):
    """Each test in a matcher is one that the pairs need."""
    first, second, test = PAIRS[difference]
    refuse = tape_matching._Writer.refuse

    def forgetful(self, condition):
        kept = [c for c in condition.split(" or ") if test not in c]
        if kept:
            refuse(self, " or ".join(kept))

    monkeypatch.setattr(tape_matching._Writer, "refuse", forgetful)
    heat(first)
    with pytest.raises((AssertionError, IndexError)):
        assert_all_same(second()[1], plainly(second))


def test_walks_of_other_numbers_of_inputs_or_sources_differ():
    heat(lambda: run(lambda x: gg.concat([x, x], 0), X))
    tape, _ = run(lambda x: gg.concat([x, x, x], 0), X)
    assert state_of(tape) != "compiled"
    heat(lambda: run(product, X, Y, sources=[X]))
    tape, _ = run(product, X, Y, sources=[X, Y])
    assert state_of(tape) != "compiled"


def test_a_matcher_is_what_the_docstring_shows():
    heat(lambda: run(gg.sin, X, sources=[X]))
    (family,) = hot_tapes._known.families.values()
    text = family.hot[0][1].match.__doc__
    shown = textwrap.dedent(tape_matching.matcher.__doc__.partition("by x:\n\n")[2])
    assert text.strip() == shown.strip()


def test_keys_of_attributes_are_exact():
    values = [1, 1.0, True, (1,), [1], (True,), 0.0, -0.0, None, "1", gg.float32, slice(1, None)]
    keys = [tape_structure.attributes_key({"a": v}) for v in values]
    assert len(set(keys)) == len(values)
    assert tape_structure.attributes_key({"a": (1, 0.5)}) == tape_structure.attributes_key(
        {"a": (1, 0.5)}
    )
    with pytest.raises(tape_structure.Unknown, match="ndarray"):
        tape_structure.attributes_key({"a": np.ones(2)})


# When


def changeover(f, x, limit=5000):
    """The number of the first walk that ran compiled."""
    for i in range(limit):
        tape, _ = run(f, x)
        if state_of(tape) == "compiled":
            return i
    raise AssertionError("never compiled")


def test_the_change_depends_on_the_structure_alone(monkeypatch):
    monkeypatch.setattr(hot_tapes, "COMPILE", 1_000_000)
    monkeypatch.setattr(hot_tapes, "COMPILE_RECORD", 100_000)
    found = []
    for seconds in (0, 1e-4):

        def f(x, seconds=seconds):
            time.sleep(seconds)
            return gg.reduce_sum(gg.exp(x) * x)

        monkeypatch.setattr(hot_tapes, "_known", hot_tapes._Known())
        found.append([changeover(f, gg.ones(n)) for n in (10, 1000, 100_000)])
    assert found[0] == found[1] == sorted(found[0], reverse=True)
    assert 4 < found[0][2] < found[0][1] < found[0][0] < 200


def test_tapes_of_changing_structure_are_looked_at_seldom(monkeypatch):
    monkeypatch.setattr(hot_tapes, "COMPILE", 10_000_000)
    described = []
    describe = hot_tapes.describe
    monkeypatch.setattr(hot_tapes, "describe", lambda *walk: described.append(1) or describe(*walk))
    for n in range(400):
        run(lambda x: x * x, gg.ones(n + 1))
    assert 1 <= len(described) <= 6


def test_what_is_remembered_is_bounded(monkeypatch):
    for name, limit in (("FAMILIES", 8), ("STRUCTURES", 6), ("PROGRAMS", 4)):
        monkeypatch.setattr(hot_tapes, name, limit)
    known = hot_tapes._known
    for n in range(20):  # shapes
        heat(lambda n=n: run(lambda x: x * x, gg.ones(n + 1)))
        assert len(next(iter(known.families.values())).structures) <= 6
    for n in range(1, 20):  # operations

        def f(x, n=n):
            for _ in range(n):
                x = gg.sin(x)
            return x

        heat(lambda f=f: run(f, X))
        assert len(known.families) <= 8
        others = [x for x in known.families.values() if len(x.hot) < 6]
        assert sum(len(x.hot) for x in others) <= 4


def test_long_tapes_are_walked(monkeypatch):
    monkeypatch.setattr(hot_tapes, "LONGEST", 3)
    heat(lambda: run(lambda x: gg.exp(gg.sin(gg.tanh(x))), X))
    for _ in range(4):
        tape, _ = run(lambda x: gg.exp(gg.sin(gg.tanh(x))) * 2.0, X)
    assert tape.report() == "operation by operation: it has more than 3 operations"


def test_the_switch():
    gg.config.compile_hot_tapes(False)
    try:
        assert not gg.config.hot_tapes_are_compiled()
        for _ in range(5):
            tape, _ = run(product, X, Y)
        assert tape.report() == "operation by operation"
    finally:
        gg.config.compile_hot_tapes(True)
    heat(lambda: run(product, X, Y))


def test_the_report_shows_kernels():
    heat(lambda: run(gg.sin, X))
    tape, _ = run(gg.sin, X)
    assert tape.report().startswith("compiled: 2 walks of this structure ran so")
    assert "kernel" in tape.report()


# What a hot tape must do as any other


def test_variables_and_their_versions():
    v, w = gg.Variable([1.0, 2.0]), gg.Variable([3.0, 4.0])

    def walk():
        with gg.GradientTape() as tape:
            y = gg.reduce_sum(v * v * w + gg.sin(v))
        return tape, tape.gradient(y, [v, w, gg.Variable(1.0)])

    for _ in range(4):
        assert_all_same(heat(walk), plainly(walk))
        v.assign_add([0.5, -0.25])

    def after_assignment():
        with gg.GradientTape() as tape:
            y = v * v
            v.assign(gg.sin(v))
            y = y + v * v
        return tape, tape.gradient(y, v)

    start = v.value()
    wanted = plainly(after_assignment)
    for _ in range(4):
        v.assign(start)
        tape, got = after_assignment()
        np.testing.assert_array_equal(got, wanted)
    assert tape.report() == "operation by operation"


def test_a_training_loop_is_that_without_hot_tapes():
    rng = np.random.default_rng(0)
    x, labels = gg.constant(rng.normal(size=(16, 4)), gg.float32), gg.constant([0, 1, 2, 1] * 4)
    starts = [rng.normal(size=s).astype("f") for s in ((4, 8), (8,), (8, 3), (3,))]

    def train():
        ps = [gg.Variable(p) for p in starts]
        losses = []
        for _ in range(12):
            with gg.GradientTape() as tape:
                h = gg.tanh(x @ ps[0] + ps[1])
                h = h @ ps[2] + ps[3]
                loss = gg.reduce_mean(
                    gg.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=h)
                )
            for p, g in zip(ps, tape.gradient(loss, ps)):
                p.assign_sub(0.1 * g)
            losses.append(float(loss))
        return tape, losses

    tape, losses = train()
    assert state_of(tape) == "compiled"
    np.testing.assert_allclose(losses, plainly(train), rtol=1e-5)
    assert losses[-1] < losses[0]


def test_no_path_and_zeros():
    unrelated, ints = floats(1.0, 2.0), gg.constant([0, 2])

    def walk(policy):
        with gg.GradientTape() as tape:
            tape.watch([X, unrelated])
            y = gg.gather(X, ints) * 2.0
        sources = {"x": X, "none": [unrelated, ints]}
        return tape, tape.gradient(y, sources, unconnected_gradients=policy)

    found = heat(lambda: walk("none"))
    np.testing.assert_array_equal(found["x"], [2, 0, 2])
    assert found["none"] == [None, None]
    zeros = heat(lambda: walk("zero"))
    np.testing.assert_array_equal(zeros["none"][0], [0, 0])
    assert zeros["none"][1].dtype is gg.int32


def test_other_recorders_see_the_walk():
    def walk():
        with gg.GradientTape() as outer:
            outer.watch(X)
            with gg.GradientTape() as inner:
                inner.watch(X)
                y = X * X * X
            dy = inner.gradient(y, X)
        assert inner.report() == "operation by operation"
        return outer, outer.gradient(dy, X)

    np.testing.assert_allclose(heat(walk), 6 * X.numpy(), rtol=1e-6)

    def recording_itself():
        with gg.GradientTape(persistent=True) as tape:
            tape.watch(X)
            y = X * X
            dy = tape.gradient(y, X)
        return tape, tape.gradient(dy, X)

    for _ in range(5):
        _, got = recording_itself()
        np.testing.assert_array_equal(got, [2, 2, 2])


def test_persistent_tapes_and_several_targets():
    def walk():
        with gg.GradientTape(persistent=True) as tape:
            tape.watch(X)
            y = gg.sin(X)
            with tape.stop_recording():
                unseen = y * 2.0
            z = y * X
        return tape, [
            tape.gradient(y, X), tape.gradient([y, z], X), tape.gradient(z, y),
            tape.gradient(unseen, X), tape.gradient([z, z], [X, X]), tape.gradient(z, [z, X]),
        ]  # fmt: skip

    assert_all_same(heat(walk), plainly(walk))


def test_functions_of_the_user_and_calls_are_walked():
    @gg.custom_gradient
    def clipped(x):
        return gg.identity(x), lambda g: gg.minimum(g, 1.0)

    compiled = gg.function(lambda x: gg.sin(x) * x)
    for f in (lambda x: clipped(x) * 5.0, lambda x: compiled(x) * 2.0):
        wanted = plainly(lambda f=f: run(f, X))
        for _ in range(5):
            tape, got = run(f, X)
            assert state_of(tape) == "operation by operation"
            assert_all_same(got, wanted)


def test_stability_rules_apply_as_in_the_walk():
    big = floats(-1000.0, 0.0, 1000.0)
    found = heat(lambda: run(lambda x: gg.math.log(1.0 + gg.exp(x)), big))
    np.testing.assert_array_equal(found[0], [0, 0.5, 1])


def test_arrays_in_any_order():
    turned = gg.constant(np.arange(6.0, dtype="f").reshape(2, 3)).T
    row = gg.constant([[1.0, 2.0]])

    def walk():
        x = gg.transpose(turned)
        with gg.GradientTape() as tape:
            tape.watch([x, row])
            y = gg.exp(gg.transpose(x) * 0.1) * row
        return tape, tape.gradient(y, [x, row], output_gradients=2.0)

    assert_all_same(heat(walk), plainly(walk))


def test_an_error_of_the_program_is_that_of_the_walk(monkeypatch):
    heat(lambda: run(product, X, Y))

    def fails(*_):
        raise gg.errors.GraphgradError("from a kernel")

    (family,) = hot_tapes._known.families.values()
    monkeypatch.setattr(family.hot[0][1].runner, "run", fails)
    _, got = run(product, X, Y)
    assert_all_same(got, plainly(lambda: run(product, X, Y)))


def test_what_cannot_be_compiled_is_walked(monkeypatch):
    def broken(graph):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(hot_tapes.execution, "runner", broken)
    for _ in range(4):
        tape, got = run(product, X, Y)
    assert tape.report() == "operation by operation: RuntimeError: no compiler here"
    assert_all_same(got, [Y, X])


# What outlives a tape


class Thing:
    """Something that a closure holds."""


def used_in_hot_tapes():
    """Weak references to all that hot walks have to do with."""
    thing = Thing()
    v = gg.Variable([1.0, 2.0, 3.0])
    x, y = floats(1.0, 2.0, 3.0), floats(1.0, 2.0, 3.0)

    def plain(a):
        return gg.sin(a) * y * v if thing else a

    @gg.custom_gradient
    def custom(a):
        return a * 2.0, lambda g: g if thing else None

    called = gg.function(plain)
    heat(lambda: run(plain, x))
    for f in (custom, called):
        for _ in range(4):
            run(f, x)
    return [weakref.ref(o) for o in (thing, v, x, y, x.array, y.array, plain, custom, called)]


def test_nothing_of_the_user_is_kept():
    alive = used_in_hot_tapes()
    gc.collect()
    assert [r() for r in alive] == [None] * len(alive)
    assert any(family.hot for family in hot_tapes._known.families.values())


def test_threads_count_for_themselves_and_share_programs(monkeypatch):
    compiled = []
    compile_walk = hot_tapes._compiled
    monkeypatch.setattr(
        hot_tapes, "_compiled", lambda walk: compiled.append(1) or compile_walk(walk)
    )
    wanted = plainly(lambda: run(lambda x, y: gg.sin(x) * y + x, X, Y))
    barrier = threading.Barrier(4)

    def work(_):
        barrier.wait()
        states = []
        for _ in range(50):
            tape, got = run(lambda x, y: gg.sin(x) * y + x, X, Y)
            assert_all_same(got, wanted)
            states.append(state_of(tape) == "compiled")
        return states.index(True), all(states[2:])

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(4)))
    assert found == [(2, True)] * 4
    assert len(compiled) == 1
