"""What is measured. One module a subject; a row is a `Workload` (`record.py`)."""

from benchmarks.workloads import (  # noqa: F401  (rows)
    calls,
    convolutions,
    elementwise,
    networks,
    reductions,
)
from benchmarks.workloads.record import CALL, PRODUCT, SUM, WORKLOADS, Workload

__all__ = ["CALL", "PRODUCT", "SUM", "WORKLOADS", "Workload"]
