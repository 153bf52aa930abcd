"""docs/math.md declares the bounds that the code declares."""

import re
from pathlib import Path

from benchmarks.functions import methods
from graphgrad.compiler.scalar.expansions import ULP

PAGE = Path(__file__).parents[2] / "docs" / "math.md"
ROW = re.compile(
    r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| [\d.–]+ \| ", re.M
)
RENEW = "run `python -m benchmarks.functions --write docs/math.md` and commit the page"


def rows():
    """Bounds and measured errors by function."""
    errors, _, _ = PAGE.read_text(encoding="utf-8").partition("Nanoseconds an element")
    found = ROW.findall(errors)
    return {name: tuple(map(float, numbers)) for name, *numbers in found}


def test_the_page_has_the_bounds_of_the_code():
    declared = {name: bounds[:2] for name, bounds in rows().items()}
    assert declared == {n: (u["float32"], u["float64"]) for n, u in ULP.items()}, RENEW


def test_what_was_measured_is_within_the_bounds():
    for name, (bound32, bound64, measured32, measured64) in rows().items():
        assert 0.5 <= measured32 <= bound32, name
        assert 0.49 <= measured64 <= bound64, name


def test_the_page_says_how_each_is_computed():
    assert methods() in PAGE.read_text(encoding="utf-8"), RENEW
