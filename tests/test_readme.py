"""The README's Python runs and prints what it says, and its links lead somewhere."""

from pathlib import Path

from tests.pages import check_links, check_page

README = Path(__file__).parent.parent / "README.md"


def test_the_readme_prints_what_it_says(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_page(README, "tour", request.config.getoption("--update-golden"))


def test_the_links_of_the_readme_lead_somewhere():
    check_links(README)
