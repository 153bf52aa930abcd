"""Random draws of a function that gg.vmap traces for one example.

Each example draws where the one before it stopped, as in a Python loop: a trace counts the blocks
that an example takes of a generator, and the key of each draw follows from where the example
starts, which is a parameter of the trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import Extent
from graphgrad.compiler.ir import Builder
from graphgrad.compiler.op import current_kind, ops
from graphgrad.compiler.types import tensor_type
from graphgrad.tensor import SymbolicTensor

if TYPE_CHECKING:
    from graphgrad.random import Generator


def moved(key: Any, blocks: Any) -> Any:
    """The key, int64[..., 2], with its counter moved by so many blocks, int64[...]."""
    kind = current_kind()
    blocks = kind.lift(blocks, dtypes.int64)
    return key + ops["concat"]([blocks[..., None] * 0, blocks[..., None]], -1)


class ExampleDraws:
    """What one example draws of a generator: from where, and how many blocks so far."""

    def __init__(self, generator: Generator, start: Any) -> None:
        self.generator = generator
        self.start = start
        self.blocks: Extent = 0

    def starts(self, count: Extent) -> Any:
        """Where each of `count` examples starts, int64[count, 2]; the generator moves past all."""
        first = self.generator.take(self.blocks * count)
        lanes = ops["iota"](size=count, dtype=dtypes.int64)
        return moved(first, lanes * current_kind().lift(self.blocks, dtypes.int64))


class ExampleBuilder(Builder):
    """The builder of a trace for one example."""

    def __init__(self, name: str, parent: Builder | None) -> None:
        super().__init__(name, parent=parent, value_class=SymbolicTensor)
        self.draws: dict[int, ExampleDraws] = {}

    def take(self, generator: Generator, blocks: Extent) -> Any:
        """The key for a draw of so many blocks."""
        found = self.draws.get(id(generator))
        if found is None:
            start = self.param(tensor_type((2,), dtypes.int64))
            found = self.draws[id(generator)] = ExampleDraws(generator, start)
        key = moved(found.start, found.blocks)
        found.blocks = found.blocks + blocks
        return key
