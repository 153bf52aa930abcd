"""Random programs: lists of small instructions over a growing list of values.

An instruction is a tuple of four integers, and every list of them is a program, so that deleting
instructions or making their numbers smaller gives simpler programs: what hypothesis does to
shrink.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import GraphgradError
from graphgrad.compiler.ir import Graph
from graphgrad.compiler.op import ops
from graphgrad.compiler.transform.autodiff import gradient_graph
from graphgrad.compiler.types import TensorType, broadcast_shapes, element_count
from tests.compiler.compiling import graph_of, t

Instruction = tuple[int, int, int, int]

LARGEST = 3000  # elements of a value
SHAPES = (
    (), (1,), (7,), (16,), (17,), (33,), (0,), (3, 1), (1, 5), (4, 6), (5, 16), (3, 17), (2, 3, 4),
    (4, 1, 6), (2, 2, 9), (1, 3, 1), (2, 3, 2, 2), (3, 65), (130,), (8, 8),
)  # fmt: skip
DTYPES = ("float32", "float32", "float64", "int32", "bfloat16", "float16", "bool", "int64", "uint8")


def is_float(x: Any) -> bool:
    return bool(x.dtype.is_floating)


def as_float(x: Any) -> Any:
    return x if is_float(x) else x.cast(dtypes.float32)


def unary(x: Any, k: int) -> Any:
    z = as_float(x)
    choices = (
        lambda: -z, lambda: ops["tanh"](z), lambda: ops["exp"](ops["tanh"](z)),
        lambda: z * 0.5 + 1.0, lambda: ops["sigmoid"](z), lambda: ops["square"](ops["tanh"](z)),
        lambda: ops["abs"](z),
        lambda: ops["relu"](z), lambda: ops["sqrt"](ops["abs"](z) + 0.5), lambda: ops["sin"](z),
        lambda: ops["log"](ops["abs"](z) + 1.0), lambda: ops["identity"](x),
    )  # fmt: skip
    return choices[k % len(choices)]()


def binary(x: Any, y: Any, k: int) -> Any:
    if k % 9 == 8:
        a, b = as_float(x), as_float(y)
        return a / (1.0 + ops["square"](b))
    if x.dtype.is_bool and y.dtype.is_bool:
        return ops[("logical_and", "logical_or", "logical_xor")[k % 3]](x, y)
    return ops[("add", "sub", "mul", "maximum", "minimum", "add", "mul", "sub")[k % 9]](x, y)


def choose(x: Any, y: Any, k: int) -> Any:
    name = ("greater", "less", "equal", "greater_equal")[k % 4]
    return ops["where"](ops[name](x, y), x, y) if k & 4 else ops[name](x, y)


def reduce(x: Any, k: int, j: int) -> Any:
    axes = tuple(a for a in range(x.ndim) if k >> a & 1) or tuple(range(x.ndim))
    names = ("sum", "max", "min", "mean", "sum", "prod")
    name = "any" if x.dtype.is_bool and j & 1 else "all" if x.dtype.is_bool else names[j % 6]
    if name in ("max", "min", "mean") and 0 in x.shape:
        name = "sum"
    return ops[name](x if name != "prod" else ops["tanh"](as_float(x)), axes, bool(j & 8))


def slice_of(x: Any, k: int, j: int) -> Any:
    starts, sizes, steps = [], [], []
    for a, n in enumerate(x.shape):
        step = (1, 1, -1, 2, -2)[(k >> a) % 5]
        count = max(0, -(-n // abs(step)) - (j >> a & 1))
        span = (count - 1) * abs(step)
        low = (n - 1 - span) if j & 16 and count else 0
        starts.append(low if step > 0 or not count else low + span)
        sizes.append(count)
        steps.append(step)
    return ops["slice"](x, tuple(starts), tuple(sizes), tuple(steps))


def reshape(x: Any, k: int, j: int) -> Any:
    total = element_count(x.shape)
    assert isinstance(total, int)
    choices: list[tuple[int, ...]] = [(total,), (*x.shape, 1), (1, *x.shape)]
    for a in range(x.ndim - 1):
        choices.append((*x.shape[:a], x.shape[a] * x.shape[a + 1], *x.shape[a + 2 :]))
    for a, n in enumerate(x.shape):
        choices += [
            (*x.shape[:a], n // p, p, *x.shape[a + 1 :]) for p in (2, 3) if n and n % p == 0
        ]
    choices.append(tuple(n for n in x.shape if n != 1))
    return x.reshape(choices[(k + 3 * j) % len(choices)])


def view(x: Any, k: int, j: int) -> Any:
    if k % 4 == 0 and x.ndim > 1:
        perms = list(itertools.permutations(range(x.ndim)))
        return x.transpose(perms[j % len(perms)])
    if k % 4 == 1:
        return slice_of(x, j, k >> 2)
    if k % 4 == 2 and x.ndim < 4:
        return x.broadcast_to((2 + j % 3, *x.shape))
    return reshape(x, k >> 2, j)


def product(x: Any, y: Any, k: int) -> Any:
    a, b = as_float(x), as_float(y)
    if a.ndim < 2 or 0 in a.shape:
        return unary(x, k)
    if b.ndim < 2 or a.dtype is not b.dtype or b.shape[-2] != a.shape[-1] or b.ndim != 2:
        b = a.transpose([*range(a.ndim - 2), a.ndim - 1, a.ndim - 2])
    return ops["matmul"](a * (1.0 / a.shape[-1]), b)


def gather(x: Any, y: Any, k: int) -> Any:
    """Elements of `x` along one axis at places made from `y`, or at every k-th."""
    axis = k % x.ndim
    n = x.shape[axis]
    places = y.cast(dtypes.int32) if y.dtype.kind in "iu" else ops["iota"](1 + k % 5) * (k % 7)
    if not n or element_count((*places.shape, *x.shape)) > n * LARGEST:
        return x
    return ops["gather"](x, ops["mod"](places, n), axis=axis)


def concat(x: Any, y: Any, k: int) -> Any:
    axis = k % x.ndim
    others = [i for i in range(x.ndim) if i != axis]
    if y.ndim != x.ndim or y.dtype is not x.dtype or any(x.shape[i] != y.shape[i] for i in others):
        y = x if k & 8 else x * x if not x.dtype.is_bool else ops["logical_not"](x)
    return ops["concat"]([x, y] if k & 16 else [y, x, y], axis)


def cast(x: Any, k: int) -> Any:
    return x.cast(dtypes.as_dtype(DTYPES[k % len(DTYPES)]))


def partner(x: Any, values: Sequence[Any], i: int) -> Any:
    """A value that broadcasts with `x`, from the i-th last on; `x` itself if there is no other."""
    for n in range(len(values)):
        y = values[-1 - (i + n) % len(values)]
        try:
            shape = broadcast_shapes([x.shape, y.shape])
        except GraphgradError:
            continue
        if element_count(shape) <= LARGEST:
            return y
    return x


def step(values: list[Any], instruction: Instruction) -> Any:
    """The value that one instruction adds."""
    what, i, k, j = instruction
    x = values[-1 - i % len(values)]
    kind = what % 14
    if kind in (0, 1):
        return unary(x, k)
    if kind in (2, 3, 4):
        return binary(x, partner(x, values, j), k)
    if kind == 5:
        return choose(x, partner(x, values, j), k)
    if kind in (6, 7) and x.ndim:
        return reduce(x, k, j)
    if kind in (8, 9):
        return view(x, k, j)
    if kind == 10:
        return product(x, values[-1 - j % len(values)], k)
    if kind == 12 and x.ndim:
        return gather(x, values[-1 - j % len(values)], k)
    if kind == 13 and x.ndim:
        return concat(x, values[-1 - j % len(values)], k)
    return cast(x, k) if k % 3 else reduce(x, j, k | 8) - x if x.ndim and not x.dtype.is_bool else x


def program(program: Sequence[Instruction], outputs: int) -> Any:
    """A function of values: what the instructions make, the last of them and some others."""

    def run(*xs: Any) -> list[Any]:
        values = list(xs)
        for instruction in program:
            y = step(values, instruction)
            if element_count(y.shape) <= LARGEST:
                values.append(y)
        made = values[len(xs) :] or values
        return [made[-1], *(v for k, v in enumerate(made[:-1]) if outputs >> k & 1)]

    return run


def types_of(params: Sequence[tuple[int, int]]) -> list[TensorType]:
    return [t(*SHAPES[s % len(SHAPES)], dtype=DTYPES[d % len(DTYPES)]) for s, d in params]


def random_graph(
    params: Sequence[tuple[int, int]], instructions: Sequence[Instruction], outputs: int
) -> Graph:
    return graph_of(program(instructions, outputs), *types_of(params))


def gradient_of(graph: Graph) -> Graph | None:
    """A graph of the first floating output and its gradients, for given cotangents.

    It takes the parameters of `graph` and one cotangent. Forward and reverse are one graph, so that
    comparisons of forward values with their own maximum stay comparisons within one run.
    """
    given = [x.dtype.is_floating for x in graph.output_types]
    wanted = tuple(x.dtype.is_floating for x in graph.types)
    if not any(given) or not any(wanted):
        return None
    first = given.index(True)
    reverse = gradient_graph(graph, tuple(k == first for k in range(len(given))), wanted)

    def both(*xs: Any) -> list[Any]:
        outs = ops["call"](*xs[:-1], graph=graph)
        outs = outs if isinstance(outs, list | tuple) else [outs]
        gradients = ops["call"](*xs[:-1], *outs, xs[-1], graph=reverse)
        return [outs[first], *(gradients if isinstance(gradients, list | tuple) else [gradients])]

    return graph_of(both, *graph.types, graph.output_types[first])
