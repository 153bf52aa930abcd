"""docs/loops.md shows what the compiler makes of its programs now."""

from __future__ import annotations

import pytest

from docs import loops_page
from docs.loop_programs import PROGRAMS, Program
from tests.pages import check_links


def test_the_committed_page_is_what_the_compiler_does() -> None:
    written = loops_page.PAGE.read_text(encoding="utf-8")
    assert written == loops_page.page(), "run `python -m docs.loops_page` and commit docs/loops.md"
    check_links(loops_page.PAGE)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.function.__name__)
def test_its_programs_run(program: Program) -> None:
    value, gradients = program.traced()(*program.arguments)
    assert value.shape == ()
    assert len(gradients if isinstance(gradients, tuple) else [gradients]) == len(program.argnums)
