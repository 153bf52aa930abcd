"""Functions whose derivative the user decides."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from graphgrad import nest
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.ir import Builder, Graph, Value
from graphgrad.compiler.op import current_kind, ops, state
from graphgrad.compiler.source import here
from graphgrad.compiler.transform.autodiff import recording, zeros_like
from graphgrad.compiler.types import same_shape
from graphgrad.eager import EagerTensor
from graphgrad.records import WholeCall
from graphgrad.tensor import SymbolicTensor
from graphgrad.tracing import Watcher, function_builder
from graphgrad.wrapping import wraps


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Have `f` return `(y, grad_fn)`: `grad_fn` gets a cotangent for each output, and gives one for
    each leaf of the positional arguments (those of strings, bools and other objects do not
    matter). None is a cotangent of zeros.

    If `f` reads trainable variables, `grad_fn` takes them as `variables`, and returns (cotangents
    of the arguments, cotangents of the variables). Higher orders differentiate `grad_fn`; forward
    mode transposes it, as the linear function of cotangents that it is. It works in tapes, and
    inside of `gg.function`. ArgumentError or ShapeError if the cotangents do not fit.

    >>> import graphgrad as gg
    >>> @gg.custom_gradient
    ... def clipped(x):
    ...     return gg.identity(x), lambda g: gg.minimum(g, 1.0)
    >>> x = gg.constant(3.0)
    >>> with gg.GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = 5.0 * clipped(x)
    >>> tape.gradient(y, x).numpy()
    np.float32(1.0)
    """

    @wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        kind = current_kind()
        leaves = [kind.lift(x) if _is_data(x) else x for x in nest.flatten(args)]
        how = _traced if isinstance(state.builder, Builder) else _eager
        return how(f, leaves, args, kwargs)

    return call


def _result(f: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, Callable[..., Any]]:
    result = f(*args, **kwargs)
    if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
        raise ArgumentError("custom_gradient: the function is to return (result, grad_fn)", here())
    return result


def _is_data(x: Any) -> bool:
    """Is this argument passed as a tensor?"""
    return isinstance(x, Arith | np.ndarray | np.generic | float | complex) or type(x) is int


def _gradients(
    grad_fn: Callable[..., Any],
    seeds: list[Any],
    leaves: list[Any],
    variables: list[Any],
    name: str,
) -> list[Any]:
    """What grad_fn gives for the tensors among the arguments, and for variables, as tensors of
    their types; None is zero."""
    if not variables:
        return _fitted(grad_fn(*seeds), leaves, name)
    _check_takes_variables(grad_fn, variables, name)
    result = grad_fn(*seeds, variables=variables)
    if not (isinstance(result, list | tuple) and len(result) == 2):
        raise ArgumentError(
            f"custom_gradient: `{name}` reads variables, so its grad_fn is to return (gradients of "
            "the arguments, list of gradients of the variables)", here()
        )  # fmt: skip
    found = nest.flatten(result[1])
    if len(found) != len(variables):
        raise ArgumentError(
            "Must return gradient for each variable from @custom_gradient grad_fn. "
            f"`{name}` reads {[v.name for v in variables]}, and its grad_fn gave {len(found)} "
            "gradients for them", here()
        )  # fmt: skip
    fitted = [_fit(g, v, name, f"the variable {v.name!r}") for g, v in zip(found, variables)]
    return _fitted(result[0], leaves, name) + fitted


def _check_takes_variables(grad_fn: Callable[..., Any], variables: list[Any], name: str) -> None:
    parameters = inspect.signature(grad_fn).parameters.values()
    if not any(p.name == "variables" or p.kind is p.VAR_KEYWORD for p in parameters):
        raise DTypeError(
            "If using @custom_gradient with a function that uses variables, then grad_fn must "
            f"accept a 'variables' keyword argument; `{name}` reads "
            f"{[v.name for v in variables]}", here()
        )  # fmt: skip


def _fitted(grads: Any, leaves: list[Any], name: str) -> list[Any]:
    found = nest.flatten(grads)
    if len(found) != len(leaves):
        raise ArgumentError(
            f"custom_gradient function expected to return {len(leaves)} gradients, but returned "
            f"{len(found)} instead: `{name}` has so many arguments, each tensor of a structure "
            "counting", here()
        )  # fmt: skip
    return [
        _fit(g, x, name, f"argument {i}")
        for i, (g, x) in enumerate(zip(found, leaves))
        if _is_data(x)
    ]


def _fit(g: Any, x: Any, name: str, what: str) -> Any:
    """One gradient with the type of what it belongs to; numbers are stretched."""
    g = current_kind().lift(0 if g is None else g, None if isinstance(g, Arith) else x.dtype)
    if (g.ndim and not same_shape(g.type.shape, x.type.shape)) or g.ndim > x.ndim:
        raise ShapeError(
            f"custom_gradient: the grad_fn of `{name}` gives {g.type} for {what}, which is "
            f"{x.type}", here()
        )  # fmt: skip
    return g.cast(x.dtype).broadcast_to(x.type.shape)


class _CustomCall(WholeCall):
    name = "custom_gradient"

    def __init__(
        self, grad_fn: Callable[..., Any], leaves: list[Any], variables: list[Any], name: str
    ) -> None:
        self.vjp = grad_fn
        self.leaves = leaves
        self.variables = variables
        self.function = name

    def pullback(self, gs: Any, outs: Any, xs: Any, attrs: Any, needs: Any) -> tuple[Any, ...]:
        seeds = [zeros_like(y.type) if g is None else g for g, y in zip(gs, outs)]
        grads = _gradients(self.vjp, seeds, self.leaves, self.variables, self.function)
        return tuple(g if need else None for g, need in zip(grads, needs))


def _eager(f: Callable[..., Any], leaves: list[Any], args: Any, kwargs: Any) -> Any:
    name = getattr(f, "__name__", "f")
    with recording(Watcher()) as watcher:
        result, grad_fn = _result(f, nest.pack(args, leaves), kwargs)
    if watcher.variables:
        _check_takes_variables(grad_fn, watcher.variables, name)
    kind = current_kind()
    flat = [kind.lift(y) for y in nest.flatten(result)]
    outs = tuple(EagerTensor(y.array) for y in flat)  # new: the tapes know no other way to them
    op: Any = _CustomCall(grad_fn, leaves, watcher.variables, name)
    values = [x for x in leaves if _is_data(x)]
    for recorder in state.recorders:
        recorder.record(op, (*values, *watcher.values), {}, outs)
    return nest.pack(result, outs)


def _traced(f: Callable[..., Any], leaves: list[Any], args: Any, kwargs: Any) -> Any:
    """One `custom_call`, of the graphs of `f` and of its grad_fn.

    Both are cut out of one trace of `f` and then grad_fn, whose inputs are the arguments: what
    grad_fn reads of the forward part is computed again, and shared with it by the passes. What `f`
    assigns to variables is among the outputs.
    """
    outer: Any = state.builder
    name = getattr(f, "__name__", "f")
    builder = Builder(name, parent=outer, value_class=SymbolicTensor)
    trace = function_builder()
    with builder.tracing(), trace.branch() if trace is not None else nullcontext() as table:
        inner = [builder.param(x.type) if _is_data(x) else x for x in leaves]
        params = list(builder.params)
        with recording(Watcher()) as watcher:
            result, grad_fn = _result(f, nest.pack(args, inner), kwargs)
        outs = [builder.lift(y) for y in nest.flatten(result)]
        returned = len(outs)
        written = [] if table is None else list(table.writes.values())
        outs += [builder.lift(v.value()) for v in written]
        forward_nodes = len(builder.nodes)
        seeds = [builder.value(y.type) for y in outs if y.dtype.is_inexact]
        given = iter(seeds)
        gs = [next(given) if y.dtype.is_inexact else zeros_like(y.type) for y in outs[:returned]]
        grads = _gradients(grad_fn, gs, inner, watcher.variables, name)
        by_read = {id(x): g for x, g in zip(watcher.values, grads[len(params) :])}
        read = [v for _, v in builder.captures.values()]
        wanted = [g for g, p in zip(grads, params) if p.dtype.is_inexact]
        wanted += [
            by_read[id(v)] if id(v) in by_read else zeros_like(v.type)
            for v in read
            if v.dtype.is_inexact
        ]
    inputs = (*params, *read)
    forward = Graph(inputs, tuple(builder.nodes[:forward_nodes]), tuple(outs), name)
    again = [Value(y.type, None) for y in outs]  # the outputs, which grad_fn does not ask for
    backward = Graph(
        (*inputs, *again, *seeds), tuple(builder.nodes), tuple(wanted), f"gradient of {name}"
    )
    watcher.tell()
    values = [x for x in leaves if _is_data(x)]
    results = ops["custom_call"](*values, *builder.captured, graph=forward, backward=backward)
    for v, y in zip(written, results[returned:]):
        assert trace is not None
        trace.write(v, y)
    return nest.pack(result, results[:returned])


def grad_pass_through(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` with the gradient of the identity; variables that `f` reads get none.

    >>> import graphgrad as gg
    >>> x = gg.constant(1.6)
    >>> with gg.GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = gg.grad_pass_through(gg.floor)(x) * 3.0
    >>> y.numpy(), tape.gradient(y, x).numpy()
    (np.float32(3.0), np.float32(3.0))
    """

    @custom_gradient
    def passed(*args: Any, **kwargs: Any) -> Any:
        def back(*gs: Any, variables: Any = None) -> Any:
            return gs if variables is None else (gs, [None] * len(variables))

        return f(*args, **kwargs), back

    return wraps(f)(passed)
