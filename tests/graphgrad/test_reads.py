"""What a trace reads of the user's state is noticed however it is reached."""

import argparse
import collections
import dataclasses
import functools
import gc
import operator
import threading
import types
import warnings
import weakref

import numpy as np
import pytest

import graphgrad as gg

ONE = gg.constant(1.0)


class Object:
    def __init__(self, k=2.0, **more):
        self.k = k
        vars(self).update(more)

    def times(self, x):
        return x * self.k


def set_k(x, k=3.0):
    return lambda: setattr(x, "k", k)


def chain():
    c = Object(d=Object())
    return (lambda x: x * c.d.k), set_k(c.d)


def rebound_in_a_chain():
    c = Object(d=Object())
    return (lambda x: x * c.d.k), lambda: setattr(c, "d", Object(3.0))


def method():
    c = Object()
    return (lambda x: c.times(x)), set_k(c)


def passed_to_a_helper():
    c = Object()

    def helper(o, x):
        return x * o.k

    return (lambda x: helper(c, x)), set_k(c)


def returned_by_a_helper():
    c = Object()

    def get():
        return c

    return (lambda x: x * get().k), set_k(c)


def by_getattr():
    c = Object()
    return (lambda x: x * getattr(c, "k")), set_k(c)  # noqa: B009


def by_attrgetter():
    c = Object(d=Object())
    return (lambda x: x * operator.attrgetter("d.k")(c)), set_k(c.d)


def absent_at_first():
    c = Object()
    return (lambda x: x * (3.0 if hasattr(c, "other") else 2.0)), lambda: setattr(c, "other", 1)


def in_a_dict():
    d = {"m": Object()}
    return (lambda x: x * d["m"].k), set_k(d["m"])


def loops():
    d, items = {"m": Object()}, [Object(), (Object(),)]

    def f(x):
        for _, m in d.items():
            x = x * m.k
        for _, m in zip(d, items):
            x = x * m.k
        return sum([x * m.k for m in items[1]])

    return f, set_k(items[1][0])


def unpacked():
    c = Object(d=Object())

    def f(x, flag=True):
        a, _ = c.d, 1
        b = a if flag else None
        return x * b.k

    return f, set_k(c.d)


def partials():
    c = Object()
    return functools.partial(lambda o, x: x * o.k, c), set_k(c)


def partials_inside():
    c = Object()
    p = functools.partial(lambda o, x: x * o.k, c)
    return (lambda x: p(x)), set_k(c)


def defaults():
    c, d = Object(), [2.0]

    def helper(x, o=c, *, items=d):
        return x * o.k * items[0]

    return (lambda x: helper(x)), lambda: d.__setitem__(0, 3.0)


def callable_objects():
    class Call(Object):
        def __call__(self, x):
            return x * self.k

    c = Call()
    return c, set_k(c)


def inherited():
    class Child(Object):
        def times(self, x):
            return super().times(x) + 0.0

    c = Child()
    return (lambda x: c.times(x)), set_k(c)


def properties():
    class Derived(Object):
        @property
        def half(this):
            return this.k / 2

    c = Derived()
    return (lambda x: x * c.half), set_k(c)


def dynamic_attributes():
    class Table:
        def __init__(self):
            self.rows = {"k": 2.0}

        def __getattr__(self, name):
            return self.rows[name]

    c = Table()
    return (lambda x: x * c.k), lambda: c.rows.__setitem__("k", 3.0)


def special_methods():
    class Items:
        def __init__(self):
            self.items = [2.0]

        def __getitem__(self, i):
            return self.items[i]

        def __iter__(self):
            return iter(self.items)

        def __rmul__(self, x):
            return x * self.items[0]

    c = Items()

    def f(x):
        for k in c:
            x = x * k
        return x * c[0] * (1.0 * c)

    return f, lambda: c.items.__setitem__(0, 3.0)


def context_managers():
    class Managed(Object):
        def __enter__(self):
            return self

        def __exit__(self, *unused):
            pass

    c = Managed()

    def f(x):
        with c as o:
            return x * o.k

    return f, set_k(c)


def slots():
    class Slots:
        __slots__ = ("k",)

    c = Slots()
    c.k = 2.0
    return (lambda x: x * c.k), set_k(c)


def records():
    @dataclasses.dataclass
    class Config:
        k: float = 2.0

    c, n = Config(), types.SimpleNamespace(k=2.0)
    return (lambda x: x * c.k * n.k), set_k(n)


def class_attributes():
    class Config:
        k = 2.0

        @classmethod
        def times(cls, x):
            return x * cls.k

    return (lambda x: Config.times(x)), set_k(Config)


def functions_in_containers():
    k = [2.0]
    d = {"f": lambda x: x * k[0]}
    return (lambda x: d["f"](x)), lambda: k.__setitem__(0, 3.0)


def containers():
    c, q = collections.Counter(a=2), collections.deque([2.0])
    n = collections.defaultdict(dict, a={"b": 2.0})
    return (lambda x: x * float(c["a"]) * q[0] * n["a"]["b"]), lambda: q.append(q.popleft() + 1)


def counters():
    c = collections.Counter(a=2)
    return (lambda x: x * float(c["a"])), lambda: c.update("a")


def classes_of_containers():
    class Config(dict):
        __getattr__ = dict.__getitem__

    class Named(list):
        scale = 2.0

    c, n = Config(k=2.0), Named([1.0])
    user = collections.UserList([c])
    return (lambda x: x * user[0].k * n.scale), lambda: setattr(n, "scale", 3.0)


def elements_of_user_containers():
    user = collections.UserList([2.0])
    return (lambda x: x * user[0]), lambda: user.__setitem__(0, 3.0)


def many_elements():
    items = [Object() for _ in range(1100)]
    return (lambda x: x * items[1050].k), set_k(items[1050])


def descriptors():
    class Typed:
        def __get__(self, instance, owner):
            return instance.hidden

        def __set__(self, instance, value):
            instance.hidden = value

    class Config:
        k = Typed()

    c = Config()
    c.k = 2.0
    return (lambda x: x * c.k), set_k(c)


def command_line():
    args = argparse.Namespace(rate=2.0)

    def helper(args, x):
        return x * args.rate

    return (lambda x: helper(args, x)), lambda: setattr(args, "rate", 3.0)


def filled():
    d = {}
    return (lambda x: x * (len(d) + 1.0)), lambda: d.__setitem__("a", 1)


WAYS = [
    chain, rebound_in_a_chain, method, passed_to_a_helper, returned_by_a_helper, by_getattr,
    by_attrgetter, absent_at_first, in_a_dict, loops, unpacked, partials, partials_inside, defaults,
    callable_objects, inherited, properties, dynamic_attributes, special_methods, context_managers,
    slots, records, class_attributes, functions_in_containers, containers, counters, filled,
    classes_of_containers, elements_of_user_containers, many_elements, descriptors, command_line,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_change_is_never_overlooked(way):
    python_function, change = way()
    f = gg.function(python_function)
    for _ in range(4):
        before = float(f(ONE))
        assert before == float(python_function(ONE))
    assert f.experimental_get_tracing_count() == 1
    change()
    for _ in range(4):
        assert float(f(ONE)) == float(python_function(ONE)) != before
    assert f.experimental_get_tracing_count() == 2


@pytest.mark.parametrize("make", [types.SimpleNamespace, Object, argparse.Namespace])
def test_objects_that_are_arguments(make):
    c = make(k=2.0)
    f = gg.function(lambda x, p, *, q: x * p.k * q["c"].k)
    for _ in range(3):
        assert float(f(ONE, c, q={"c": Object(1.0)})) == 2
    c.k = 3.0
    assert float(f(ONE, c, q={"c": Object(1.0)})) == 3


def test_containers_within_themselves_and_methods_in_c():
    items, rng = [1.0], np.random.default_rng(0)
    items.append(items)
    f = gg.function(lambda x: x * items[0] + 0 * rng.random())
    assert [float(f(ONE)), float(f(ONE))] == [1, 1]
    assert f.experimental_get_tracing_count() == 1
    items[0] = 2.0
    assert float(f(ONE)) == 2


def test_what_is_not_read_is_not_guarded():
    c = Object(history=[], epoch=0, other=Object())
    f = gg.function(lambda x: c.times(x))
    for i in range(5):
        f(ONE)
        c.history.append(i)
        c.epoch += 1
        c.other.k += 1
    assert f.experimental_get_tracing_count() == 1


def test_objects_that_a_trace_makes_are_its_own():
    c = Object(parts=[])

    @gg.function
    def f(x):
        made = Object(k=1.0)
        for _ in range(3):
            made.k = made.k * c.k
        return x * made.k, made

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(f(ONE)[0]) == 8


def test_classes_are_as_they_were_afterwards():
    class Own:
        k = 2.0

        def __getattribute__(self, name):
            return object.__getattribute__(self, name)

    method = Own.__getattribute__
    own, plain = Own(), Object()

    @gg.function
    def f(x):
        assert Own.__getattribute__ is not method
        return x * own.k * plain.k

    assert float(f(ONE)) == 4
    assert Own.__getattribute__ is method
    assert "__getattribute__" not in vars(Object)

    @gg.function
    def fails(x):
        raise KeyError(plain.k)

    with pytest.raises(KeyError):
        fails(ONE)
    assert "__getattribute__" not in vars(Object)


def test_threads_that_trace_at_once():
    barrier, results = threading.Barrier(4), []
    objects = [Object(float(i)) for i in range(4)]

    def work(i):
        f = gg.function(lambda x: objects[i].times(x))
        barrier.wait()
        for n in range(1, 6):
            f(gg.ones(n))
        objects[i].k = 10.0 + i
        results.append(float(f(gg.ones(1))[0]) == 10 + i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [True] * 4
    assert "__getattribute__" not in vars(Object)


def test_objects_that_refer_to_each_other_are_not_kept():
    class Layer:
        def __init__(self, parent):
            self.parent = parent
            self.k = 2.0

        def __call__(self, x):
            return x * self.k

    class Model:
        def __init__(self):
            self.layers = [Layer(self), Layer(self)]
            self.first = {"layer": self.layers[0]}
            self.callback = lambda x: self.first["layer"](x)

        @gg.function
        def __call__(self, x):
            for layer in self.layers:
                x = layer(x)
            return self.callback(x)

    m = Model()
    for _ in range(5):
        assert float(m(ONE)) == 8
    reference = weakref.ref(m)
    del m
    gc.collect()
    assert reference() is None


def test_arrays():
    small, large = np.float32([2.0]), np.full(100, 2.0, np.float32)
    f = gg.function(lambda x: x * small[0] * gg.reduce_max(large * ONE))
    assert float(f(ONE)) == 4
    small[0], large[:] = 3.0, 5.0
    assert float(f(ONE)) == 15


def test_nested_traces_notice_for_the_inner_and_the_outer_one():
    c = Object()
    inner = gg.function(lambda x: x * c.k)
    outer = gg.function(lambda x: inner(x) + 1)
    assert (float(outer(ONE)), float(inner(ONE))) == (3, 2)
    c.k = 5.0
    assert (float(outer(ONE)), float(inner(ONE))) == (6, 5)
