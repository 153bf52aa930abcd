"""gg.config.threading: how many threads a matrix product may use (kernels use one)."""

from __future__ import annotations

from graphgrad.compiler.errors import ArgumentError
from graphgrad.runtime import blas


def get_intra_op_parallelism_threads() -> int:
    """The threads that the BLAS library may use for one product; 0 where it does not say.

    >>> import graphgrad as gg
    >>> before = gg.config.threading.get_intra_op_parallelism_threads()
    >>> gg.config.threading.set_intra_op_parallelism_threads(1)
    >>> gg.config.threading.get_intra_op_parallelism_threads() in (0, 1)
    True
    >>> gg.config.threading.set_intra_op_parallelism_threads(before or 1)
    """
    return blas.get_threads() or 0


def set_intra_op_parallelism_threads(num_threads: int) -> None:
    """Let one product use `num_threads` threads.

    The library is NumPy's own, so NumPy's products follow. On a machine that is shared with other
    busy processes one thread is often the fastest: a second one waits for its core.
    """
    if num_threads < 1:
        raise ArgumentError(f"the number of threads is at least 1, got {num_threads}")
    blas.set_threads(num_threads)


__all__ = ["get_intra_op_parallelism_threads", "set_intra_op_parallelism_threads"]
