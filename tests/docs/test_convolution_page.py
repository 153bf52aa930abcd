"""The page about convolutions runs and prints what it says."""

from pathlib import Path

from tests.pages import check_links, check_page

PAGE = Path(__file__).parents[2] / "docs" / "convolution.md"


def test_page(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_page(PAGE, "convolution", request.config.getoption("--update-golden"))
    check_links(PAGE)
