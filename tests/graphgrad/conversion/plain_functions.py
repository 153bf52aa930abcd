"""Functions of Python's control flow, on plain Python values: `CASES` has arguments for each."""

from __future__ import annotations

import contextlib
import functools
import types
from dataclasses import dataclass

CASES: list = []
LOG: list = []


def case(*arguments):
    def add(f):
        CASES.extend((f, a if isinstance(a, tuple) else (a,)) for a in arguments)
        return f

    return add


def log(x):
    LOG.append(x)
    return x


@case(1, -1, 0)
def branch(x):
    if x > 0:
        y = x
    elif x < 0:
        y = -x
        t = log("negative")
        y += len(t)
    else:
        y = 100
    return y


@case(1, -1, 0)
def early_return(x):
    if x > 0:
        return log("positive")
    log("after")
    if x < 0:
        return log("negative")
    return "zero"


@case(1, -1, 0)
def return_without_else(x):
    if x > 0:
        if x < 10:
            log("a")
        else:
            return 1
        log("b")
    if not x:
        return "zero"


@case(True, False)
def undefined(c):
    if c:
        y = 1
    return y


@case((True, 1), (True, 0), (False, 1))
def nested_returns(a, b):
    if a:
        if b:
            return "ab"
        log("a")
    else:
        log("not a")
    log("rest")
    return "end"


@case(0, 1, 5, 10)
def while_loop(n):
    i = s = 0
    while i < n:
        i += 1
        if i == 3:
            continue
        if i == 7:
            break
        s += i
    else:
        s += 1000
    return i, s


@case(0, 3, 8)
def while_true(n):
    i = 0
    while True:
        if i >= n:
            break
        i += 1
        log(i)
    return i


@case(0, 3, 8)
def return_in_loop(n):
    for i in range(10):
        log(i)
        if i == n:
            return "found", i
    return "not found"


@case(([1, 2, 3], 2), ([1, 2, 3], 5), ([], 1))
def for_else(xs, wanted):
    for x in xs:
        if x == wanted:
            found = x
            break
    else:
        found = log("none")
    return found


@case(1, 5)
def one_item_more(n):
    items = iter([1, 2, 3, 4])
    for x in items:
        if x > n:
            break
        if x == n:
            break
    return list(items), x


@case(0, 2)
def last_index(n):
    for i in range(n):
        pass
    return i


@case(([[1, 2], [3, 0], [5, 6]],), ([[1, 2]],), ([],))
def nested_loops(rows):
    total = 0
    for row in rows:
        for x in row:
            if x == 0:
                break
            if x == 5:
                return "five", total
            total += x
        else:
            log("whole row")
            continue
        log("broken")
        total *= 10
    return total


@case(3)
def while_walrus(n):
    xs = list(range(n))
    s = 0
    while (k := len(xs)) > 1:
        s += k
        xs.pop()
    else:
        s += 0.5
    return s, k


@case((1, 2, 3), (3, 2, 1), (1, 5, 3), (2, 2, 2))
def comparisons(a, b, c):
    if a < b < c:
        return "rising"
    if log(a) >= log(b) >= log(c) != 7:
        return "falling"
    return a < log(b) <= log(c)


@case((0, "x"), (1, ""), (2, "y"))
def logic(a, b):
    x = a and log(b)
    y = a or log(b)
    z = not a
    return x, y, z, log(a) if b and not z else log(b), (a or b) and (b or a)


@case(0, 1)
def asserted(x):
    assert x, log("message")
    return x


@case(0)
def asserted_bare(x):
    assert x
    return x


@case(1, 0)
def exceptions(x):
    y = 0
    try:
        if x:
            y = 1
            raise ValueError("x")
        y = 2
    except ValueError as e:
        log(str(e))
        y += 10
    else:
        y += 100
    finally:
        log(y)
    return y


@case(1, 0, 2)
def return_in_try(x):
    for i in range(3):
        try:
            if i == x:
                return log("returned")
            if i == 0:
                continue
            log(1 // (i - 1))
        except ZeroDivisionError:
            log("division")
            break
        else:
            log("else")
        finally:
            log("finally")
    return "end"


@case(1, 0)
def in_with(x):
    with contextlib.suppress(KeyError):
        if x:
            return {}[x]
        log("in")
        return "returned"
    log("after")


@case(2, 0)
def in_finally(x):
    for _ in range(x):
        try:
            log("a")
        finally:
            if x:
                break
    return x


@case(3)
def closures(n):
    fs = []
    t = 0
    for i in range(n):
        if i % 2:
            t = i
        fs.append(lambda: (i, t))

    def change():
        nonlocal t
        t += 100
        return t

    if n > 2:
        change()
        s = t
    else:
        s = None
    return [f() for f in fs], t, s


def outer_function():
    count = 0
    other = 5

    def counter(n):
        nonlocal count
        count = 3
        return inner(n), count

    def inner(n):
        nonlocal count
        if n > 0:
            count += n
        else:
            count = other
        return count

    return counter


case(1, 0)(outer_function())

COUNT = 0


@case(1, 0)
def global_counter(n):
    global COUNT
    COUNT = 0
    if n:
        COUNT += 1
    while COUNT < 3:
        COUNT += 1
    return COUNT


@case(1, 0)
def temporaries(c):
    t = 3
    if c:
        t = t + 1
        y = t
    else:
        y = 0
    return y


@case(([3, 4, 5], 1), ([3, 4, 5], 7))
def elements(xs, i):
    d = {"n": 0}
    xs = list(xs)
    try:
        if i < 10:
            xs[i] = log(9)
            xs[0] += log(1)
            xs[log(1)] *= log(2)
        d["n"] += 1
        d["m"] = d["n"]
        xs[1:2] = [7, 7]
        (xs[0], *xs[1:2]), d["z"] = [1, 2, 3], 4
        xs[-1] = xs[-2] = 8
    except IndexError as e:
        log(str(e))
    return xs, d


@case(0, 4)
def lists(n):
    xs = []
    for i in range(n):
        xs.append(i)
        if i > 2:
            v = xs.pop(0)
            log(v)
            xs.pop()
    return xs


@case(2)
def comprehensions(n):
    y = 5
    if n > 1:
        y = 7
    return (
        [x if x > 1 else -x for x in range(4) if x != y and x],
        {x: y for x in "ab"},
        (y := y + 1),
    )


@case(1, "a", None, [1, 2], {"k": 3}, [4, 5, 6])
def matching(x):
    match x:
        case 1:
            y = "one"
            if y:
                return y
        case str() as s if s and len(s) < 2:
            y = s
        case [a, b]:
            y = a + b
        case {"k": v, **rest}:
            y = v, rest
        case [first, *others]:
            for o in others:
                first += o
            y = first
        case _:
            y = None
    return y


@case(3)
def deletions(n):
    x = 1
    if n:
        y = 2
    del y
    if not n:
        y = 3
    try:
        return y
    except UnboundLocalError:
        return "unbound", x


@case((1, 2), (0, 0))
def defaults(a, b=2, *rest, c=3, **more):
    def inner(z=a if a else b):
        if z > 1:
            return z
        return -z

    return inner(), [f(a) for f in (lambda v: v if v else "no", lambda v: not v)], c, rest, more


@case(5)
def recursion(n):
    if n <= 1:
        return 1
    return n * recursion(n - 1)


@case(4)
def generators(n):
    def count(k):
        while k:
            if k % 2:
                yield k
            k -= 1

    if n:
        return list(count(n)), sum(x for x in range(n) if x and x > 1)


@dataclass
class Counter:
    total: int = 0

    def add(self, n):
        if n > 0:
            self.total += n
            return self
        self.__hidden = n
        return self.__hidden

    @property
    def is_large(self):
        return self.total > 3 and self.total < 100

    @classmethod
    def make(cls, n):
        made = cls(n) if n > 0 else cls()
        return made.add(n)

    @staticmethod
    def sign(n):
        if n > 0:
            return 1
        return -1


class Twice(Counter):
    def add(self, n):
        if n > 1:
            super().add(n)
            r = n and super().add(n)
        else:
            r = super(Twice, self).add(n)
        return r, __class__.__name__

    def __call__(self, n):
        return self.add(n) if n else None


case(1, 0, 2)(lambda n: Counter().add(n))
case(1, 0, 2)(lambda n: (Twice().add(n), Twice()(n), Counter.sign(n), Counter.make(n)))
case(2)(Twice.make)
case(2, 0)(lambda n: Twice(5)(n))
case(1, 3)(functools.partial(comparisons, 2, c=3))


def logged(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        log(f.__name__)
        if args and args[0]:
            return f(*args, **kwargs)
        return "nothing"

    return wrapper


@case(0, 3)
@logged
def decorated(n):
    """Documented."""
    while n > 1:
        n -= 1
    return n


PAIR = [lambda x: x if x > 0 else -x, lambda x: not x, lambda x: (x and (x + 1)) if x else "none"]
for one in PAIR:
    case(3, -3, 0)(one)


@case(([1, 2, 3],))
def targets(xs):
    o = types.SimpleNamespace(i=0, s=0)
    d = {}
    for o.i in xs:
        if o.i > 1:
            o.s += o.i
    for d["k"], (a, *b) in [(1, (2, 3)), (4, (5, 6))]:
        pass
    return o.i, o.s, d, a, b


@case(3, 0)
def text(n):
    """Long strings
    with lines further left
    than their function.
    """
    s = f"{n if n else 'none'!r:>{10 if n else 5}}"
    if n:
        s += """
unindented
"""
    return s


@case((None, 1), (2, 1))
def plain_tests(x, mode):
    if x is None:
        return "none"
    if isinstance(mode, int) and mode is not None:
        for k in (1, 2):
            if k == mode:
                return k
    if mode == "train":
        return x
    while True:
        x += 1
        if x > 5:
            return x


@case(0, 1)
def raises(x):
    if x:
        raise KeyError(x)
    return 1 // x


@case(6)
def unbound_in_loop(n):
    for i in range(n):
        if i > 3:
            return y
        if i == 4:
            y = 1


@case(3)
def augmented_unbound(n):
    if n > 5:
        total = 1
    for i in range(n):
        total += i
    return total
