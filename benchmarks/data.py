"""Inputs and expected results of a row, made once and kept in files for all frameworks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workloads import WORKLOADS

TOLERANCE = 1e-4  # relative to |expected| + its root mean square


def inputs(name: str) -> dict[str, Any]:
    return WORKLOADS[name].inputs(np.random.default_rng(7))


def expected(reference: Callable[..., list[Any]], given: dict[str, Any]) -> list[Any]:
    """What a NumPy program computes in float64."""
    exact = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in given.items()}
    return [np.asarray(a) for a in reference(**exact)]


def write(name: str, folder: Path) -> None:
    """Put a row's inputs and expected results into a folder."""
    given = inputs(name)
    np.savez(folder / f"{name}.inputs.npz", **given)
    np.savez(folder / f"{name}.expected.npz", *expected(WORKLOADS[name].reference, given))


def read(name: str, folder: Path) -> tuple[dict[str, Any], list[Any]]:
    with np.load(folder / f"{name}.inputs.npz") as given:
        arrays = dict(given)
    with np.load(folder / f"{name}.expected.npz") as wanted:
        return arrays, [wanted[k] for k in wanted.files]


def problem(result: list[Any], wanted: list[Any]) -> str:
    """What is wrong with a result, or nothing."""
    if len(result) != len(wanted):
        return f"{len(result)} results, {len(wanted)} expected"
    for i, (got, exact) in enumerate(zip(result, wanted)):
        if got.shape != exact.shape:
            return f"result {i}: shape {got.shape}, expected {exact.shape}"
        error = np.abs(got - exact)
        allowed = TOLERANCE * (np.abs(exact) + np.sqrt(np.sum(exact * exact) / max(exact.size, 1)))
        if not np.all(error <= allowed):  # nor NaN
            worst = np.max(error / np.maximum(allowed, np.finfo(float).tiny))
            return f"result {i}: {worst:.3g} times the allowed error"
    return ""
