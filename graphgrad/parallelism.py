"""gg.config.threading: how many threads a call may use."""

from __future__ import annotations

from graphgrad.compiler.errors import ArgumentError
from graphgrad.runtime import threads


def get_intra_op_parallelism_threads() -> int:
    """The threads that kernels and matrix products of a compiled function may use.

    As long as none was set these are GRAPHGRAD_NUM_THREADS, else OMP_NUM_THREADS, else as many as
    there are CPUs that the process may run on (so `taskset -c 0` gives 1).

    >>> import graphgrad as gg
    >>> gg.config.threading.set_intra_op_parallelism_threads(1)
    >>> gg.config.threading.get_intra_op_parallelism_threads()
    1
    >>> gg.config.threading.set_intra_op_parallelism_threads(0)
    """
    return threads.count()


def set_intra_op_parallelism_threads(num_threads: int) -> None:
    """Let calls use `num_threads` threads from now on, or as many as there were at first (0).

    Work that is too short to share stays on the calling thread. Results of kernels do not depend
    on the number; those of large matrix products may, within rounding. Where several Python
    threads call at once, one of them is helped at a time and the others work alone.

    Eager products are NumPy's: their library is set to the same number, except by 0.
    """
    if num_threads < 0:
        raise ArgumentError(f"the number of threads is at least 0, got {num_threads}")
    threads.set_count(num_threads or None)
    if num_threads:
        # Imported here: it brings the engine, which eager programs never need.
        from graphgrad.runtime import pool

        pool.set_blas_threads(num_threads)


__all__ = ["get_intra_op_parallelism_threads", "set_intra_op_parallelism_threads"]
