"""Graphs to Programs: passes, fusion, loop nests, memory and text."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphgrad.compiler.assembly import Assembly, slot
from graphgrad.compiler.dims import Symbol
from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.interpret import flushed, interpret
from graphgrad.compiler.ir import Graph, Node
from graphgrad.compiler.kernels.fusion import found_by_loops
from graphgrad.compiler.kernels.loops import LoopNest
from graphgrad.compiler.kernels.updates import fused
from graphgrad.compiler.options import Options
from graphgrad.compiler.passes.complexes import over_parts
from graphgrad.compiler.passes.stability import stabilised
from graphgrad.compiler.pipeline import PassOptions, StageRecord, optimise
from graphgrad.compiler.source import Where
from graphgrad.compiler.steps import CompiledStep
from graphgrad.compiler.transform.segments import has_runtime_sizes, run_in_segments, segmented
from graphgrad.compiler.transform.sizes import runtime_symbols, symbols_in
from graphgrad.runtime.float_mode import flush_bits
from graphgrad.runtime.program import (
    Host,
    Program,
    Target,
)


@dataclass(frozen=True, slots=True)
class Compilation:
    """A Program with how it came about."""

    program: Program
    graph: Graph  # after the passes
    steps: tuple[CompiledStep, ...]
    refusals: tuple[tuple[Node, Node, str], ...]
    stages: tuple[StageRecord, ...]
    seconds: float
    places: tuple[Where | None, ...] = ()  # of the program's failures
    parts: Graph | None = None  # what the one host step runs, where sizes are found out by the run


def compile_in_full(graph: Graph, target: Target, options: Options | None = None) -> Compilation:
    """The Program of `graph` and what reports say about it."""
    options = options or Options()
    start = time.perf_counter()
    if not options.compile:
        return Compilation(interpreted(graph), graph, (), (), (), time.perf_counter() - start)
    flush = options.flush_denormals
    if flush and not flush_bits(target.machine):
        raise ArgumentError(
            f"flush_denormals: it is not known how {target.machine} takes subnormal numbers for "
            "zero; x86-64 and AArch64 can"
        )
    optimised, stages = optimise(graph, PassOptions(options.fast_math))
    assembly = one_program(optimised, target, flush)
    if assembly is None:
        parts = segmented(optimised, lambda g: one_program(g, target) is not None)

        def run(*arrays: Any) -> Any:
            return run_in_segments(parts, arrays)

        program = host_program(optimised, flushed(run) if flush else run)
        seconds = time.perf_counter() - start
        return Compilation(program, optimised, (), (), tuple(stages), seconds, parts=parts)
    program = assembly.run()
    return Compilation(
        program, optimised, tuple(assembly.report), assembly.refusals, tuple(stages),
        time.perf_counter() - start, tuple(assembly.places),
    )  # fmt: skip


def one_program(graph: Graph, target: Target, flush: bool = False) -> Assembly | None:
    """What makes one Program of a graph that has been through the passes; None where the run finds
    out sizes that native code cannot know."""
    if has_runtime_sizes(graph):
        given = (runtime_symbols(t) for t in graph.types)
        mentioned = set[Symbol]().union(*given, *map(symbols_in, graph.nodes))
        if not mentioned <= found_by_loops(graph).keys():
            return None
    bare = over_parts(graph)
    assembly = Assembly(bare, *fused(bare), target, typed=graph, flush=flush)
    return assembly if not has_runtime_sizes(graph) or assembly.knows_sizes() else None


def compile_apart(
    graph: Graph,
    target: Target,
    options: Options | None = None,
    adjust: Callable[[LoopNest], LoopNest] | None = None,
) -> Compilation:
    """The Program of a graph that has been through the passes, with an entry of its own for each
    step, in the order of the compilation's `steps`: so that steps can be measured one by one.

    `adjust` may put another nest over the same arrays in the place of each.
    """
    start = time.perf_counter()
    bare = over_parts(graph)
    fusion, plan = fused(bare)
    flush = options is not None and options.flush_denormals
    assembly = Assembly(bare, fusion, plan, target, apart=True, typed=graph, flush=flush)
    if adjust is not None:
        assembly.adjust = adjust
    program = assembly.run()
    return Compilation(
        program, graph, tuple(assembly.report), assembly.refusals, (),
        time.perf_counter() - start,
    )  # fmt: skip


def interpreted(graph: Graph) -> Program:
    """A Program of one host step, which interprets the graph.

    Stability rules apply here as well: gradient graphs rely on the values they give.
    """
    stable = stabilised(graph)
    return host_program(graph, lambda *arrays: interpret(stable, arrays))


def host_program(graph: Graph, run: Callable[..., Any]) -> Program:
    """A Program of one host step, which does all that `graph` does."""
    inputs = [slot("input", t) for t in graph.types]
    outputs = [slot("host", t) for t in graph.output_types]
    n, m = len(inputs), len(outputs)
    return Program(
        fingerprint=graph.fingerprint,
        module="",
        slots=(*inputs, *outputs),
        inputs=tuple(range(n)),
        outputs=tuple(range(n, n + m)),
        steps=(Host(0, tuple(range(n)), tuple(range(n, n + m))),),
        callables=(run,),
    )
