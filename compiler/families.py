"""Families of ops: what their members share. Code generation knows families, never op names.

| family | derivative | lowering |
|---|---|---|
| Elementwise | `partials`, one an input | `scalar`, inside a loop body |
| Reduce | vjp or decomposition | a combiner over axes of the iteration space |
| View | its adjoint | an index map, no code |
| Indexed | vjp | one element by index values, inside a loop body |
| Library | vjp and jvp | a routine called by name, or `ref` as a host step |
| Composite | by its parts | inlined |
| Control | by its sub-graphs | interpreted (native loops come later) |
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.arith import Arith, holds_tensor
from graphgrad.compiler.dims import Dim
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import ArgumentError, DTypeError
from graphgrad.compiler.op import Attrs, Kind, Op, Types, ops
from graphgrad.compiler.types import TensorType, broadcast_shapes, tensor_type


class Mask:
    """A partial derivative that is 1 where `condition` holds and 0 elsewhere."""

    __slots__ = ("condition", "negate")

    def __init__(self, condition: Any, negate: bool = False) -> None:
        self.condition = condition
        self.negate = negate

    def select(self, g: Any) -> Any:
        """`g` where the condition holds, else exactly 0, whatever g is."""
        zero = g.type.dtype.dtype.type(0)
        return (
            ops["where"](self.condition, zero, g)
            if self.negate
            else ops["where"](self.condition, g, zero)
        )


def conjugate(x: Any) -> Any:
    """The complex conjugate of a value; a real one or a number itself."""
    return ops["conj"](x) if isinstance(x, Arith) and x.dtype.is_complex else x


def times_partial(g: Any, p: Any) -> Any:
    """g * conj(p) for a partial that may be a number, a Mask or a value; exactly 0 where g is 0.

    This is the adjoint of t -> t * p for the inner product Re(conj(a) b) of complex values, under
    which the cotangent of x + iy is dL/dx + i dL/dy.
    """
    if isinstance(p, Arith):
        return g.cotangent_product(p)
    if isinstance(p, Mask):
        return p.select(g)
    return g if p == 1 else None if p == 0 else -g if p == -1 else g * p


class Elementwise(Op):
    """One output element from the elements at the same place of the inputs.

    `inputs` says how dtypes join: "promote" (one dtype for all), "number" (the same, bool is
    refused), "float" (the same, integers become float32), "divide" (integers become float64),
    "integer" (the same, floats and bools are refused), "bits" (the same, bools may be), "bool" (all
    are bool), "select" (the first is bool, the others promote), "any" (each keeps its
    own). `output` is the result's dtype: None for the joined one, or a fixed DType, or
    a function of the attributes. `scalar(s, *xs, **attrs)` computes one element on a ScalarBuilder.
    `partials[i](z, *xs)` is dz/dx_i: a number, a Mask, a value, or None for an input without one.

    An op that takes complex values is holomorphic in them if it has `partials`. `split(*parts,
    **attrs)` is its lowering for them, in real ops: it gets a pair (real, imaginary) for each
    input, or the value of an input that is real, and returns the same for the output.
    """

    type: Callable[..., TensorType | Types] = None  # type: ignore[assignment]  # set below
    scalar: Callable[..., Any] = None  # type: ignore[assignment]
    partials: tuple[Callable[..., Any] | None, ...] | None = None
    arity: int = 1
    inputs: str = "promote"
    output: DType | Callable[..., DType] | None = None
    parameter: str = "x"  # the keyword of the first input
    split: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "takes_complex", self.takes_complex or self.split is not None)
        if self.type is None:
            object.__setattr__(self, "type", self._type)
        if self.partials is not None and len(self.partials) != self.arity:
            raise TypeError(f"op {self.name}: {self.arity} inputs, {len(self.partials)} partials")
        super().__post_init__()

    def _derivative_fields(self) -> list[Any]:
        return [self.partials]

    def _type(self, *types: TensorType, **attrs: Any) -> TensorType:
        dtype = types[-1].dtype
        if callable(self.output):
            dtype = self.output(**attrs)
        elif self.output is not None:
            dtype = self.output
        return tensor_type(broadcast_shapes([t.shape for t in types], self.name), dtype)

    def join(self, args: tuple[Any, ...]) -> tuple[DType | None, ...]:
        """The dtype that each argument is to have; None: as it comes."""
        if self.inputs == "any":
            return (None,) * len(args)
        if self.inputs == "bool":
            for a in args:
                if getattr(a, "dtype", None) not in (None, dtypes.bool_) or isinstance(
                    a, int | float
                ) > isinstance(a, bool):
                    raise DTypeError(f"{self.name}: takes bool tensors, got {describe(a)}")
            return (dtypes.bool_,) * len(args)
        joined = args[1:] if self.inputs == "select" else args
        dtype = join_dtypes(joined)
        if dtype.is_complex and not self.takes_complex:
            raise self.refusal(map(describe, args))
        if self.inputs in ("float", "divide") and not dtype.is_inexact:
            dtype = dtypes.float32 if self.inputs == "float" else dtypes.float64
        if self.inputs in ("bits", "integer") and not (
            dtype.is_integer or (dtype.is_bool and self.inputs == "bits")
        ):
            given = " and ".join(map(describe, args))
            raise DTypeError(f"{self.name}: takes integers, got {given}; cast to an int first")
        if self.inputs == "number" and dtype.is_bool:
            given = " and ".join(map(describe, args))
            raise DTypeError(
                f"{self.name}: takes numbers, got {given}; cast to an int or float first"
            )
        return (
            (dtypes.bool_, *([dtype] * len(joined)))
            if self.inputs == "select"
            else (dtype,) * len(args)
        )

    def arguments(
        self, kind: Kind, args: tuple[Any, ...], attrs: Attrs
    ) -> tuple[tuple[Any, ...], Attrs]:
        if self.bind is not None:
            args, attrs = self.bind(*args, **attrs)
        elif attrs:
            args, attrs = self._named(args, attrs)
        if len(args) != self.arity:
            raise TypeError(f"{self.name} takes {self.arity} arguments, got {len(args)}")
        args = tuple(
            kind.lift(a) if isinstance(a, list | tuple) and holds_tensor(a) else a for a in args
        )
        wanted = self.join(args)
        values = tuple(kind.lift(a, d) for a, d in zip(args, wanted, strict=True))
        values = tuple(v if d is None else v.cast(d) for v, d in zip(values, wanted, strict=True))
        shapes = [v.type.shape for v in values]
        if any(s != shapes[0] for s in shapes):
            shape = self.infer(tuple(v.type for v in values), attrs)[0].shape
            values = tuple(v.broadcast_to(shape) for v in values)
        return values, attrs

    def _named(self, args: tuple[Any, ...], attrs: Attrs) -> tuple[tuple[Any, ...], Attrs]:
        """TensorFlow's keywords: x= (or `parameter`) and y=; a name= is accepted and ignored."""
        attrs = {k: v for k, v in attrs.items() if k != "name"}
        for key in (self.parameter, "y")[len(args) :]:
            if key in attrs:
                args += (attrs.pop(key),)
        return args, attrs

    def pullback(
        self, gs: tuple[Any, ...], outs: tuple[Any, ...], xs: tuple[Any, ...], attrs: Attrs,
        needs: tuple[bool, ...],
    ) -> tuple[Any, ...]:  # fmt: skip
        if self.partials is None:
            return super().pullback(gs, outs, xs, attrs, needs)
        g, z = gs[0], outs[0]
        found: list[Any] = []  # a loop: this runs for each operation of a tape
        for p, need in zip(self.partials, needs):
            if not need or p is None:
                found.append(None)
            else:
                found.append(times_partial(g, p(z, *xs, **attrs) if attrs else p(z, *xs)))
        return tuple(found)

    def pushforward(
        self, ts: tuple[Any, ...], outs: tuple[Any, ...], xs: tuple[Any, ...], attrs: Attrs
    ) -> tuple[Any, ...]:
        if self.partials is None:
            return super().pushforward(ts, outs, xs, attrs)
        terms = [
            times_partial(t, conjugate(p(outs[0], *xs, **attrs)))
            for t, p in zip(ts, self.partials, strict=True)
            if t is not None and p is not None
        ]
        total = add_all(terms)
        if total is not None and total.dtype.is_complex and not outs[0].dtype.is_complex:
            total = ops["real"](total)  # dz = Re(p dx): |x| of a complex x
        return (total,)


def add_all(terms: list[Any]) -> Any:
    """The sum of the terms that are not None, or None."""
    total = None
    for t in terms:
        if t is not None:
            total = t if total is None else total + t
    return total


def describe(x: object) -> str:
    """An argument in an error text: `f32[2, 3]`, or the value of a Python number."""
    t = getattr(x, "type", None)
    if isinstance(x, np.ndarray) and (dtype := dtypes.as_dtype_or_none(x.dtype)) is not None:
        t = tensor_type(x.shape, dtype)
    return str(t) if isinstance(t, TensorType) else repr(x)


def join_dtypes(args: tuple[Any, ...]) -> DType:
    """The dtype of an operation over `args`: tensors promote; Python numbers and NumPy operands
    adopt the tensors' dtype where its kind allows, else bring their own.

    Without a tensor among them, Python numbers have their default (int32, float32) and NumPy
    operands theirs.
    """
    strong: DType | None = None
    for a in args:
        if isinstance(a, Arith):
            strong = a.dtype if strong is None else dtypes.promote(strong, a.dtype)
    if strong is not None and all(isinstance(a, Arith) for a in args):
        return strong
    result = strong
    for a in args:
        if isinstance(a, Arith):
            continue
        own = weak_dtype(a)
        if result is None:
            result = own
        elif strong is None:
            result = dtypes.promote(result, own)
        elif dtypes.KIND_RANK[own.kind] > dtypes.KIND_RANK[result.kind]:
            # What is complex keeps the precision of a float; a Python number has none of its own.
            wide = own if hasattr(a, "dtype") else dtypes.complex64
            result = dtypes.promote(result, wide) if result.is_floating else own
    assert result is not None
    return result


def weak_dtype(x: object) -> DType:
    """The dtype that a Python number, an unknown size or a NumPy operand has by itself."""
    if isinstance(x, bool):
        return dtypes.bool_
    if isinstance(x, int):
        return dtypes.int32 if -(2**31) <= x < 2**31 else dtypes.int64
    if isinstance(x, float) and not isinstance(x, np.generic):  # np.float64 is a float
        return dtypes.float32
    if isinstance(x, complex) and not isinstance(x, np.generic):
        return dtypes.complex128
    if isinstance(x, Dim):
        return dtypes.int32
    own = getattr(x, "dtype", None)
    if isinstance(own, np.dtype):
        found = dtypes.as_dtype_or_none(own)
        if found is None:
            raise unsupported(x)
        return found
    array = numbers(x)  # a list of numbers
    found = dtypes.as_dtype_or_none(array.dtype)
    if found is None:
        raise unsupported(x)
    if found is dtypes.int64 and (array.astype(np.int32) == array).all():
        return dtypes.int32
    return dtypes.float32 if found is dtypes.float64 else found


def numbers(x: object) -> np.ndarray[Any, Any]:
    """What NumPy makes of a Python value or nested sequence."""
    try:
        return np.asarray(x)
    except ValueError:
        raise ArgumentError(
            "Can't convert non-rectangular Python sequence to Tensor: its lists differ in length"
        ) from None


def unsupported(x: object) -> DTypeError:
    """The error for what has no dtype, in TensorFlow's words."""
    names = ", ".join(d.name for d in dtypes.ALL)
    return DTypeError(
        f"Attempt to convert a value ({reprlib.repr(x)}) with an unsupported type ({type(x)}) to a "
        f"Tensor; the dtypes are {names}"
    )


class Reduce(Op):
    """Combines the elements along `axes`. `combiner` names how: sum, prod, max, min, any, all.

    Attributes: `axes` (sorted, from the front) and `keepdims`.
    """

    combiner: str


class View(Op):
    """Elements of one input at other places: an index map and no arithmetic.

    `index_map(x_type, out_type, **attrs)` gives, for each input axis, (output axis or None, step,
    start): input index = start + step * output index. A reshape gives None: row-major order.
    """

    index_map: Callable[..., tuple[tuple[int | None, Any, Any], ...] | None]
    takes_complex: bool = True
    by_component: bool = True


class Indexed(Op):
    """Elements picked by index values; `lowering` names the form that the loop builder knows.

    | lowering | inputs | element |
    |---|---|---|
    | gather | x, indices | x at the index along `axis` |
    | scatter_add | updates, indices | the sum of the updates whose index is this place |
    | scatter | x, updates, indices | of x, or the last or extreme update of this place |
    | concat | xs | of the input whose range along `axis` holds the place |
    | unslice | x | x at (place - start) / step where that is a place of x, else 0 |
    | dynamic_slice | x, starts | x at start + place |
    | update_slice | x, update, starts | of the update where it lies, else of x |
    """

    lowering: str
    takes_complex: bool = True
    by_component: bool = True
    variadic: bool = False  # any number of inputs; called with a list


class Generator(Op):
    """One element from its own position: iota, random bits. `scalar(s, index, *scalars, **attrs)`
    gets the int64 row-major index of the element, and the 0-d inputs or elements of 1-d inputs
    as `inputs` lists them."""

    scalar: Callable[..., Any]


class Library(Op):
    """Computed by a routine of the runtime named `routine`, a kernel of its own, or by `ref` as a
    host step. `split`, if given, is the op on the parts of complex operands: see `ops/split.py`."""

    routine: str | None = None
    split: Callable[..., Any] | None = None


class Composite(Op):
    """A composition of ops with a NumPy `ref` of its own; inlined in graphs and under tapes."""

    def __post_init__(self) -> None:
        if self.decompose is None:
            raise TypeError(f"op {self.name}: a composite needs `decompose`")
        super().__post_init__()


class Control(Op):
    """Holds sub-graphs among its attributes.

    `inlined(**attrs)` is the graph that may stand in the op's place (a call). `augment(xs, active,
    **attrs)` applies the op to `xs` in the form whose reverse repeats nothing expensive: the same
    outputs, and after them what the reverse reads. `expansion(types, attrs)` is the graph that is
    compiled in its place. `batch` returns the outputs, and which of them
    are batched.
    """

    takes_complex: bool = True
    inlined: Callable[..., Any] | None = None
    augment: Callable[..., tuple[Any, ...]] | None = None
    expansion: Callable[..., Any] | None = None
