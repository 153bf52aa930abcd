"""Results whose size depends on values: eagerly, in functions, and with gradients through both."""

import numpy as np
import pytest

import graphgrad as gg

X = np.float32([1.0, 4.0, 2.0, 5.0, 3.0])


def both(f):
    """`f` eagerly and as a function."""
    return f, gg.function(f)


def over_two(x):
    y = gg.boolean_mask(x, x > 2.0)
    return gg.reduce_sum(y * y * y), y


@pytest.mark.parametrize("f", both(over_two), ids=("eager", "function"))
def test_values_and_gradients_of_two_orders(f):
    for x in (gg.constant(X), gg.constant(X[:5] - 1), gg.constant(X * 0)):
        with gg.GradientTape() as outer:
            outer.watch(x)
            with gg.GradientTape() as inner:
                inner.watch(x)
                total, picked = f(x)
            slope = inner.gradient(total, x)
        curve = outer.gradient(slope, x)
        a, m = x.numpy(), x.numpy() > 2
        np.testing.assert_array_equal(picked, a[m])
        np.testing.assert_allclose(total, np.sum(a[m] ** 3))
        np.testing.assert_allclose(slope, np.where(m, 3 * a**2, 0))
        np.testing.assert_allclose(curve, np.where(m, 6 * a, 0))


def test_one_trace_serves_all_masks():
    f = gg.function(over_two)
    for x in (X, X * 2, X * 0):
        f(gg.constant(x))
    assert f.experimental_get_tracing_count() == 1


def test_a_gradient_of_the_picked_elements():
    x = gg.constant(X)
    for f in both(over_two):
        with gg.GradientTape() as tape:
            tape.watch(x)
            _, y = f(x)
            z = gg.reduce_sum(y * gg.cast(gg.range(3), gg.float32))
        np.testing.assert_array_equal(tape.gradient(z, x), [0, 0, 0, 1, 2])


def test_a_tape_inside_a_function():
    @gg.function
    def f(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            total, _ = over_two(x)
        return tape.gradient(total, x)

    np.testing.assert_array_equal(f(gg.constant(X)), np.where(X > 2, 3 * X**2, 0))


def test_what_follows_is_compiled():
    @gg.function
    def f(x, w):
        y = gg.boolean_mask(x, x[:, 0] > 0)
        h = gg.tanh(y @ w + 1.0)
        return gg.reduce_mean(h, 0), gg.nn.softmax(h), gg.shape(h), gg.zeros_like(y)

    rng = np.random.default_rng(1)
    w = gg.constant(rng.normal(size=(3, 2)))
    for _ in range(4):
        a = rng.normal(size=(8, 3))
        a[0, 0] = 1
        mean, soft, shape, zeros = f(gg.constant(a), w)
        h = np.tanh(a[a[:, 0] > 0] @ w.numpy() + 1)
        np.testing.assert_allclose(mean, h.mean(0), rtol=1e-12)
        np.testing.assert_allclose(soft, np.exp(h) / np.exp(h).sum(1, keepdims=True), rtol=1e-12)
        np.testing.assert_array_equal(shape, h.shape)
        np.testing.assert_array_equal(zeros, np.zeros((len(h), 3)))


def test_reports_show_the_compiled_parts():
    f = gg.function(lambda x: gg.reduce_sum(gg.exp(gg.boolean_mask(x, x > 2.0)) ** 2))
    f(gg.constant(X))
    assert "exp" in f.kernels()
    report = str(f.report())
    assert "1 NumPy call" in report
    assert "nonzero" in report
    assert "2 kernels" in report


def test_open_sizes_of_arguments_beside_them():
    @gg.function(input_signature=[gg.TensorSpec([None, 2])])
    def f(x):
        y = x[x[:, 0] > 0]
        return gg.concat([y, x], 0), gg.reduce_sum(y) / gg.cast(gg.size(x), gg.float32)

    for n in (3, 5):
        a = np.float32(np.arange(2 * n).reshape(n, 2) - 3)
        joined, share = f(gg.constant(a))
        kept = a[a[:, 0] > 0]
        np.testing.assert_array_equal(joined, np.concatenate([kept, a]))
        np.testing.assert_allclose(share, kept.sum() / a.size)
    assert f.experimental_get_tracing_count() == 1


def test_what_a_trace_assumes_is_checked():
    @gg.function
    def add(x, m, n):
        return gg.boolean_mask(x, m) + gg.boolean_mask(x, n)

    x = gg.constant(X)
    m = gg.constant([True, True, False, False, False])
    np.testing.assert_array_equal(add(x, m, m[::-1]), [6, 7])
    with pytest.raises(gg.errors.ShapeError, match=r"= 2, .* = 3") as found:
        add(x, m, ~m)
    assert "test_runtime_sizes.py" in str(found.value)

    @gg.function
    def first_three(x):
        return x[x > 2.0][:3]

    np.testing.assert_array_equal(first_three(x), [4, 5, 3])
    with pytest.raises(gg.errors.ShapeError, match="sizes that values decide"):
        first_three(x - 2.0)


def test_nothing_picked():
    x = gg.constant(X)
    f = gg.function(lambda x: (gg.reduce_sum(x[x > 9.0]), gg.reduce_max(x[x > 9.0])))
    assert [float(v) for v in f(x)] == [0, -np.inf]
    with pytest.raises(gg.errors.ShapeError, match="found0 != 0, with found0 = 0"):
        gg.function(lambda x: gg.argmax(x[x > 9.0]))(x)


def test_a_condition_alone_gives_places():
    m = np.array([[True, False], [True, True]])
    for f in both(lambda c: gg.where(c)):
        np.testing.assert_array_equal(f(gg.constant(m)), np.argwhere(m))
        assert f(gg.constant(m)).dtype == gg.int64
    np.testing.assert_array_equal(gg.where([0.0, 2.0]), [[1]])


def test_sizes_that_tensors_hold():
    def f(n, x):
        parts = gg.dynamic_partition(x, gg.cast(x, gg.int32) % 2, 2)
        return (
            gg.sequence_mask(n), gg.repeat(x, n), gg.math.segment_sum(x, gg.constant([0, 0, 2])),
            gg.math.segment_max(x, n), gg.unique(n).y, gg.unique_with_counts(n).count, *parts,
            gg.dynamic_stitch([n + 1], [x]),
        )  # fmt: skip

    n, x = gg.constant([0, 1, 3]), gg.constant([1.0, 2.0, 5.0])
    wanted = (
        [[False] * 3, [True, False, False], [True] * 3], [2, 5, 5, 5], [3, 0, 5], [1, 2, 0, 5],
        [0, 1, 3], [1, 1, 1], [2], [1, 5], [0, 1, 2, 0, 5],
    )  # fmt: skip
    for g in both(f):
        for got, w in zip(g(n, x), wanted, strict=True):
            np.testing.assert_array_equal(got, w)


def test_a_range_to_a_tensor():
    def f(start, limit, delta):
        return gg.range(limit), gg.range(start, limit, delta), gg.range(gg.cast(limit, gg.float64))

    for g in both(f):
        for ends in ((0, 5, 2), (7, 1, -3), (3, 3, 1), (5, 2, 1)):
            got = g(*(gg.constant(v, gg.int32) for v in ends))
            for x, w in zip(got, (np.arange(ends[1]), np.arange(*ends), np.arange(ends[1]))):
                np.testing.assert_array_equal(x, w)
            assert [x.dtype for x in got] == [gg.int32, gg.int32, gg.float64]


def test_asking_for_a_size_in_python_is_an_error():
    f = gg.function(lambda x: 1 if x[x > 0].shape[0] == 3 else 2)
    with pytest.raises(gg.errors.TraceError, match="is 3 is known only at run time"):
        f(gg.constant(X))


def test_loops_and_branches_around_them():
    def f(x):
        def body(i, total):
            y = gg.boolean_mask(x, x > gg.cast(i, gg.float32))
            return i + 1, total + gg.reduce_sum(y * y)

        total = gg.while_loop(lambda i, total: i < 4, body, [gg.constant(0), gg.constant(0.0)])[1]
        return total + gg.cond(
            total > 0, lambda: gg.reduce_max(x[x > 1.0]), lambda: gg.reduce_min(x[x > 1.0])
        )

    wanted = sum(np.sum(X[i < X] ** 2) for i in range(4)) + X.max()
    slope = sum(2 * X * (i < X) for i in range(4)) + (X.max() == X)
    for g in both(f):
        x = gg.constant(X)
        with gg.GradientTape() as tape:
            tape.watch(x)
            z = g(x)
        np.testing.assert_allclose(z, wanted)
        np.testing.assert_allclose(tape.gradient(z, x), slope)


def test_constants_that_depend_on_a_size_are_not_folded():
    f = gg.function(lambda x, n: gg.math.unsorted_segment_sum(x, [0, 1, 1], n))
    for n in (2, 4):
        wanted = np.zeros(n, np.float32)
        wanted[:2] = 1, 6
        np.testing.assert_array_equal(f(gg.constant(X[:3]), gg.constant(n)), wanted)
    with pytest.raises(gg.errors.IndexOutOfRange, match=r"index 1 is out of range .* size 1"):
        f(gg.constant(X[:3]), gg.constant(1))


def test_unsorted_segments_are_an_error():
    for f in both(lambda x, i: gg.math.segment_sum(x, i)):
        with pytest.raises(gg.errors.ArgumentError, match="are sorted, got 0 after 1"):
            f(gg.constant(X[:3]), gg.constant([0, 1, 0]))


def test_vmap_says_what_it_cannot_do():
    with pytest.raises(gg.errors.TraceError, match=r"gg.where\(mask, x, 0\)"):
        gg.vmap(lambda x: gg.boolean_mask(x, x > 0))(gg.constant([X, X]))


def test_masks_in_keys_and_assignments():
    def read(x):
        return x[x > 2.0], x[gg.constant([3, -1])], x[[True, False, True, False, False]]

    for f in both(read):
        a, b, c = f(gg.constant(X))
        np.testing.assert_array_equal(a, X[X > 2])
        np.testing.assert_array_equal(b, X[[3, -1]])
        np.testing.assert_array_equal(c, X[[0, 2]])


MATRIX = np.arange(12, dtype=np.float32).reshape(3, 4)
ASSIGNMENTS = {
    "mask": (MATRIX > 4, 9.0),
    "mask of rows": (np.array([True, False, True]), np.float32([1, 2, 3, 4])),
    "mask, one value each": (MATRIX > 9, np.float32([5, 6])),
    "rows": ([2, 0], np.float32([[1], [2]])),
    "a row twice": ([1, 1], np.float32([[1], [2]])),
    "pairs": (([0, -1], [1, 2]), np.float32([7, 8])),
    "apart": (([0, 1], np.s_[1:3], ), 0.0),
    "mask and slice": ((np.s_[::-1], np.array([True, False, False, True])), 3.0),
    "none": (np.zeros((3, 4), bool), 3.0),
}  # fmt: skip


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_parts_of_variables_are_assigned(name):
    key, value = ASSIGNMENTS[name]
    wanted = MATRIX.copy()
    wanted[key] = value
    for wrap in (lambda f: f, gg.function):
        v = gg.Variable(MATRIX)

        def assign(x, v=v):
            v[key].assign(x)

        wrap(assign)(gg.constant(value, gg.float32))
        np.testing.assert_array_equal(v, wanted)


def test_a_gradient_through_an_assignment():
    v = gg.Variable(MATRIX)
    u = gg.Variable([1.0, 2.0])
    with gg.GradientTape() as tape:
        v[[0, 0], [1, 1]].assign(u * u)
        loss = gg.reduce_sum(v * v)
    np.testing.assert_allclose(tape.gradient(loss, u), [0, 2 * 4 * 2 * 2])
    assert v.numpy()[0, 1] == 4


ROWS = {
    "scatter_update": ([0, 2, 0], lambda x, i, r: x.__setitem__(i, r)),
    "scatter_add": ([0, 2, 0], lambda x, i, r: np.add.at(x, i, r)),
    "scatter_sub": ([0, 2, 0], lambda x, i, r: np.subtract.at(x, i, r)),
    "scatter_max": ([0, 2, 0], lambda x, i, r: np.maximum.at(x, i, r)),
    "scatter_min": ([0, 2, 0], lambda x, i, r: np.minimum.at(x, i, r)),
    "scatter_mul": ([0, 2, 0], lambda x, i, r: np.multiply.at(x, i, r)),
    "scatter_div": ([0, 2, 0], lambda x, i, r: np.divide.at(x, i, r)),
}


@pytest.mark.parametrize("method", ROWS)
def test_rows_are_written_to_variables(method):
    indices, change = ROWS[method]
    rows = np.float32([[1, 2, 3, 4], [5, 6, 7, 8], [2, 4, 8, 16]])
    wanted = MATRIX.copy()
    change(wanted, indices, rows)
    v, w = gg.Variable(MATRIX), gg.Variable(MATRIX)
    assert getattr(v, method)(gg.IndexedSlices(rows, indices)) is v
    gg.function(lambda r: getattr(w, method)(gg.IndexedSlices(r, indices)))(gg.constant(rows))
    for found in (v, w):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    before = v.numpy()
    with pytest.raises(gg.errors.IndexOutOfRange, match="index 3 is out of range"):
        getattr(v, method)(gg.IndexedSlices(rows[:1], [3]))
    np.testing.assert_array_equal(v, before)


@pytest.mark.parametrize("mode", ["update", "add", "sub", "max", "min"])
def test_tuples_are_written_to_variables(mode):
    v = gg.Variable(MATRIX)
    wanted = getattr(gg, f"tensor_scatter_nd_{mode}")(MATRIX, [[0, 1], [2, 3]], [5.0, 6.0])
    assert getattr(v, f"scatter_nd_{mode}")([[0, 1], [2, 3]], [5.0, 6.0]) is v
    np.testing.assert_array_equal(v, wanted)
    np.testing.assert_array_equal(v.gather_nd([[0, 1]]), wanted[0, 1:2])
    np.testing.assert_array_equal(v.sparse_read([1]), MATRIX[1:2])


def test_a_row_for_each_batch():
    v = gg.Variable(MATRIX)
    v.batch_scatter_update(gg.IndexedSlices([[9.0], [8.0], [7.0]], [[0], [1], [3]]))
    wanted = MATRIX.copy()
    wanted[np.arange(3), [0, 1, 3]] = [9, 8, 7]
    np.testing.assert_array_equal(v, wanted)


SLICES = {
    "to": lambda x, n: x[:n],
    "from": lambda x, n: x[n:],
    "of columns": lambda x, n: x[..., 1:n, None],
    "backwards": lambda x, n: x[n::-1],
    "with a step and an index": lambda x, n: x[1:n:2, 0],
    "with index arrays": lambda x, n: x[n : n + 1, [0, 2]],
}


@pytest.mark.parametrize("take", SLICES.values(), ids=SLICES)
def test_computed_slices(take):
    def f(x, n):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = take(x, n)
            total = gg.reduce_sum(y**3)
        return y, tape.gradient(total, x)

    x = gg.constant(np.arange(12, dtype=np.float32).reshape(4, 3))
    for jit in (True, False):
        compiled = gg.function(f, jit_compile=jit)
        for n in (2, 0, -1, -9, 9):
            for got, wanted in zip(compiled(x, gg.constant(n)), f(x, n)):
                np.testing.assert_array_equal(got, wanted)
        assert compiled.experimental_get_tracing_count() == 1


def test_computed_slices_are_assigned():
    @gg.function
    def f(x, n):
        x = gg.identity(x)
        x[:n] = 0.0
        x[n:, 1] += x[n:, 0]
        return x

    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    for n in (2, 0, -1, 9):
        wanted = x.copy()
        wanted[:n] = 0
        wanted[n:, 1] += wanted[n:, 0]
        np.testing.assert_array_equal(f(gg.constant(x), gg.constant(n)), wanted)


SHAPES = {
    "zeros": lambda x, n: gg.zeros([n, 3]) + x,
    "ones": lambda x, n: gg.ones(gg.stack([n, 3])) * x,
    "broadcast_to": lambda x, n: gg.broadcast_to(x, [n, 3]),
    "reshape": lambda x, n: gg.reshape(gg.broadcast_to(x, [6, 3]), [n, -1]),
    "uniform": lambda x, n: gg.random.stateless_uniform([n, 3], seed=[1, 2]) * x,
    "one_hot": lambda x, n: gg.one_hot([0, 1], n) * x[0],
}


@pytest.mark.parametrize("make", SHAPES.values(), ids=SHAPES)
def test_computed_shapes(make):
    x = gg.constant([1.0, 2.0, 3.0])
    compiled = gg.function(make)
    for n in (2, 3, 1):
        np.testing.assert_allclose(compiled(x, gg.constant(n)), make(x, n))
    assert compiled.experimental_get_tracing_count() == 1
    with pytest.raises(ValueError, match="-2"):
        compiled(x, gg.constant(-2))
