"""The code that launches one step of a graph, where that is more than a call of its kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from graphgrad.compiler.codegen.llvm_blas import emit_product
from graphgrad.compiler.codegen.llvm_moved import moved
from graphgrad.compiler.codegen.llvm_program import KernelText, ModuleWriter
from graphgrad.compiler.convolutions import Launch
from graphgrad.compiler.dims import to_size
from graphgrad.compiler.ir import Node
from graphgrad.compiler.kernels.batches import division_of_rows, general
from graphgrad.compiler.kernels.blocks import Block
from graphgrad.compiler.kernels.division import divided
from graphgrad.compiler.kernels.factorisations import Factorisation
from graphgrad.compiler.kernels.products import Product, product_nest
from graphgrad.compiler.kernels.scatters import Scatter, start_of

if TYPE_CHECKING:
    from graphgrad.compiler.assembly import Assembly


def launch_batch(around: Assembly, launch: Launch, writer: ModuleWriter) -> tuple[Any, ...]:
    """One kernel over the arrays of several steps; what a report says of it."""
    parts = [low for _, low in launch if low is not None]
    nest = general(parts[0].nest)
    assert nest is not None
    lengths = [to_size(p.nest.dims[0]) for p in parts]
    items, division = division_of_rows(nest, lengths)
    rows = [([around.place(s) for s in p.storage], n) for p, n in zip(parts, lengths, strict=True)]
    kernel = writer.batch(nest, rows, items, division)
    nodes = tuple(n for step, _ in launch for n in step.nodes)
    first, *others = ((p.nest, tuple(p.values)) for p in parts)
    together = replace(first[0], division=division)
    return "kernel", nodes, together, kernel, first[1], tuple(others)


def launch_product(
    around: Assembly, product: Product, node: Node, writer: ModuleWriter
) -> tuple[Any, ...]:
    """A kernel of our own or a routine of the BLAS; what a report says of it."""
    values = (*node.inputs, node.out)
    a, b, c = (around.place(around.locate(v)) for v in values)
    wide = "+avx512f" in around.target.features.split(",")
    if product.is_small or (wide and product.is_slim):
        kernel = writer.product(product, [a, b, c])
        return "kernel", (node,), product_nest(product, node), kernel, values
    emit_product(writer, product, "i64" if around.target.blas == "ilp64" else "i32", (a, b, c))
    return "routine", (node,)


def launch_factorisation(
    around: Assembly, f: Factorisation, node: Node, writer: ModuleWriter
) -> None:
    """A kernel that calls LAPACK for each matrix."""
    failures = around.number_failures(node, {"a": f.matrix_text})
    integer = "i64" if around.target.blas == "ilp64" else "i32"
    places = [around.place(s) for s in around.buffers[node.outputs[0]]]
    writer.factorisation(f, integer, places, failures[0][1] if failures else -1)


def launch_scatter(around: Assembly, scatter: Scatter, node: Node, writer: ModuleWriter) -> None:
    """A kernel that fills the result first, and the routine that places the updates."""
    nest, values = start_of(node)
    if not around.in_place(node):
        writer.kernel(divided(nest), [around.place(around.locate(v)) for v in values])
    ((_, failure),) = around.number_failures(node)
    values = [node.out, *node.inputs[-2:]]
    writer.scatter(scatter, [around.place(around.locate(v)) for v in values], failure)


def launch_block(around: Assembly, block: Block, node: Node, writer: ModuleWriter) -> KernelText:
    """A kernel that copies a block from where, or to where, its starts say."""
    if block.whole is not None and not around.in_place(node):
        values = node.inputs[0], node.out
        writer.kernel(divided(block.whole), [around.place(around.locate(v)) for v in values])
    places = [around.place(around.locate(v)) for v in block.arrays]
    if block.starts:
        ((_, failure),) = around.number_failures(node)
        starts = [
            (
                around.place(around.locate(s.value)),
                s.value.type.dtype,
                to_size(s.stride * block.dtype.itemsize),
                to_size(s.last),
            )
            for s in block.starts
        ]
        places[block.moved] = moved(writer, places[block.moved], starts, failure)
    return writer.kernel(divided(around.adjust(block.nest)), places)
