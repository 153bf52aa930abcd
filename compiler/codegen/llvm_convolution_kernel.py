"""What an emitter of convolutions is: see `llvm_convolutions`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from graphgrad.compiler.codegen.llvm_numbers import Numbers
from graphgrad.compiler.codegen.llvm_scalar import FunctionText, ModuleParts
from graphgrad.compiler.kernels.convolutions import Convolution, Registers
from graphgrad.compiler.kernels.epilogues import Epilogue
from graphgrad.compiler.kernels.loops import Division
from graphgrad.runtime.program import Size


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of a kernel: so many bytes, or so many for each thread."""

    nbytes: Size
    each_thread: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """One function, over the range 0..count; `division` says how it is cut for threads."""

    suffix: str
    count: Size
    division: Division | None  # None: it is not


class ConvolutionKernel(Numbers):
    """Emits the functions of one convolution."""

    # What the text calls the inputs, the result, the buffers, and the arrays of an epilogue but for
    # the result. A result that is not kept has a pointer that must not be used.
    pointers: tuple[str, ...]

    def __init__(
        self, conv: Convolution, registers: Registers, epilogue: Epilogue | None = None
    ) -> None:
        self.conv = conv
        self.registers = registers
        self.epilogue = epilogue
        self.sizes = {}

    @property
    def title(self) -> str:
        """What the kernel computes, in a few words."""
        return self.conv.kind if self.epilogue is None else f"{self.conv.kind}, {self.epilogue}"

    @classmethod
    @abstractmethod
    def takes(cls, conv: Convolution) -> bool:
        """Does this kernel compute it?"""

    def accepts(self, epilogue: Epilogue) -> bool:
        """Can a kernel like this compute an epilogue as well?"""
        return False

    @property
    @abstractmethod
    def buffers(self) -> tuple[Buffer, ...]:
        """Memory beside the node's arrays."""

    @property
    @abstractmethod
    def launches(self) -> tuple[Launch, ...]:
        """What runs, in order."""

    @abstractmethod
    def emit(self, parts: ModuleParts) -> str:
        """The text of all functions; from here on `sizes` are known."""

    def function(self, suffix: str, body: Callable[[], None]) -> str:
        """One of the launched functions: `body` writes what it does."""
        self.text, self.block = FunctionText(self.parts), "entry"
        body()
        return self.launched(f"KERNEL{suffix}", self.pointers)
