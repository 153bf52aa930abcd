"""Pages of documentation whose Python runs, and prints what the page says it prints.

A `python` block is followed by a `text` block, what it prints, where `...` stands for anything; a
block that prints nothing needs none. The blocks of a page are one program;
`pytest --update-golden` writes what they print now.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
from pathlib import Path

PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEXT = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINKS = re.compile(r"\]\(([^)#:]+)\)")
# Times, names of kernels, and whether the kernels were on disk: another each time, or from change
# to change of the compiler.
TIME = re.compile(r"\b\d+(\.\d+)? (s|ms|µs|us|ns)\b( \(from the cache\))?")
HASH = re.compile(r"_[0-9a-f]{12}\b")


def blocks_of(text: str) -> list[tuple[str, re.Match[str] | None]]:
    """The programs of a page in order, each with the block that says what it prints, if any."""
    found = list(PYTHON.finditer(text))
    ends = [*(m.start() for m in found[1:]), len(text)]
    return [(m[1], TEXT.search(text, m.end(), end)) for m, end in zip(found, ends, strict=True)]


def outputs(blocks: list[str], name: str) -> list[str]:
    """What each block of the program prints, run as `name`.py in the current folder."""
    file = f"{name}.py"
    Path(file).write_text("\n".join(blocks), encoding="utf-8")  # for the lines that it quotes
    namespace: dict[str, object] = {"__name__": name}
    printed, line = [], 0
    for block in blocks:
        out = io.StringIO()
        code = compile("\n" * line + block, file, "exec")
        with contextlib.redirect_stdout(out):
            exec(code, namespace)
        printed.append(out.getvalue())
        line += block.count("\n") + 1
    return printed


def comparable(text: str) -> str:
    return HASH.sub("_#", TIME.sub(r"0 \2", text))


def check_page(page: Path, name: str, update: bool) -> None:
    """Run the page's program in the current folder, and compare, or write, what it prints."""
    text = page.read_text(encoding="utf-8")
    blocks = blocks_of(text)
    assert blocks, f"{page.name} has no program"
    printed = outputs([python for python, _ in blocks], name)
    checker = doctest.OutputChecker()
    for (python, shown), out in reversed(list(zip(blocks, printed, strict=True))):
        wanted, got = comparable(shown[1] if shown else ""), comparable(out)
        same = checker.check_output(wanted, got, doctest.ELLIPSIS)
        if update and shown is not None and not same:
            text = text[: shown.start(1)] + out + text[shown.end(1) :]
            continue
        assert same, (
            f"this block of {page.name}\n{python}\nsays that it prints\n{wanted}\nbut prints\n"
            f"{got}\npytest --update-golden accepts it"
        )
    if update:
        page.write_text(text, encoding="utf-8")


def check_links(page: Path) -> None:
    """Links to files lead somewhere."""
    for target in LINKS.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
