"""Random functions whose control flow depends on tensors: nested conditions, loops and jumps.

Values stay bounded and away from kinks, so that finite differences are not needed: the same source
run as plain Python on eager tensors is the oracle.
"""

import random

NAMES = ("a", "b", "c")
CONDITIONS = (
    "a > b", "b > 0.3", "not a > c", "0.1 < a < b", "i > 1", "i % 2 == 0 and c > a",
    "b > a or c > 0.2", "n > i",
)  # fmt: skip
VALUES = (
    "gg.sin(a + b)", "a * 0.5 + b * c", "gg.tanh(b - a)", "c - 0.7", "gg.cos(c) * a", "b * b * 0.3",
    "x[0] * a + x[1]", "gg.sin(c) if a > b else gg.cos(b)", "0.25", "a", "x[i % 3] - c * 0.5",
)  # fmt: skip


class Writer:
    """Lines of a function, made at random."""

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
        name = self.choice(NAMES)
        self.add(depth, f"{name} {self.choice(['=', '=', '+=', '*='])} {self.choice(VALUES)}")

    def write_update(self, depth, budget, in_loop):
        key = self.choice(["0", "i % 3", "1:", "-1", "::2"])
        self.add(depth, f"x[{key}] {self.choice(['=', '+='])} {self.choice(VALUES)} * 0.5")

    def write_if(self, depth, budget, in_loop):
        self.add(depth, f"if {self.choice(CONDITIONS)}:")
        self.block(depth + 1, budget - 1, in_loop)
        if self.random.random() < 0.3:
            self.add(depth, f"elif {self.choice(CONDITIONS)}:")
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
        self.add(depth, f"while {k} < n and ({self.choice(CONDITIONS)}):")
        self.add(depth + 1, f"{k} += 1")
        self.block(depth + 1, budget - 1, True)

    def write_break(self, depth, budget, in_loop):
        self.add(depth, f"if {self.choice(CONDITIONS)}:")
        self.add(depth + 1, "break")

    def write_continue(self, depth, budget, in_loop):
        self.add(depth, f"if {self.choice(CONDITIONS)}:")
        self.add(depth + 1, "continue")

    def write_return(self, depth, budget, in_loop):
        self.add(depth, f"if {self.choice(CONDITIONS)}:")
        self.add(depth + 1, f"return a * {self.choice(NAMES)} + gg.reduce_sum(x)")


def source(seed, depth=3):
    """The text of a function `f(x, n)`: x is f32[3], n an int32."""
    w = Writer(seed)
    w.add(0, "def f(x, n):")
    w.add(1, "x = x * 1.0")
    w.add(1, "a, b, c, i = x[0], x[1] * 0.5, x[2], 0")
    for _ in range(3):
        w.statement(1, depth, False)
    w.add(1, "return a + b * c + gg.reduce_sum(x * x)")
    return "import graphgrad as gg\n\n\n" + "\n".join(w.lines) + "\n"
