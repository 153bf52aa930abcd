"""Runs children: each framework in fresh processes, in turns, so that all see the same machine."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import data
from benchmarks.figures import Figure
from benchmarks.frameworks import KNOWN
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("OMP", "MKL", "OPENBLAS", "NUMBA", "GRAPHGRAD")
COLD, WARM = "cold", "warm"


@dataclass(frozen=True)
class Framework:
    """A column: its name, and the Python that has it."""

    name: str
    python: str

    def version(self) -> str:
        """Its version, or nothing where it cannot be imported."""
        known = KNOWN[self.name]
        code = (
            "import importlib.util as u, importlib.metadata as m\n"
            f"assert u.find_spec({known.module!r})\n"
            f"have = {{d.metadata['name'].lower().replace('_', '-') for d in m.distributions()}}\n"
            f"print(next(m.version(d) for d in {known.distributions!r} if d in have))"
        )
        if known.module == "graphgrad":  # run from the tree, installed or not
            code = "import graphgrad; print(graphgrad.__version__)"
        try:
            found = subprocess.run(
                [self.python, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
            )
        except OSError:
            return ""
        return "" if found.returncode else found.stdout.strip()


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    budget: float  # seconds for each figure, in all
    rounds: int  # turns of a process
    launches: int  # processes for each figure
    repeats: int  # fresh processes for imports and first calls
    patience: float  # seconds after which what starts slowly is not started again
    timeout: float  # seconds after which a process that has not answered is ended


def find(peers: list[str], given: dict[str, str]) -> tuple[dict[Framework, str], list[str]]:
    """The frameworks that can be imported where they are said to be, with their versions, and
    a line for each that cannot."""
    found, skipped = {}, []
    for name in ("graphgrad", "numpy", *peers):
        module = KNOWN[name].module
        python = given.get(name) or given.get(module.partition(".")[0]) or sys.executable
        framework = Framework(name, python)
        version = framework.version()
        if version:
            found[framework] = version
        else:
            where = "this Python" if python == sys.executable else python
            skipped.append(f"{name} is left out: {where} has no {module}")
    return found, skipped


def environment(caches: Path, threads: int) -> dict[str, str]:
    """So many threads everywhere, and all compile caches in a folder of ours."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "CC", "CXX", "SYSTEMROOT")
    env = {k: v for k, v in os.environ.items() if k in kept}
    env |= {f"{library}_NUM_THREADS": str(threads) for library in LIBRARIES}
    env |= {
        "PYTHONPATH": str(ROOT),
        "GRAPHGRAD_CACHE_DIR": str(caches / "graphgrad"),
        "NUMBA_CACHE_DIR": str(caches / "numba"),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(caches / "jax"),  # off by default: on, for a warm start
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": str(threads),
        "TF_XLA_FLAGS": f"--tf_xla_persistent_cache_directory={caches / 'xla'}",  # off by default
        "PYTENSOR_FLAGS": f"base_compiledir={caches / 'pytensor'}",
    }
    if threads == 1:
        env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return env


class Child:
    """A process that answers, one line of JSON at a time."""

    def __init__(
        self,
        framework: Framework,
        caches: Path,
        timeout: float,
        *job: str,
        threads: int = 1,
        core: int = 0,
    ) -> None:
        command = [framework.python, "-m", "benchmarks.child", str(threads), str(core)]
        self.timeout = timeout
        self.messages = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (__exit__)
        self.process = subprocess.Popen(
            [*command, job[0], framework.name, *job[1:]],
            env=environment(caches, threads),
            cwd=caches,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.messages,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:  # an interrupt: a compiler may be at work for a minute
            self._kill()
        self.process.communicate()
        self.messages.close()

    def answer(self) -> dict[str, Any]:
        """What it says next; `error` says why if it ends, or takes longer than the timeout."""
        assert self.process.stdout is not None
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._kill()

        timer = threading.Timer(self.timeout, give_up)
        timer.start()
        try:
            for line in self.process.stdout:
                if line.startswith("RESULT "):
                    return json.loads(line.removeprefix("RESULT "))
        finally:
            timer.cancel()
        if late.is_set():
            return {"error": f"no answer in {self.timeout:g} s"}
        self.messages.seek(0)
        last = self.messages.read().strip().splitlines()[-1:]
        return {"error": "".join(last) or "the process ended without a result"}

    def ask(self, seconds: float) -> dict[str, Any]:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, and the answer says why
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()
        return self.answer()

    def _kill(self) -> None:
        """End the process, and the compilers that it may have started."""
        with suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()


def once(
    framework: Framework, caches: Path, timeout: float, *job: str, threads: int = 1
) -> dict[str, Any]:
    with Child(framework, caches, timeout, *job, threads=threads) as child:
        return child.answer()


def imports(frameworks: list[Framework], effort: Effort, caches: Path) -> dict[str, Figure]:
    """Seconds of importing each framework once NumPy is imported; one import first, not counted."""
    modules = {KNOWN[f.name].module: f for f in reversed(frameworks) if f.name != "numpy"}
    chosen = [f for f in frameworks if f in modules.values()]
    figures = {f.name: Figure() for f in chosen}
    for turn in range(effort.repeats + 1):
        for f in chosen:
            answer = once(f, caches, effort.timeout, "import")
            _take(figures[f.name], answer, counts=turn > 0)
    return figures


def firsts(
    frameworks: list[Framework], name: str, effort: Effort, caches: Path
) -> dict[str, dict[str, Figure]]:
    """Seconds of a first call in a fresh process: with empty caches, and again with full ones."""
    data.write(name, caches)
    compiling = [f for f in frameworks if KNOWN[f.name].compiles]
    figures = {state: {f.name: Figure() for f in compiling} for state in (COLD, WARM)}
    for _ in range(effort.repeats):
        for f in compiling:
            cold = figures[COLD][f.name]
            if cold.error or sum(cold.samples) > effort.patience:
                continue
            with tempfile.TemporaryDirectory(dir=caches) as folder:
                for state in (COLD, WARM):
                    job = ("first", name, str(caches))
                    _take(figures[state][f.name], once(f, Path(folder), effort.timeout, *job))
                    if cold.error:
                        break
    return figures


def peaks(
    frameworks: list[Framework], name: str, effort: Effort, caches: Path
) -> dict[str, Figure]:
    """The bytes that calls take at most, beyond the imports, in a process with full caches."""
    data.write(name, caches)
    chosen = [f for f in frameworks if KNOWN[f.name].compiles]
    figures = {f.name: Figure() for f in chosen}
    for f in chosen:
        with tempfile.TemporaryDirectory(dir=caches) as folder:
            job = ("peak", name, str(caches))
            once(f, Path(folder), effort.timeout, *job)  # fills the caches
            _take(figures[f.name], once(f, Path(folder), effort.timeout, *job), key="bytes")
    return figures


def limits(caches: Path, threads: int) -> dict[str, float]:
    """What NumPy reaches, a second: bytes copied, operations of a matrix product."""
    numpy = Framework("numpy", sys.executable)
    return once(numpy, caches, 60, "limits", threads=threads)


def _take(
    figure: Figure, answer: dict[str, Any], counts: bool = True, key: str = "seconds"
) -> None:
    figure.error = figure.error or answer["error"]
    if counts and key in answer:
        figure.samples.append(answer[key])


def steady(
    frameworks: list[Framework], name: str, effort: Effort, caches: Path, threads: int = 1
) -> dict[str, Figure]:
    """Seconds of a call, compiled before.

    A framework runs in several processes one after the other, unless they take too long to start:
    some processes give the memory of a result back to the system and fault it in again at each
    call, and others keep it. In each launch the frameworks are asked in turn, several rounds.
    """
    w = WORKLOADS[name]
    chosen = [
        f
        for f in frameworks
        if (KNOWN[f.name].eager or not w.eager) and (w.numpy or f.name != "numpy")
    ]
    data.write(name, caches)
    figures = {f.name: Figure() for f in chosen}
    for _ in range(effort.launches):
        slow = _steady_launch(chosen, name, effort, caches, threads, figures)
        chosen = [f for f in chosen if f not in slow]
    for file in caches.glob(f"{name}.*.npz"):
        file.unlink()
    return figures


def _steady_launch(
    frameworks: list[Framework], name: str, effort: Effort, caches: Path, threads: int,
    figures: dict[str, Figure],
) -> list[Framework]:  # fmt: skip
    """Add a process's samples to each figure; returns those not worth another.

    The processes start at the same time, on different cores, and are measured on the same.
    """
    job = ("steady", name, str(caches))
    slow = []
    with ExitStack() as running:
        children = {
            f: running.enter_context(
                Child(f, caches, effort.timeout, *job, threads=threads, core=i)
            )
            for i, f in enumerate(frameworks)
        }
        for f, child in list(children.items()):
            answer = child.answer()
            figures[f.name].error = answer["error"] or figures[f.name].error
            if "ready" not in answer:
                del children[f]
            if answer.get("ready", math.inf) > effort.patience:
                slow.append(f)
        for _ in range(effort.rounds):
            for f, child in list(children.items()):
                answer = child.ask(effort.budget / effort.rounds / effort.launches)
                figures[f.name].samples += answer.get("samples", [])
                if answer["error"]:  # it has ended
                    figures[f.name].error = answer["error"]
                    del children[f]
    return slow
