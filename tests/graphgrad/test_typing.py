"""The static type of a decorated function is that of the function."""

import pytest

PROGRAM = """
from typing import assert_type
import graphgrad as gg

@gg.function
def f(x: gg.Tensor, n: int = 2) -> gg.Tensor:
    return x

@gg.function(jit_compile=False, max_traces=3)
def g(x: gg.Tensor) -> tuple[gg.Tensor, int]:
    return x, 1

class Model:
    @gg.function
    def step(self, x: gg.Tensor) -> gg.Tensor:
        return x

    @staticmethod
    @gg.function
    def scale(x: int) -> float:
        return 1.0

x = gg.ones([2])
assert_type(f(x, n=3), gg.Tensor)
assert_type(g(x), tuple[gg.Tensor, int])
assert_type(Model().step(x), gg.Tensor)
assert_type(Model.step(Model(), x), gg.Tensor)
assert_type(Model.scale(1), float)
f.traces()
f("a")  # error: incompatible type "str"; expected "Tensor"
f(x, k=1)  # error: Unexpected keyword argument "k"
Model().step()  # error: Missing positional argument "x"
"""


@pytest.mark.slow
def test_mypy_sees_through_the_decorator(tmp_path):
    api = pytest.importorskip("mypy.api")
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    out, err, _ = api.run([str(file), "--config-file", "pyproject.toml"])
    assert err == ""
    found = {int(line.split(":")[1]): line for line in out.splitlines() if ": error:" in line}
    wanted = {i: line for i, line in enumerate(PROGRAM.splitlines(), 1) if "# error: " in line}
    assert found.keys() == wanted.keys(), out
    for i, line in wanted.items():
        assert line.partition("# error: ")[2] in found[i]
