"""gg.config: devices and settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from graphgrad import parallelism as threading
from graphgrad.devices import (
    LogicalDevice,
    PhysicalDevice,
    get_soft_device_placement,
    get_visible_devices,
    list_logical_devices,
    list_physical_devices,
    set_soft_device_placement,
)
from graphgrad.function import functions_run_eagerly, run_functions_eagerly
from graphgrad.hot_tapes import compile_hot_tapes, hot_tapes_are_compiled
from graphgrad.tracebacks import is_traceback_filtering_enabled, set_traceback_filtering


@contextmanager
def disable_jit() -> Iterator[None]:
    """Meanwhile every `gg.function` runs as plain Python, in all threads: for debugging.

    >>> import graphgrad as gg
    >>> f = gg.function(lambda x: float(x) * 2)
    >>> with gg.config.disable_jit():
    ...     f(gg.constant(1.5)).numpy()
    np.float32(3.0)
    """
    before = functions_run_eagerly()
    run_functions_eagerly(True)
    try:
        yield
    finally:
        run_functions_eagerly(before)


def release_memory() -> int:
    """Give back memory that is kept for calls to come, and return how many bytes that was.

    Kept are: the temporaries of each compiled function, and the memory of large results (1 MiB and
    more) that nobody holds any more, at most 512 MiB or what GRAPHGRAD_POOL_BYTES says, for new
    pages cost more than most kernels. What 256 further large results did not need goes back by
    itself. Nothing that anybody can still see is touched.

    >>> import graphgrad as gg
    >>> y = gg.function(lambda x: x + 1.0)(gg.ones([1 << 20]))
    >>> del y
    >>> gg.config.release_memory() >= 4 << 20
    True
    """
    # Imported here: what runs programs takes longer to import than settings should.
    from graphgrad.runtime.executor import release_memory

    return release_memory()


__all__ = [
    "LogicalDevice",
    "PhysicalDevice",
    "compile_hot_tapes",
    "disable_jit",
    "functions_run_eagerly",
    "get_soft_device_placement",
    "get_visible_devices",
    "hot_tapes_are_compiled",
    "is_traceback_filtering_enabled",
    "list_logical_devices",
    "list_physical_devices",
    "release_memory",
    "run_functions_eagerly",
    "set_soft_device_placement",
    "set_traceback_filtering",
    "threading",
]
