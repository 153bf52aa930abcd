"""Runs children: each framework in fresh processes, in turns, so that all see the same machine."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).resolve().parent.parent
THREADS = ("OMP", "MKL", "OPENBLAS", "NUMBA")
COLD, WARM = "cold", "warm"


@dataclass
class Figure:
    """The seconds of one row in one column, or why there are none."""

    samples: list[float] = field(default_factory=list)
    error: str = ""

    @property
    def best(self) -> float:
        return min(self.samples)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def as_json(self) -> dict[str, Any]:
        if not self.samples:
            return asdict(self) | {"count": 0}
        return {
            "min": self.best,
            "median": self.median,
            "count": len(self.samples),
            "error": self.error,
        }


@dataclass(frozen=True)
class Framework:
    """A column: its name, and the Python that has it."""

    name: str
    python: str

    def version(self) -> str:
        """Its version, or nothing where it is absent."""
        package = self.name.removesuffix("-compile")
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        found = subprocess.run(
            [self.python, "-c", code], capture_output=True, text=True, check=False
        )
        if package == "graphgrad" and found.returncode:  # run from the tree, not installed
            from graphgrad import __version__

            return __version__
        return found.stdout.strip()


def environment(caches: Path) -> dict[str, str]:
    """One thread everywhere, and all compile caches in a folder of ours."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "CC", "CXX", "SYSTEMROOT")
    env = {k: v for k, v in os.environ.items() if k in kept}
    env |= {f"{library}_NUM_THREADS": "1" for library in THREADS}
    env |= {
        "PYTHONPATH": str(ROOT),
        "GRAPHGRAD_CACHE_DIR": str(caches / "graphgrad"),
        "NUMBA_CACHE_DIR": str(caches / "numba"),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
        "JAX_COMPILATION_CACHE_DIR": str(caches / "jax"),  # off by default: on, for a warm start
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }
    return env


class Child:
    """A process that answers, one line of JSON at a time."""

    def __init__(self, framework: Framework, caches: Path, *job: str) -> None:
        command = [framework.python, "-m", "benchmarks.child", job[0], framework.name, *job[1:]]
        self.process = subprocess.Popen(
            command,
            env=environment(caches),
            cwd=caches,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        for line in self.process.stdout:
            if line.startswith("RESULT "):
                return json.loads(line.removeprefix("RESULT "))
        last = self.process.stderr.read().strip().splitlines()[-1:]
        return {"error": "".join(last) or "the process ended without a result"}

    def ask(self, seconds: float) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self) -> None:
        self.process.communicate()


def once(framework: Framework, caches: Path, *job: str) -> dict[str, Any]:
    child = Child(framework, caches, *job)
    try:
        return child.answer()
    finally:
        child.end()


def imports(frameworks: list[Framework], repeats: int, caches: Path) -> dict[str, Figure]:
    """Seconds of importing each framework once NumPy is imported; one import first, not counted."""
    figures = {f.name: Figure() for f in frameworks if not f.name.endswith(("numpy", "-compile"))}
    for turn in range(repeats + 1):
        for f in frameworks:
            if f.name in figures:
                _take(figures[f.name], once(f, caches, "import"), counts=turn > 0)
    return figures


def firsts(
    frameworks: list[Framework], name: str, repeats: int, caches: Path
) -> dict[str, dict[str, Figure]]:
    """Seconds of a first call in a fresh process: with empty caches, and again with full ones."""
    compiling = [f for f in frameworks if f.name not in ("numpy", "torch")]
    figures = {state: {f.name: Figure() for f in compiling} for state in (COLD, WARM)}
    for _ in range(repeats):
        for f in compiling:
            folder = Path(tempfile.mkdtemp(dir=caches))
            for state in (COLD, WARM):
                _take(figures[state][f.name], once(f, folder, "first", name))
            shutil.rmtree(folder, ignore_errors=True)
    return figures


def limits(caches: Path) -> dict[str, float]:
    """What NumPy reaches on one core, a second: bytes copied, operations of a matrix product."""
    return once(Framework("numpy", sys.executable), caches, "limits")


def _take(figure: Figure, answer: dict[str, Any], counts: bool = True) -> None:
    figure.error = figure.error or answer["error"]
    if counts and "seconds" in answer:
        figure.samples.append(answer["seconds"])


def steady(
    frameworks: list[Framework], name: str, budget: float, rounds: int, launches: int, caches: Path
) -> dict[str, Figure]:
    """Seconds of a call, compiled before.

    Every framework runs in `launches` processes one after the other, since some processes give the
    memory of a result back to the system and fault it in again at each call, and others keep it.
    In each launch the frameworks are asked in turn, `rounds` times over. `budget` is the seconds
    for one framework in all.
    """
    if WORKLOADS[name].eager:
        frameworks = [f for f in frameworks if not f.name.endswith("-compile")]
    figures = {f.name: Figure() for f in frameworks}
    for _ in range(launches):
        _steady_launch(frameworks, name, budget / launches, rounds, caches, figures)
    return figures


def _steady_launch(
    frameworks: list[Framework], name: str, budget: float, rounds: int, caches: Path,
    figures: dict[str, Figure],
) -> None:  # fmt: skip
    children: dict[str, Child] = {}
    try:
        for f in frameworks:
            children[f.name] = Child(f, caches, "steady", name)
            figures[f.name].error = children[f.name].answer()["error"] or figures[f.name].error
        for _ in range(rounds):
            for who, child in children.items():
                if not figures[who].error:
                    answer = child.ask(budget / rounds)
                    figures[who].samples += answer.get("samples", [])
                    figures[who].error = answer.get("error", "")
    finally:
        for child in children.values():
            child.end()


def found_frameworks(given: dict[str, str]) -> list[Framework]:
    """graphgrad, NumPy, and those peers that can be imported where they are said to be."""
    columns = [Framework("graphgrad", sys.executable), Framework("numpy", sys.executable)]
    for peer in ("jax", "torch", "torch-compile"):
        python = given.get(peer.removesuffix("-compile"), sys.executable)
        f = Framework(peer, python)
        if f.version():
            columns.append(f)
    return columns
