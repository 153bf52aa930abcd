"""Derivatives as functions of functions: grad, value_and_grad, vjp, jvp."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from graphgrad import nest
from graphgrad.batching import traced
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.op import current_kind, ops
from graphgrad.compiler.source import here
from graphgrad.compiler.transform.autodiff import jvp_graph
from graphgrad.tape import GradientTape
from graphgrad.variable import Variable


def grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The gradient of `f`, a function with one scalar result, in its arguments `argnums`.

    With `has_aux`, `f` returns (value, aux) and the gradient comes as (gradient, aux).

    >>> import graphgrad as gg
    >>> gg.grad(lambda x: x**3)(2.0).numpy()
    np.float32(12.0)
    """
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
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

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        numbers = [argnums] if isinstance(argnums, int) else list(argnums)
        kind = current_kind()
        lifted = list(args)
        for i in numbers:
            if not -len(args) <= i < len(args):
                raise ArgumentError(
                    f"grad: argument {i} is asked for, the call has {len(args)}", here()
                )
            lifted[i] = nest.map_structure(
                lambda x: x if isinstance(x, Variable) else _fresh(kind.lift(x)), args[i]
            )
            for path, x in nest.flatten_with_path(lifted[i]):
                _need_float(x, f"argument {i}{path}")
        sources = [lifted[i] for i in numbers]
        with GradientTape() as tape:
            tape.watch(sources)
            value = f(*lifted, **kwargs)
        target = value[0] if has_aux else value
        shape = kind.lift(target).type.shape
        _need_float(target, "the result")
        if shape != ():
            raise ShapeError(
                f"grad: the function is to give one number, it gave shape {tuple(shape)}", here()
            )
        found = tape.gradient(target, sources, unconnected_gradients="zero")
        return value, found[0] if isinstance(argnums, int) else tuple(found)

    return call


def _need_float(x: Any, what: str) -> None:
    dtype = current_kind().lift(x).dtype
    if not dtype.is_inexact:
        raise DTypeError(
            f"grad: {what} is {dtype.name}, and only floats and complex numbers have derivatives; "
            "convert it with gg.cast, or pass 2.0 for 2", here()
        )  # fmt: skip


def _fresh(x: Any) -> Any:
    """A tensor of its own, so that an argument given twice is two sources."""
    return ops["identity"](x)


def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """`f(*primals)`, and a function from a cotangent of the result to those of the arguments.

    >>> import graphgrad as gg
    >>> y, back = gg.vjp(lambda x: x * x, gg.constant([1.0, 2.0]))
    >>> back(gg.constant([1.0, 10.0]))[0].numpy()
    array([ 2., 40.], dtype=float32)
    """
    kind = current_kind()
    lifted = [nest.map_structure(lambda x: _fresh(kind.lift(x)), p) for p in primals]
    tape = GradientTape(persistent=True)
    with tape:
        tape.watch(lifted)
        result = f(*lifted)

    def back(*cotangents: Any) -> tuple[Any, ...]:
        given = cotangents[0] if len(cotangents) == 1 else list(cotangents)
        return tuple(
            tape.gradient(result, lifted, output_gradients=given, unconnected_gradients="zero")
        )

    return result, back


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """`f(*primals)` and its derivative in the direction `tangents`, by forward mode.

    >>> import graphgrad as gg
    >>> y, t = gg.jvp(lambda x: x**2, (3.0,), (1.0,))
    >>> t.numpy()
    np.float32(6.0)
    """
    kind = current_kind()
    xs = [kind.lift(x) for x in nest.flatten(list(primals))]
    if len(nest.flatten(list(tangents))) != len(xs):
        raise ArgumentError(
            f"jvp: {len(xs)} primals, {len(nest.flatten(list(tangents)))} tangents", here()
        )
    ts = [
        kind.lift(t, None if isinstance(t, Arith) else x.dtype)
        .cast(x.dtype)
        .broadcast_to(x.type.shape)
        for t, x in zip(nest.flatten(list(tangents)), xs)
    ]
    graph, captured, structure = traced(f, list(primals), [x.type for x in xs])
    given = (*[x.dtype.is_inexact for x in xs], *[False] * len(captured))
    ahead = jvp_graph(graph, given)
    moving = [t for t, x in zip(ts, xs) if x.dtype.is_inexact]
    count = len(graph.outputs)
    results = ops["call"](*xs, *captured, *moving, graph=ahead)
    marks = iter(results[count:])
    tangent_leaves = [
        next(marks) if y.dtype.is_inexact else kind.lift(0, y.dtype).broadcast_to(y.type.shape)
        for y in results[:count]
    ]
    return nest.pack(structure, results[:count]), nest.pack(structure, tangent_leaves)
