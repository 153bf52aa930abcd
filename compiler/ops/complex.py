"""Complex numbers and their parts."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import DTypeError, ShapeError
from graphgrad.compiler.families import (
    Composite,
    Elementwise,
    Library,
    conjugate,
    describe,
    join_dtypes,
)
from graphgrad.compiler.op import Attrs, Op, Samples, current_kind, ops
from graphgrad.compiler.ops.special import Array, in_float32
from graphgrad.compiler.types import TensorType, broadcast_shapes, tensor_type

Bound = tuple[tuple[Any, ...], Attrs]
COMPLEX = ("complex64", "complex128")
SAMPLED = ("float32", "float64", "int32", *COMPLEX)


def _real_type(x: TensorType) -> TensorType:
    return tensor_type(x.shape, x.dtype.real_dtype)


def complex_dtype(x: DType) -> DType:
    """The complex type that holds a floating one."""
    return dtypes.complex128 if x is dtypes.float64 else dtypes.complex64


real = Elementwise(
    name="real",
    public=("math.real",),
    inputs="any",
    type=_real_type,
    ref=lambda x: x.real.copy() if x.dtype.kind == "c" else x,
    scalar=lambda s, x: x,
    split=lambda x: x[0],
    bind=lambda input, name=None: ((input,), {}),
    transpose=lambda g, x: (g.cast(x.dtype),),
    samples=Samples(dtypes=SAMPLED, oracle=lambda x: x.real, ulp=0.0),
    doc="""The real part of each element; a real tensor itself.

    >>> import graphgrad as gg
    >>> gg.math.real([1 + 2j, 3 - 4j]).numpy()
    array([1., 3.])
    """,
)
imag = Elementwise(
    name="imag",
    public=("math.imag",),
    inputs="any",
    type=_real_type,
    ref=lambda x: x.imag.copy() if x.dtype.kind == "c" else np.zeros(x.shape, x.dtype),
    scalar=lambda s, x: s.const(False if s.dtype(x).is_bool else 0, s.dtype(x)),
    split=lambda x: x[1],
    bind=lambda input, name=None: ((input,), {}),
    transpose=lambda g, x: (ops["complex"](0, g) if x.dtype.is_complex else None,),
    samples=Samples(dtypes=SAMPLED, oracle=lambda x: x.imag, ulp=0.0),
    doc="""The imaginary part of each element; zeros for a real tensor.

    >>> import graphgrad as gg
    >>> gg.math.imag([1 + 2j, 3 - 4j]).numpy()
    array([ 2., -4.])
    """,
)
conj = Elementwise(
    name="conj",
    public=("math.conj",),
    inputs="any",
    bind=lambda x, name=None: ((x,), {}),
    ref=lambda x: np.conjugate(x) if x.dtype.kind == "c" else x,
    scalar=lambda s, x: x,
    split=lambda x: (x[0], -x[1]),
    transpose=lambda g, x: (ops["conj"](g),),
    samples=Samples(dtypes=SAMPLED, oracle=lambda x: x - 2j * x.imag if np.iscomplexobj(x) else x),
    doc="""The complex conjugate of each element; a real tensor itself.

    >>> import graphgrad as gg
    >>> gg.math.conj([1 + 2j, 3 - 4j]).numpy()
    array([1.-2.j, 3.+4.j])
    """,
)


def _bind_complex(real: Any, imag: Any, name: str | None = None) -> Bound:
    kind = current_kind()
    dtype = join_dtypes((real, imag))
    if dtype.is_complex:
        raise DTypeError(
            f"complex: takes real parts, got {describe(real)} and {describe(imag)}; a sum "
            "x + 1j * y takes complex ones"
        )
    dtype = dtypes.float64 if dtype is dtypes.float64 else dtypes.float32
    return tuple(kind.lift(x, dtype).cast(dtype) for x in (real, imag)), {}


def _put_together(x: Array, y: Array) -> Array:
    z = np.empty(np.broadcast_shapes(x.shape, y.shape), complex_dtype(dtypes.as_dtype(x.dtype)))
    z.real, z.imag = x, y
    return z


def _of_complex_parts(op: Op) -> Any:
    return op(1j, 2.0)


complex = Elementwise(
    name="complex",
    public=("complex", "dtypes.complex"),
    arity=2,
    bind=_bind_complex,
    type=lambda x, y: tensor_type(
        broadcast_shapes([x.shape, y.shape], "complex"), complex_dtype(x.dtype)
    ),
    ref=_put_together,
    scalar=lambda s, x, y: x,
    split=lambda x, y: (x, y),
    transpose=lambda g, x, y: (ops["real"](g), ops["imag"](g)),
    samples=Samples(
        dtypes=("float32", "float64"),
        oracle=lambda x, y: x + np.where(np.isfinite(y), 1j * y, y),
        edges=(0.0, -0.0, 1.0, -2.5),
        ulp=0.0,
        errors=((_of_complex_parts, "complex: takes real parts, got 1j and 2.0"),),
    ),
    doc="""The complex numbers with the given real and imaginary parts: complex64 of float32 parts,
    complex128 of float64 ones. The two broadcast.

    >>> import graphgrad as gg
    >>> gg.complex([1.0, 2.0], -1.0).numpy()
    array([1.-1.j, 2.-1.j], dtype=complex64)
    """,
)


def _bind_angle(input: Any, name: str | None = None) -> Bound:
    x = current_kind().lift(input)
    return (x if x.dtype.is_inexact else x.cast(dtypes.float32),), {}


def _angle_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape in ((), (5,), (2, 3), (0,)):
        x = rng.uniform(-2, 2, shape) + (1j * rng.uniform(-2, 2, shape) if dtype.kind == "c" else 0)
        yield (np.asarray(x).astype(dtype),), {}
    yield (np.array([1.0, 1j if dtype.kind == "c" else -1.0]).astype(dtype),), {}


angle = Composite(
    name="angle",
    public=("math.angle",),
    takes_complex=True,
    bind=_bind_angle,
    type=_real_type,
    ref=in_float32(lambda x: np.arctan2(x.imag, x.real) if x.dtype.kind == "c" else _half_turn(x)),
    decompose=lambda x: (
        ops["atan2"](ops["imag"](x), ops["real"](x))
        if x.dtype.is_complex
        else ops["where"](x < 0, x.dtype.dtype.type(np.pi), 0)
    ),
    samples=Samples(
        cases=_angle_cases,
        dtypes=("float32", "float64", *COMPLEX),
        oracle=lambda x: np.imag(np.log(np.where(x == 0, 1, x) + 0j)),
        ulp=2.0,
    ),
    doc="""The angle of each element in the complex plane, from -pi to pi: 0 or pi for real ones.

    >>> import graphgrad as gg
    >>> gg.math.angle([1j, -1.0, 2 + 2j]).numpy().round(3)
    array([1.571, 3.142, 0.785])
    """,
)


def _half_turn(x: Array) -> Array:
    return np.asarray(np.where(x < 0, x.dtype.type(np.pi), x.dtype.type(0)))


# -- parts in one array: what memory holds


def _as_real(x: Array) -> Array:
    parts = np.asarray(x, order="C").reshape((*x.shape, 1))
    return parts.view(dtypes.as_dtype(x.dtype).real_dtype.dtype)


def _as_complex(x: Array) -> Array:
    z = np.asarray(x, order="C").view(complex_dtype(dtypes.as_dtype(x.dtype)).dtype)
    return z.reshape(x.shape[:-1])


def _parts_type(x: TensorType) -> TensorType:
    if not x.dtype.is_complex:
        raise DTypeError(f"view_as_real: takes complex tensors, got {x}")
    return tensor_type((*x.shape, 2), x.dtype.real_dtype)


def _pairs_type(x: TensorType) -> TensorType:
    if x.shape[-1:] != (2,) or x.dtype not in (dtypes.float32, dtypes.float64):
        raise DTypeError(f"view_as_complex: takes float tensors whose last axis has 2, got {x}")
    return tensor_type(x.shape[:-1], complex_dtype(x.dtype))


def _pair_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape in ((), (3,), (2, 0), (2, 3)):
        if dtype.kind == "c":
            yield (
                (np.asarray(rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype),),
                {},
            )
        else:
            yield (rng.normal(size=(*shape, 2)).astype(dtype),), {}


view_as_real = Library(
    name="view_as_real",
    public="",
    takes_complex=True,
    type=_parts_type,
    ref=_as_real,
    transpose=lambda g, x: (ops["view_as_complex"](g),),
    batch=lambda xs, batched, size: (ops["view_as_real"](xs[0]),),
    samples=Samples(
        cases=_pair_cases,
        dtypes=COMPLEX,
        oracle=lambda x: np.stack([np.real(x), np.imag(x)], -1),
        errors=((lambda op: op(1.5), "takes complex tensors, got f32[]"),),
    ),
    doc="Real and imaginary parts along a last axis of 2, in the memory of the complex array.",
)
view_as_complex = Library(
    name="view_as_complex",
    public="",
    type=_pairs_type,
    ref=_as_complex,
    transpose=lambda g, x: (ops["view_as_real"](g),),
    batch=lambda xs, batched, size: (ops["view_as_complex"](xs[0]),),
    samples=Samples(
        cases=_pair_cases,
        dtypes=("float32", "float64"),
        oracle=lambda x: x[..., 0] + 1j * x[..., 1],
        errors=((lambda op: op([1.0, 2.0, 3.0]), "whose last axis has 2, got f32[3]"),),
    ),
    doc="The complex array whose real and imaginary parts lie along the last axis.",
)


# -- adjoint


def _adjoint_type(x: TensorType) -> TensorType:
    if x.ndim < 2:
        raise ShapeError(f"adjoint: takes matrices and stacks of them, got {x}")
    return tensor_type((*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype)


def _adjoint_cases(rng: np.random.Generator, dtype: Any) -> Any:
    for shape in ((2, 3), (2, 3, 1), (0, 2)):
        x = rng.normal(size=shape) + (1j * rng.normal(size=shape) if dtype.kind == "c" else 0)
        yield (x.astype(dtype),), {}


adjoint = Composite(
    name="adjoint",
    public=("linalg.adjoint",),
    takes_complex=True,
    bind=lambda matrix, name=None: ((matrix,), {}),
    type=_adjoint_type,
    ref=lambda x: np.conjugate(np.swapaxes(x, -1, -2)),
    decompose=lambda x: conjugate(x).transpose((*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)),
    samples=Samples(
        cases=_adjoint_cases,
        dtypes=("float32", "float64", *COMPLEX),
        oracle=lambda x: np.einsum("...ij->...ji", np.conj(x)),
        ulp=0.0,
        errors=((lambda op: op([1j]), "adjoint: takes matrices and stacks of them, got c128[1]"),),
    ),
    doc="""The conjugate transpose of each matrix.

    >>> import graphgrad as gg
    >>> gg.linalg.adjoint([[1 + 2j, 3j]]).numpy()
    array([[1.-2.j],
           [0.-3.j]])
    """,
)
