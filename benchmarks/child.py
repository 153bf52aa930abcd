"""One framework in a process of its own: `python -m benchmarks.child JOB FRAMEWORK [WORKLOAD]`.

Jobs: `import`, `first` and `limits` print one line of JSON and end; `steady` prints one when it is
ready, and one for each line on its input: the seconds to measure for.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any

MODULES = {"graphgrad": "graphgrad", "jax": "jax", "torch": "torch", "torch-compile": "torch"}
GROUP_SECONDS = 1e-3  # calls shorter than this are timed in groups that last about as long
TOLERANCE = 1e-4  # relative to |reference| + its root mean square


def pin() -> None:
    """Stay on one core, with all the threads that libraries will make."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def seconds_to_import(framework: str) -> float:
    """The time that importing it takes once NumPy is there."""
    import numpy  # noqa: F401

    start = time.perf_counter()
    importlib.import_module(MODULES[framework])
    return time.perf_counter() - start


def error(result: list[Any], reference: list[Any]) -> str:
    """What is wrong with a result, or nothing."""
    import numpy as np

    if len(result) != len(reference):
        return f"{len(result)} results, {len(reference)} expected"
    for i, (got, wanted) in enumerate(zip(result, reference)):
        wanted = np.asarray(wanted)
        if got.shape != wanted.shape:
            return f"result {i}: shape {got.shape}, expected {wanted.shape}"
        allowed = TOLERANCE * (np.abs(wanted) + np.sqrt(np.mean(wanted * wanted)))
        worst = np.max(np.abs(got - wanted) / allowed)
        if not worst <= 1:
            return f"result {i}: {worst:.3g} times the allowed error"
    return ""


def prepare(framework: str, name: str) -> tuple[Any, Any]:
    """A function that builds and returns `run`, and one that says what is wrong with a result."""
    import numpy as np

    from benchmarks.workloads import WORKLOADS

    w = WORKLOADS[name]
    inputs = w.inputs(np.random.default_rng(7))

    def check(result: list[Any]) -> str:
        exact = {k: v.astype(float) if v.dtype.kind == "f" else v for k, v in inputs.items()}
        return error(result, w.reference(**exact))

    if framework == "numpy":
        return (lambda: lambda: w.reference(**inputs)), lambda out: check(
            list(map(np.asarray, out))
        )
    words = importlib.import_module(f"benchmarks.frameworks.{framework.replace('-', '_')}_")
    tensors = {k: words.tensor(v) for k, v in inputs.items()}

    def build() -> Any:
        function, arguments = w.build(words, tensors)
        if framework == "jax":
            return lambda: words.wait(function(*arguments))
        return lambda: function(*arguments)

    return build, lambda out: check(words.arrays(out))


def first(framework: str, name: str) -> dict[str, Any]:
    """Seconds of making the function and calling it once, after the imports."""
    build, check = prepare(framework, name)
    start = time.perf_counter()
    result = build()()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "error": check(result)}


def steady(framework: str, name: str) -> None:
    """Measure on demand."""
    build, check = prepare(framework, name)
    run = build()
    wrong = check(run())
    run()
    start = time.perf_counter()
    run()
    group = max(1, int(GROUP_SECONDS / (time.perf_counter() - start)))
    say({"error": wrong})
    for line in sys.stdin:
        samples = []
        end = time.perf_counter() + float(line)
        run()  # what the others left in the caches
        while len(samples) < 2 or time.perf_counter() < end:
            start = time.perf_counter()
            for _ in range(group):
                run()
            samples.append((time.perf_counter() - start) / group)
        say({"samples": samples})


def limits() -> dict[str, float]:
    """Bytes a second that this core copies, and float32 operations a second of a matrix product."""
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


def say(answer: dict[str, Any]) -> None:
    print("RESULT " + json.dumps(answer), flush=True)


def main() -> None:
    pin()
    job, framework, *rest = sys.argv[1:]
    try:
        if job == "import":
            say({"seconds": seconds_to_import(framework), "error": ""})
        elif job == "first":
            say(first(framework, *rest))
        elif job == "limits":
            say(limits())
        else:
            steady(framework, *rest)
    except Exception as e:
        say({"error": f"{type(e).__name__}: {e}"})
    os._exit(0)  # without the libraries' exit handlers, which may hang


if __name__ == "__main__":
    main()
