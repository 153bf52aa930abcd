"""Tensors made larger by more of the same: pad, tile, repeat, and what runs around: roll."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import Extent, at_least, shown
from graphgrad.compiler.errors import ArgumentError, ShapeError
from graphgrad.compiler.families import Composite
from graphgrad.compiler.op import Samples, current_kind, located, ops
from graphgrad.compiler.ops.index import check_integer
from graphgrad.compiler.ops.indexing import index
from graphgrad.compiler.ops.shapes import as_shape, known, known_or_none
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.types import Shape, TensorType, normalize_axis, tensor_type

Pairs = tuple[tuple[Extent, ...], ...]  # what comes before and after, an entry an axis
DTYPES = ("float32", "float64", "bfloat16", "int64", "bool", "complex64")


# -- pad


@located
def pad(
    tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: Any = 0,
    name: str | None = None,
) -> Any:  # fmt: skip
    """`tensor` with a pair (before, after) of `paddings` more elements along each axis.

    The new ones are `constant_values`, or by `mode` those of the tensor mirrored: REFLECT leaves
    out the border, SYMMETRIC repeats it.

    >>> import graphgrad as gg
    >>> gg.pad([1, 2, 3], [[1, 2]], "SYMMETRIC").numpy()
    array([1, 1, 2, 3, 3, 2], dtype=int32)
    """
    x = current_kind().lift(tensor)
    rows = known(paddings) if isinstance(paddings, Arith) else paddings
    pairs = tuple(as_shape(row) for row in rows)
    how = str(mode).upper()
    if len(pairs) != x.ndim or any(len(p) != 2 for p in pairs):
        raise ShapeError(
            f"pad: {x.type} needs {x.ndim} pairs of paddings, got {[list(p) for p in pairs]}"
        )
    if how not in ("CONSTANT", "REFLECT", "SYMMETRIC"):
        raise ArgumentError(f"pad: mode is CONSTANT, REFLECT or SYMMETRIC, not {mode!r}")
    _check_paddings(pairs)
    if how != "CONSTANT":
        return ops["mirror_pad"](x, pairs, reflect=how == "REFLECT")
    given = constant_values
    value = current_kind().lift(given, None if isinstance(given, Arith) else x.dtype).cast(x.dtype)
    base = value.reshape(()).broadcast_to(_padded(x.shape, pairs))
    return ops["update_slice"](base, x, [before for before, _ in pairs])


def _check_paddings(paddings: Pairs) -> None:
    for axis, pair in enumerate(paddings):
        for m in pair:
            if not at_least(m, 0):
                raise ShapeError(f"pad: a padding is not negative, got {shown(m)} at axis {axis}")


def _padded(shape: Shape, paddings: Pairs) -> Shape:
    return tuple(n + a + b for n, (a, b) in zip(shape, paddings, strict=True))


def _mirror_type(x: TensorType, paddings: Pairs, reflect: bool) -> TensorType:
    for axis, (n, pair) in enumerate(zip(x.shape, paddings, strict=True)):
        most = n - reflect
        for m in pair:
            if not at_least(most, m):
                raise ShapeError(
                    f"pad: axis {axis} of {x} has {shown(most)} elements to mirror, not the "
                    f"{shown(m)} of the padding"
                )
    return tensor_type(_padded(x.shape, paddings), x.dtype)


def _mirror_parts(x: Any, paddings: Pairs, reflect: bool) -> Any:
    for axis, (before, after) in enumerate(paddings):
        n = x.shape[axis]
        parts = [
            _backwards(x, axis, before - 1 + reflect, before), x,
            _backwards(x, axis, n - 1 - reflect, after),
        ]  # fmt: skip
        x = ops["concat"]([p for p in parts if p is not None], axis)
    return x


def _backwards(x: Any, axis: int, start: Extent, count: Extent) -> Any:
    """`count` elements along `axis`, from `start` down; None where there are none."""
    if isinstance(count, int) and count == 0:
        return None
    starts = tuple(start if i == axis else 0 for i in range(x.ndim))
    sizes = tuple(count if i == axis else n for i, n in enumerate(x.shape))
    return ops["slice"](x, starts, sizes, tuple(-1 if i == axis else 1 for i in range(x.ndim)))


def _mirror_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, paddings in (((4,), ((3, 2),)), ((3, 2, 3), ((2, 0), (0, 1), (1, 1)))):
        for reflect in (False, True):
            x = rng.integers(0, 9, shape).astype(dtype)
            yield (x,), {"paddings": paddings, "reflect": reflect}


def _mirror_oracle(x: Array, paddings: Any, reflect: bool) -> Array:
    """Every element by the index that its place has in x."""
    z = np.empty(_padded(x.shape, paddings), x.dtype)
    edge = 1 - reflect
    for place in np.ndindex(*z.shape):
        source = [i - a for i, (a, _) in zip(place, paddings, strict=True)]
        z[place] = x[
            tuple(
                -i - edge if i < 0 else 2 * n - 2 + edge - i if i >= n else i
                for i, n in zip(source, x.shape, strict=True)
            )
        ]
    return z


mirror_pad = Composite(
    name="mirror_pad",
    public="",
    takes_complex=True,
    bind=lambda x, paddings, reflect: ((x,), {"paddings": paddings, "reflect": bool(reflect)}),
    type=_mirror_type,
    ref=lambda x, paddings, reflect: np.pad(x, paddings, "reflect" if reflect else "symmetric"),
    decompose=_mirror_parts,
    samples=Samples(
        cases=_mirror_cases,
        dtypes=DTYPES,
        oracle=_mirror_oracle,
        ulp=0.0,
        errors=(
            (lambda op: op(np.zeros(3, np.float32), ((3, 0),), True),
             "pad: axis 0 of f32[3] has 2 elements to mirror, not the 3 of the padding"),
        ),
    ),
    doc="x with its elements mirrored at both ends of each axis, without the border (reflect) or "
    "with it.",
)  # fmt: skip

# -- tile, repeat, roll


@located
def tile(input: Any, multiples: Any, name: str | None = None) -> Any:
    """`input` repeated `multiples[i]` times, one after the other, along each axis i.

    >>> import graphgrad as gg
    >>> gg.tile([[1, 2]], [2, 2]).numpy()
    array([[1, 2, 1, 2],
           [1, 2, 1, 2]], dtype=int32)
    """
    x = current_kind().lift(input)
    counts = as_shape(multiples)
    if len(counts) != x.ndim:
        raise ShapeError(f"tile: {x.type} needs {x.ndim} multiples, got {list(counts)}")
    for m in counts:
        if not at_least(m, 0):
            raise ArgumentError(f"tile: a multiple is not negative, got {list(counts)}")
    apart = [n for m, n in zip(counts, x.shape, strict=True) for n in (1, n)]
    wide = [k for m, n in zip(counts, x.shape, strict=True) for k in (m, n)]
    whole = tuple(m * n for m, n in zip(counts, x.shape, strict=True))
    return x.reshape(tuple(apart)).broadcast_to(tuple(wide)).reshape(whole)


@located
def repeat(input: Any, repeats: Any, axis: int | None = None, name: str | None = None) -> Any:
    """Each element along `axis` `repeats` times in a row: a number, or one an element.

    Without an axis the input is flattened. Repeats may be computed in a function; the size of the
    result is then known at run time only.

    >>> import graphgrad as gg
    >>> gg.repeat([1, 2], [2, 3]).numpy()
    array([1, 1, 2, 2, 2], dtype=int32)
    """
    x = current_kind().lift(input)
    if axis is None:
        x, axis = x.reshape((x.type.size,)), 0
    place = normalize_axis(int(axis), x.ndim, "repeat")
    n = x.shape[place]
    counts = known_or_none(repeats)
    if counts is None:  # computed in the trace
        times = current_kind().lift(repeats)
        check_integer(times.type, "repeat", "repeats")
        times = times.reshape(()).broadcast_to((n,)) if times.type.size == 1 else times
        return ops["gather"](x, ops["repeated_places"](times), axis=place)
    flat = np.asarray(counts).reshape(-1)
    if flat.size and flat.dtype.kind not in "iu" and flat.dtype != object:
        raise ArgumentError(f"repeat: repeats are integers, got {counts}")
    if flat.size == 1:
        m = flat[0] if flat.dtype == object else int(flat[0])
        if not at_least(m, 0):
            raise ArgumentError(f"repeat: repeats are not negative, got {m}")
        before, after = x.shape[: place + 1], x.shape[place + 1 :]
        rows = x.reshape((*before, 1, *after)).broadcast_to((*before, m, *after))
        return rows.reshape((*x.shape[:place], n * m, *after))
    if n != flat.size or np.ndim(counts) != 1:
        raise ShapeError(f"repeat: axis {place} of {x.type} needs {n} repeats, got {flat.size}")
    if flat.size and flat.min() < 0:
        raise ArgumentError(f"repeat: repeats are not negative, got {flat.min()}")
    places = np.repeat(np.arange(flat.size, dtype=np.int32), flat.astype(np.int64))
    return ops["gather"](x, places, axis=place)


@located
def roll(input: Any, shift: Any, axis: Any, name: str | None = None) -> Any:
    """The elements `shift` places further along `axis`; those beyond the end come in at the start.

    Both may be sequences: an axis each. Shifts may be tensors.

    >>> import graphgrad as gg
    >>> gg.roll([1, 2, 3, 4], shift=1, axis=0).numpy()
    array([4, 1, 2, 3], dtype=int32)
    """
    x = current_kind().lift(input)
    axes = known(axis) if isinstance(axis, Arith) else axis
    axes = [axes] if isinstance(axes, int | np.integer) else list(axes)
    shifts = _shifts(shift)
    if len(shifts) != len(axes):
        raise ShapeError(f"roll: {len(shifts)} shifts for the {len(axes)} axes {axes}")
    for s, a in zip(shifts, axes, strict=True):
        x = _rolled(x, s, normalize_axis(int(a), x.ndim, "roll"))
    return x


def _shifts(shift: Any) -> list[Any]:
    found = known_or_none(shift)
    if found is not None:
        return list(found) if isinstance(found, list | tuple | np.ndarray) else [found]
    s = current_kind().lift(shift)
    return [s] if s.ndim == 0 else [index(s, i) for i in range(s.shape[0])]


def _rolled(x: Any, shift: Any, axis: int) -> Any:
    n = x.shape[axis]
    if isinstance(shift, int | np.integer) and isinstance(n, int):
        k = int(shift) % n if n else 0
        return x if k == 0 else ops["concat"](ops["split"](x, (n - k, k), axis)[::-1], axis)
    moved = ops["iota"](n, dtypes.int64) - current_kind().lift(shift).cast(dtypes.int64)
    return ops["gather"](x, moved % n, axis=axis)


# -- grids and masks of places


@located
def meshgrid(*args: Any, indexing: str = "xy", name: str | None = None) -> list[Any]:
    """The vectors `args` stretched over the grid that they span: a tensor each.

    With "xy" the first vector runs along axis 1 and the second along axis 0; with "ij" each runs
    along its own.

    >>> import graphgrad as gg
    >>> x, y = gg.meshgrid([1, 2, 3], [4, 5])
    >>> x.shape, y.numpy().tolist()
    (TensorShape([2, 3]), [[4, 4, 4], [5, 5, 5]])
    """
    if indexing not in ("xy", "ij"):
        raise ArgumentError(f"meshgrid: indexing is 'xy' or 'ij', not {indexing!r}")
    xs = [current_kind().lift(a) for a in args]
    if any(x.ndim > 1 for x in xs):
        raise ShapeError(f"meshgrid: takes vectors, got {', '.join(str(x.type) for x in xs)}")
    rank = len(xs)
    axes = list(range(rank))
    if indexing == "xy" and rank > 1:
        axes[:2] = 1, 0
    shape = tuple(xs[axes.index(a)].type.size for a in range(rank))
    return [
        x.reshape(tuple(shape[a] if i == a else 1 for i in range(rank))).broadcast_to(shape)
        for x, a in zip(xs, axes, strict=True)
    ]


def _blocked(x: Any, block_size: int, data_format: str, op: str) -> Any:
    """The images with channels last."""
    if data_format not in ("NHWC", "NCHW"):
        raise ArgumentError(f"{op}: data_format is 'NHWC' or 'NCHW', not {data_format!r}")
    if x.ndim != 4 or block_size < 1:
        raise ShapeError(f"{op}: takes 4 axes and blocks of at least 1, got {x.type}, {block_size}")
    return x.transpose((0, 2, 3, 1)) if data_format == "NCHW" else x


@located
def space_to_depth(
    input: Any, block_size: int, data_format: str = "NHWC", name: str | None = None
) -> Any:
    """Blocks of `block_size` by `block_size` pixels moved into the channels.

    >>> import graphgrad as gg
    >>> gg.nn.space_to_depth(gg.reshape(gg.range(4), (1, 2, 2, 1)), 2).numpy()
    array([[[[0, 1, 2, 3]]]], dtype=int32)
    """
    b = int(block_size)
    x = _blocked(current_kind().lift(input), b, data_format, "space_to_depth")
    n, h, w, c = x.shape
    for axis, m in ((1, h), (2, w)):
        if isinstance(m, int) and m % b:
            raise ShapeError(f"space_to_depth: axis {axis} of {x.type} is no multiple of {b}")
    x = x.reshape((n, h // b, b, w // b, b, c)).transpose((0, 1, 3, 2, 4, 5))
    z = x.reshape((n, h // b, w // b, b * b * c))
    return z.transpose((0, 3, 1, 2)) if data_format == "NCHW" else z


@located
def depth_to_space(
    input: Any, block_size: int, data_format: str = "NHWC", name: str | None = None
) -> Any:
    """Channels moved into blocks of `block_size` by `block_size` pixels.

    >>> import graphgrad as gg
    >>> gg.nn.depth_to_space(gg.reshape(gg.range(4), (1, 1, 1, 4)), 2).shape
    TensorShape([1, 2, 2, 1])
    """
    b = int(block_size)
    x = _blocked(current_kind().lift(input), b, data_format, "depth_to_space")
    n, h, w, c = x.shape
    if isinstance(c, int) and c % (b * b):
        raise ShapeError(f"depth_to_space: the {c} channels of {x.type} are no multiple of {b * b}")
    rest = c // (b * b)
    x = x.reshape((n, h, w, b, b, rest)).transpose((0, 1, 3, 2, 4, 5))
    z = x.reshape((n, h * b, w * b, rest))
    return z.transpose((0, 3, 1, 2)) if data_format == "NCHW" else z


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "meshgrid": meshgrid,
    "nn.depth_to_space": depth_to_space,
    "nn.space_to_depth": space_to_depth,
    "pad": pad,
    "repeat": repeat,
    "roll": roll,
    "tile": tile,
}
