"""What is measured. One module a subject; a row is a `Workload` (`record.py`)."""

from benchmarks.workloads import calls, elementwise, networks, reductions  # noqa: F401  (rows)
from benchmarks.workloads.record import CALL, PRODUCT, SUM, WORKLOADS, Workload

__all__ = ["CALL", "PRODUCT", "SUM", "WORKLOADS", "Workload"]
