"""docs/ops.md and docs/contract.md say what the op records say."""

from docs import contract_page, ops_page


def test_the_committed_page_is_the_table():
    written = ops_page.PAGE.read_text(encoding="utf-8")
    assert written == ops_page.page(), "run `python -m docs.ops_page` and commit docs/ops.md"


def test_the_committed_contract_is_that_of_the_table():
    written = contract_page.PAGE.read_text(encoding="utf-8")
    assert written == contract_page.page(), "run `python -m docs.contract_page` and commit it"
