"""What conversion remembers of functions lets go of them quietly, also at the end of a process."""

import gc
import runpy

import pytest

from graphgrad.conversion import convert as conversion

SOURCE = """
def f(x):
    while x > 1.0:
        x = x / 2.0
    return x
"""


@pytest.mark.parametrize("table", ["_recipes", "_made"])
def test_codes_go_after_the_globals_of_modules(tmp_path, monkeypatch, table):
    script = tmp_path / "script.py"
    script.write_text(SOURCE, encoding="utf-8")
    f = runpy.run_path(str(script))["f"]
    converted = conversion.convert(f)
    assert converted is not f
    kept = getattr(conversion, table)
    size = len(kept)
    monkeypatch.setattr(conversion, table, None)  # as Python leaves it at the end
    del f, converted
    gc.collect()  # an exception here is a warning, and so an error
    assert len(kept) < size
