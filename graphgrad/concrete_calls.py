"""Calls of one trace: which arguments fit, and how its signature is printed."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from graphgrad import nest
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError, DTypeError
from graphgrad.compiler.op import current_kind
from graphgrad.compiler.source import here
from graphgrad.compiler.types import TensorType
from graphgrad.signature import (
    Arguments,
    Identity,
    Signature,
    TensorSpec,
    is_tensor_leaf,
    leaf_key,
    show_leaf,
)

if TYPE_CHECKING:
    from graphgrad.concrete import ConcreteFunction


def spec(t: TensorType, name: str | None = None) -> TensorSpec:
    """The specification that tensors of the type `t` satisfy."""
    return TensorSpec([n if isinstance(n, int) else None for n in t.shape], t.dtype, name)


def tensors_of_call(
    trace: ConcreteFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[Any]:
    """The tensors of a call of `trace`, in order.

    A call looks like one of the function; arguments without tensors may be left out, and must be
    what they were for the trace. The tensors alone, one after the other, will do as well.
    """
    try:
        return _structured(trace, args, kwargs)
    except (TypeError, ArgumentError) as error:
        flat = not kwargs and len(args) == len(trace.types)
        if not flat or not all(isinstance(x, Arith | np.ndarray | np.generic) for x in args):
            raise
        try:
            return [fitted(trace, x, t, "a tensor") for x, t in zip(args, trace.types)]
        except DTypeError:
            raise error from None


def _structured(
    trace: ConcreteFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[Any]:
    traced, name = trace.arguments, trace.name
    given = _bound(trace.signature, traced, args, kwargs)
    types = iter(trace.types)
    found = []
    labels = [*trace.signature.labels_of(len(traced.args)), *sorted(traced.kwargs)]
    old = [*traced.args, *(traced.kwargs[k] for k in sorted(traced.kwargs))]
    new = [*given.args, *(given.kwargs[k] for k in sorted(traced.kwargs))]
    for label, a, b in zip(labels, old, new):
        what = f"{name}: argument `{label}` and what this concrete function was traced for"
        for path, wanted, x in nest.flatten_up_to(a, b, what):
            if is_tensor_leaf(wanted):
                found.append(fitted(trace, x, next(types), f"argument `{label}{path}`"))
            elif x is not wanted and leaf_key(x) != leaf_key(wanted):
                was = show_leaf(leaf_key(wanted))
                raise DTypeError(
                    f"{name}: this concrete function was traced for `{label}{path}` = {was}, got "
                    f"{show_leaf(leaf_key(x))}", here()
                )  # fmt: skip
    return found


def _bound(
    signature: Signature, traced: Arguments, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Arguments:
    """The canonical arguments of a call, those without tensors as they were where not given."""
    if signature.signature is None:
        given = Arguments(args, kwargs)
    else:
        bare = inspect.Signature(
            [p.replace(default=p.empty) for p in signature.signature.parameters.values()]
        )
        traced_by_name = bare.bind(*traced.args, **traced.kwargs)
        try:
            bound = bare.bind_partial(*args, **kwargs)
        except TypeError as e:
            raise TypeError(f"{signature.name}() {e}") from None
        for name, x in traced_by_name.arguments.items():
            if name not in bound.arguments:
                if any(map(is_tensor_leaf, nest.flatten(x))):
                    raise DTypeError(
                        f"{signature.name}: this concrete function takes `{name}`, which is "
                        "missing", here()
                    )  # fmt: skip
                bound.arguments[name] = x
        ordered = {n: bound.arguments[n] for n in bare.parameters if n in bound.arguments}
        bound = inspect.BoundArguments(bare, ordered)
        given = Arguments(bound.args, bound.kwargs)
    if len(given.args) != len(traced.args) or given.kwargs.keys() != traced.kwargs.keys():
        raise DTypeError(
            f"{signature.name}: this concrete function takes {len(traced.args)} positional "
            f"arguments and the keywords {sorted(traced.kwargs)}, got {len(given.args)} and "
            f"{sorted(given.kwargs)}", here()
        )  # fmt: skip
    return given


def fitted(trace: ConcreteFunction, x: Any, wanted: TensorType, label: str) -> Any:
    """`x` as a tensor of the type `wanted`."""
    kind = current_kind()
    array = isinstance(x, Arith | np.ndarray | np.generic)
    if isinstance(x, TensorSpec | Identity):
        raise DTypeError(f"{trace.name}: {label} is {x}, and calls take tensors", here())
    x = kind.lift(x) if array else kind.lift(x, wanted.dtype)
    if not spec(wanted).is_compatible_with(x):
        raise DTypeError(
            f"{trace.name}: this concrete function takes {wanted} as {label}, got {x.type}", here()
        )
    return x


def signature_text(trace: ConcreteFunction) -> str:
    """The signature over several lines, in TensorFlow's layout."""
    args, kwargs = trace.structured_input_signature
    named = trace.signature.signature
    parameters = named.parameters if named is not None else {}
    lines = ["Input Parameters:"]
    for label, x in [*zip(trace.signature.labels_of(len(args)), args), *kwargs.items()]:
        p = parameters.get(label.partition("[")[0])
        kind = p.kind.name if p is not None else "VAR_KEYWORD"
        lines.append(f"  {label} ({kind}): {_type_text(x)}")
    if len(lines) == 1:
        lines.append("  None")
    lines += ["Output Type:", f"  {_type_text(trace.structured_outputs)}", "Captures:"]
    captures = [_capture_text(x) for x in trace.captured_inputs]
    return "\n".join(lines + [f"  {text}" for text in captures or ["None"]])


def _type_text(x: Any) -> str:
    if isinstance(x, TensorSpec):
        return repr(x)
    if isinstance(x, Identity):
        return f"Reference[{type(x.ref()).__name__}]"
    if not nest.is_nest(x):
        return f"Literal[{x!r}]"
    kind = type(x).__name__
    kind = kind.capitalize() if type(x) in (dict, list, tuple) else kind
    if isinstance(x, dict):
        return f"{kind}[{', '.join(f'[{k!r}, {_type_text(v)}]' for k, v in x.items())}]"
    return f"{kind}[{', '.join(_type_text(v) for _, v in nest.children(x))}]"


def _capture_text(x: Any) -> str:
    if isinstance(x, np.ndarray):
        return f"array {x.dtype}{list(x.shape)}"
    name = getattr(x, "name", None)
    return f"variable {name!r}: {x.type}" if name is not None else f"tensor {x.type}"
