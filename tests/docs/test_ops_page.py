"""docs/ops.md says what the op records say."""

from docs import ops_page


def test_the_committed_page_is_the_table():
    written = ops_page.PAGE.read_text(encoding="utf-8")
    assert written == ops_page.page(), "run `python -m docs.ops_page` and commit docs/ops.md"
