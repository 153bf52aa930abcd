"""What loops and their gradients compile to does not grow with the number of their trips."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import graphgrad as gg
from benchmarks.loops.program import DIFFERENTIATED, program
from graphgrad.compiler.driver import compile_in_full
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.steps import flattened
from graphgrad.runtime import engine

FEW, MANY = 40, 1_000_000  # fewer than 32 trips of a range are unrolled
# Arguments whose first size is the number of trips; a table of n * n cells has that many.
LENGTHS = {
    "newton": {1: MANY}, "pendulum": {4: MANY}, "kalman": {3: MANY}, "viterbi": {1: MANY},
    "edit_distance": {0: 1000, 1: 1000}, "gru": {0: MANY},
}  # fmt: skip
COUNTED = ("power", "heat")  # by a number of the module


def nodes_of(graph: Graph) -> int:
    """How many nodes there are, those of sub-graphs counted."""
    inner = [g for n in graph.nodes for g in n.attrs.values() if isinstance(g, Graph)]
    return len(graph.nodes) + sum(map(nodes_of, inner))


def compiled(name: str, long: bool, gradients: bool, monkeypatch: Any) -> tuple[int, int, int]:
    """The nodes of the traced graph, the steps of the program and the length of its text."""
    if name in COUNTED:
        module = importlib.import_module(f"benchmarks.loops.{name}")
        monkeypatch.setattr(module, "TRIPS", MANY if long else FEW)
    p = program(name)
    specs = []
    for k, x in enumerate(map(np.asarray, p.arguments(FEW))):
        length = LENGTHS.get(name, {}).get(k) if long else None
        specs.append(gg.TensorSpec(x.shape if length is None else [length, *x.shape[1:]], x.dtype))
    run = gg.value_and_grad(p.run, argnums=p.argnums) if gradients else p.run
    graph = gg.function(run).get_concrete_function(*specs).graph
    found = compile_in_full(graph, engine.host_target())
    return nodes_of(graph), len([*flattened(found.steps)]), len(found.program.module)


@pytest.mark.parametrize("gradients", [False, True], ids=["value", "gradients"])
@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_a_million_trips_compile_as_forty_do(name: str, gradients: bool, monkeypatch: Any) -> None:
    nodes, steps, text = compiled(name, False, gradients, monkeypatch)
    more_nodes, more_steps, more_text = compiled(name, True, gradients, monkeypatch)
    assert (more_nodes, more_steps) == (nodes, steps)
    assert more_text <= 1.5 * text  # kernels of long arrays differ from those of short ones
