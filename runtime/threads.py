"""How many threads a call may use."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import weakref
from typing import Protocol

MOST = 1024


class User(Protocol):
    """Whoever plans for a number of threads."""

    def replan(self) -> None:
        """The number has changed."""


_users: weakref.WeakKeyDictionary[User, None] = weakref.WeakKeyDictionary()  # in order
_chosen: int | None = None
_lock = threading.RLock()  # a signal may come while it is held


def count() -> int:
    """How many threads a call may use."""
    return default_count() if _chosen is None else _chosen


def set_count(number: int | None) -> None:
    """Let calls from now on use `number` threads; None for the default.

    Calls in flight go on with as many as they began with.
    """
    global _chosen
    if number is not None and number < 1:
        raise ValueError(f"the number of threads is at least 1, got {number}")
    with _lock:
        _chosen = None if number is None else min(number, MOST) if available() else 1
        for user in list(_users):
            user.replan()


def watch(user: User) -> None:
    """Have `user` plan now, and for as long as it lives when the number of threads changes.

    Users are told in the order in which they came: what plans were made from before their holders.
    """
    with _lock:
        _users[user] = None
        user.replan()


@functools.cache
def default_count() -> int:
    """GRAPHGRAD_NUM_THREADS, else OMP_NUM_THREADS, else the CPUs that this process may run on."""
    if not available():
        return 1
    for name in ("GRAPHGRAD_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").split(",")[0].strip()
        if text.isdecimal() and int(text) > 0:
            return min(int(text), MOST)
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MOST)
    return min(os.cpu_count() or 1, MOST)


@functools.cache
def available() -> bool:
    """Has this system the threads that the pool is made of?"""
    return os.name == "posix" and hasattr(ctypes.CDLL(None), "pthread_create")


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
