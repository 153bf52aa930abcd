"""Functions whose control flow depends on numbers: `CASES` has the numbers to try for each.

Each runs as Python on eager tensors, and converted in a `gg.function`; both give the same.
"""

from __future__ import annotations

import dataclasses
import functools

import graphgrad as gg

CASES: list = []


def case(*numbers):
    def add(f):
        CASES.extend((f, x) for x in numbers)
        return f

    return add


@case(1.0, -2.0, -20.0, 7.0)
def chain(x):
    y = x * 0.0
    if x > 5:
        y = x
    elif x < -10:
        return x * 100
    elif x < 0:
        y = -x
    return y + x


@case(2.0, -2.0)
def early(x):
    if x > 0:
        return x * x
    x = x + 1
    return x * 3


@case(0.5, 3.0, -4.0)
def may_return(x):
    if x > 0:
        if x > 2:
            return x * 10
        x = x * 2
    return x * 3


@case(0.5, 50.0, 2000.0)
def while_break(x):
    n = 0
    while True:
        if x > 1000:
            break
        x = x * 3
        n += 1
    return x + n


@case(0.5, 4.0, 50.0)
def while_test(x):
    while x < 40:
        if x > 30:
            break
        x = x * 2
        if x > 20:
            continue
        x = x + 1
    else:
        x = x + 1000
    return x


@case(0.3, 1.5, 9.0)
def range_loop(x):
    s = x
    for i in range(5):
        if s > 20:
            break
        if i == 2:
            continue
        s = s * 2 + i
    else:
        s = s - 100
    return s


@case(0.3, 2.5)
def return_in_range(x):
    for i in range(4):
        x = x * 2
        if x > 10:
            return x + i
    return -x


@case(1.0, 3.0)
def long_range(x):
    s = x
    for i in range(100):
        s = s * 0.9 + i * 0.5  # as Python numbers
    xs = gg.linspace(x, x + 1, 101)
    for i in range(1, 100):
        s = s + xs[i + 1] * xs[-i] + x * (2 * i - 1)
        s += i
    return s


@case(1.0, 3.0)
def rows(x):
    table = gg.reshape(gg.range(6.0), [3, 2]) * x
    s = x
    for row in table:
        for v in row:
            if v > 3:
                s = s + v
            else:
                s = s * 2
    return s


@case(0.0, 2.0, 5.0)
def tensor_range(x):
    n = gg.cast(x, gg.int32)
    s = x
    for i in gg.range(n):
        s = s + gg.cast(i, s.dtype) * x
    for i in range(n):
        s = s * 1.5
    return s


@case(1.0, 0.0, -1.0)
def expressions(x):
    y = x * 2 if x > 0 else x * 3
    z = 10.0 if (x > 0.5 and y > 1) or not (x > -0.5) else 20.0
    w = x + 1 if -0.5 < x < 0.5 else x
    return y + z * x + w


@case(2.0, -2.0)
def temporaries(x):
    if x > 0:
        t = x * x
        y = t + 1
    else:
        t = "text"
        y = x
    return y


@case(2.0)
def lists(x):
    xs = []
    for i in range(3):
        xs.append(x * i)
    y = gg.stack(xs)
    if x > 1:
        y = y * xs[0] + len(xs)
    return gg.reduce_sum(y)


@case(2.0, -1.0)
def updates(x):
    t = gg.zeros([4]) + x
    t[1] = x * 5
    t[2:] += x * x
    if x > 0:
        t[0] *= 3
    for i in range(4):
        t[i] = t[i] * 2
    return gg.reduce_sum(t)


@case(2.0, -1.0)
def closures(x):
    y = x

    def double():
        nonlocal y
        y = y * 2
        return y

    if x > 0:
        z = double() + y
    else:
        z = y * 7
    return z + y


@dataclasses.dataclass
class State:
    value: object
    count: object = 0


@case(2.0, -1.0)
def structures(x):
    d = {"a": x, "b": (x, [x * 2])}
    if x > 0:
        d = {"a": x * 2, "b": (x, [x * 3])}
    s = State(x)
    while s.value < 10:
        s = State(s.value * 2 + 4, s.count + 1)
    return d["a"] + d["b"][1][0] + s.value + s.count


class Model:
    def __init__(self):
        self.scale = 3.0

    def positive(self, x):
        if x > 0:
            return x * self.scale
        return x

    def __call__(self, x):
        y = self.positive(x)
        while y < 20:
            y = y * 2 + 5
        return y


@case(2.0, -1.0)
def methods(x):
    model = Model()
    half = functools.partial(scaled, factor=0.5)
    return model(x) + model.positive(-x) + half(x)


def scaled(x, factor):
    return x * factor if x > 0 else x / factor


@case(2.0, -1.0)
def attributes(x):
    model = Model()
    model.total = x
    if x > 0:
        model.total = model.total * 2
    for i in range(3):
        if x > i:
            model.total = model.total + 1
    return model.total


def logged(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        return f(*args, **kwargs)

    return wrapper


@case(2.0, -1.0)
@logged
def decorated(x):
    if x > 0:
        return x
    return x * x


@case(2.0, -1.0)
def mapped(x):
    xs = gg.stack([x, -x])
    a = gg.map_fn(lambda v: v * 2 if v > 0 else v * 3, xs)
    b = gg.cond(x > 0, lambda: early(x), lambda: early(-x))
    return gg.reduce_sum(a) + b


@case(2.0, -1.0)
def in_with(x):
    with gg.name_scope("scope"):
        if x > 0:
            return x * 5
        x = x * 2
    return x


@case(2.0, -1.0)
def in_try(x):
    try:
        if x > 0:
            return x * 5
        x = x * 2
    finally:
        x = x + 1
    return x


@case(3.0, 8.0)
def nested_loops(x):
    total = x * 0
    for i in range(3):
        for j in range(3):
            if j > x:
                break
            if x * i > 12:
                return total + 1000
            total = total + x * j
        else:
            total = total + 100
    return total


@case(3.0, 0.5)
def walrus(x):
    while (y := x * 2) < 20:
        x = x + y
    if (z := x + 1) > 25:
        return z * 2
    return x + z


@case(3.0)
def literal(x):
    mode = "train"
    if mode == "train" and x is not None:
        for factor in [1.0, 2.0, 3.0]:
            if x > 10:
                break
            x = x * factor
    return x
