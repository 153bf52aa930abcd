"""Fixtures of tests that call functions."""

import signal
import sys
from types import SimpleNamespace

import pytest

import graphgrad as gg
from graphgrad import native
from graphgrad.function import Function

function_module = sys.modules[Function.__module__]


@pytest.fixture(params=["plain", "native", "native at once"])
def entry(request, monkeypatch):
    """Calls made by Python, by native code from the third on, and from the second on.

    The last has no measured time of a run, and so releases the GIL at every call.
    """
    found, wanted = native.entry(Function), request.param != "plain"
    if found is None and wanted:
        pytest.skip("there is no native entry here")
    at_once = request.param == "native at once"
    monkeypatch.setattr(function_module, "PLAIN_RUNS", 0 if at_once else 1)
    if found is not None:
        found.switch(wanted)
    yield SimpleNamespace(native=wanted)
    if found is not None:
        found.switch(True)


MODES = {
    "eager": lambda f: f,
    "compiled": gg.function,
    "interpreted": lambda f: gg.function(f, jit_compile=False),
    "nested": lambda f: gg.function(lambda *args: gg.function(f)(*args)),
}


@pytest.fixture(params=MODES)
def mode(request):
    """`mode(f)` is f as one mode runs it."""
    return MODES[request.param]


@pytest.fixture
def interrupts():
    """SIGINT interrupts, also in the background of a shell, which ignores it there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
