"""Options of loops, which the loop's body sets: gg.autograph.experimental.set_loop_options."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Local(threading.local):
    def __init__(self) -> None:
        self.loops: list[dict[str, Any]] = []  # the options of the loops being traced


_local = _Local()


def set_loop_options(
    parallel_iterations: Any = None, swap_memory: Any = None, maximum_iterations: Any = None,
    shape_invariants: Any = None,
) -> None:  # fmt: skip
    """Options of the loop in whose body this stands; without effect where it runs as Python.

    At most `maximum_iterations` trips are made. `shape_invariants` is a list of (tensor, shape)
    pairs: the loop variable that the tensor is may change its sizes where the shape has None. The
    other two are TensorFlow's, and ignored.

    >>> import graphgrad as gg
    >>> @gg.function
    ... def doubled(n):
    ...     x = gg.constant([1])
    ...     while n > 0:
    ...         gg.autograph.experimental.set_loop_options(shape_invariants=[(x, [None])])
    ...         x = gg.concat([x, x], 0)
    ...         n -= 1
    ...     return x
    >>> doubled(gg.constant(2)).numpy()
    array([1, 1, 1, 1], dtype=int32)
    """
    if _local.loops:
        given = {"maximum_iterations": maximum_iterations, "shape_invariants": shape_invariants}
        _local.loops[-1].update({k: v for k, v in given.items() if v is not None})


@contextmanager
def loop_options() -> Iterator[dict[str, Any]]:
    """The options that are set meanwhile."""
    found: dict[str, Any] = {}
    _local.loops.append(found)
    try:
        yield found
    finally:
        _local.loops.pop()
