"""What the methods of tapes take and give: structures of tensors, and errors about them."""

from __future__ import annotations

import enum
from typing import Any

from graphgrad import nest
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import ArgumentError, DTypeError, ShapeError
from graphgrad.compiler.ir import Value, leaked
from graphgrad.compiler.op import current_kind, state
from graphgrad.compiler.source import here
from graphgrad.variable import Variable


class UnconnectedGradients(enum.Enum):
    """What `gradient` gives for a source without a path to the target."""

    NONE = "none"
    ZERO = "zero"


def wants_zeros(unconnected_gradients: Any) -> bool:
    """Is ZERO asked for where there is no path?"""
    try:
        return UnconnectedGradients(unconnected_gradients) is UnconnectedGradients.ZERO
    except ValueError:
        raise ArgumentError(
            f"Unknown value for unconnected_gradients: {unconnected_gradients!r}; it is 'none' or "
            "'zero'", here()
        ) from None  # fmt: skip


def need_tensor(t: Any, role: str = "") -> None:
    """ArgumentError, in TensorFlow's words, for what is no tensor."""
    if not isinstance(t, Arith):
        raise ArgumentError(
            f"Passed in object {t!r} of type {type(t).__name__!r}{role}, not gg.Tensor or "
            "gg.Variable.", here()
        )  # fmt: skip
    refuse_leaked(t)


def refuse_leaked(t: Any) -> None:
    """LeakedTensorError for a symbolic tensor outside of traces; within one, lifting it tells."""
    if state.builder is None and isinstance(t, Value):
        raise leaked(t)


def one_tensor(t: Any, what: str) -> Any:
    """`t`, which must be one tensor; the value of a variable."""
    if not isinstance(t, Arith):
        raise DTypeError(
            f"{what} is to be one tensor, got a {type(t).__name__}; gg.jacrev takes the Jacobian "
            "of a function whose results are a structure", here()
        )  # fmt: skip
    refuse_leaked(t)
    return t.value() if isinstance(t, Variable) else t


def in_form_of(sources: Any, flat: list[Any], found: list[Any]) -> Any:
    """What was found for the leaves that are not None, in the structure of the sources."""
    if not nest.is_nest(sources):
        return found[0]
    rest = iter(found)
    return nest.pack(sources, [None if s is None else next(rest) for s in flat])


def given_seeds(target: Any, output_gradients: Any) -> list[Any]:
    """The cotangent of each target, from the same structure."""
    given = output_gradients
    single = isinstance(given, list | tuple) and len(given) == 1
    if single and not nest.is_nest(target) and not isinstance(given[0], int | float):
        return list(given)
    try:
        return [
            g for _, _, g in nest.flatten_up_to(
                target, given, "gradient: target and output_gradients", check_types=False
            )
        ]  # fmt: skip
    except ArgumentError as e:
        raise e.at(here()) from None


def tangents_of(
    name: str, primals: Any, tangents: Any, what: str = "primals and tangents"
) -> list[tuple[str, Any, Any]]:
    """The primals with their paths and tangents; primals that are None are left out."""
    try:
        pairs = nest.flatten_up_to(primals, tangents, f"{name}: {what}", check_types=False)
    except ArgumentError as e:
        raise e.at(here()) from None
    return [(path, x, t) for path, x, t in pairs if x is not None]


def seed(target: Any, given: Any) -> Any:
    """What was given as the cotangent of `target`, as one."""
    kind = current_kind()
    g = kind.lift(given, None if isinstance(given, Arith) else target.dtype).cast(target.dtype)
    try:
        return g.broadcast_to(target.type.shape)
    except ShapeError:
        raise ShapeError(
            f"gradient: output_gradients holds {g.type} for the target {target.type}", here()
        ) from None


def zeros_like(t: Any, lead: tuple[Any, ...] = ()) -> Any:
    """Zeros of the type of `t`, with further axes in front."""
    return current_kind().lift(0, t.dtype).broadcast_to((*lead, *t.type.shape))


def ones_like(t: Any) -> Any:
    """Ones of the type of `t`."""
    return current_kind().lift(1, t.dtype).broadcast_to(t.type.shape)
