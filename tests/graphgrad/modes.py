"""The modes in which a derivative can be taken, for tests that hold them all to one result."""

import pytest

import graphgrad as gg

MODES = {
    "eager": lambda f: f,
    "function": lambda f: gg.function(f),
    "interpreted": lambda f: gg.function(f, jit_compile=False),
    "eager functions": lambda f: eagerly(f),
}


def eagerly(f):
    def run(*args):
        with gg.config.disable_jit():
            return gg.function(f)(*args)

    return run


in_every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
"""`mode(f)` is f as one mode runs it."""

called = pytest.mark.parametrize(
    "wrap", [lambda f: f, gg.function, lambda f: gg.function(f, jit_compile=False)],
    ids=["plain", "compiled", "interpreted"],
)  # fmt: skip
"""`wrap(f)` is f as something that a tape around it sees: its operations, or a call."""
