"""The README's Python runs, and prints what the README says it prints.

A `python` block is followed by a `text` block, what it prints, where `...` stands for anything.
The blocks are one program; `pytest --update-golden` writes what they print now.
"""

import contextlib
import doctest
import io
import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.compile(r"^```python\n(.*?)^```\n.*?^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Times, names of kernels, and whether the kernels were on disk: another each time, or from change
# to change of the compiler.
TIME = re.compile(r"\b\d+(\.\d+)? (s|ms|µs|ns)\b( \(from the cache\))?")
HASH = re.compile(r"_[0-9a-f]{12}\b")


def outputs(blocks: list[str]) -> list[str]:
    """What each block of the program prints, run as tour.py in the current folder."""
    Path("tour.py").write_text("\n".join(blocks), encoding="utf-8")  # for the lines that it quotes
    namespace: dict[str, object] = {"__name__": "tour"}
    printed, line = [], 0
    for block in blocks:
        out = io.StringIO()
        code = compile("\n" * line + block, "tour.py", "exec")
        with contextlib.redirect_stdout(out):
            exec(code, namespace)
        printed.append(out.getvalue())
        line += block.count("\n") + 1
    return printed


def comparable(text: str) -> str:
    return HASH.sub("_#", TIME.sub(r"0 \2", text))


def test_the_readme_prints_what_it_says(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = README.read_text(encoding="utf-8")
    blocks = BLOCKS.findall(text)
    assert blocks
    printed = outputs([python for python, _ in blocks])
    if request.config.getoption("--update-golden"):
        new = iter(printed)
        text = BLOCKS.sub(lambda m: m[0][: m.start(2) - m.start()] + next(new) + "```", text)
        README.write_text(text, encoding="utf-8")
        return
    checker = doctest.OutputChecker()
    for (python, expected), out in zip(blocks, printed):
        wanted, got = comparable(expected), comparable(out)
        assert checker.check_output(wanted, got, doctest.ELLIPSIS), (
            f"this block of README.md\n{python}\nsays that it prints\n{wanted}\nbut prints\n{got}\n"
            "pytest --update-golden accepts it"
        )


def test_the_links_of_the_readme_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target
