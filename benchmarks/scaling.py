"""How compile time and run time grow with the graph: `python -m benchmarks.scaling --help`.

Families of programs, each at sizes up to 10,000 operations, value and gradient. A measurement is a
process of its own, on one core, with empty caches. Seconds are CPU time, so that what else the
machine does counts little; those of a call are the least of several. JAX compiles the same programs
where a Python that has it is given.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SIZES = (100, 300, 1000, 3000, 10_000)
STAGES = ("trace", "derive", "passes", "fusion", "code", "machine")
TOLERANCE = 1e-3  # of a value, between frameworks

Program = tuple[Callable[..., Any], list[Any]]
Result = dict[str, Any]


def array(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-0.1, 0.1, shape).astype(np.float32)


# -- the families: (words, length) -> a loss, and what it is differentiated by


def chain(w: Any, length: int) -> Program:
    """Elementwise operations on a vector, one after another."""

    def loss(x: Any) -> Any:
        y = x
        for i in range(length):
            y = w.tanh(y) if i % 9 == 0 else y * x if i % 2 else y + x
        return w.sum(y)

    return loss, [array(1000)]


def scalars(w: Any, length: int) -> Program:
    """Rosenbrock's function, a term at a time."""

    def loss(*xs: Any) -> Any:
        total = 0.0
        for a, b in pairwise(xs):
            total = total + 100 * (b - a * a) ** 2 + (1 - a) ** 2
        return total

    return loss, [array(seed=i) for i in range(length + 1)]


def fan(w: Any, length: int) -> Program:
    """One value with many readers, and a sum of many values."""

    def loss(x: Any) -> Any:
        y, total = w.tanh(x), x
        for i in range(length):
            total = total + w.sin(y * float(i + 1))
        return w.sum(total)

    return loss, [array(1000)]


def layers(w: Any, length: int) -> Program:
    """A deep network of small matrix products."""

    def loss(x: Any, *weights: Any) -> Any:
        for m, b in zip(weights[::2], weights[1::2]):
            x = w.tanh(x @ m + b)
        return w.sum(x)

    shapes = [s for _ in range(length) for s in ((16, 16), (16,))]
    return loss, [array(8, 16), *(array(*s, seed=i) for i, s in enumerate(shapes))]


def mixed(w: Any, length: int) -> Program:
    """Matrices, rows and columns, in turn."""

    def loss(x: Any, y: Any, z: Any) -> Any:
        for i in range(length):
            x = w.tanh(x + y[:, None]) if i % 2 else x * z
            y = y + w.sum(x, 1) * 0.01
            z = w.sin(z) * w.sum(x, 0)
        return w.sum(x) + w.sum(y) + w.sum(z)

    return loss, [array(32, 24), array(32), array(24)]


def reductions(w: Any, length: int) -> Program:
    """Sums, each of which needs the one before."""

    def loss(x: Any) -> Any:
        total = 0.0
        for _ in range(length):
            square = w.sum(x * x)
            total, x = total + square, x / (1.0 + square)
        return total

    return loss, [array(300)]


def parameters(w: Any, length: int) -> Program:
    """Many parameters of a few sizes, with a step of Adam for each."""

    def loss(x: Any, *weights: Any) -> Any:
        total = w.sum(x)
        for i, p in enumerate(weights):
            g = p - x * float(i % 7)
            mean, square = g * 0.1, g * g * 0.001
            total = total + w.sum((p - mean / (w.sqrt(square) + 0.1)) ** 2)
        return total

    return loss, [array(), *(array(3 + i % 5, 2 + i % 3, seed=i) for i in range(length))]


FAMILIES = {f.__name__: f for f in (chain, scalars, fan, layers, mixed, reductions, parameters)}


# -- one measurement


def graphgrad_stages(family: str, nodes: int) -> Result:
    """Seconds of each stage for about `nodes` traced operations, and of a call."""
    import graphgrad as gg
    from graphgrad.compiler.assembly import Assembly
    from graphgrad.compiler.driver import compile_in_full
    from graphgrad.compiler.kernels.fusion import Fusion
    from graphgrad.compiler.pipeline import optimise
    from graphgrad.runtime.engine import host_target
    from graphgrad.runtime.executor import prepare

    words = SimpleNamespace(sum=gg.reduce_sum, tanh=gg.tanh, sin=gg.sin, sqrt=gg.sqrt)
    stamps: list[float] = []
    stamp = stamps.append  # a trace does not look into what is not Python

    def traced(length: int) -> Any:
        loss, arrays = FAMILIES[family](words, length)

        def both(*args: Any) -> Any:
            with gg.GradientTape() as tape:
                tape.watch(args)
                value = loss(*args)
            stamp(time.process_time())
            gradients = tape.gradient(value, args)
            stamp(time.process_time())
            return value, gradients

        function, args = gg.function(both), [gg.constant(a) for a in arrays]
        return function, function.get_concrete_function(*args), args

    target = host_target()
    prepare(compile_in_full(traced(2)[1].graph, target).program, target)  # what is made once
    few, more = (len(traced(k)[1].graph.nodes) for k in (4, 12))
    length = max(1, round(nodes * 8 / (more - few)))
    watch = Watch()
    function, concrete, args = traced(length)
    watch.lap("trace")
    derive = stamps[-1] - stamps[-2]
    optimised, _ = optimise(concrete.graph)
    watch.lap("passes")
    fusion = Fusion(optimised)
    plan = fusion.run()
    watch.lap("fusion")
    program = Assembly(optimised, fusion, plan, target).run()
    watch.lap("code")
    concrete.runner.executable = prepare(program, target)
    watch.lap("machine")
    return {
        "length": length,
        "nodes": len(concrete.graph.nodes),
        "steps": len(plan.steps),
        "value": float(function(*args)[0]),
        "seconds": watch.seconds | {"trace": watch.seconds["trace"] - derive, "derive": derive},
        "call": least(lambda: function(*args)),
    }


def jax_stages(family: str, length: int) -> Result:
    """The same program: seconds of tracing, of lowering, of XLA, and of a call."""
    import jax
    import jax.numpy as jnp

    words = SimpleNamespace(sum=jnp.sum, tanh=jnp.tanh, sin=jnp.sin, sqrt=jnp.sqrt)

    def traced(length: int) -> Any:
        loss, arrays = FAMILIES[family](words, length)
        args = [jnp.asarray(a) for a in arrays]
        both = jax.value_and_grad(loss, argnums=tuple(range(len(args))))
        return jax.jit(both).trace(*args), args

    traced(2)[0].lower().compile()
    watch = Watch()
    trace, args = traced(length)
    watch.lap("trace")
    lowered = trace.lower()
    watch.lap("code")
    compiled = lowered.compile()
    watch.lap("machine")
    return {
        "length": length,
        "value": float(compiled(*args)[0]),
        "seconds": watch.seconds,
        "call": least(lambda: jax.block_until_ready(compiled(*args))),
    }


class Watch:
    """CPU seconds since the lap before, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.process_time()

    def lap(self, name: str) -> None:
        now = time.process_time()
        self.seconds[name] = now - self.last
        self.last = now


def least(run: Callable[[], Any], repeats: int = 20, enough: float = 1.0) -> float:
    """Seconds of the shortest of several calls."""
    run()
    times: list[float] = []
    while len(times) < repeats and (len(times) < 3 or sum(times) < enough):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def child(framework: str, family: str, number: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    stages = {"graphgrad": graphgrad_stages, "jax": jax_stages}[framework]
    print("RESULT " + json.dumps(stages(family, number)), flush=True)


# -- all measurements


def measured(python: str, framework: str, family: str, number: int, patience: float) -> Result:
    """The result of a child, or {"error": why there is none}."""
    command = [python, "-m", "benchmarks.scaling", "--child", framework, family, str(number)]
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    own = {"PYTHONPATH": str(ROOT), "GRAPHGRAD_CACHE": "0", "JAX_PLATFORMS": "cpu"}
    env = os.environ | threads | own | {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=patience, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"> {patience:.0f} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        return {"error": (done.stderr.strip().splitlines() or ["no result"])[-1]}
    return dict(json.loads(lines[-1].removeprefix("RESULT ")))


def measure(
    families: Sequence[str], sizes: Sequence[int], jax: str, patience: float
) -> list[Result]:
    """A row for each family and size; its "jax" is that framework's result, where it was asked."""
    rows = []
    for family in families:
        too_slow = False
        for n in sizes:
            row = measured(sys.executable, "graphgrad", family, n, patience)
            row["family"] = family
            if jax and "error" not in row and not too_slow:
                row["jax"] = measured(jax, "jax", family, row["length"], patience)
                too_slow = "error" in row["jax"]
                if not too_slow and not agree(row["value"], row["jax"]["value"]):
                    row["error"] = f"{row['value']} here, {row['jax']['value']} with JAX"
            rows.append(row)
            print(line(row), flush=True)
    return rows


def agree(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


HEAD = ["family", "operations", "steps", *STAGES, "all", "a call (ns)", "JAX", "JAX's call (ns)"]


def cells(row: Result) -> list[str]:
    """One line of the table: microseconds an operation, if not said otherwise."""
    if "error" in row:
        return [row["family"], row["error"]]
    nodes, seconds = row["nodes"], row["seconds"]
    micro = [f"{seconds[stage] * 1e6 / nodes:.0f}" for stage in STAGES]
    found = [f"{sum(seconds.values()) * 1e6 / nodes:.0f}", f"{row['call'] * 1e9 / nodes:.0f}"]
    jax = row.get("jax", {})
    if "seconds" in jax:
        found.append(f"{sum(jax['seconds'].values()) * 1e6 / nodes:.0f}")
        found.append(f"{jax['call'] * 1e9 / nodes:.0f}")
    else:
        found += [jax.get("error", "–"), "–"]
    return [row["family"], f"{nodes:,}", f"{row['steps']:,}", *micro, *found]


def line(row: Result) -> str:
    return f"| {' | '.join(cells(row))} |"


def table(rows: list[Result]) -> str:
    """Markdown."""
    return "\n".join([f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|", *map(line, rows)])


def plot(rows: list[Result], file: Path) -> None:
    """Compile time and run time an operation, over the operations."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    colours = dict(zip(FAMILIES, pyplot.get_cmap("tab10").colors))
    for family, colour in colours.items():
        ours = [r for r in rows if r["family"] == family and "error" not in r]
        theirs = [r | r["jax"] for r in ours if "seconds" in r.get("jax", {})]
        for found, style, label in ((ours, "o-", family), (theirs, "x:", None)):
            nodes = [r["nodes"] for r in found]
            compiling = [sum(r["seconds"].values()) * 1e6 / r["nodes"] for r in found]
            calls = [r["call"] * 1e9 / r["nodes"] for r in found]
            for ax, values in zip(axes, (compiling, calls)):
                ax.loglog(nodes, values, style, color=colour, label=label)
    for ax, title in zip(axes, ("compiling, µs an operation", "a call, ns an operation")):
        ax.set_title(title)
        ax.set_xlabel("operations traced (dotted: JAX)")
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="operations, about")
    parser.add_argument("--jax", default="", metavar="PYTHON", help="the Python that has JAX")
    parser.add_argument("--patience", type=float, default=120, help="seconds for a measurement")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--plot", type=Path, help="draw the curves into this file")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        framework, family, number = options.child
        child(framework, family, int(number))
        return
    rows = measure(options.families, options.sizes, options.jax, options.patience)
    print("\nMicroseconds an operation, by stage:\n\n" + table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
