"""The convolutions of a graph on their way to a Program: their kernels, and what follows them.

The kernel that reads a convolution's result before all others becomes its epilogue where it can
be one (`kernels.epilogues`). The convolution then runs in that kernel's place, and its result has
no memory of its own unless something else reads it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

from graphgrad.compiler.codegen.llvm_convolution_kernel import ConvolutionKernel
from graphgrad.compiler.codegen.llvm_convolutions import convolution_kernel
from graphgrad.compiler.ir import Node, Value
from graphgrad.compiler.kernels.convolutions import Registers, convolution_of
from graphgrad.compiler.kernels.epilogues import epilogue_of
from graphgrad.compiler.kernels.fusion import Fusion, Step
from graphgrad.compiler.kernels.lower import Lowered

# The steps of one launch: a batch of kernels, or one step.
Launch = list[tuple[Step, Lowered | None]]


@dataclass
class Convolutions:
    """The convolutions of one graph, by their results."""

    fusion: Fusion
    registers: Registers
    kernels: dict[Value, ConvolutionKernel | None] = field(default_factory=dict)
    following: dict[Value, tuple[Step, Lowered]] = field(default_factory=dict)  # the epilogues

    def kernel(self, node: Node) -> ConvolutionKernel | None:
        """The kernel of a node; None where it is no convolution, or a host step."""
        if not node.outputs:
            return None
        value = node.outputs[0]
        if value not in self.kernels:
            conv = convolution_of(node)
            found = None if conv is None else convolution_kernel(conv, self.registers)
            self.kernels[value] = found
        return self.kernels[value]

    def with_epilogues(self, launches: Sequence[Launch]) -> list[Launch]:
        """The launches, those that have become epilogues with their convolutions as one."""
        nodes = [launch[0][0].node for launch in launches]
        own = [(k, n, c) for k, n in enumerate(nodes) if n is not None and (c := self.kernel(n))]
        if not own:
            return list(launches)
        readers: dict[Value, list[int]] = {}
        for k, launch in enumerate(launches):
            for v in dict.fromkeys(chain.from_iterable(self.read_by(*part) for part in launch)):
                readers.setdefault(v, []).append(k)
        returned = {self.fusion.memory_of(v) for v in self.fusion.graph.outputs}
        found: dict[int, Launch] = {}
        for k, node, kernel in own:
            reading = readers.get(node.out, [])
            if not reading or reading[0] in found or len(launches[reading[0]]) > 1:
                continue
            step, low = launches[reading[0]][0]
            keeps = len(reading) > 1 or node.out in returned
            if low is not None and self.follow(kernel, node, step, low, keeps):
                found[k], found[reading[0]] = [], [(Step(None, node), None)]
        merged = (found.get(k, launch) for k, launch in enumerate(launches))
        return [launch for launch in merged if launch]

    def follow(
        self, kernel: ConvolutionKernel, node: Node, step: Step, low: Lowered, keeps: bool
    ) -> bool:
        """Make a step the epilogue of a convolution, if it can be that."""
        values = [None if v is None else self.fusion.memory_of(v) for v in low.values]
        epilogue = epilogue_of(low.nest, values, node.out, keeps)
        if epilogue is None or not kernel.accepts(epilogue):
            return False
        self.kernels[node.out] = type(kernel)(kernel.conv, kernel.registers, epilogue)
        self.following[node.out] = step, low
        return True

    def read_by(self, step: Step, low: Lowered | None) -> list[Value]:
        """The memory that a step reads."""
        if low is None:
            return [self.fusion.memory_of(v) for v in step.nodes[0].inputs]
        arrays = zip(low.values, low.nest.arrays, strict=True)
        return [self.fusion.memory_of(v) for v, a in arrays if v is not None and a.role == "in"]

    def arrays_after(self, node: Node) -> list[Value]:
        """What the epilogue of a convolution reads and writes, but for the result itself."""
        kernel = self.kernels[node.out]
        if kernel is None or kernel.epilogue is None:
            return []
        values = self.following[node.out][1].values
        return [v for k in kernel.epilogue.others if (v := values[k]) is not None]
