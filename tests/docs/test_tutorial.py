"""The pages of the tutorial run and print what they say; a checker that sees nothing is no use."""

from pathlib import Path

import pytest

from tests.pages import check_links, check_page

FOLDER = Path(__file__).parents[2] / "docs" / "tutorial"
PAGES = sorted(FOLDER.glob("[0-9]*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_page(page, request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_page(page, page.stem.partition("-")[2], request.config.getoption("--update-golden"))
    check_links(page)


def test_every_page_is_listed():
    start = FOLDER / "README.md"
    listed = start.read_text(encoding="utf-8")
    assert all(f"({p.name})" in listed for p in PAGES)


def test_planted_errors_are_seen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "1-wrong.md"
    good = "```python\nprint(1 + 1)\n```\n\n```text\n2\n```\n"
    page.write_text(good)
    check_page(page, "wrong", False)
    for bad in (good.replace("2", "3"), good.replace("print(1 + 1)", "pass"),
                good.replace("```text\n2\n```\n", "")):  # fmt: skip
        page.write_text(bad)
        with pytest.raises(AssertionError, match="says that it prints"):
            check_page(page, "wrong", False)
    page.write_text(good + "\n[gone](gone.md)")
    with pytest.raises(AssertionError, match=r"gone\.md"):
        check_links(page)
