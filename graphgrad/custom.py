"""Functions whose derivative the user decides."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from graphgrad import nest
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError, DTypeError
from graphgrad.compiler.ir import Builder, Graph, Value
from graphgrad.compiler.op import current_kind, ops, state
from graphgrad.compiler.source import here
from graphgrad.compiler.transform.autodiff import recording, zeros_like
from graphgrad.eager import EagerTensor
from graphgrad.tensor import SymbolicTensor
from graphgrad.tracing import Watcher


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Have `f` return `(y, grad_fn)`: `grad_fn` gets a cotangent for each output, and gives one for
    each argument.

    If `f` reads trainable variables, `grad_fn` takes them as `variables`, and returns (cotangents
    of the arguments, cotangents of the variables). Higher orders differentiate `grad_fn`. It works
    in tapes, and inside of `gg.function`.

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

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        kind = current_kind()
        values = [kind.lift(x) for x in nest.flatten(args)]
        args = nest.pack(args, values)
        if isinstance(state.builder, Builder):
            return _traced(f, values, args, kwargs)
        return _eager(f, values, args, kwargs)

    return call


def _result(f: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, Callable[..., Any]]:
    result = f(*args, **kwargs)
    if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
        raise ArgumentError("custom_gradient: the function is to return (result, grad_fn)", here())
    return result


def _gradients(
    grad_fn: Callable[..., Any],
    seeds: list[Any],
    inputs: list[Any],
    variables: list[Any],
    name: str,
) -> list[Any]:
    """What grad_fn gives for inputs and variables, as tensors of their types; None is zero."""
    if not variables:
        return _fitted(grad_fn(*seeds), inputs, name, "inputs")
    _check_takes_variables(grad_fn, variables, name)
    grads, variable_grads = grad_fn(*seeds, variables=variables)
    found = _fitted(grads, inputs, name, "inputs")
    return found + _fitted(variable_grads, variables, name, "variables")


def _check_takes_variables(grad_fn: Callable[..., Any], variables: list[Any], name: str) -> None:
    parameters = inspect.signature(grad_fn).parameters.values()
    if not any(p.name == "variables" or p.kind is p.VAR_KEYWORD for p in parameters):
        raise DTypeError(
            "If using @custom_gradient with a function that uses variables, then grad_fn must "
            f"accept a 'variables' keyword argument; `{name}` reads "
            f"{[v.name for v in variables]}", here()
        )  # fmt: skip


def _fitted(grads: Any, inputs: list[Any], name: str, what: str) -> list[Any]:
    found = nest.flatten(grads)
    if len(found) != len(inputs):
        raise ArgumentError(
            f"custom_gradient: `{name}` has {len(inputs)} {what}, and its grad_fn gave "
            f"{len(found)} gradients for them", here()
        )  # fmt: skip
    kind = current_kind()
    made = []
    for g, x in zip(found, inputs):
        g = kind.lift(0 if g is None else g, None if isinstance(g, Arith) else x.dtype).cast(
            x.dtype
        )
        made.append(g.broadcast_to(x.type.shape))
    return made


class _EagerOp:
    """What the tape's record of an eager call stands in for: only the walker looks at it."""

    decompose = None
    transpose = None
    nondifferentiable = False
    multi = True
    by_parts = False
    name = "custom_gradient"

    def __init__(self, grad_fn: Callable[..., Any], variables: list[Any], name: str) -> None:
        self.vjp = grad_fn
        self.variables = variables
        self.function = name

    def pullback(self, gs: Any, outs: Any, xs: Any, attrs: Any, needs: Any) -> tuple[Any, ...]:
        seeds = [zeros_like(y.type) if g is None else g for g, y in zip(gs, outs)]
        inputs = list(xs[: len(xs) - len(self.variables)])
        grads = _gradients(self.vjp, seeds, inputs, self.variables, self.function)
        return tuple(g if need else None for g, need in zip(grads, needs))


def _eager(f: Callable[..., Any], values: list[Any], args: Any, kwargs: Any) -> Any:
    name = getattr(f, "__name__", "f")
    with recording(Watcher()) as watcher:
        result, grad_fn = _result(f, args, kwargs)
    if watcher.variables:
        _check_takes_variables(grad_fn, watcher.variables, name)
    kind = current_kind()
    flat = [kind.lift(y) for y in nest.flatten(result)]
    outs = tuple(EagerTensor(y.array) for y in flat)  # new: the tapes know no other way to them
    op: Any = _EagerOp(grad_fn, watcher.variables, name)
    for recorder in state.recorders:
        recorder.record(op, (*values, *watcher.values), {}, outs)
    return nest.pack(result, outs)


def _traced(f: Callable[..., Any], values: list[Any], args: Any, kwargs: Any) -> Any:
    """One `custom_call`, of the graphs of `f` and of its grad_fn.

    Both are cut out of one trace of `f` and then grad_fn, whose inputs are the arguments: what
    grad_fn reads of the forward part is computed again, and shared with it by the passes.
    """
    outer: Any = state.builder
    name = getattr(f, "__name__", "f")
    builder = Builder(name, parent=outer, value_class=SymbolicTensor)
    with builder.tracing():
        params = [builder.param(v.type) for v in values]
        with recording(Watcher()) as watcher:
            result, grad_fn = _result(f, nest.pack(args, params), kwargs)
        outs = [builder.lift(y) for y in nest.flatten(result)]
        forward_nodes = len(builder.nodes)
        seeds = [builder.value(y.type) for y in outs if y.dtype.is_inexact]
        given = iter(seeds)
        gs = [next(given) if y.dtype.is_inexact else zeros_like(y.type) for y in outs]
        grads = _gradients(grad_fn, gs, params, watcher.variables, name)
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
    results = ops["custom_call"](*values, *builder.captured, graph=forward, backward=backward)
    return nest.pack(result, results)


def grad_pass_through(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` with the gradient of the identity.

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
        return f(*args, **kwargs), lambda *gs: gs if len(gs) > 1 else gs[0]

    return functools.wraps(f)(passed)
