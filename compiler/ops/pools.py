"""The pooling functions that users call, by TensorFlow's names and arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.op import current_kind, located, ops
from graphgrad.compiler.ops.convolution_reference import output_sizes
from graphgrad.compiler.ops.padding import pad
from graphgrad.compiler.ops.pooling_reference import Geometry
from graphgrad.compiler.ops.reduce import lowest, mean_dtype
from graphgrad.compiler.ops.special import carried
from graphgrad.compiler.ops.windows import (
    channels_first,
    check_room,
    from_channels_last,
    missing_axis,
    paddings,
    per_axis,
    to_channels_last,
)


def _image(op: str, input: Any, rank: int | None, data_format: Any) -> tuple[Any, bool]:
    """The input with channels last, and whether they came first; `rank` is how many spatial axes
    it has to have."""
    x = current_kind().lift(input)
    found = x.ndim - 2 if rank is None else rank
    if x.ndim != found + 2 or not 1 <= found <= 3:
        wanted = "3 to 5 axes" if rank is None else f"{rank + 2} axes"
        raise ShapeError(
            f"{op}: takes {wanted} (batch, {'1 to 3' if rank is None else rank} spatial, "
            f"channels), got {x.type}{'' if rank is None else missing_axis(x, rank + 2)}"
        )
    first = channels_first(op, data_format, found)
    return to_channels_last(x, first), first


def _geometry(
    op: str, x: Any, first: bool, ksize: Any, strides: Any, padding: Any, dilations: Any = 1,
    window: str = "ksize",
) -> Geometry:  # fmt: skip
    rank, sizes = x.ndim - 2, x.shape[1:-1]
    if ksize is None or strides is None:
        raise ArgumentError(f"{op}: needs {window} and strides, got {ksize} and {strides}")
    k = per_axis(op, window, ksize, rank, first)
    s = per_axis(op, "strides", strides, rank, first)
    d = per_axis(op, "dilations", dilations, rank, first)
    pairs = paddings(op, padding, sizes, k, s, d, first)
    check_room(op, sizes, k, s, pairs, d)
    for axis, (n, apart, pair) in enumerate(zip(k, d, pairs, strict=True)):
        extent = (n - 1) * apart + 1
        if max(pair) >= extent:
            raise ArgumentError(
                f"{op}: the padding {list(pair)} of spatial axis {axis} should be less than the "
                f"{extent} that a window covers, or one sees no element"
            )
    return k, s, pairs, d


def _pooled(kind: str, x: Any, geometry: Geometry, first: bool) -> Any:
    window, strides, padding, dilations = geometry
    if kind == "mean_pool":
        x = x.cast(mean_dtype(x.dtype))
    z = ops[kind](
        carried(x), window=window, strides=strides, padding=padding, dilations=dilations
    ).cast(x.dtype)
    return from_channels_last(z, first)


def _function(name: str, kind: str, rank: int | None) -> Callable[..., Any]:
    default = {None: None, 1: "NWC", 2: "NHWC", 3: "NDHWC"}[rank]

    def pool_function(
        input: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None = default,
        name: str | None = None,
    ) -> Any:  # fmt: skip
        x, first = _image(op, input, rank, data_format)
        return _pooled(kind, x, _geometry(op, x, first, ksize, strides, padding), first)

    op = name
    pool_function.__name__ = pool_function.__qualname__ = name
    pool_function.__doc__ = _DOC[kind].format(
        axes={None: "1 to 3 spatial axes", 1: "1 spatial axis"}.get(rank, f"{rank} spatial axes"),
        formats={
            None: '"NWC", "NHWC" or "NDHWC"', 1: '"NWC"', 2: '"NHWC"', 3: '"NDHWC"',
        }[rank],
        example=_EXAMPLE[kind].format(name=name, shape=(1, *(4,) * (rank or 2), 1)),
    )  # fmt: skip
    return located(pool_function)


_ARGUMENTS = """`input` has {axes} between batch and channels ({formats}), or, with channels first
    named in `data_format`, behind both. `ksize` and `strides` are one number, one an axis, or one
    for each axis of the input. `padding` is "SAME", "VALID" or pairs (before, after)."""
_DOC = {
    "max_pool": f"""The maximum of each window that slides over an image.

    {_ARGUMENTS}

    Padding never wins. NaN is the maximum of its windows, and elements that share a maximum share
    the derivative equally.

    {{example}}
    """,
    "mean_pool": f"""The mean of each window that slides over an image.

    {_ARGUMENTS}

    Padding does not count: a window at the border divides by the elements that it sees. Integers
    give float64; 16-bit floats are summed in float32.

    {{example}}
    """,
}
_EXAMPLE = {
    "max_pool": """>>> import graphgrad as gg
    >>> x = gg.reshape(gg.range(gg.size(gg.zeros({shape}))), {shape})
    >>> gg.nn.{name}(x, 2, 2, "SAME").numpy().ravel()[-1] == gg.reduce_max(x).numpy()
    np.True_""",
    "mean_pool": """>>> import graphgrad as gg
    >>> gg.nn.{name}(gg.ones({shape}), 3, 2, "SAME").numpy().ravel()[:2]
    array([1., 1.], dtype=float32)""",
}


@located
def pool(
    input: Any, window_shape: Any, pooling_type: str, strides: Any = None, padding: Any = "VALID",
    data_format: str | None = None, dilations: Any = None, name: str | None = None,
) -> Any:  # fmt: skip
    """The maximum ("MAX") or mean ("AVG") of each window over 1 to 3 spatial axes.

    As `max_pool` and `avg_pool`, with elements of a window `dilations` apart. Strides are 1 if not
    given.

    >>> import graphgrad as gg
    >>> x = gg.reshape(gg.range(5.0), (1, 5, 1))
    >>> gg.nn.pool(x, [2], "MAX", dilations=[2]).numpy().ravel()
    array([2., 3., 4.], dtype=float32)
    """
    kind = {"MAX": "max_pool", "AVG": "mean_pool"}.get(str(pooling_type).upper())
    if kind is None:
        raise ArgumentError(f'pool: pooling_type is "MAX" or "AVG", not {pooling_type!r}')
    x, first = _image("pool", input, None, data_format)
    apart = [1 if v is None else v for v in (strides, dilations)]
    geometry = _geometry(
        "pool", x, first, window_shape, apart[0], padding, apart[1], "window_shape"
    )
    return _pooled(kind, x, geometry, first)


@located
def max_pool_with_argmax(
    input: Any, ksize: Any, strides: Any, padding: Any, data_format: str = "NHWC",
    output_dtype: Any = dtypes.int64, include_batch_in_index: bool = False,
    name: str | None = None,
) -> tuple[Any, Any]:  # fmt: skip
    """The maximum of each window of (batch, height, width, channels), and where it lies.

    The index of an element is (row * width + column) * channels + channel, counted on from image
    to image if `include_batch_in_index`. Of equal elements the first counts, and NaN as the
    maximum.

    >>> import graphgrad as gg
    >>> z, places = gg.nn.max_pool_with_argmax(gg.reshape([1.0, 4.0, 2.0, 3.0], (1, 2, 2, 1)), 2, 2,
    ...     "VALID")
    >>> z.numpy().ravel(), places.numpy().ravel()
    (array([4.], dtype=float32), array([1]))
    """
    op = "max_pool_with_argmax"
    dtype = dtypes.as_dtype(output_dtype)
    if dtype not in (dtypes.int32, dtypes.int64):
        raise DTypeError(f"{op}: output_dtype is int32 or int64, not {dtype.name}")
    if data_format != "NHWC":
        raise ArgumentError(f"{op}: data_format is 'NHWC', not {data_format!r}")
    x, _ = _image(op, input, 2, data_format)
    geometry = _geometry(op, x, False, ksize, strides, padding)
    z = _pooled("max_pool", x, geometry, False)
    places = _places(ops["stop_gradient"](x), ops["stop_gradient"](z), geometry, dtype)
    n, h, w, c = x.shape
    if include_batch_in_index:
        image = ops["iota"](n, dtype).reshape((n, 1, 1, 1))
        places = places + image * current_kind().lift(h * w * c, dtype)
    return z, places


def _places(x: Any, z: Any, geometry: Geometry, dtype: DType) -> Any:
    """For each window, the index within the image of the first element that is its maximum."""
    window, strides, padding, dilations = geometry
    _, h, w, c = x.shape
    counts = output_sizes((h, w), *geometry)
    around = [[0, 0], *map(list, padding), [0, 0]]
    padded = pad(x, around, constant_values=lowest(x.dtype.dtype))
    pixel = ops["iota"](h * w, dtype).reshape((1, h, w, 1))
    numbered = pad(pixel, around, constant_values=-1)
    found = ops["broadcast_to"](dtype.dtype.type(0), z.shape)
    for i in reversed(range(window[0])):
        for j in reversed(range(window[1])):
            start = (0, i * dilations[0], j * dilations[1], 0)
            steps = (1, *strides, 1)
            here = ops["slice"](padded, start, z.shape, steps)
            at = ops["slice"](numbered, start, (1, *counts, 1), steps)
            hit = here == z
            if x.dtype.is_floating:
                hit = hit | ops["isnan"](here)
            found = ops["where"](hit & (at >= 0), at, found)
    channel = ops["iota"](c, dtype)
    return found * current_kind().lift(c, dtype) + channel


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "nn.avg_pool": _function("avg_pool", "mean_pool", None),
    "nn.avg_pool1d": _function("avg_pool1d", "mean_pool", 1),
    "nn.avg_pool2d": _function("avg_pool2d", "mean_pool", 2),
    "nn.avg_pool3d": _function("avg_pool3d", "mean_pool", 3),
    "nn.max_pool": _function("max_pool", "max_pool", None),
    "nn.max_pool1d": _function("max_pool1d", "max_pool", 1),
    "nn.max_pool2d": _function("max_pool2d", "max_pool", 2),
    "nn.max_pool3d": _function("max_pool3d", "max_pool", 3),
    "nn.max_pool_with_argmax": max_pool_with_argmax,
    "nn.pool": pool,
}
