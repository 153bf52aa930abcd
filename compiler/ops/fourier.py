"""Discrete Fourier transforms over the last axes, by NumPy; gg.signal.

The matrix F of a transform is symmetric and F conj(F) = N, so the adjoint of `fft` is N times its
inverse, and the other way round. A real signal has a transform with conj(X[k]) = X[N - k], of which
`rfft` keeps the half k <= N/2; in what `irfft` sums, each k between 0 and N/2 stands for two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import Extent, shown
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.families import Library
from graphgrad.compiler.op import Samples, current_kind, located, ops
from graphgrad.compiler.ops.complex import complex_dtype
from graphgrad.compiler.ops.special import Array
from graphgrad.compiler.types import TensorType, element_count, tensor_type

COMPLEX = ("complex64", "complex128")


def _last(rank: int) -> tuple[int, ...]:
    return tuple(range(-rank, 0))


def _lengths(x: Any, rank: int) -> tuple[Extent, ...]:
    """The sizes of the last axes of a value or array."""
    return tuple(x.shape[x.ndim - rank :])


def _check_rank(name: str, x: TensorType, rank: int) -> None:
    if x.ndim < rank:
        raise ShapeError(f"{name}: takes tensors of {rank} axes at least, got {x}")


# -- fourier: complex to complex


def _fourier_type(x: TensorType, rank: int, inverse: bool) -> TensorType:
    _check_rank("fft", x, rank)
    if not x.dtype.is_complex:
        raise DTypeError(f"fft: takes complex tensors, got {x}; rfft takes real ones")
    return x


def _fourier(x: Array, rank: int, inverse: bool) -> Array:
    if 0 in x.shape:
        return np.zeros_like(x)
    return np.asarray((np.fft.ifftn if inverse else np.fft.fftn)(x, axes=_last(rank)))


def _fourier_adjoint(g: Any, x: Any, rank: int, inverse: bool) -> tuple[Any, ...]:
    count = element_count(_lengths(x, rank))
    back = ops["fourier"](g, rank=rank, inverse=not inverse)
    return (back / count if inverse else back * count,)


def _matrix(n: int, sign: int) -> Array:
    """exp(sign 2 pi i j k / n)."""
    k = np.arange(n, dtype=np.longdouble)
    return np.asarray(np.exp(sign * 2j * np.longdouble(math.pi) * np.outer(k, k) / max(n, 1)))


def _fourier_oracle(x: Array, rank: int, inverse: bool) -> Array:
    for axis in _last(rank):
        n = x.shape[axis]
        x = np.moveaxis(np.tensordot(x, _matrix(n, 1 if inverse else -1), (axis, 0)), -1, axis)
        x = x / max(n, 1) if inverse else x
    return x


def _fourier_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, rank in (((1,), 1), ((5,), 1), ((2, 8), 1), ((3, 4), 2), ((2, 3, 1, 2), 3)):
        x = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
        for inverse in (False, True):
            yield (x,), {"rank": rank, "inverse": inverse}


def _of_floats(op: Any) -> Any:
    return op([1.0, 2.0], rank=1, inverse=False)


fourier = Library(
    name="fourier",
    public="",
    takes_complex=True,
    type=_fourier_type,
    ref=_fourier,
    transpose=_fourier_adjoint,
    batch=lambda xs, batched, size, **attrs: (ops["fourier"](xs[0], **attrs),),
    samples=Samples(
        cases=_fourier_cases,
        dtypes=COMPLEX,
        oracle=_fourier_oracle,
        ulp=8.0,
        errors=((_of_floats, "fft: takes complex tensors, got f32[2]; rfft takes real ones"),),
    ),
    doc="The Fourier transform over the last `rank` axes, or its inverse.",
)

# -- real signals and the half of their transforms


def _weights(x: Any, n: int) -> Array:
    """For how many frequencies each of the half stands."""
    half = np.arange(n // 2 + 1)
    return np.where((half == 0) | (2 * half == n), 1, 2).astype(x.dtype.real_dtype.dtype)


def _real_type(x: TensorType, rank: int) -> TensorType:
    _check_rank("rfft", x, rank)
    if x.dtype not in (dtypes.float32, dtypes.float64):
        raise DTypeError(f"rfft: takes float32 and float64 tensors, got {x}")
    return tensor_type((*x.shape[:-1], x.shape[-1] // 2 + 1), complex_dtype(x.dtype))


def _real_fourier(x: Array, rank: int) -> Array:
    if 0 in x.shape:
        shape = (*x.shape[:-1], x.shape[-1] // 2 + 1)
        return np.zeros(shape, complex_dtype(dtypes.as_dtype(x.dtype)))
    return np.asarray(np.fft.rfftn(x, axes=_last(rank)))


def _real_adjoint(g: Any, x: Any, rank: int) -> tuple[Any, ...]:
    n = x.shape[-1]
    back = ops["half_fourier"](g / _weights(g, n), rank=rank, length=n)
    return (back * element_count(_lengths(x, rank)),)


def _real_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, rank in (((1,), 1), ((2,), 1), ((5,), 1), ((3, 8), 1), ((3, 4), 2), ((2, 3, 5), 3)):
        yield (rng.normal(size=shape).astype(dtype),), {"rank": rank}


def _real_oracle(x: Array, rank: int) -> Array:
    return _fourier_oracle(x + 0j, rank, False)[..., : x.shape[-1] // 2 + 1]


real_fourier = Library(
    name="real_fourier",
    public="",
    type=_real_type,
    ref=_real_fourier,
    transpose=_real_adjoint,
    batch=lambda xs, batched, size, **attrs: (ops["real_fourier"](xs[0], **attrs),),
    samples=Samples(cases=_real_cases, dtypes=("float32", "float64"), oracle=_real_oracle, ulp=8.0),
    doc="The half of the Fourier transform of a real signal over the last `rank` axes.",
)


def _half_type(x: TensorType, rank: int, length: int) -> TensorType:
    _check_rank("irfft", x, rank)
    if not x.dtype.is_complex:
        raise DTypeError(f"irfft: takes complex tensors, got {x}")
    if x.shape[-1] != length // 2 + 1:
        raise ShapeError(
            f"irfft: a signal of length {length} has {length // 2 + 1} frequencies, {x} has "
            f"{shown(x.shape[-1])}"
        )
    return tensor_type((*x.shape[:-1], length), x.dtype.real_dtype)


def _half_fourier(x: Array, rank: int, length: int) -> Array:
    shape = (*x.shape[:-1], length)
    if 0 in shape:
        return np.zeros(shape, x.real.dtype)
    return np.asarray(np.fft.irfftn(x, shape[-rank:], _last(rank)))


def _half_adjoint(g: Any, x: Any, rank: int, length: int) -> tuple[Any, ...]:
    count = element_count((*_lengths(x, rank)[:-1], length))
    return (ops["real_fourier"](g, rank=rank) * (_weights(g, length) / count),)


def _half_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape, rank, n in (
        ((1,), 1, 1),
        ((2,), 1, 2),
        ((3,), 1, 5),
        ((2, 3), 1, 4),
        ((3, 3), 2, 5),
    ):
        x = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
        yield (x,), {"rank": rank, "length": n}


def _half_oracle(x: Array, rank: int, length: int) -> Array:
    """Each frequency's wave, real parts alone."""
    if rank > 1:
        x = np.moveaxis(_fourier_oracle(np.moveaxis(x, -1, 0), rank - 1, True), 0, -1)
    waves = _matrix(length, 1)[: length // 2 + 1]
    weights = [1 if k in (0, length / 2) else 2 for k in range(length // 2 + 1)]
    return np.asarray(np.real(np.tensordot(x * weights, waves, (-1, 0))) / length)


half_fourier = Library(
    name="half_fourier",
    public="",
    takes_complex=True,
    type=_half_type,
    ref=_half_fourier,
    transpose=_half_adjoint,
    batch=lambda xs, batched, size, **attrs: (ops["half_fourier"](xs[0], **attrs),),
    samples=Samples(cases=_half_cases, dtypes=COMPLEX, oracle=_half_oracle, ulp=8.0),
    doc="The real signal of `length` whose half transform over the last `rank` axes is given.",
)

# -- what users call


@located
def _complex_transform(x: Any, rank: int, inverse: bool) -> Any:
    value = current_kind().lift(x)
    if not value.dtype.is_complex:
        value = value.cast(complex_dtype(value.dtype))
    return ops["fourier"](value, rank=rank, inverse=inverse)


def fft(input: Any, name: str | None = None) -> Any:
    """The Fourier transform over the last axis: X[k] = sum over j of x[j] exp(-2 pi i j k / n).

    >>> import graphgrad as gg
    >>> gg.signal.fft([1.0, 0.0, 0.0, 0.0]).numpy()
    array([1.+0.j, 1.+0.j, 1.+0.j, 1.+0.j], dtype=complex64)
    """
    return _complex_transform(input, 1, False)


def ifft(input: Any, name: str | None = None) -> Any:
    """The inverse of `fft`.

    >>> import graphgrad as gg
    >>> gg.signal.ifft(gg.signal.fft([1.0, 2.0])).numpy()
    array([1.+0.j, 2.+0.j], dtype=complex64)
    """
    return _complex_transform(input, 1, True)


def fft2d(input: Any, name: str | None = None) -> Any:
    """The Fourier transform over the last two axes.

    >>> import graphgrad as gg
    >>> gg.signal.fft2d([[1.0, 1.0], [1.0, 1.0]]).numpy().real
    array([[4., 0.],
           [0., 0.]], dtype=float32)
    """
    return _complex_transform(input, 2, False)


def ifft2d(input: Any, name: str | None = None) -> Any:
    """The inverse of `fft2d`.

    >>> import graphgrad as gg
    >>> gg.signal.ifft2d([[4.0, 0.0], [0.0, 0.0]]).numpy().real
    array([[1., 1.],
           [1., 1.]], dtype=float32)
    """
    return _complex_transform(input, 2, True)


def fft3d(input: Any, name: str | None = None) -> Any:
    """The Fourier transform over the last three axes.

    >>> import graphgrad as gg
    >>> gg.signal.fft3d(gg.ones((1, 1, 2))).numpy().real
    array([[[2., 0.]]], dtype=float32)
    """
    return _complex_transform(input, 3, False)


def ifft3d(input: Any, name: str | None = None) -> Any:
    """The inverse of `fft3d`.

    >>> import graphgrad as gg
    >>> gg.signal.ifft3d(gg.ones((1, 1, 2))).numpy().real
    array([[[1., 0.]]], dtype=float32)
    """
    return _complex_transform(input, 3, True)


def _fitted(x: Any, lengths: Sequence[int]) -> Any:
    """The last axes cut, or continued by zeros, to `lengths`."""
    shape = (*x.shape[: x.ndim - len(lengths)], *lengths)
    kept = tuple(min(n, m) for n, m in zip(x.shape, shape, strict=True))
    zero, one = (0,) * x.ndim, (1,) * x.ndim
    x = x if kept == x.type.shape else ops["slice"](x, zero, kept)
    return x if kept == shape else ops["unslice"](x, shape=shape, starts=zero, steps=one)


def _known(name: str, x: Any, rank: int, fft_length: Any) -> list[int]:
    """`fft_length` as numbers, or the sizes of the last axes."""
    _check_rank(name, x.type, rank)
    given = _lengths(x, rank) if fft_length is None else np.ravel(fft_length).tolist()
    if len(given) != rank:
        raise ArgumentError(f"{name}: fft_length is to have {rank} sizes, got {list(given)}")
    if not all(isinstance(n, int) for n in given):
        raise ShapeError(
            f"{name}: the sizes of the last {rank} axes must be known while tracing, got {x.type}; "
            "give fft_length"
        )
    return list(given)


@located
def _of_real(x: Any, fft_length: Any, rank: int) -> Any:
    value = current_kind().lift(x)
    if value.dtype not in (dtypes.float32, dtypes.float64):
        value = value.cast(dtypes.float32)
    value = _fitted(value, _known("rfft", value, rank, fft_length))
    return ops["real_fourier"](value, rank=rank)


@located
def _to_real(x: Any, fft_length: Any, rank: int) -> Any:
    value = current_kind().lift(x)
    if not value.dtype.is_complex:
        value = value.cast(complex_dtype(value.dtype))
    lengths = _known("irfft", value, rank, fft_length)
    n = lengths[-1] if fft_length is not None else max(0, 2 * (lengths[-1] - 1))
    value = _fitted(value, [*lengths[:-1], n // 2 + 1])
    return ops["half_fourier"](value, rank=rank, length=n)


def rfft(input_tensor: Any, fft_length: Any = None, name: str | None = None) -> Any:
    """The first n // 2 + 1 elements of `fft` of a real signal, cut or continued by zeros to
    `fft_length`, which is [n].

    >>> import graphgrad as gg
    >>> gg.signal.rfft([1.0, 0.0, 0.0]).numpy()
    array([1.+0.j, 1.+0.j], dtype=complex64)
    """
    return _of_real(input_tensor, fft_length, 1)


def irfft(input_tensor: Any, fft_length: Any = None, name: str | None = None) -> Any:
    """The inverse of `rfft`: a real signal, of even length if `fft_length` does not say [n].

    >>> import graphgrad as gg
    >>> gg.signal.irfft(gg.signal.rfft([1.0, 2.0, 3.0]), [3]).numpy().round(6)
    array([1., 2., 3.], dtype=float32)
    """
    return _to_real(input_tensor, fft_length, 1)


def rfft2d(input_tensor: Any, fft_length: Any = None, name: str | None = None) -> Any:
    """`rfft` over the last axis, then `fft` over the one before it; `fft_length` is [m, n].

    >>> import graphgrad as gg
    >>> gg.signal.rfft2d(gg.ones((2, 2))).numpy().real
    array([[4., 0.],
           [0., 0.]], dtype=float32)
    """
    return _of_real(input_tensor, fft_length, 2)


def irfft2d(input_tensor: Any, fft_length: Any = None, name: str | None = None) -> Any:
    """The inverse of `rfft2d`.

    >>> import graphgrad as gg
    >>> gg.signal.irfft2d(gg.signal.rfft2d(gg.ones((2, 2)))).numpy()
    array([[1., 1.],
           [1., 1.]], dtype=float32)
    """
    return _to_real(input_tensor, fft_length, 2)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    f"signal.{f.__name__}": f
    for f in (fft, ifft, fft2d, ifft2d, fft3d, ifft3d, rfft, irfft, rfft2d, irfft2d)
}
