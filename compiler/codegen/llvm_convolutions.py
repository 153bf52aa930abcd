"""Which kernel computes a convolution: the seam between the driver and the emitters.

An emitter is a `ConvolutionKernel` in a file of its own, listed in `EMITTERS`; the first that takes
a convolution computes it, and where none does, it is a host step. It says before any text is
written what memory it needs beside the arrays of the node (`buffers`) and which of its functions
run, in order, over which ranges (`launches`); `emit` writes them all as

    define internal i32 @KERNEL<suffix>(ptr %status, i64 %lo, i64 %hi, ptr %args)

Other symbols of the text begin with @KERNEL too: a name by the content takes its place. `args` is
the same for all functions: the pointers of the node's inputs and its result, those of the buffers,
then the sizes in the order of `sizes`. A buffer for each thread has its part at the thread's number
(`STATUS_THREAD` in the status) times the bytes of a part. Results must not depend on how a range
is cut. Emitters that take epilogues (`kernels.epilogues`) find their arrays behind the buffers.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphgrad.compiler.codegen.llvm_convolution import TiledConvolution
from graphgrad.compiler.codegen.llvm_convolution_kernel import ConvolutionKernel
from graphgrad.compiler.codegen.llvm_depthwise import DepthwiseConvolution
from graphgrad.compiler.codegen.llvm_depthwise_filter import DepthwiseFilterGradient
from graphgrad.compiler.codegen.llvm_filter_gradient import FilterGradient
from graphgrad.compiler.kernels.convolutions import Convolution, Registers

EMITTERS: Sequence[type[ConvolutionKernel]] = (
    DepthwiseConvolution,
    DepthwiseFilterGradient,
    TiledConvolution,
    FilterGradient,
)


def convolution_kernel(conv: Convolution, registers: Registers) -> ConvolutionKernel | None:
    """What emits the functions of a convolution, or None where it is a host step."""
    for emitter in EMITTERS:
        if emitter.takes(conv):
            return emitter(conv, registers)
    return None
