"""Functions made at random: nested conditions, loops and jumps over three numbers."""

from __future__ import annotations

import linecache
import random

NAMES = ("x", "y", "z")
DEPTH = 3


class Writer:
    """Writes the source of one function. Those of `numbers` alone may be of tensors as well."""

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


def written(seed: int, numbers: bool = False):
    """The function of a seed, and its source."""
    text = Writer(seed, numbers).function()
    name = f"<random function {seed} {numbers}>"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    scope: dict = {}
    exec(compile("import contextlib\n", name, "exec"), scope)
    exec(compile(text, name, "exec"), scope)
    return scope["f"], text
