"""Tracebacks without the framework's own frames: what is left is the user's code."""

from __future__ import annotations

from types import TracebackType

from graphgrad.compiler.errors import GraphgradError
from graphgrad.compiler.source import is_internal


class _Settings:
    filtering = True


def set_traceback_filtering(enabled: bool) -> None:
    """Leave graphgrad's frames out of the tracebacks of errors, but for the entry, or show them.

    >>> import graphgrad as gg
    >>> gg.config.set_traceback_filtering(False)
    >>> gg.config.is_traceback_filtering_enabled()
    False
    >>> gg.config.set_traceback_filtering(True)
    """
    _Settings.filtering = bool(enabled)


def is_traceback_filtering_enabled() -> bool:
    """Are graphgrad's frames left out of tracebacks?"""
    return _Settings.filtering


def enable_traceback_filtering() -> None:
    """Leave graphgrad's frames out of tracebacks (the default)."""
    set_traceback_filtering(True)


def disable_traceback_filtering() -> None:
    """Show graphgrad's frames in tracebacks."""
    set_traceback_filtering(False)


def filtered(error: BaseException) -> BaseException:
    """Leave the user's frames alone in `error`, unless that is off.

    An error that is not graphgrad's own keeps all if none would be left: it may be a defect.
    """
    frames = []
    traceback = error.__traceback__
    while traceback is not None:
        frames.append(traceback)
        traceback = traceback.tb_next
    users = [t for t in frames if not is_internal(t.tb_frame.f_code.co_filename)]
    if not _Settings.filtering or not (users or isinstance(error, GraphgradError)):
        return error
    kept: TracebackType | None = None
    for t in reversed(users):
        kept = TracebackType(kept, t.tb_frame, t.tb_lasti, t.tb_lineno)
    return error.with_traceback(kept)
