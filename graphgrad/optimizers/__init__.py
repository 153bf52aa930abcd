"""gg.optimizers: rules that update variables by gradients, and schedules of learning rates."""

from __future__ import annotations

from typing import Any

from graphgrad.compiler.errors import ArgumentError
from graphgrad.compiler.source import here
from graphgrad.optimizers import schedules
from graphgrad.optimizers.adam import Adam, Adamax, AdamW, Nadam
from graphgrad.optimizers.adaptive import Adadelta, Adagrad, Ftrl, RMSprop
from graphgrad.optimizers.gradient_descent import SGD, Lion
from graphgrad.optimizers.optimizer import Optimizer

_BY_NAME = {
    c.__name__.lower(): c
    for c in (SGD, Lion, Adam, AdamW, Adamax, Nadam, RMSprop, Adagrad, Adadelta, Ftrl)
}


def get(identifier: Any) -> Optimizer:
    """An optimizer by its name or by what `serialize` gave; an optimizer is returned as it is.

    >>> import graphgrad as gg
    >>> gg.optimizers.get("rmsprop")
    <gg.optimizers.RMSprop 'rmsprop'>
    """
    if isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    return deserialize({"class_name": identifier, "config": {}})


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer, without its state, as a dictionary of plain values.

    >>> import graphgrad as gg
    >>> config = gg.optimizers.serialize(gg.optimizers.SGD(0.5))
    >>> gg.optimizers.deserialize(config).learning_rate.numpy()
    np.float32(0.5)
    """
    return {"class_name": type(optimizer).__name__, "config": optimizer.get_config()}


def deserialize(config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Optimizer:
    """The optimizer that `serialize` described; `custom_objects` are further classes by name."""
    known = {**_BY_NAME, **{n.lower(): c for n, c in (custom_objects or {}).items()}}
    name = str(config.get("class_name"))
    if name.lower() not in known:
        raise ArgumentError(
            f"no optimizer is called {name!r}; there are {', '.join(sorted(known))}. Give classes "
            "of your own as custom_objects", here()
        )  # fmt: skip
    found: Optimizer = known[name.lower()].from_config(config.get("config", {}))
    return found


__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "Lion",
    "Nadam",
    "Optimizer",
    "RMSprop",
    "deserialize",
    "get",
    "schedules",
    "serialize",
]
