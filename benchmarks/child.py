"""One framework in a process of its own: `benchmarks.child THREADS CORE JOB FRAMEWORK ...`.

It runs so many threads, on cores from CORE on. Jobs: `import`, `first ROW FOLDER` and `limits`
print one line of JSON and end; `steady ROW FOLDER` prints one when it is ready, and one for each
line on its input: the seconds to measure for.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.frameworks import KNOWN, words

STARTED = time.perf_counter()
GROUP_SECONDS = 1e-3  # calls shorter than this are timed in groups that last about as long


class Cores:
    """The cores of this process, by which it and the libraries choose the number of threads."""

    def __init__(self, threads: int) -> None:
        affinity = getattr(os, "sched_getaffinity", lambda pid: ())
        self.usable = sorted(affinity(0))
        self.threads = threads

    def pin(self, first: int = 0) -> None:
        """Stay on so many cores from the first on, with all threads that there are and will be."""
        if self.usable:
            cores = [self.usable[(first + i) % len(self.usable)] for i in range(self.threads)]
            for thread in os.listdir("/proc/self/task"):
                with contextlib.suppress(ProcessLookupError):  # it has ended
                    os.sched_setaffinity(int(thread), cores)


def seconds_to_import(framework: str) -> float:
    """The time that importing it takes once NumPy is there."""
    import numpy  # noqa: F401

    start = time.perf_counter()
    importlib.import_module(KNOWN[framework].module)
    return time.perf_counter() - start


def prepare(framework: str, name: str, inputs: dict[str, Any]) -> tuple[Any, Callable[..., Any]]:
    """A function that builds and returns `run`, and one that makes NumPy arrays of a result."""
    import numpy as np

    from benchmarks.workloads import WORKLOADS

    w = WORKLOADS[name]
    if framework == "numpy":
        return lambda: lambda: w.reference(**inputs), lambda result: [*map(np.asarray, result)]
    F = words(framework)
    tensors = {k: F.tensor(v) for k, v in inputs.items()}
    return (lambda: F.bind(*w.build(F, tensors))), lambda r: F.arrays(w.finish(F, r))


def first(framework: str, name: str, folder: Path) -> dict[str, Any]:
    """Seconds of making the function and calling it once, after the imports."""
    from benchmarks import data

    inputs, expected = data.read(name, folder)
    build, arrays = prepare(framework, name, inputs)
    start = time.perf_counter()
    result = build()()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "error": data.problem(arrays(result), expected)}


def steady(framework: str, name: str, folder: Path, cores: Cores) -> None:
    """Measure on demand, on the first cores. The first result is checked, and the third, whose
    memory may have been used before."""
    from benchmarks import data
    from benchmarks.workloads import WORKLOADS

    inputs, expected = data.read(name, folder)
    build, arrays = prepare(framework, name, inputs)
    del inputs
    run = build()
    wrong = data.problem(arrays(run()), expected)
    run()
    if not wrong and not WORKLOADS[name].trains:
        wrong = data.problem(arrays(run()), expected)
    del expected
    cores.pin()
    start = time.perf_counter()
    run()
    group = max(1, int(GROUP_SECONDS / (time.perf_counter() - start)))
    say({"ready": start - STARTED, "error": wrong})
    for line in sys.stdin:
        samples: list[float] = []
        end = time.perf_counter() + float(line)
        run()  # what the others left in the caches
        while not samples or time.perf_counter() < end:
            start = time.perf_counter()
            for _ in range(group):
                run()
            samples.append((time.perf_counter() - start) / group)
        say({"samples": samples, "error": ""})


def limits() -> dict[str, float]:
    """Bytes a second that NumPy copies here, and float32 operations a second of its products."""
    import numpy as np

    def best(run: Any, repeats: int) -> float:
        run()
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return min(times)

    source, copy = (np.ones(10_000_000, np.float32) for _ in range(2))
    x, y, z = (np.ones((1024, 1024), np.float32) for _ in range(3))
    return {
        "copy": 2 * source.nbytes / best(lambda: np.copyto(copy, source), 20),
        "product": 2 * 1024**3 / best(lambda: np.matmul(x, y, out=z), 20),
    }


def resident(field: str) -> int:
    """Bytes of resident memory: now (VmRSS) or at most (VmHWM). Linux alone says so."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def peak(framework: str, name: str, folder: Path) -> dict[str, Any]:
    """The most resident memory that calls take beyond the imports: inputs, results, and what the
    framework keeps."""
    from benchmarks import data

    words(framework)  # imports it
    expected = data.read(name, folder)[1]
    before = resident("VmRSS")
    build, arrays = prepare(framework, name, data.read(name, folder)[0])
    run = build()
    wrong = data.problem(arrays(run()), expected)
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark starts anew
    for _ in range(20):
        run()
    return {"bytes": resident("VmHWM") - before, "error": wrong}


def say(answer: dict[str, Any]) -> None:
    print("RESULT " + json.dumps(answer), flush=True)


def main() -> None:
    threads, start, job, framework, *rest = sys.argv[1:]
    cores = Cores(int(threads))
    cores.pin(int(start))
    try:
        if job == "import":
            say({"seconds": seconds_to_import(framework), "error": ""})
        elif job == "limits":
            say(limits())
        elif job == "first":
            say(first(framework, rest[0], Path(rest[1])))
        elif job == "peak":
            say(peak(framework, rest[0], Path(rest[1])))
        else:
            steady(framework, rest[0], Path(rest[1]), cores)
    except Exception as e:
        say({"error": f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"})
    os._exit(0)  # without the libraries' exit handlers, which may hang


if __name__ == "__main__":
    main()
