"""What a function shows of a trace: its graph, its kernels as Python, and the report.

Imports of the compiler are within functions: a program that only calls needs no pass.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from graphgrad.compiler.dims import evaluate
from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.transform.sizes import own_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from graphgrad.compiler.driver import Compilation
    from graphgrad.compiler.ir import Graph
    from graphgrad.compiler.report import Report
    from graphgrad.compiler.transform.loop_memory import Schedule
    from graphgrad.concrete import ConcreteFunction
    from graphgrad.execution import Runner
    from graphgrad.hot_tapes import Program

INTERPRETED = "interpreted op by op with NumPy (jit_compile=False): there are no kernels"


def stage_text(trace: ConcreteFunction, stage: str) -> str:
    """The IR before or after the passes."""
    if stage == "before":
        return str(trace.graph)
    if stage == "after":
        from graphgrad.compiler.pipeline import optimise

        return str(optimise(trace.graph)[0])
    raise ArgumentError(f'ir: stage is "before" or "after", not {stage!r}')


def kernels_text(trace: ConcreteFunction) -> str:
    """Each kernel of a trace as a Python function, in the order in which they run."""
    from graphgrad.compiler.codegen.python_convolution import python_convolution
    from graphgrad.compiler.codegen.python_loop import python_loop
    from graphgrad.compiler.codegen.python_nest import python_kernel
    from graphgrad.compiler.codegen.python_pools import python_pool
    from graphgrad.compiler.kernels.carried_arrays import LOOPS
    from graphgrad.compiler.kernels.convolutions import convolution_of
    from graphgrad.compiler.kernels.pools import pool_of
    from graphgrad.compiler.steps import flattened

    if not trace.compiled:
        return INTERPRETED
    trace.runner.prepared()
    texts: dict[str, str] = {}
    for step in flattened(whole(trace.runner.compilation).steps):
        if step.nodes[0].op.name in LOOPS:
            name = step.kernel.name if step.kernel is not None else f"loop_{len(texts)}"
            texts.setdefault(name, python_loop(step.nodes[0], name))
        if step.kernel is None:
            continue
        name = step.kernel.name
        if pool_of(step.nodes[0]) is not None:
            texts.setdefault(name, python_pool(step.nodes[0], name))
            continue
        if step.nest is None:  # a convolution, and what it does to each element of its result
            if convolution_of(step.nodes[0]) is None:
                continue
            texts.setdefault(name, python_convolution(step.nodes[0], name))
            if step.epilogue is not None:
                nest, values, _ = step.epilogue
                types = [v.type if v is not None else None for v in values]
                texts.setdefault(f"{name}_then", python_kernel(nest, f"{name}_then", types))
            continue
        types = [v.type if v is not None else None for v in step.arrays]
        texts.setdefault(name, python_kernel(step.nest, name, types))
    return "\n".join(texts.values()) or "no kernels: nothing is left to compute"


def whole(compilation: Compilation) -> Compilation:
    """A compilation with the steps of its parts, where it runs in parts."""
    from graphgrad.compiler.assembly import Assembly
    from graphgrad.compiler.hosted import why_hosted
    from graphgrad.compiler.ir import Graph
    from graphgrad.compiler.kernels.updates import fused
    from graphgrad.compiler.steps import CompiledStep
    from graphgrad.execution import runner
    from graphgrad.runtime.engine import host_target

    if compilation.parts is None:
        return compilation
    nothing = Graph((), (), ())
    steps: list[CompiledStep] = []
    for node in compilation.parts.nodes:
        if node.op.name == "call":
            steps.extend(whole(runner(own_sizes(node.attrs["graph"])).compilation).steps)
        elif node.op.name != "constant":
            around = Assembly(nothing, *fused(nothing), host_target())
            refusals = why_hosted(around, node)
            graph = compilation.parts
            steps.append(CompiledStep("host", (node,), graph=graph, refusals=refusals))
    return replace(compilation, steps=tuple(steps))


def report_of(trace: ConcreteFunction | Program) -> Report:
    """The report of a compiled trace or walk; numbers are for the sizes that were traced."""
    schedules = getattr(trace, "schedules", ())
    return report_of_run(trace.runner, trace.donated, schedules)


def report_of_run(
    run: Runner, donated: Sequence[bool] = (), schedules: Sequence[Schedule] = (),
    kept: int | None = None,
) -> Report:  # fmt: skip
    """The report of a compiled graph, whose outputs from number `kept` on are for a derivative."""
    from graphgrad.compiler.report import make_report, sizes_of
    from graphgrad.runtime.buffers import buffers

    executable, compilation = run.prepared(), run.compilation
    sizes = sizes_of(compilation.graph, None)
    used = None
    if sizes is not None:
        types = compilation.graph.types
        shapes = [tuple(evaluate(n, sizes) for n in t.shape) for t in types]
        used = asdict(buffers(compilation.program, shapes, donated))
    return make_report(
        whole(compilation),
        nodes_traced=len(run.graph.nodes),
        compile_seconds=executable.compile_seconds,
        cache_hit=executable.cache_hit,
        buffers=used,
        schedules=schedules,
        kept=kept,
    )


def reports_under_tapes(graph: Graph) -> Iterator[tuple[str, Report]]:
    """The reports of what ran in the place of `graph` in calls that a tape around them watched: the
    graph that also gives what its derivative reads, and the derivatives."""
    for key, ahead in list(graph.memo.items()):
        if not (isinstance(key, tuple) and key[0] == "residuals"):
            continue
        run = has_run(ahead)
        if run is not None and ahead is not graph:
            kept = len(graph.outputs)
            yield "under a tape, with what its derivative reads", report_of_run(run, kept=kept)
        for inner, found in list(ahead.memo.items()):
            back = (
                has_run(found[0]) if isinstance(inner, tuple) and inner[0] == "gradient" else None
            )
            if back is not None:
                yield "its derivative", report_of_run(back)


def has_run(graph: Graph) -> Runner | None:
    """What runs `graph`, if it was compiled."""
    found: Runner | None = own_sizes(graph).memo.get("runner")
    return found if found is not None and found.executable is not None else None


def report_text(trace: ConcreteFunction) -> str:
    """The report as text, under the trace's signature; then those of what tapes around calls made
    of it."""
    head = f"trace ({trace.signature_text})"
    if not trace.compiled:
        return f"{head}\n{INTERPRETED}"
    parts = [f"{head}\n{report_of(trace)}"]
    parts += [f"{head} {what}\n{report}" for what, report in reports_under_tapes(trace.graph)]
    return "\n\n".join(parts)
