"""Each example runs, and holds what it prints to its own assertions."""

import importlib
from pathlib import Path

import pytest

import examples

FOLDER = Path(str(examples.__file__)).parent
NAMES = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem not in ("__init__", "digits"))
ARGUMENTS = {"minimum": {"plot": Path("minimum.svg")}, "black_scholes": {"count": 500}}


@pytest.mark.parametrize("name", NAMES)
def test_example(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(f"examples.{name}")
    lines = []
    module.main(**ARGUMENTS.get(name, {}), show=lines.append)
    assert lines
    assert f"python -m examples.{name}" in module.__doc__
    if name == "minimum":
        assert "nan" in lines[0]
        assert (tmp_path / "minimum.svg").stat().st_size > 1000


def test_the_readme_lists_them():
    text = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert all(f"examples/{name}.py" in text for name in NAMES)
