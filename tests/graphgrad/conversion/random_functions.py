"""Functions made at random, of nested conditions, loops and jumps.

Those of `Numbers` compute with Python's numbers, exactly, log what they do, and raise; some of them
may be run with tensors. Those of `Tensors` have derivatives: their values stay bounded and away
from kinks. Each is its own oracle: as plain Python, of numbers or on eager tensors.
"""

from __future__ import annotations

import linecache
import random

NAMES = ("x", "y", "z")
DEPTH = 3
TENSORS = ("a", "b", "c")
TESTS = (
    "a > b", "b > 0.3", "not a > c", "0.1 < a < b", "i > 1", "i % 2 == 0 and c > a",
    "b > a or c > 0.2", "n > i",
)  # fmt: skip
VALUES = (
    "gg.sin(a + b)", "a * 0.5 + b * c", "gg.tanh(b - a)", "c - 0.7", "gg.cos(c) * a", "b * b * 0.3",
    "x[0] * a + x[1]", "gg.sin(c) if a > b else gg.cos(b)", "0.25", "a", "x[i % 3] - c * 0.5",
)  # fmt: skip


class Numbers:
    """Writes the source of a function. Those of `numbers` alone may be of tensors as well."""

    def __init__(self, seed: int, numbers: bool = False) -> None:
        self.random = random.Random(seed)
        self.numbers = numbers
        self.lines: list[str] = []
        self.loops = 0  # of those that surround the line
        self.depth = 0
        self.count = 0  # of counters

    def function(self) -> str:
        self.lines = ["def f(x, y, z, log=None):", "    t = 0"]
        self.depth = 1
        self.block(DEPTH, 4)
        self.line("return " + self.value())
        return "\n".join(self.lines) + "\n"

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def value(self) -> str:
        a, b = (self.random.choice((*NAMES, "t")) for _ in range(2))
        n = self.random.randrange(1, 5)
        forms = [f"{a} + {n}", f"{a} - {b}", f"{a} % 7 + {b}", f"({a} if {self.test(0)} else {b})"]
        return self.random.choice(forms)

    def test(self, depth: int = 1) -> str:
        a, b = (self.random.choice((*NAMES, "t")) for _ in range(2))
        n = self.random.randrange(-3, 6)
        forms = [f"{a} > {n}", f"{a} % 3 == {abs(n) % 3}", f"{a} < {b}", f"{n} < {a} < {b} + 5"]
        if depth:
            first, second = self.test(0), self.test(0)
            forms += [f"{first} and {second}", f"{first} or {second}", f"not ({first})"]
        return self.random.choice(forms)

    def block(self, depth: int, most: int) -> None:
        self.depth += self.depth > 1 or depth < DEPTH
        for _ in range(self.random.randrange(1, most)):
            self.statement(depth)
        self.depth -= self.depth > 1 and depth < DEPTH

    def inner(self, depth: int, most: int = 3) -> None:
        self.depth += 1
        for _ in range(self.random.randrange(1, most + 1)):
            self.statement(depth - 1)
        self.depth -= 1

    def statement(self, depth: int) -> None:
        choices = [self.assign, self.assign]
        if depth:
            choices += [self.condition, self.condition, self.condition, self.for_loop]
            choices += [self.while_loop]
            if not self.numbers:
                choices += [self.attempt, self.context]
        if self.loops:
            choices += [self.jump]
        if depth < DEPTH:
            choices += [self.give]
        self.random.choice(choices)(depth)

    def assign(self, depth: int) -> None:
        name = self.random.choice((*NAMES, "t"))
        sign = self.random.choice(("=", "=", "+=", "-="))
        self.line(f"{name} {sign} {self.value()}")
        if not self.numbers and self.random.random() < 0.3:
            self.line(f"log({name})")

    def give(self, depth: int) -> None:
        if self.random.random() < 0.5:
            self.line(f"return {self.value()}")
        else:
            self.assign(depth)

    def jump(self, depth: int) -> None:
        self.line(self.random.choice(("break", "continue")))

    def condition(self, depth: int) -> None:
        self.line(f"if {self.test()}:")
        self.inner(depth)
        if self.random.random() < 0.3:
            self.line(f"elif {self.test()}:")
            self.inner(depth)
        if self.random.random() < 0.5:
            self.line("else:")
            self.inner(depth)

    def for_loop(self, depth: int) -> None:
        self.count += 1
        name = f"i{self.count}"
        self.line(f"for {name} in range({self.random.randrange(0, 4)}):")
        self.loop(depth, f"t += {name}")

    def while_loop(self, depth: int) -> None:
        self.count += 1
        name = f"n{self.count}"
        self.line(f"{name} = 0")
        self.line(f"while {name} < {self.random.randrange(1, 4)} and ({self.test()}):")
        self.loop(depth, f"{name} += 1")

    def loop(self, depth: int, first: str) -> None:
        self.loops += 1
        self.depth += 1
        self.line(first)
        self.depth -= 1
        self.inner(depth)
        self.loops -= 1
        if self.random.random() < 0.4:
            self.line("else:")
            self.inner(depth)

    def attempt(self, depth: int) -> None:
        self.line("try:")
        self.inner(depth)
        self.depth += 1
        self.line(f"log(1 // ({self.value()}))")
        self.depth -= 1
        self.line("except ZeroDivisionError:")
        self.inner(depth)
        if self.random.random() < 0.4:
            self.line("else:")
            self.inner(depth)
        if self.random.random() < 0.4:
            self.line("finally:")
            self.depth += 1
            self.line("log('finally')")
            self.depth -= 1

    def context(self, depth: int) -> None:
        self.line("with contextlib.suppress(ZeroDivisionError):")
        self.inner(depth)
        self.depth += 1
        self.line(f"t = 1 // ({self.value()})")
        self.depth -= 1


class Tensors:
    """Writes the source of a function `f(x, n)`: x is f32[3], n an int32."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.lines = []
        self.loops = 0

    def add(self, depth, text):
        self.lines.append("    " * depth + text)

    def block(self, depth, budget, in_loop):
        for _ in range(self.random.randint(1, 3)):
            self.statement(depth, budget, in_loop)

    def statement(self, depth, budget, in_loop):
        kinds = ["assign", "assign", "update"]
        if budget > 0:
            kinds += ["if", "if", "for", "while", "rows"]
        if in_loop:
            kinds += ["break", "continue"]
        kinds += ["return"] if self.random.random() < 0.15 else []
        getattr(self, "write_" + self.random.choice(kinds))(depth, budget, in_loop)

    def choice(self, options):
        return self.random.choice(options)

    def write_assign(self, depth, budget, in_loop):
        name = self.choice(TENSORS)
        self.add(depth, f"{name} {self.choice(['=', '=', '+=', '*='])} {self.choice(VALUES)}")

    def write_update(self, depth, budget, in_loop):
        key = self.choice(["0", "i % 3", "1:", "-1", "::2"])
        self.add(depth, f"x[{key}] {self.choice(['=', '+='])} {self.choice(VALUES)} * 0.5")

    def write_if(self, depth, budget, in_loop):
        self.add(depth, f"if {self.choice(TESTS)}:")
        self.block(depth + 1, budget - 1, in_loop)
        if self.random.random() < 0.3:
            self.add(depth, f"elif {self.choice(TESTS)}:")
            self.block(depth + 1, budget - 1, in_loop)
        if self.random.random() < 0.5:
            self.add(depth, "else:")
            self.block(depth + 1, budget - 1, in_loop)

    def loop(self, depth, budget, head):
        self.add(depth, head)
        self.block(depth + 1, budget - 1, True)
        if self.random.random() < 0.3:
            self.add(depth, "else:")
            self.block(depth + 1, budget - 1, False)

    def write_for(self, depth, budget, in_loop):
        self.loop(depth, budget, f"for i in range({self.choice(['n', 'n - 1', '1, n + 1', '2'])}):")

    def write_rows(self, depth, budget, in_loop):
        self.loop(depth, budget, self.choice(["for c in x:", "for i, a in enumerate(x):"]))

    def write_while(self, depth, budget, in_loop):
        self.loops += 1
        k = f"k{self.loops}"
        self.add(depth, f"{k} = 0")
        self.add(depth, f"while {k} < n and ({self.choice(TESTS)}):")
        self.add(depth + 1, f"{k} += 1")
        self.block(depth + 1, budget - 1, True)

    def write_break(self, depth, budget, in_loop):
        self.add(depth, f"if {self.choice(TESTS)}:")
        self.add(depth + 1, "break")

    def write_continue(self, depth, budget, in_loop):
        self.add(depth, f"if {self.choice(TESTS)}:")
        self.add(depth + 1, "continue")

    def write_return(self, depth, budget, in_loop):
        self.add(depth, f"if {self.choice(TESTS)}:")
        self.add(depth + 1, f"return a * {self.choice(TENSORS)} + gg.reduce_sum(x)")

    def function(self, depth):
        self.add(0, "def f(x, n):")
        self.add(1, "x = x * 1.0")
        self.add(1, "a, b, c, i = x[0], x[1] * 0.5, x[2], 0")
        for _ in range(3):
            self.statement(1, depth, False)
        self.add(1, "return a + b * c + gg.reduce_sum(x * x)")
        return "\n".join(self.lines) + "\n"


def of_numbers(seed: int, numbers: bool = False):
    """The function of a seed, and its source."""
    return _loaded(f"numbers {seed} {numbers}", Numbers(seed, numbers).function())


def of_tensors(seed: int, depth: int = 3):
    """The function of a seed, and its source."""
    return _loaded(f"tensors {seed} {depth}", Tensors(seed).function(depth))


def _loaded(name: str, text: str):
    """The function `f` of a text, whose source Python finds."""
    name = f"<random function of {name}>"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    scope: dict = {}
    exec(compile("import contextlib\nimport graphgrad as gg\n", name, "exec"), scope)
    exec(compile(text, name, "exec"), scope)
    return scope["f"], text
