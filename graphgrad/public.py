"""The user-facing functions of the op table, by dotted name: one op record gives its function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from graphgrad import numpy_protocol
from graphgrad.compiler import ops as all_ops
from graphgrad.compiler.errors import GraphgradError
from graphgrad.compiler.families import Elementwise
from graphgrad.compiler.op import Op, ops
from graphgrad.eager import install_operators, short_ways
from graphgrad.tracebacks import filtered

functions: dict[str, Callable[..., Any]] = numpy_protocol.namespace


def _general(op: Op) -> Callable[..., Any]:
    def call(*args: Any, **attrs: Any) -> Any:
        try:
            found = op(*args, **attrs)
        except GraphgradError as e:
            filtered(e)
            raise
        return list(found) if op.multi else found

    return call


@functools.cache
def _elementwise_signature(first: str, arity: int) -> inspect.Signature:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = [inspect.Parameter(n, kind) for n in (first, "y", "z")[:arity]]
    return inspect.Signature([*names, inspect.Parameter("name", kind, default=None)])


def _describe(function: Any, op: Op) -> None:
    """Give `function` what `help` shows; its parameters are those of the op's binding, or x, y,
    name. `inspect.signature` follows `__wrapped__`, so that a binding is read only when asked for.
    """
    function.__name__ = function.__qualname__ = op.public_names[0].rpartition(".")[2]
    function.__doc__ = op.doc
    function.__module__ = "graphgrad"
    if op.bind is not None:
        function.__wrapped__ = op.bind
    elif isinstance(op, Elementwise):
        function.__signature__ = _elementwise_signature(op.parameter, op.arity)


def _fill() -> None:
    short = short_ways()
    install_operators(short)
    for op in ops.values():
        if not op.public_names:
            continue
        function = short.get(op.name) or _general(op)
        _describe(function, op)
        for name in op.public_names:
            functions[name] = function
    functions.update(all_ops.FUNCTIONS)
    functions["__getitem__"] = all_ops.indexing.index


_fill()


def exported(prefix: str) -> dict[str, Callable[..., Any]]:
    """The functions of one namespace ("" is the package itself), by their last name."""
    start = prefix + "." if prefix else ""
    return {
        name[len(start) :]: f
        for name, f in functions.items()
        if name.startswith(start) and "." not in name[len(start) :] and not name.startswith("__")
    }


def publish(name: str) -> Callable[[Any], Any]:
    """Add a function to the namespace of NumPy's protocol under `name`."""

    def add(function: Any) -> Any:
        functions[name] = function
        return function

    return add
