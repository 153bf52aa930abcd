"""The memory of a graph that grows while it runs, in records (`runtime/program.py`): what its loops
stack for as long as they run, and values whose sizes these loops find out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphgrad.compiler.convolutions import Launch
from graphgrad.compiler.dims import Symbol
from graphgrad.compiler.ir import Node, Value
from graphgrad.compiler.regions import Storage
from graphgrad.compiler.types import TensorType
from graphgrad.runtime.program import Failure, Grown, Size

if TYPE_CHECKING:
    from graphgrad.compiler.assembly import Assembly
    from graphgrad.compiler.codegen.llvm_program import ModuleWriter

NO_MEMORY = "no memory for what the steps of a loop keep for its derivative: {a} bytes"


@dataclass(eq=False)
class Growing:
    """Which values of the graph of an assembly lie in which records."""

    assembly: Assembly
    records: list[int] = field(default_factory=list)  # of the whole Program: the pointers of each
    stacks: dict[Node, int] = field(default_factory=dict)  # the records of loops
    # The slots of outputs of the Program, by their memory and type.
    outputs: dict[tuple[Value, TensorType], int] = field(default_factory=dict)
    bytes: dict[int, Size] = field(default_factory=dict)  # that records of one array are to have
    touched: dict[int, list[Storage]] = field(default_factory=dict)  # by the identity of launches

    def __post_init__(self) -> None:
        if self.assembly.around is not None:
            self.records = self.assembly.around.growing.records

    def add(self, pointers: int) -> int:
        """A new record; its number."""
        self.records.append(pointers)
        return len(self.records) - 1

    def stacks_of(self, node: Node) -> int:
        """The record of what a loop stacks for as long as it runs."""
        if node not in self.stacks:
            values = node.outputs[node.attrs["carried"] :]
            self.stacks[node] = record = self.add(len(values))
            for k, v in enumerate(values):
                self.assembly.storage[v] = Storage(record=record, array=k)
        return self.stacks[node]

    def record_of(self, symbol: Symbol) -> int:
        """The record that counts a size, here or in a graph around."""
        makers, around = self.assembly.fusion.makers, self.assembly.around
        if symbol in makers:
            return self.stacks_of(makers[symbol])
        assert around is not None
        return around.growing.record_of(symbol)

    def knows(self, symbol: Symbol) -> bool:
        """Is a size one that a loop counts, here or in a graph around?"""
        around = self.assembly.around
        counted = symbol in self.assembly.fusion.makers
        return counted or (around is not None and around.growing.knows(symbol))

    def temp(self, nbytes: Size) -> Storage:
        """Memory for a while."""
        record = self.add(1)
        self.bytes[record] = nbytes
        return Storage(record=record)

    def output(self, memory: Value, t: TensorType) -> int:
        """The slot of an output of the Program, which is copied when the run ends."""
        from graphgrad.compiler.assembly import slot

        self.assembly.locate(memory)
        key = memory, t
        if key not in self.outputs:
            self.outputs[key] = self.assembly.add_slot(slot("grown", t))
        return self.outputs[key]

    def results(self) -> tuple[Grown, ...]:
        """The outputs to be copied."""
        storage = self.assembly.storage
        places = [(slot, storage[memory]) for (memory, _), slot in self.outputs.items()]
        return tuple(Grown(slot, s.record, s.array) for slot, s in places)

    def reserve(self, launch: Launch, writer: ModuleWriter) -> None:
        """Make the memory that a launch is the first to touch."""
        for s in self.touched[id(launch)]:
            if s.outer is None and s.record in self.bytes:
                failure = self.out_of_memory(launch[0][0].nodes[0])
                writer.records.reserve(s.record, self.bytes.pop(s.record), failure)

    def out_of_memory(self, node: Node) -> int:
        """The number of the failure of a node that gets no memory."""
        assembly, key = self.assembly, -1 - id(node)
        if key not in assembly.numbers:
            assembly.numbers[key] = (("memory", len(assembly.failures)),)
            place = node.where.describe() if node.where is not None else ""
            assembly.failures.append(Failure("ResourceExhaustedError", NO_MEMORY, place))
            assembly.places.append(node.where)
        ((_, number),) = assembly.numbers[key]
        return number
