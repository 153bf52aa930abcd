"""Random functions of loops, branches and assignments to elements, as Python source.

NumPy runs them as they stand, which tells what values are, and by differences what derivatives are.
Results stay small: what is assigned goes through bounded functions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

HEAD = """import numpy as np


def f(a, b, u, v, k, n):
"""
NAMES = ("a", "b", "u", "v")


class Source:
    """The source of one function of two numbers, two vectors, an index and a count."""

    def __init__(self, seed: int, size: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.size = size
        self.counters: list[str] = []  # the indices of the loops around
        self.made = 0

    def text(self) -> str:
        body = self.block(depth=3, statements=3)
        return HEAD + "\n".join("    " + line for line in [*body, "return a, b, u, v, k"]) + "\n"

    def pick(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def number(self) -> str:
        return f"{self.rng.uniform(-1, 1):.3f}"

    def index(self) -> str:
        by, plus = self.rng.integers(1, 4), self.rng.integers(9)
        name = self.pick("k", *self.counters * 2)
        return self.pick(f"({name} * {by} + {plus}) % {self.size}", f"{name} % {self.size}", "-1",
                         str(self.rng.integers(self.size)))  # fmt: skip

    def scalar(self, depth: int = 2) -> str:
        if depth == 0:
            return self.pick("a", "b", self.number(), f"u[{self.index()}]", f"v[{self.index()}]")
        x, y = self.scalar(depth - 1), self.scalar(depth - 1)
        return self.pick(
            f"np.sin({x})", f"np.tanh({x} + {y})", f"{x} * np.cos({y})", f"np.maximum({x}, {y})",
            f"0.2 * np.sum({self.pick('u', 'v')}) + {x}", f"0.5 * ({x} - {y})",
            f"np.where({self.condition()}, {x}, {y})", "a", "b",
        )  # fmt: skip

    def vector(self) -> str:
        x, y = self.rng.permutation(["u", "v"])
        return self.pick(
            f"np.sin({x}) + 0.5 * {y}", f"{x} * np.tanh({self.scalar(1)})",
            f"np.where({x} > {self.scalar(1)}, {x}, 0.5 * {y})", f"np.roll({x}, 1) * 0.9",
            f"np.tanh({x} + {self.scalar(1)})", f"0.5 * ({x} + {y}[::-1])",
            f"np.concatenate([{x}[1:], {y}[:1]])",
        )  # fmt: skip

    def condition(self) -> str:
        return self.pick(
            f"{self.pick('a', 'b')} > {self.number()}", f"k % {self.rng.integers(2, 4)} == 0",
            f"{self.pick('u', 'v')}[{self.index()}] < {self.pick('a', 'b', self.number())}",
        )  # fmt: skip

    def test(self) -> str:
        x, y = self.condition(), self.condition()
        return self.pick(x, x, f"{x} and {y}", f"{x} or not {y}")

    def block(self, depth: int, statements: int = 2) -> list[str]:
        count = self.rng.integers(1, statements + 1)
        return [line for _ in range(count) for line in self.statement(depth)]

    def statement(self, depth: int) -> list[str]:
        name, other = self.rng.permutation(["u", "v"])
        simple = [
            f"{self.pick('a', 'b')} = np.tanh({self.scalar()})",
            f"{name}[{self.index()}] = np.sin({self.scalar()})",
            f"{name}[{self.index()}] += 0.1 * {self.scalar(1)}",
            f"{name}[{self.index()}] = 0.7 * {other}[{self.index()}] + {self.scalar(0)} * 0.1",
            f"{name} = {self.vector()}",
            "a, b = b, a",
            "u, v = v, u",
            f"k = k + {self.rng.integers(1, 3)}",
        ]
        if depth == 0 or self.rng.random() < 0.35:
            return [self.pick(*simple)]
        return self.pick(self.branch, self.counted, self.counted, self.until)(depth - 1)  # type: ignore[no-any-return]

    def within(self, lines: list[str]) -> list[str]:
        return ["    " + line for line in lines]

    def branch(self, depth: int) -> list[str]:
        lines = [f"if {self.test()}:", *self.within(self.block(depth))]
        if self.rng.random() < 0.4:
            lines += [f"elif {self.test()}:", *self.within(self.block(depth))]
        if self.rng.random() < 0.6:
            lines += ["else:", *self.within(self.block(depth))]
        return lines

    def counter(self) -> str:
        self.made += 1
        return f"i{self.made}"

    def jump(self) -> list[str]:
        if self.rng.random() < 0.7:
            return []
        return [f"if {self.test()}:", f"    {self.pick('break', 'continue')}"]

    def counted(self, depth: int) -> list[str]:
        i = self.counter()
        most = self.pick("n", "n", "k % 4", f"{self.pick(*self.counters)} + 1"
                         if self.counters else "n + 1", "3")  # fmt: skip
        self.counters.append(i)
        body = [*self.block(depth), *self.jump(), *self.block(0, 1)]
        self.counters.pop()
        return [f"for {i} in range({most}):", *self.within(body)]

    def until(self, depth: int) -> list[str]:
        c = self.counter()
        body = [f"{c} += 1", *self.block(depth), *self.jump(), *self.block(0, 1)]
        test = f"{c} < {self.pick('n', 'n + 2', '5')}"
        if self.rng.random() < 0.6:
            test += f" and {self.condition()}"
        return [f"{c} = 0", f"while {test}:", *self.within(body)]


def function_of(seed: int, size: int, folder: Path) -> Any:
    """The function of one seed; it has a file, from which it is converted."""
    path = folder / f"random_loops_{seed}_{size}.py"
    path.write_text(Source(seed, size).text())
    return loaded(path)


def loaded(path: Path) -> Any:
    """The function in a file."""
    names: dict[str, Any] = {"__name__": path.stem}
    exec(compile(path.read_text(), str(path), "exec"), names)
    return names["f"]


def arguments(seed: int, size: int) -> list[Any]:
    rng = np.random.default_rng(seed + 1000)
    floats = [*rng.normal(size=2), *rng.normal(size=(2, size))]
    return [*map(np.asarray, floats), np.asarray(rng.integers(6)), np.asarray(seed % 4)]
