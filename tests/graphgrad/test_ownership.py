"""A later call never changes an array that a user still holds."""

import gc
import sys
import tracemalloc

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.runtime import memory

try:
    import resource
except ImportError:  # not on Windows
    resource = None

pytestmark = pytest.mark.usefixtures("entry")

BIG = 1 << 19


def test_variables_are_updated_in_place_when_nobody_looks():
    v = gg.Variable(gg.zeros(BIG))

    @gg.function
    def step(x):
        v.assign(v * 0.5 + x)

    x = gg.ones(BIG)
    step(x)
    before = v.tensor().array.ctypes.data
    step(x)
    assert v.tensor().array.ctypes.data == before
    np.testing.assert_array_equal(v, np.full(BIG, 1.5))


@pytest.mark.parametrize("size", [10, BIG])
def test_held_arrays_and_tensors_do_not_change(size):
    v = gg.Variable(gg.zeros(size))

    @gg.function
    def step(x):
        v.assign(v * 0.5 + x)
        return v.value()

    x = gg.ones(size)
    step(x)
    held = [v.numpy(), v.value(), np.from_dlpack(v.value()), v.numpy()[1:], memoryview(v.numpy())]
    copies = [np.array(h) for h in held]
    results = [step(x) for _ in range(3)]
    for h, c in zip(held, copies):
        np.testing.assert_array_equal(np.array(h), c)
    assert [float(r[0]) for r in results] == [1.5, 1.75, 1.875]


def test_outputs_are_not_recycled_while_held():
    f = gg.function(lambda x: x * 2.0)
    first = f(gg.ones(BIG))
    view = first.numpy()[10:20]
    del first
    for i in range(5):
        f(gg.fill((BIG,), float(i)))
    np.testing.assert_array_equal(view, np.full(10, 2))


def test_a_variable_does_not_share_with_the_tensor_it_was_made_of():
    t = gg.ones(4)
    v = gg.Variable(t)
    step = gg.function(lambda: v.assign(v * 3.0) * 1)
    step()
    step()
    np.testing.assert_array_equal(t, np.ones(4))
    w = gg.Variable(v)
    w.assign_add(gg.ones(4))
    np.testing.assert_array_equal(v, np.full(4, 9))
    v.assign(t)
    step()
    np.testing.assert_array_equal(t, np.ones(4))


def test_results_that_are_inputs():
    f = gg.function(lambda x, y: (y, x, x))
    x, y = gg.ones(3), gg.zeros(3)
    a, b, c = f(x, y)
    np.testing.assert_array_equal(a, y)
    np.testing.assert_array_equal(b, c)


def test_tapes_keep_what_they_need():
    v = gg.Variable(np.full(100, 2.0, np.float32))

    @gg.function
    def step():
        v.assign(v * 2.0)

    step()
    with gg.GradientTape() as tape:
        y = v * v
    step()
    step()
    np.testing.assert_array_equal(tape.gradient(y, v), np.full(100, 8))


def page_faults(run):
    """The pages that the system had to provide while `run` ran."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    result = run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, result


LARGE = 4 << 20  # elements of 4 bytes: 4,096 pages of 4 KiB, or 8 of 2 MiB
VIEWS = {
    "tensor": lambda y: y,
    "numpy": lambda y: y.numpy(),
    "slice": lambda y: y.numpy()[5:50:3],
    "transposed": lambda y: y.numpy().reshape(2, -1).T,
    "dlpack": lambda y: np.from_dlpack(y),
    "memoryview": lambda y: memoryview(y.numpy())[7:],
    "value of a variable": lambda y: gg.Variable(y).value(),
}


@pytest.mark.skipif(resource is None, reason="counts page faults by getrusage")
@pytest.mark.skipif(not memory.RECYCLING, reason="needs the GIL")
@pytest.mark.parametrize("size", [None, LARGE], ids=["symbolic", "fixed"])
def test_a_dropped_result_gives_its_pages_to_the_next(size):
    f = gg.function(lambda x: (x * 2.0, x + 1.0), input_signature=[gg.TensorSpec([size])])
    x = gg.ones(LARGE)
    f(x)
    counts = [page_faults(lambda: f(x))[0] for _ in range(5)]
    assert min(counts) == 0
    assert sorted(counts)[2] < 50, counts  # of 8,192 small pages
    gg.config.release_memory()
    new, kept = page_faults(lambda: f(x))
    assert new > 0 or sys.platform != "linux"
    del kept


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_no_view_of_a_large_result_is_written_over(view):
    f = gg.function(lambda x: x * 2.0)
    held = view(f(gg.ones(LARGE)))
    copy = np.array(held)
    others = [f(gg.fill((LARGE,), float(k))) for k in range(3)]
    gg.config.release_memory()
    others.append(f(gg.fill((LARGE,), 9.0)))
    np.testing.assert_array_equal(np.array(held), copy)
    assert [float(y[-1]) for y in others] == [0, 2, 4, 18]


def test_memory_of_dropped_results_is_given_back_when_asked():
    f = gg.function(lambda x: gg.reduce_sum(gg.sin(x @ x) @ x, 0))
    x = gg.ones((600, 600))
    gc.collect()
    gg.config.release_memory()
    others = memory.outputs.bytes  # what other tests still hold
    total = f(x)
    results = [gg.function(lambda x: x + 1.0)(gg.ones(LARGE)) for _ in range(3)]
    gg.config.release_memory()
    assert memory.outputs.bytes >= others + 3 * LARGE * 4 * memory.RECYCLING  # held: they stay
    del results
    freed = gg.config.release_memory()
    assert freed >= 3 * LARGE * 4 * memory.RECYCLING
    assert memory.outputs.bytes == others
    np.testing.assert_array_equal(f(x), total)
    assert gg.config.release_memory() >= 600 * 600 * 4  # the arena


@pytest.mark.parametrize("size", [4, 1 << 19], ids=["small", "large"])
def test_numpy_arguments_are_read_where_they_lie_and_never_kept(size):
    def results(x):
        return x, gg.reshape(x, [2, -1]), x + 1.0, gg.numpy_function(lambda a: a, [x], gg.float32)

    v = gg.Variable(np.zeros(size, np.float32))
    keeping = gg.function(results), gg.function(lambda x: v.assign(x))
    reading = gg.function(lambda x: gg.reduce_sum(x) * 2.0)
    x = np.ones(size, np.float32)
    for _ in range(5):
        first = [f(x) for f in keeping]
        assert float(reading(x)) == 2.0 * size
    x[:] = 7.0
    for y in (*first[0][:2], first[0][3], first[1], v):
        assert (y.numpy() == 1.0).all()
    assert float(reading(x)) == 14.0 * size
    assert float(reading(x[::2])) == 7.0 * size
    shifted = np.zeros(4 * size + 1, np.uint8)[1:].view(np.float32)  # not aligned
    shifted[:] = 2.0
    for _ in range(4):
        assert float(reading(shifted)) == 4.0 * size


def test_numpy_arguments_are_not_copied():
    f = gg.function(lambda x: gg.reduce_sum(x))
    x = np.ones(1 << 20, np.float32)
    for _ in range(4):
        f(x)
    tracemalloc.start()
    try:
        for _ in range(3):
            f(x)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
