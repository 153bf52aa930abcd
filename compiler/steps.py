"""What reports are told of the steps of a Program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from graphgrad.compiler.codegen.llvm_program import KernelText
from graphgrad.compiler.hosted import Refusal
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.kernels.loops import LoopNest


@dataclass(frozen=True, slots=True)
class CompiledStep:
    """One step of a Program, for reports: a kernel, a routine call, a loop or a branch with the
    steps within, or a host step."""

    kind: str  # kernel | routine | loop | branch | host
    nodes: tuple[Node, ...]
    nest: LoopNest | None = None
    kernel: KernelText | None = None
    arrays: tuple[Value | None, ...] = ()
    others: tuple[tuple[LoopNest, tuple[Value | None, ...]], ...] = ()  # in the same launch
    # Of a convolution: what its kernel computes after it, the arrays, and whether it is stored too.
    epilogue: tuple[LoopNest, tuple[Value | None, ...], bool] | None = None
    within: tuple[CompiledStep, ...] = ()
    graph: Graph | None = None  # in which it stands
    memory: tuple[str, ...] = ()  # where each part of the state of a loop that is no scalar code is
    refusals: tuple[Refusal, ...] = ()  # of a loop or a branch of the host: why it is not native

    @property
    def parts(self) -> tuple[tuple[LoopNest, tuple[Value | None, ...]], ...]:
        """The nests that a kernel's launch runs, with their arrays."""
        return () if self.nest is None else ((self.nest, self.arrays), *self.others)


def flattened(steps: Iterable[CompiledStep]) -> Iterator[CompiledStep]:
    """The steps, each followed by those within it."""
    for step in steps:
        yield step
        yield from flattened(step.within)
