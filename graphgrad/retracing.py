"""Warnings of what a user of `gg.function` may not see: retracing, and state that is not kept."""

from __future__ import annotations

import warnings
from collections import deque

from graphgrad.compiler.source import user_level

MANY_TRACES, WINDOW = 5, 10  # so many of the last calls: TensorFlow's numbers


class SideEffectWarning(UserWarning):
    """A traced function changed Python state: that happens while tracing only."""


class RetracingWarning(UserWarning):
    """A function is traced again and again, which costs far more than its calls."""


class Retraces:
    """Notices when many of a function's last calls were traced; warns once."""

    def __init__(self) -> None:
        self._calls: deque[int] = deque(maxlen=MANY_TRACES)  # before each of the last traces
        self._warned = False

    def add(self, calls: int, name: str, cause: str, advice: str) -> None:
        """The function was traced after `calls` calls, for `cause`."""
        self._calls.append(calls)
        window = calls + 1 - self._calls[0]
        if self._warned or len(self._calls) < MANY_TRACES or window > WINDOW:
            return
        self._warned = True
        text = (
            f"{MANY_TRACES} out of the last {window} calls to `{name}` triggered gg.function "
            f"retracing, the last one for {cause or 'no known cause'}. Tracing and compiling cost "
            "far more than a call."
        )
        warn(" ".join(filter(None, (text, advice))), RetracingWarning)


def warn_of_changes(name: str, changed: dict[str, str], known: set[str]) -> None:
    """Warn of Python state that the function `name` changed, by label with the line, once each."""
    for label, line in changed.items():
        if label not in known:
            known.add(label)
            what = f"the Python value `{label}` (in {line})" if line else label
            warn(
                f"`{name}` changes {what}. That happens while the "
                "function is traced, not at each call; keep state in a gg.Variable",
                SideEffectWarning,
            )  # fmt: skip


def warn(text: str, category: type[Warning]) -> None:
    """A warning at the user's line."""
    warnings.warn(text, category, stacklevel=user_level())
