"""What every test has: a kernel cache of its own, a hypothesis profile, golden files."""

import difflib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

GOLDEN = Path(__file__).parent / "golden"

# Before graphgrad is imported, and inherited by xdist's workers and by subprocesses.
_own_cache = None
if "GRAPHGRAD_CACHE_DIR" not in os.environ:
    _own_cache = tempfile.mkdtemp(prefix="graphgrad-tests-")
    os.environ["GRAPHGRAD_CACHE_DIR"] = _own_cache
_owner = os.getpid()

# A compile takes longer than hypothesis expects of an example.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", settings.get_profile("local"), derandomize=True)
settings.load_profile("repeatable" if os.environ.get("CI") else "local")


def pytest_unconfigure() -> None:
    if _own_cache is not None and os.getpid() == _owner:
        shutil.rmtree(_own_cache, ignore_errors=True)
        del os.environ["GRAPHGRAD_CACHE_DIR"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("ir/add.txt", text)` holds `text` to a file under tests/golden."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        text = text.rstrip("\n") + "\n"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            return
        expected = path.read_text(encoding="utf-8") if path.exists() else ""
        if text != expected:
            problem = "differs" if path.exists() else "does not exist"
            diff = "".join(
                difflib.unified_diff(
                    expected.splitlines(True), text.splitlines(True), f"golden/{name}", "now"
                )
            )
            command = f"pytest '{request.node.nodeid}' --update-golden"
            pytest.fail(f"golden/{name} {problem}:\n{diff}\nto accept: {command}", pytrace=False)

    return check
