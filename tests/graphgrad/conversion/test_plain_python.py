"""With Python's own values, converted functions do exactly what they did before."""

from __future__ import annotations

import traceback

import pytest

from graphgrad.conversion.convert import convert
from tests.graphgrad.conversion import plain_functions
from tests.graphgrad.conversion.plain_functions import CASES, LOG


def _outcome(f, arguments):
    """The value or exception, what was logged, and the user's line of an exception."""
    LOG.clear()
    try:
        result = "value", f(*arguments)
    except Exception as e:
        frames = traceback.extract_tb(e.__traceback__)
        users = [x for x in frames if x.filename == plain_functions.__file__]
        kind = UnboundLocalError if isinstance(e, UnboundLocalError) else type(e)
        result = kind.__name__, str(e).partition("\n")[0], users[-1].lineno
    return repr(result), list(LOG)


def _copy(x):
    return list(x) if isinstance(x, list) else x


NAMES = [getattr(f, "__name__", type(f).__name__) for f, _ in CASES]


@pytest.mark.parametrize("k", range(len(CASES)), ids=NAMES)
def test_converted_functions_behave_as_before(k):
    f, arguments = CASES[k]
    expected = _outcome(f, tuple(map(_copy, arguments)))
    assert _outcome(convert(f), tuple(map(_copy, arguments))) == expected
