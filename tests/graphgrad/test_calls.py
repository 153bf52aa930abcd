"""Calls: whatever the arguments, captures and results, made by Python or by native code."""

import collections
import dataclasses
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import weakref

import numpy as np
import pytest

import graphgrad as gg

X = np.arange(6, dtype=np.float32)
Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Pair:
    a: object
    b: object


def tensor(n=6, start=0.0):
    return gg.constant(np.arange(n, dtype=np.float32) + start)


def native_calls(f):
    return sum(t.form.calls for t in f._all if t.form is not None)


def check_calls(entry, f, calls, native=True):
    """`f` compiled gives what it gives as Python, call after call, and `native` of them are."""
    compiled = gg.function(f)
    for args, kwargs in calls * 6:
        wanted = gg.nest.flatten(f(*args, **kwargs))
        found = gg.nest.flatten(compiled(*args, **kwargs))
        assert len(found) == len(wanted)
        for x, y in zip(found, wanted):
            if isinstance(x, gg.Tensor):
                np.testing.assert_array_equal(x, y)
                assert x.dtype == gg.convert_to_tensor(y).dtype
            else:
                assert x == y
    assert (native_calls(compiled) >= 3 * len(calls)) == (native and entry.native)
    assert sum(t.count for t in compiled._all) == 6 * len(calls)
    return compiled


def calls(*args, **kwargs):
    return [(args, kwargs)]


NATIVE = {
    "one tensor": (lambda x: x * 2 + 1, calls(tensor())),
    "many tensors": (lambda *xs: sum(xs), calls(*[tensor(6, i) for i in range(12)])),
    "no tensor": (lambda: gg.ones(3) * 2, calls()),
    "rank 0": (lambda x: x + 1, calls(gg.constant(2.0))),
    "no elements": (lambda x: x + 1, calls(gg.zeros((0, 3)))),
    "mixed dtypes": (lambda x, i: x + gg.cast(i, "float32"), calls(tensor(), gg.range(6))),
    "bfloat16": (lambda x: x * 2, calls(gg.cast(tensor(), "bfloat16"))),
    "an array": (lambda x: gg.maximum(x, 2.0), calls(X)),
    "a read-only array": (lambda x: x * 2, calls(np.frombuffer(X.tobytes(), np.float32))),
    "both": (lambda x, y: gg.add(x, y), calls(tensor(), X)),
    "Python values": (
        lambda x, a, b, c, d, e: x * a + b + (len(c) if d is None else 0) + e,
        calls(tensor(), 2.5, 10**9, "name", None, True),
    ),
    "a float that is equal": (lambda x, a: x * a, calls(tensor(), float("2.5"))),
    "a long string": (lambda x, s: x * len(s), calls(tensor(), "ab" * 50)),
    "NaN": (lambda x, a: gg.where(x > 0, x, a), calls(tensor(), float("nan"))),
    "a list": (lambda p: p[0] + p[1], calls([tensor(), tensor()])),
    "a tuple": (lambda p: p[0] + p[1], calls((tensor(), tensor()))),
    "a dict": (lambda p: p["b"] - p["a"], calls({"b": tensor(), "a": tensor(6, 3.0)})),
    "deep": (lambda p: p["a"][0] + p["b"][1]["c"], calls(
        {"b": (1, {"c": tensor()}), "a": [tensor(6, 9.0), "no tensor"]}
    )),
    "keywords": (lambda x, y, k=2.0: x * k - y, calls(y=tensor(), x=tensor(6, 4.0))
                 + calls(tensor(), y=tensor()) + calls(tensor(), tensor(), k=2.0)),
    "keyword-only": (lambda x, *, b, a=3.0: x * a + b, calls(tensor(), b=tensor())
                     + calls(tensor(), a=3.0, b=tensor())),
    "any keywords": (lambda **kw: kw["z"] - kw["a"], calls(z=tensor(), a=tensor(6, 2.0))),
    "a tuple comes back": (lambda x: (x + 1, x * 2), calls(tensor())),
    "a list comes back": (lambda x: [x + 1, x * 2, x - 1], calls(tensor())),
    "a structure comes back": (
        lambda x: {"a": [x + 1], "b": (x * 2, None, "text"), "p": Point(x - 1, None)},
        calls(tensor()),
    ),
    "a class comes back": (lambda x: Pair(x + 1, x * 2), calls(tensor())),
    "nothing comes back": (lambda x: None, calls(tensor())),
    "alternating": (lambda x: x * 2, calls(tensor(3)) + calls(tensor(4)) + calls(gg.ones((2, 2)))),
    "alternating values": (lambda x, k: x * k, calls(tensor(), 2.0) + calls(tensor(), 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", NATIVE)
def test_calls_are_native(entry, name):
    check_calls(entry, *NATIVE[name])


OTHERS = {
    "a named tuple": (lambda p: p.x + p.y, calls(Point(tensor(), tensor()))),
    "a NumPy number": (lambda x: x + 1, calls(np.float32(3))),
    "a transposed array": (lambda x: x + 1, calls(np.arange(6.0).reshape(2, 3).T)),
    "a strided array": (lambda x: x + 1, calls(X[::2])),
    "an unaligned array": (lambda x: x + 1, calls(np.zeros(25, np.int8)[1:].view(np.float32))),
    "a number comes back": (lambda x: (x + 1, 3), calls(tensor())),
    "the argument itself comes back": (lambda x: (x, x + 1), calls(tensor())),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_calls_are_right_too(entry, name):
    f, args = OTHERS[name]
    check_calls(entry, f, args, native=False)


def test_a_transposed_tensor_is_made_contiguous_once(entry):
    x = gg.transpose(gg.constant(np.arange(6.0).reshape(2, 3)))
    check_calls(entry, lambda x: x * 2, calls(x))


def test_other_arguments_after_native_calls(entry):
    f = gg.function(lambda x, y=1.0: x * 2 + y)
    x = tensor()
    for _ in range(4):
        f(x)
    np.testing.assert_array_equal(f(gg.cast(x, "float64")), X * 2.0 + 1)
    np.testing.assert_array_equal(f(gg.cast(x, "int32")), X * 2 + 1)
    np.testing.assert_array_equal(f(tensor(7)), np.arange(7) * 2 + 1)
    np.testing.assert_array_equal(f(gg.reshape(x, (2, 3))), X.reshape(2, 3) * 2 + 1)
    np.testing.assert_array_equal(f(np.float32(1)), 3)
    np.testing.assert_array_equal(f(x, 2.0), X * 2 + 2)
    np.testing.assert_array_equal(f(x, -0.0), X * 2)
    np.testing.assert_array_equal(f(x), X * 2 + 1)
    for wrong, kwargs in (((), {}), ((x, 1.0, 2.0), {}), ((x,), {"z": 1}), ((x,), {"x": x})):
        with pytest.raises(TypeError):
            f(*wrong, **kwargs)
    np.testing.assert_array_equal(f(x), X * 2 + 1)


def test_open_sizes(entry):
    f = gg.function(
        lambda x, y: (x + y) * x.shape[0],
        input_signature=[gg.TensorSpec([None, 3]), gg.TensorSpec([None, 3])],
    )
    for _ in range(4):
        for n in (1, 2, 5):
            x = np.arange(3.0 * n, dtype=np.float32).reshape(n, 3)
            np.testing.assert_array_equal(f(gg.constant(x), x), 2 * x * n)
    assert f.experimental_get_tracing_count() == 2  # sizes that are 1, and others
    assert (native_calls(f) > 0) == entry.native


def test_more_sizes_than_plans(entry):
    f = gg.function(lambda x: x * 2, input_signature=[gg.TensorSpec([None])])
    for _ in range(3):
        for n in range(40):
            np.testing.assert_array_equal(f(tensor(n)), np.arange(n) * 2)


def test_captured_values_are_read_at_each_call(entry):
    v, fixed = gg.Variable(tensor()), tensor(6, 5.0)
    f = gg.function(lambda x: x * v + fixed)
    for i in range(5):
        v.assign(tensor(6, float(i)))
        np.testing.assert_array_equal(f(tensor()), X * (X + i) + X + 5)
    assert (native_calls(f) > 0) == entry.native
    v.assign(gg.reverse(v, [0]))
    np.testing.assert_array_equal(f(tensor()), X * (X + 4)[::-1] + X + 5)
    held = v.numpy()
    f(tensor())
    np.testing.assert_array_equal(held, (X + 4)[::-1])


def test_variables_of_any_shape(entry):
    v = gg.Variable([1.0, 2.0], shape=[None])
    f = gg.function(lambda x: v.assign(gg.concat([v, x], 0)) * 1.0)
    for n in range(3, 8):
        assert f(gg.constant([3.0])).shape == (n,)
        assert v.shape.as_list() == [None]
        assert v.numpy().shape == (n,)


@pytest.mark.parametrize("held", [False, True])
def test_variables_are_written(entry, held):
    v, w, only = gg.Variable(tensor()), gg.Variable(0.0), gg.Variable(tensor())

    @gg.function
    def f(x):
        v.assign_add(x)
        w.assign(gg.reduce_sum(v))
        only.assign(x * 3)
        return w * 2

    kept = []
    for i in range(1, 7):
        got = f(tensor())
        np.testing.assert_array_equal(v, X * (i + 1))
        np.testing.assert_array_equal(only, X * 3)
        assert float(w) == (X * (i + 1)).sum()
        assert float(got) == 2 * float(w)
        if held:
            kept.append((v.numpy(), v.value(), np.from_dlpack(v.value()), weakref.ref(v.value())))
    for i, (array, value, exported, _) in enumerate(kept):
        for x in (array, value, exported):
            np.testing.assert_array_equal(x, X * (i + 2))
    assert (native_calls(f) > 0) == entry.native


def test_variables_are_written_in_place(entry):
    v = gg.Variable(tensor())
    f = gg.function(lambda x: v.assign(v * 0.5 + x))
    g = gg.function(lambda x: [v.assign(v * 0.5 + x), None][1])
    for _ in range(4):
        g(tensor())
    before = v.tensor().array.ctypes.data
    for _ in range(10):
        g(tensor())
    assert v.tensor().array.ctypes.data == before
    view = v.numpy()
    copy = view.copy()
    g(tensor())
    f(tensor())
    np.testing.assert_array_equal(view, copy)
    watched = weakref.ref(v.tensor())
    g(tensor())
    assert watched() is None  # it was replaced, and did not change


def test_a_users_array_is_not_kept(entry):
    v = gg.Variable(tensor())
    f = gg.function(lambda x: v.assign(x) * 1.0)
    for i in range(5):
        x = X + i
        y = f(x)
        x[:] = -1
        np.testing.assert_array_equal(v, X + i)
        np.testing.assert_array_equal(y, X + i)


def test_failures_name_the_line_and_change_nothing(entry):
    v, d = gg.Variable([10, 20]), gg.constant([1, 2])

    @gg.function
    def f(d):
        v.assign(v // d)  # here
        return gg.gather(v, d - 1)

    for _ in range(4):
        f(d)
        v.assign([10, 20])
    calls_before = native_calls(f)
    with pytest.raises(ZeroDivisionError, match=r"test_calls\.py:\d+: v.assign\(v // d\)  # here"):
        f(gg.constant([1, 0]))
    np.testing.assert_array_equal(v, [10, 20])
    with pytest.raises(IndexError, match=r"test_calls\.py"):
        f(gg.constant([1, 5]))
    np.testing.assert_array_equal(v, [10, 20])
    np.testing.assert_array_equal(f(d), [10, 10])
    assert native_calls(f) == calls_before + entry.native
    v.assign(v + 1)  # its lock is free, from other threads too
    t = threading.Thread(target=lambda: v.assign([1, 2]))
    t.start()
    t.join(10)
    np.testing.assert_array_equal(v, [1, 2])


def test_results_that_raise_pass_their_error_on(entry):
    broken = []

    class Strict(list):
        def __init__(self, items):
            if broken:
                raise OSError("no room")
            super().__init__(items)

    f = gg.function(lambda x: Strict([x + 1, x * 2]))
    for _ in range(4):
        f(tensor())
    broken.append(True)
    with pytest.raises(OSError, match="no room"):
        f(tensor())
    broken.clear()
    np.testing.assert_array_equal(f(tensor())[0], X + 1)


def test_tapes_and_traces_see_the_call(entry):
    v = gg.Variable(3.0)
    f = gg.function(lambda x: x * x * v)
    x = gg.constant(2.0)
    for _ in range(4):
        f(x)
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    assert [float(g) for g in tape.gradient(y, [x, v])] == [12, 4]
    outer = gg.function(lambda x: f(x) + 1)
    assert [float(outer(x)) for _ in range(4)] == [13] * 4
    assert "mul" in outer.ir()
    with gg.GradientTape():
        with gg.GradientTape() as tape:
            assert float(f(x)) == 12
        assert float(tape.gradient(f(x), v, unconnected_gradients="zero")) == 0


def test_tapes_of_other_threads(entry):
    """Each of many short threads has tapes of its own, and calls outside of them."""
    v = gg.Variable(3.0)
    f = gg.function(lambda x: x * v)
    x = gg.constant(2.0)
    for _ in range(4):
        f(x)
    found = []

    def work():
        with gg.GradientTape() as tape:
            y = f(x)
        found.append((float(f(x)), float(tape.gradient(y, v))))

    for _ in range(30):
        with gg.GradientTape() as tape:
            y = f(x)
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            z = f(x)
        assert float(tape.gradient([y, z], v)) == 4
    assert found == [(6, 2)] * 30


def test_guards_are_asked(entry):
    state = {"rate": 2.0}
    box = Pair(1.0, [3.0])
    f = gg.function(lambda x: x * state["rate"] + box.a + box.b[0])
    for rate in (2.0, 2.0, 2.0, 2.0, 5.0, 5.0, 5.0, 2.0):
        state["rate"] = rate
        np.testing.assert_array_equal(f(tensor()), X * rate + 4)
    box.b[0] = 7.0
    np.testing.assert_array_equal(f(tensor()), X * 2 + 8)
    assert (native_calls(f) > 0) == entry.native


def test_objects_by_identity(entry):
    class Model:
        rate = 2.0

    a, b = Model(), Model()
    b.rate = 3.0
    f = gg.function(lambda m, x: x * m.rate)
    for _ in range(4):
        np.testing.assert_array_equal(f(a, tensor()), X * 2)
        np.testing.assert_array_equal(f(b, tensor()), X * 3)
    a.rate = 4.0
    np.testing.assert_array_equal(f(a, tensor()), X * 4)
    ref = weakref.ref(b)
    del b
    gc.collect()
    assert ref() is None
    for _ in range(50):  # one may lie where `b` was
        fresh = Model()
        np.testing.assert_array_equal(f(fresh, tensor()), X * 2)
    if entry.native:
        assert native_calls(f) > 0


def test_methods(entry):
    class Layer:
        def __init__(self):
            self.w = gg.Variable(2.0)

        @gg.function
        def __call__(self, x):
            return x * self.w

    layer, other = Layer(), Layer()
    other.w.assign(3.0)
    for _ in range(4):
        np.testing.assert_array_equal(layer(tensor()), X * 2)
        np.testing.assert_array_equal(other(tensor()), X * 3)


def test_reports_know_the_latest_trace(entry):
    f = gg.function(lambda x: x * 2)
    small, large = tensor(3), gg.ones(1 << 19)
    for _ in range(3):
        for x in (small, tensor(4), large):
            f(x)
            assert f"{x.shape[0]}]" in f.ir()
    assert [t.count for t in f._all] == [3, 3, 3]


def test_large_outputs_are_recycled(entry):
    f = gg.function(lambda x: x + 1)
    x = gg.ones(1 << 19)
    gg.config.release_memory()  # free blocks of other tests would take turns
    assert len({f(x).numpy().ctypes.data for _ in range(6)}) <= 2
    a, b = f(x), f(x)
    assert a.numpy().ctypes.data != b.numpy().ctypes.data


def test_calls_within_calls(entry):
    """A finalizer that runs while the outputs are installed calls the same function."""
    v = gg.Variable(tensor())
    f = gg.function(lambda x: [v.assign(x * 2), x + 1][1])
    inner = []

    def call():
        inner.append(f(tensor(6, 1.0)).numpy())

    for _ in range(4):
        f(tensor())
    for _ in range(3):
        weakref.finalize(v.tensor(), call)
        np.testing.assert_array_equal(f(tensor()), X + 1)
    assert len(inner) == 3
    for found in inner:
        np.testing.assert_array_equal(found, X + 2)
    np.testing.assert_array_equal(f(tensor()), X + 1)
    np.testing.assert_array_equal(v, X * 2)


def test_an_interrupt_while_waiting_for_a_lock(entry, interrupts):
    v = gg.Variable(0.0)
    f = gg.function(lambda: [v.assign_add(1.0), None][1])
    for _ in range(4):
        f()
    taken, done = threading.Event(), threading.Event()

    def hold():
        with v._lock:
            taken.set()
            done.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert taken.wait(20)
    timer = threading.Timer(0.2, signal.pthread_kill, [threading.get_ident(), signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        f()
    done.set()
    holder.join(20)
    timer.join(20)
    f()
    assert float(v) == 5


def test_a_reader_never_sees_a_value_that_is_being_written(entry):
    v = gg.Variable(np.zeros(200_000, np.float32))
    f = gg.function(lambda: [v.assign(v + 1), None][1])
    f()
    stop = threading.Event()
    mixed = []

    def read():
        while not stop.is_set():
            x = v.numpy()
            if x.min() != x.max():
                mixed.append(x)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(300):
        f()
    stop.set()
    reader.join(20)
    assert not mixed
    np.testing.assert_array_equal(v, np.full(200_000, 301))


@pytest.mark.parametrize("case", ["fits", "keyword", "structure", "write", "raise", "misfit"])
def test_references_are_exact(entry, case):
    v, w = gg.Variable(tensor()), tensor(6, 2.0)
    unused = gg.constant([0])
    x, key = tensor(), "some text that is not interned"[:20]

    def f(x, i, p=None, k=key):
        if case == "write":
            v.assign(v * 0.5 + x)
        y = x * w + v
        if case == "structure":
            return {"a": y, "b": [x + 1, key]}
        return y + gg.cast(7 // i, "float32")

    f = gg.function(f)
    args = (x, gg.constant([1]), {"a": [tensor()], "b": 1.5})
    wrong = (x, gg.constant([0]), {"a": [tensor()], "b": 1.5})

    def call():
        if case == "raise":
            with pytest.raises(ZeroDivisionError):
                f(*wrong)
        elif case == "misfit":
            with pytest.raises(TypeError):
                f(*args, **{"z": 1})
        elif case == "keyword":
            f(args[0], i=args[1], p=args[2], k=key)
        else:
            f(*args)

    for _ in range(4):
        f(*args)
        call()
    watched = [
        x,
        x.array,
        w,
        w.array,
        v,
        v.tensor(),
        v.tensor().array,
        args[1],
        args[2],
        key,
        None,
        args[2]["a"],
        args[2]["a"][0],
        x.array.dtype,
        f,
        f._forms,
        (),
        type(x),
        unused,
    ]
    if case == "write":
        watched[5:7] = []  # they are replaced
    n = 200 if case in ("raise", "misfit") else 1000
    gc.collect()
    before = [sys.getrefcount(y) for y in watched]
    blocks = sys.getallocatedblocks()
    for _ in range(n):
        call()
    gc.collect()
    grown = sys.getallocatedblocks() - blocks
    after = [sys.getrefcount(y) for y in watched]
    differences = [b - a for a, b in zip(before, after)]
    assert all(abs(d) < n // 4 for d in differences), differences  # the interpreter's own vary
    assert grown < n // 4


def test_nothing_leaks(entry):
    v = gg.Variable(tensor())

    @gg.function
    def f(x, p):
        v.assign(v * 0.5 + p["y"])
        return x * 2, {"z": x + 1}

    x, p = tensor(), {"y": tensor()}
    for _ in range(1000):
        f(x, p)
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(100_000 if entry.native else 10_000):
        f(x, p)
    gc.collect()
    assert abs(sys.getallocatedblocks() - before) < 500


def test_functions_and_their_traces_die(entry):
    f = gg.function(lambda x: x * 2)
    for _ in range(4):
        f(tensor())
    refs = weakref.ref(f), weakref.ref(f._all[0])
    del f
    gc.collect()
    assert [r() for r in refs] == [None, None]


@pytest.mark.parametrize("mode", ["", "plain"])
def test_calls_while_python_ends(mode):
    code = """
        import os, sys
        import numpy as np, graphgrad as gg

        f = gg.function(lambda x: x * 2 + 1)
        x = gg.constant(np.arange(3, dtype=np.float32))
        for _ in range(4):
            f(x)

        class Late:
            def __del__(self, f=f, x=x, write=os.write):
                write(1, b"%d" % f(x).array[2])

        sys.late = Late()  # this module's names go last
    """
    env = dict(os.environ, GRAPHGRAD_ENTRY=mode)
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout == ("" if mode else "5")  # what Python needs for it is gone already
