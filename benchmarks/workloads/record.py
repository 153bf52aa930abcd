"""A row of the benchmarks: its inputs, its program, and the same in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = dict[str, Any]

# What bounds a row whose speed says little about a compiler.
CALL = "call"  # its arithmetic takes less than calling it
SUM = "sum"  # one plain reduction: each element is read once, and added
PRODUCT = "product"  # a BLAS does the work


@dataclass(frozen=True)
class Workload:
    """One row. `build(F, t)` gives (function, arguments) from a vocabulary and its tensors.

    `reference(**inputs)` is the same in NumPy, as a NumPy user would write it: on float64 inputs
    it is what every result is checked against, on the inputs themselves NumPy's own row.
    """

    name: str
    title: str
    inputs: Callable[[np.random.Generator], Arrays]
    build: Callable[[Any, Any], tuple[Callable[..., Any], tuple[Any, ...]]]
    reference: Callable[..., list[Any]]
    bound: str = ""  # CALL, SUM or PRODUCT
    eager: bool = False  # nothing is compiled
    trains: bool = False  # a call changes the parameters, so only the first result is checked
    numpy: bool = True  # NumPy's program is a fair row: it takes derivatives as the others do
    cores: bool = False  # measured on two cores too
    traffic: int = 0  # bytes that must be read and written at least
    flops: int = 0  # arithmetic of its matrix products and convolutions
    group: str = ""  # rows that are measured together, when they are asked for
    finish: Callable[[Any, Any], Any] = lambda F, result: result  # before it is checked


WORKLOADS: dict[str, Workload] = {}


def workload(
    title: str, inputs: Callable[..., Arrays], reference: Callable[..., list[Any]], **facts: Any
) -> Callable[..., Any]:
    """Make a row of a `build` function; its name is the row's."""

    def add(build: Callable[..., Any]) -> Callable[..., Any]:
        name = build.__name__
        WORKLOADS[name] = Workload(name, title, inputs, build, reference, **facts)
        return build

    return add


def normal(r: np.random.Generator, *shape: int, scale: float = 1.0) -> Any:
    """Normal float32 numbers."""
    return r.standard_normal(shape, dtype=np.float32) * np.float32(scale)
