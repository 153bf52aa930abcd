"""`x[i] = v` and `x[i] += v`: of a tensor, a new tensor for the name `x`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphgrad.arrays import Growable
from graphgrad.compiler.arith import Arith
from graphgrad.compiler.errors import DTypeError, NoValueError
from graphgrad.compiler.op import current_kind, state
from graphgrad.compiler.source import here
from graphgrad.conversion.operators.containers import rebuilt
from graphgrad.conversion.operators.names import label
from graphgrad.conversion.operators.numbers import is_symbolic, same_kind
from graphgrad.conversion.operators.staleness import mark
from graphgrad.slices import updated
from graphgrad.variable import Variable


class _Key:
    """`key[a:b, ...]` is the key itself."""

    def __getitem__(self, index: Any) -> Any:
        return index


key = _Key()


def set_item(x: Any, index: Any, value: Any, name: str) -> Any:
    """What `name` is after `name[index] = value`, where it was `x`.

    A tensor is replaced by a new one, of the same dtype; Python's containers and variables are
    changed and stay what they are.
    """
    if isinstance(x, Variable):
        x[index].assign(value)
        return x
    if isinstance(x, Arith):
        return _replaced(x, index, value, name)
    if isinstance(x, Growable):
        return x.set(index, value)
    if isinstance(x, list) and is_symbolic(index):
        return Growable.of(x).set(index, value)
    try:
        x[index] = value
    except NoValueError as error:
        raise error.at(None, _advice(x, name)) from None
    return x


def update_item(
    x: Any, index: Any, operator: Callable[[Any, Any], Any], value: Any, name: str
) -> Any:
    """What `name` is after `name[index] += value`, for the function of that operator."""
    return set_item(x, index, operator(x[index], value), name)


def get_path(x: Any, path: tuple[Any, ...], kinds: str) -> Any:
    """`x.name[i]...`, with a name for each "a" of `kinds` and an index for each "i"."""
    for step, kind in zip(path, kinds, strict=True):
        x = getattr(x, step) if kind == "a" else x[step]
    return x


def set_path(x: Any, path: tuple[Any, ...], kinds: str, value: Any, name: str) -> Any:
    """What `x` is after `x.name[i]... = value`, an assignment to a part of what is in it.

    A tensor is replaced by a new one where it is held; containers and objects stay what they are.
    """
    if len(path) == 1:
        return set_item(x, path[0], value, name)
    inner = get_path(x, path[:1], kinds[:1])
    new = set_path(inner, path[1:], kinds[1:], value, name)
    if new is inner:
        return x
    if kinds[0] == "a":
        setattr(x, path[0], new)
        return x
    if isinstance(x, tuple):
        parts = list(x)
        parts[path[0]] = new
        return rebuilt(x, parts)
    return set_item(x, path[0], new, name)


def _replaced(x: Any, index: Any, value: Any, name: str) -> Any:
    kind = current_kind()
    tensor = kind.lift(x)
    given = kind.lift(value) if isinstance(value, Arith) else kind.lift(value, None)
    number = not hasattr(value, "dtype")
    if not same_kind(given.dtype, tensor.dtype) and not (number and tensor.dtype.is_bool):
        raise DTypeError(
            f"{label(name, '[...]')} = value: the tensor is {tensor.type}, and the value "
            f"{given.type} would lose what makes it {given.dtype.name}; cast the value with "
            f"gg.cast(value, gg.{tensor.dtype.name}), or make the tensor {given.dtype.name}", here()
        )  # fmt: skip
    result = updated(tensor, index, value if number else given.cast(tensor.dtype))
    if state.builder is not None:
        mark(x, name)
    return result


def _advice(x: Any, name: str) -> str:
    return (
        f"{label(name)} is a {type(x).__name__}, whose items Python keeps: make it a tensor first "
        "(gg.constant, gg.stack), or use a gg.TensorArray"
    )
