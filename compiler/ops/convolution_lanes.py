"""Batches of convolutions, each example with an image or a filter of its own (vmap)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad.compiler.dims import Extent
from graphgrad.compiler.families import add_all
from graphgrad.compiler.op import ops
from graphgrad.compiler.ops.convolution_reference import Padding, Sizes, output_sizes
from graphgrad.compiler.ops.special import carried
from graphgrad.compiler.types import element_count

# The axes of the arguments of the form that can take the examples of a batch: among the images, or
# more channels of the input or of the output.
AXES = {
    "x": {"images": 0, "inputs": -1},
    "w": {"inputs": -2, "outputs": -1},
    "g": {"images": 0, "outputs": -1},
}


def batch_rule(name: str, a: str, b: str, z: str) -> Callable[..., tuple[Any, ...]]:
    """The rule of the op that makes argument `z` of the form from `a` and `b`.

    One batched operand has an index that the other has not, and so has the result: the examples
    join it. Where both are batched, each example is a group of channels of its own.
    """

    def runs(operand: str, index: str, groups: int) -> int:
        return 1 if index == "images" or (operand, index) == ("w", "inputs") else groups

    def batch(
        xs: tuple[Any, ...], batched: tuple[bool, ...], size: Extent, groups: int, **attrs: Any
    ) -> tuple[Any, ...]:
        if all(batched):
            if not isinstance(size, int):
                return (BY_TAPS[name](*xs, groups=groups, **attrs),)
            folded = [_fold(x, -1, 1) for x in xs]
            found = ops[name](*folded, groups=groups * size, **attrs)
            return (_unfold(found, -1, 1, size),)
        one, other = (a, b) if batched[0] else (b, a)
        (index,) = AXES[one].keys() - AXES[other].keys()
        inside = _fold(xs[0 if batched[0] else 1], AXES[one][index], runs(one, index, groups))
        operands = (inside, xs[1]) if batched[0] else (xs[0], inside)
        found = ops[name](*operands, groups=groups, **attrs)
        return (_unfold(found, AXES[z][index], runs(z, index, groups), size),)

    return batch


def _fold(x: Any, axis: int, groups: int) -> Any:
    """Axis 0, the examples, into `axis` of an example: within each of its runs, as many as
    `groups`."""
    rank = x.ndim - 1
    axis %= rank
    first, *sizes = x.shape
    size = sizes[axis]
    split = x.reshape((first, *sizes[:axis], groups, size // groups, *sizes[axis + 1 :]))
    order = (*range(1, axis + 2), 0, *range(axis + 2, rank + 2))
    return split.transpose(order).reshape((*sizes[:axis], first * size, *sizes[axis + 1 :]))


def _unfold(x: Any, axis: int, groups: int, first: Extent) -> Any:
    """The inverse of `_fold` for `first` examples."""
    axis %= x.ndim
    sizes = list(x.shape)
    size = sizes[axis] // first
    split = x.reshape((*sizes[:axis], groups, first, size // groups, *sizes[axis + 1 :]))
    order = (axis + 1, *range(axis + 1), *range(axis + 2, x.ndim + 2))
    return split.transpose(order).reshape((first, *sizes[:axis], size, *sizes[axis + 1 :]))


# -- an unknown number of examples, which cannot be groups: stacks of matrix products, tap by tap


def _conv_by_taps(
    x: Any, w: Any, groups: int, strides: Sizes, padding: Padding, dilations: Sizes
) -> Any:
    kernel = w.shape[1:-2]
    out = output_sizes(x.shape[2:-1], kernel, strides, padding, dilations)
    padded = _padded(carried(x), padding)
    terms = []
    for tap in np.ndindex(*kernel):
        starts, steps = _block(tap, strides, dilations)
        seen = ops["slice"](padded, starts, (*x.shape[:2], *out, x.shape[-1]), steps)
        terms.append(ops["matmul"](_by_groups(seen, groups), _filter_at(w, tap, groups)))
    y = add_all(terms).transpose((0, 2, 1, 3))
    return y.reshape((*x.shape[:2], *out, w.shape[-1])).cast(x.dtype)


def _input_gradient_by_taps(
    g: Any, w: Any, groups: int, strides: Sizes, padding: Padding, dilations: Sizes,
    input_size: tuple[Extent, ...],
) -> Any:  # fmt: skip
    inputs = w.shape[-2] * groups
    shape = (*g.shape[:2], *input_size, inputs)
    lines = _by_groups(carried(g), groups)
    terms = []
    for tap in np.ndindex(*w.shape[1:-2]):
        starts, steps = _block(tap, strides, dilations)
        sent = ops["matmul"](lines, _filter_at(w, tap, groups), False, True)
        sent = sent.transpose((0, 2, 1, 3)).reshape((*g.shape[:-1], inputs))
        terms.append(ops["unslice"](sent, _padded_shape(shape, padding), starts, steps))
    starts = (0, 0, *(lo for lo, _ in padding), 0)
    return ops["slice"](add_all(terms), starts, shape, (1,) * g.ndim).cast(g.dtype)


def _filter_gradient_by_taps(
    x: Any, g: Any, groups: int, strides: Sizes, padding: Padding, dilations: Sizes,
    filter_size: Sizes,
) -> Any:  # fmt: skip
    padded = _padded(carried(x), padding)
    lines = _by_groups(carried(g), groups)
    own, outputs = x.shape[-1] // groups, g.shape[-1]
    terms = []
    for tap in np.ndindex(*filter_size):
        starts, steps = _block(tap, strides, dilations)
        seen = ops["slice"](padded, starts, (*g.shape[:-1], x.shape[-1]), steps)
        at_tap = ops["matmul"](_by_groups(seen, groups), lines, True)
        terms.append(at_tap.transpose((0, 2, 1, 3)).reshape((g.shape[0], own, outputs)))
    w = ops["concat"](terms, 1)
    return w.reshape((g.shape[0], *filter_size, own, outputs)).cast(x.dtype)


def _padded_shape(shape: tuple[Extent, ...], padding: Padding) -> tuple[Extent, ...]:
    spatial = (n + lo + hi for n, (lo, hi) in zip(shape[2:-1], padding, strict=True))
    return (*shape[:2], *spatial, shape[-1])


def _padded(x: Any, padding: Padding) -> Any:
    starts = (0, 0, *(lo for lo, _ in padding), 0)
    return ops["unslice"](x, _padded_shape(x.shape, padding), starts, (1,) * x.ndim)


def _block(tap: Sizes, strides: Sizes, dilations: Sizes) -> tuple[Sizes, Sizes]:
    """Where in the padded input the elements at one tap of all windows are: starts and steps."""
    starts = (0, 0, *(k * d for k, d in zip(tap, dilations, strict=True)), 0)
    return starts, (1, 1, *strides, 1)


def _by_groups(x: Any, groups: int) -> Any:
    """[example, image, *places, channel] as matrices [example, group, place, channel]."""
    first, *places, channels = x.shape
    split = x.reshape((first, element_count(places), groups, channels // groups))
    return split.transpose((0, 2, 1, 3))


def _filter_at(w: Any, tap: Sizes, groups: int) -> Any:
    """The matrices [example, group, input, output] of one tap."""
    first, (own, outputs) = w.shape[0], w.shape[-2:]
    starts, sizes = (0, *tap, 0, 0), (first, *(1,) * len(tap), own, outputs)
    taken = ops["slice"](carried(w), starts, sizes, (1,) * w.ndim)
    return taken.reshape((first, own, groups, outputs // groups)).transpose((0, 2, 1, 3))


BY_TAPS: dict[str, Callable[..., Any]] = {
    "conv": _conv_by_taps,
    "conv_input_gradient": _input_gradient_by_taps,
    "conv_filter_gradient": _filter_gradient_by_taps,
}
