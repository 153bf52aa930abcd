"""Sizes by other names: the same array, where two names of a size are equal by construction.

A reverse step gets a cotangent whose size its loop names in one way, and its body in another. No
question is asked: a guard would be about names, not about what the user wrote.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.families import View
from graphgrad.compiler.op import Samples, ops
from graphgrad.compiler.types import Shape, TensorType, tensor_type


def _batch(
    xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent, shape: Shape
) -> tuple[Any, ...]:
    return (ops["renamed"](xs[0], shape=(size, *shape)),)


renamed = View(
    name="renamed",
    public="",
    type=lambda x, shape: tensor_type(shape, x.dtype),
    ref=lambda x, shape: x,
    index_map=lambda x, out, shape: tuple((axis, 1, 0) for axis in range(len(shape))),
    transpose=lambda g, x, shape: (ops["renamed"](g, shape=x.shape),),
    batch=_batch,
    samples=Samples(
        cases=lambda rng, dtype: [
            ((rng.uniform(-2, 2, shape).astype(dtype),), {"shape": shape})
            for shape in ((2, 3), (4,), ())
        ],
        oracle=lambda x, shape: np.array(x),
        ulp=0.0,
    ),
    doc="The same elements, with `shape` as the name of the shape that they have.",
)


def as_type(x: Any, t: TensorType) -> Any:
    """`x` as a value of type `t`, whose sizes are the same by other names."""
    return x if x.type == t else ops["renamed"](x, shape=t.shape)
