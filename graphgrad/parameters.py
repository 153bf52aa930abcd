"""What the Python function gets while it is traced: symbolic tensors in place of data."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphgrad import nest
from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.ir import Builder
from graphgrad.compiler.op import current_kind
from graphgrad.compiler.source import here
from graphgrad.compiler.types import TensorType, tensor_type
from graphgrad.eager import eager
from graphgrad.signature import (
    CHANGEABLE,
    Arguments,
    Identity,
    Signature,
    TensorSpec,
    is_tensor_leaf,
    leaf_key,
    without_sizes,
)
from graphgrad.tensor import EagerTensor


def specs_of(arguments: Arguments, input_signature: Any) -> list[TensorSpec | None]:
    """What each leaf is traced as: a specification for data, None for Python objects."""
    wanted = nest.flatten(input_signature) if input_signature is not None else []
    wanted += [None] * (len(arguments.leaves) - len(wanted))
    found: list[TensorSpec | None] = []
    for x, spec in zip(arguments.leaves, wanted):
        if not is_tensor_leaf(x):
            found.append(None)
        elif isinstance(spec, TensorSpec):
            found.append(spec)
        elif isinstance(x, TensorSpec):
            found.append(x)
        else:
            t = example_type(x)
            found.append(TensorSpec(t.shape, t.dtype))
    return found


def relaxed_specs(
    specs: list[TensorSpec | None], earlier: list[TensorType]
) -> list[TensorSpec | None]:
    """The specifications with None where an earlier trace had other sizes."""
    types = iter(earlier)
    return [
        None if spec is None else TensorSpec(
            [n if n == m else None for n, m in zip(spec.shape, next(types).shape)], spec.dtype
        )
        for spec in specs
    ]  # fmt: skip


def relaxed_key(key: Any) -> Any:
    """The key without sizes: what calls that differ only in them have in common."""
    if key[0] in ("signature", "relaxed"):
        return key
    layout, leaves = key
    return "relaxed", layout, without_sizes(leaves)


def parameters(builder: Builder, arguments: Arguments, specs: list[TensorSpec | None]) -> list[Any]:
    """The leaves with parameters of the trace in place of data."""
    leaves: list[Any] = []
    position = 0
    for x, spec in zip(arguments.leaves, specs):
        if spec is None:
            leaves.append(x)
            continue
        shape: list[Any] = []
        for axis, n in enumerate(spec.shape):
            if n is None:
                hint = None if isinstance(x, TensorSpec) else int(x.shape[axis])
                letter = "nmklpqrs"[len(builder.scope.symbols) % 8]
                n = builder.scope.symbol(
                    f"{letter}{len(builder.scope.symbols) // 8 or ''}", position, axis, hint
                )
            shape.append(n)
        leaves.append(builder.param(tensor_type(tuple(shape), spec.dtype), here()))
        position += 1
    return leaves


def example_type(leaf: Any) -> TensorType:
    """The type of an argument that is passed as data."""
    if isinstance(leaf, EagerTensor):
        return leaf.type
    array = np.asarray(leaf)
    return tensor_type(array.shape, eager.lift(array[()] if array.ndim == 0 else array).dtype)


def lifted(arguments: Arguments) -> tuple[Any, Any]:
    """The arguments of a call inside of a trace: arrays are tensors there too."""
    if not any(isinstance(x, np.ndarray | np.generic) for x in arguments.leaves):
        return arguments.args, arguments.kwargs
    kind = current_kind()
    leaves = [
        kind.lift(x) if isinstance(x, np.ndarray | np.generic) else x for x in arguments.leaves
    ]
    return nest.pack((arguments.args, arguments.kwargs), leaves)


def inline_key(arguments: Arguments) -> Any:
    """The key of arguments that may be symbolic."""
    leaves: list[Any] = []
    for x in arguments.leaves:
        t = getattr(x, "type", None)
        if hasattr(t, "dtype"):
            leaves.append(("tensor", str(t)))
        else:
            leaves.append(Identity(x) if isinstance(x, CHANGEABLE) else leaf_key(x))
    return nest.layout((arguments.args, arguments.kwargs)), tuple(leaves)


def objects(signature: Signature, arguments: Arguments) -> list[tuple[str, Any]]:
    """The arguments that may be passed by identity: their attributes are guarded."""
    labels = signature.labels(arguments)
    return [(label, x) for label, x in zip(labels, arguments.leaves) if not is_tensor_leaf(x)]


def call_unmodified(
    python_function: Any, signature: Signature, arguments: Arguments, leaves: list[Any]
) -> Any:
    """The function's result for `leaves` in the structure of `arguments`.

    The structures are copies, so what the function does to them would be lost: that is an error.
    """
    structure = arguments.args, arguments.kwargs
    given = nest.pack(structure, leaves)
    result = python_function(*given[0], **given[1])
    now = nest.flatten(given)
    same = len(now) == len(leaves) and all(a is b for a, b in zip(now, leaves))
    if not same or nest.layout(given) != nest.layout(structure):
        was = nest.pack(structure, leaves)
        names = [*signature.labels_of(len(was[0])), *sorted(was[1])]
        parts = [*was[0], *(was[1][k] for k in sorted(was[1]))]
        after = [*given[0], *(given[1][k] for k in sorted(was[1]))]
        changed = [n for n, a, b in zip(names, parts, after) if not _is_same(a, b)]
        raise ArgumentError(
            f"`{signature.name}` should not modify its Python input arguments, and changes "
            f"{', '.join(f'`{n}`' for n in changed)}. Check if it modifies any lists or dicts "
            "passed as arguments. Modifying a copy is allowed.", here()
        )  # fmt: skip
    return result


def _is_same(a: Any, b: Any) -> bool:
    left, right = nest.flatten(a), nest.flatten(b)
    return (
        nest.layout(a) == nest.layout(b)
        and len(left) == len(right)
        and all(x is y for x, y in zip(left, right))
    )
