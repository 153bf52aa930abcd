"""Derivatives as functions of functions: grad, value_and_grad, vjp, jvp, hvp, linearize.

Matrices of derivatives are in `jacobians.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphgrad import nest
from graphgrad.autodiff import ForwardAccumulator
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.op import current_kind, ops
from graphgrad.compiler.source import here
from graphgrad.tape import GradientTape
from graphgrad.tape_arguments import in_form_of, ones_like, tangents_of, zeros_like
from graphgrad.tensor import EagerTensor
from graphgrad.variable import Variable
from graphgrad.wrapping import wraps


def grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The gradient of `f`, a function with one scalar result, in its arguments `argnums`.

    The arguments may be structures, with None in them. With `has_aux`, `f` returns (value, aux),
    and the gradient comes as (gradient, aux).

    >>> import graphgrad as gg
    >>> gg.grad(lambda x: x**3)(2.0).numpy()
    np.float32(12.0)
    """
    both = value_and_grad(f, argnums, has_aux)

    @wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return call


def value_and_grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """`f` and its gradient in the arguments `argnums`, which may be structures of tensors.

    An argument that `f` does not use gets zeros.

    >>> import graphgrad as gg
    >>> gg.value_and_grad(lambda x, y: x * y, argnums=(0, 1))(2.0, 3.0)[1][1].numpy()
    np.float32(2.0)
    """

    @wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        lifted, sources = differentiated("grad", args, argnums)
        with GradientTape() as tape:
            tape.watch(sources)
            value = f(*lifted, **kwargs)
        target = value[0] if has_aux else value
        shape = current_kind().lift(target).type.shape
        _need_float(target, "grad: the result")
        if shape != ():
            raise ShapeError(
                f"grad: the function is to give one number, it gave shape {tuple(shape)}", here()
            )
        found = tape.gradient(target, sources, unconnected_gradients="zero")
        return value, found[0] if isinstance(argnums, int) else tuple(found)

    return call


def differentiated(
    name: str, args: tuple[Any, ...], argnums: int | Sequence[int]
) -> tuple[list[Any], list[Any]]:
    """The arguments of a call with tensors of their own at `argnums`, and those."""
    numbers = [argnums] if isinstance(argnums, int) else list(argnums)
    lifted = list(args)
    for i in numbers:
        if not -len(args) <= i < len(args):
            raise ArgumentError(
                f"{name}: argument {i} is asked for, the call has {len(args)}", here()
            )
        lifted[i] = fresh(args[i])
        for path, x in nest.flatten_with_path(lifted[i]):
            if x is not None:
                _need_float(x, f"{name}: argument {i}{path}")
    return lifted, [lifted[i] for i in numbers]


def _need_float(x: Any, what: str) -> None:
    dtype = current_kind().lift(x).dtype
    if not dtype.is_inexact:
        raise DTypeError(
            f"{what} is {dtype.name}, and only floats and complex numbers have derivatives; "
            "convert it with gg.cast, or pass 2.0 for 2", here()
        )  # fmt: skip


def fresh(x: Any, keep: type | tuple[type, ...] = Variable) -> Any:
    """The leaves as tensors of their own, so that an argument given twice is two sources."""
    lift = current_kind().lift
    return nest.map_structure(
        lambda v: v if v is None or isinstance(v, keep) else ops["identity"](lift(v)), x
    )


def _floats(x: Any) -> list[Any]:
    return [v for v in nest.flatten(x) if v is not None and v.dtype.is_inexact]


def _results(value: Any, has_aux: bool) -> tuple[Any, Any]:
    """The result as tensors, and what is passed through beside it."""
    result, aux = value if has_aux else (value, None)
    lift = current_kind().lift
    return nest.map_structure(lambda y: None if y is None else lift(y), result), aux


def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """`f(*primals)`, and a function from a cotangent of the result to those of the arguments.

    It can be called any number of times. With `has_aux`, `f` returns (result, aux), and aux comes
    third.

    >>> import graphgrad as gg
    >>> y, back = gg.vjp(lambda x: x * x, gg.constant([1.0, 2.0]))
    >>> back(gg.constant([1.0, 10.0]))[0].numpy()
    array([ 2., 40.], dtype=float32)
    """
    lifted = fresh(list(primals), keep=())
    tape = GradientTape(persistent=True)
    with tape:
        tape.watch(_floats(lifted))
        value = f(*lifted)
    result, aux = value if has_aux else (value, None)

    def back(*cotangents: Any) -> tuple[Any, ...]:
        given = cotangents[0] if len(cotangents) == 1 else list(cotangents)
        pairs = [
            (y, g) for _, y, g in tangents_of("vjp", result, given, "the result and its cotangents")
        ]
        return tuple(
            tape.gradient(
                [y for y, _ in pairs],
                lifted,
                output_gradients=[g for _, g in pairs],
                unconnected_gradients="zero",
            )
        )

    return (result, back, aux) if has_aux else (result, back)


def jvp(
    f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False
) -> Any:
    """`f(*primals)` and its derivative in the direction `tangents`, by forward mode.

    With `has_aux`, `f` returns (result, aux), and aux comes third.

    >>> import graphgrad as gg
    >>> y, t = gg.jvp(lambda x: x**2, (3.0,), (1.0,))
    >>> t.numpy()
    np.float32(6.0)
    """
    lifted = fresh(list(primals), keep=())
    ts = _fitting("jvp", lifted, list(tangents))
    with ForwardAccumulator(_floats(lifted), ts) as acc:
        result, aux = _results(f(*lifted), has_aux)
    moved = acc.jvp(result, unconnected_gradients="zero")
    return (result, moved, aux) if has_aux else (result, moved)


def _fitting(name: str, primals: list[Any], tangents: list[Any]) -> list[Any]:
    """The tangents of the floating primals, each of its dtype and shape; None stands for 0."""

    def fit(path: str, x: Any, t: Any) -> Any:
        t = current_kind().lift(0 if t is None else t, None if isinstance(t, Arith) else x.dtype)
        try:
            return t.cast(x.dtype).broadcast_to(x.type.shape)
        except ShapeError:
            raise ShapeError(
                f"{name}: the tangent {t.type} does not fit the primal {x.type} at {path}", here()
            ) from None

    found = tangents_of(name, primals, tangents)
    return [fit(path, x, t) for path, x, t in found if x.dtype.is_inexact]


def hvp(f: Callable[..., Any], primals: Any, tangents: Any) -> Any:
    """The Hessian of `f`, which gives one number, times `tangents`: forward over reverse, at the
    cost of a few gradients and without the matrix.

    `primals` are a tuple of arguments, or the only one; the result has their structure.

    >>> import graphgrad as gg
    >>> x, v = gg.constant([1.0, 2.0]), gg.constant([1.0, 0.0])
    >>> gg.hvp(lambda x: gg.reduce_sum(x**3), x, v).numpy()
    array([6., 0.], dtype=float32)
    """
    several = type(primals) is tuple
    args, ts = (list(primals), list(tangents)) if several else ([primals], [tangents])
    found = jvp(grad(f, argnums=range(len(args))), args, ts)[1]
    return tuple(found) if several else found[0]


def linearize(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """`f(*primals)`, and its derivative there as a function of the tangents.

    `f` runs once; what its derivative needs is kept, so that many directions cost little.

    >>> import graphgrad as gg
    >>> y, push = gg.linearize(gg.sin, gg.constant(0.0))
    >>> push(2.0).numpy(), push(3.0).numpy()
    (np.float32(2.0), np.float32(3.0))
    """
    lifted = fresh(list(primals), keep=())
    result, push = linearized(f, lifted, _floats(lifted))
    return result, lambda *ts: push(_fitting("linearize", lifted, list(ts)))


def linearized(
    f: Callable[..., Any], args: list[Any], sources: list[Any]
) -> tuple[Any, Callable[..., Any]]:
    """`f(*args)`, and a function from tangents of the sources to those of the result."""
    with GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(sources)
        result, _ = _results(f(*args), False)
    ahead = tape.forward()
    flat = [y for y in nest.flatten(result) if y is not None]

    def push(tangents: Sequence[Any]) -> Any:
        found = [
            zeros_like(y) if t is None else t
            for y, t in zip(flat, ahead(list(zip(sources, tangents, strict=True)), flat))
        ]
        return in_form_of(result, nest.flatten(result), found)

    return result, push


def linear_transpose(f: Callable[..., Any], *primals: Any) -> Callable[..., tuple[Any, ...]]:
    """The transpose of `f`, a linear function: from a cotangent of its result to those of its
    arguments, of which `primals` give shapes and dtypes alone.

    ArgumentError if the derivative of `f` depends on where it is taken, or if f(0) is not 0.

    >>> import graphgrad as gg
    >>> back = gg.linear_transpose(lambda x: gg.cumsum(x), gg.zeros(3))
    >>> back(gg.constant([1.0, 10.0, 100.0]))[0].numpy()
    array([111., 110., 100.], dtype=float32)
    """
    zeros = nest.map_structure(
        lambda x: None if x is None else zeros_like(x), fresh(list(primals), keep=())
    )
    sources = _floats(zeros)
    with GradientTape() as second:
        second.watch(sources)
        result, back = vjp(f, *zeros)
        slopes = back(nest.map_structure(ones_like, result))
    bent = any(g is not None for g in second.gradient(_floats(slopes), sources))
    if bent or any(isinstance(y, EagerTensor) and y.array.any() for y in nest.flatten(result)):
        raise ArgumentError(
            "linear_transpose: the function is not linear: "
            + ("its derivative depends on the argument" if bent else "f(0) is not 0"), here()
        )  # fmt: skip
    return back
