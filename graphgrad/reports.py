"""What a function says about its traces: why they were made, and how there would be fewer."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from graphgrad import nest
from graphgrad.compiler.arith import Arith
from graphgrad.guards import Guard
from graphgrad.signature import (
    Arguments,
    Identity,
    Signature,
    TensorSpec,
    is_tensor_key,
    leaf_key,
    show_leaf,
    without_sizes,
)
from graphgrad.snapshots import SCALARS, Scalar

if TYPE_CHECKING:
    from graphgrad.concrete import ConcreteFunction

# What differs, and what would make one trace do.
ADVICE = {
    "size": "Leave sizes open that vary: {signature}, or reduce_retracing=True.",
    "rank": "",
    "dtype": "Cast {label} to one dtype before the call.",
    "number": "Pass {label} as a tensor: Python numbers count by value.",
    "value": "",
    "object": "Pass the same object as {label} each time: objects count by identity.",
    "structure": "Pass {label} in one form.",
    "state": "Keep in a gg.Variable, or pass as a tensor, what changes between calls.",
    "condition": "",
}


class Difference(NamedTuple):
    """One thing in which a call differs from a trace: the argument, its kind, and both sides."""

    label: str
    kind: str
    text: str


class TraceTable:
    """The traces of a function. Prints as a table; iterates over the traces.

    >>> import graphgrad as gg
    >>> f = gg.function(lambda x: x * 2)
    >>> y, z = f(gg.ones([2, 3])), f(gg.ones([4, 3]))
    >>> f.traces()[1].difference
    'x: f32[2, 3] -> f32[4, 3]'
    >>> f.traces().proposed_input_signature
    [TensorSpec(shape=(None, 3), dtype=gg.float32, name=None)]
    """

    def __init__(self, name: str, traces: list[ConcreteFunction]) -> None:
        self.name = name
        self.traces = traces

    def __len__(self) -> int:
        return len(self.traces)

    def __iter__(self) -> Any:
        return iter(self.traces)

    def __getitem__(self, i: int) -> ConcreteFunction:
        return self.traces[i]

    @property
    def proposed_input_signature(self) -> list[Any] | None:
        """An input signature by which one trace would do for two or more of these; or None."""
        groups: dict[Any, list[ConcreteFunction]] = {}
        for t in self.traces:
            groups.setdefault(_but_sizes(t.arguments), []).append(t)
        largest = max(groups.values(), key=len, default=[])
        return proposed_signature([t.arguments for t in largest]) if len(largest) > 1 else None

    def __str__(self) -> str:
        lines = [f"{self.name}: {len(self.traces)} trace{'' if len(self.traces) == 1 else 's'}"]
        for i, t in enumerate(self.traces):
            place = t.where.short() if t.where is not None else "?"
            lines.append(
                f"  {i}: ({t.signature_text}) at {place}, {t.count} calls, "
                f"traced in {t.seconds:.3f} s"
            )
            if t.difference:
                lines.append(f"     differs in {t.difference}")
        proposed = self.proposed_input_signature
        if proposed is not None:
            lines.append(f"  one trace for all sizes: {signature_text(proposed)}")
        return "\n".join(lines)

    __repr__ = __str__


def signature_text(signature: list[Any]) -> str:
    """An input signature as it is written in a program."""
    specs = [TensorSpec(x.shape.as_list(), x.dtype) if _is_spec(x) else x for x in signature]
    return f"input_signature={nest.map_structure(_Text, specs)}"


class _Text:
    """A leaf as it is written in a program."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec

    def __repr__(self) -> str:
        if not _is_spec(self.spec):
            return repr(self.spec)
        return f"gg.TensorSpec({self.spec.shape.as_list()}, {self.spec.dtype!r})"


def _is_spec(x: object) -> bool:
    return isinstance(x, TensorSpec)


def _but_sizes(arguments: Arguments) -> Any:
    """What calls have in common that one trace with open sizes could serve."""
    layout = nest.layout((arguments.args, arguments.kwargs))
    return layout, without_sizes(map(leaf_key, arguments.leaves))


def proposed_signature(calls: list[Arguments]) -> list[Any] | None:
    """The input signature that serves calls which differ in sizes; None where there is none.

    It covers the leading arguments that are tensors or None; those behind them count by value.
    """
    rows = [c.leaves for c in calls]
    merged = []
    for column in zip(*rows):
        if not all(map(_is_spec, column)):
            merged.append(column[0])
            continue
        shapes = zip(*(x.shape.as_list() for x in column))
        sizes = [n[0] if len(set(n)) == 1 else None for n in shapes]
        merged.append(TensorSpec(sizes, column[0].dtype))
    args, kwargs = nest.pack((calls[0].args, calls[0].kwargs), merged)
    covered = 0
    while covered < len(args) and _coverable(args[covered]):
        covered += 1
    rest = nest.flatten((args[covered:], kwargs))
    if any(_is_spec(x) and None in x.shape.as_list() for x in rest):
        return None
    found = list(args[:covered])
    opened = any(_is_spec(x) and None in x.shape.as_list() for x in nest.flatten(found))
    return found if opened else None


def _coverable(x: Any) -> bool:
    return all(leaf is None or _is_spec(leaf) for leaf in nest.flatten(x))


def argument_differences(
    old: Arguments, signature: Signature, arguments: Arguments
) -> list[Difference]:
    """How the arguments of two calls differ."""
    if nest.layout((old.args, old.kwargs)) != nest.layout((arguments.args, arguments.kwargs)):
        return _structures(signature, old, arguments)
    labels = signature.labels(arguments)
    pairs = zip(labels, map(leaf_key, old.leaves), map(leaf_key, arguments.leaves))
    return [
        Difference(n, _kind(a, b), f"{n}: {_sides(a, b)}") for n, a, b in pairs if not _fits(a, b)
    ]


def differences(
    trace: ConcreteFunction, signature: Signature, arguments: Arguments
) -> list[Difference]:
    """How a call differs from what `trace` was made for."""
    found = argument_differences(trace.arguments, signature, arguments)
    if any(d.kind == "structure" for d in found):
        return found
    found += [Difference(g.label, "state", _state(g, trace)) for g in trace.guards.changed()]
    for v, shape in trace.variable_shapes():
        now = v.tensor().shape
        if now != shape:
            text = f"the shape of the variable `{v.name}`: {list(shape)} -> {list(now)}"
            found.append(Difference(v.name, "state", text))
    if not found:
        sizes = trace.sizes_of(arguments.tensors)
        found = [
            Difference(str(g), "condition", f"the condition {g} on sizes")
            for g in trace.sizes.failing(sizes)
        ]
    return found


def _fits(a: Any, b: Any) -> bool:
    """Does a leaf with the key `b` fit a trace made for `a`, which may have open sizes?"""
    if a == b or not (is_tensor_key(a) and is_tensor_key(b)):
        return bool(a == b)
    return a[2] is b[2] and len(a[1]) == len(b[1]) and all(
        n is None or n == m for n, m in zip(a[1], b[1])
    )  # fmt: skip


def _sides(a: Any, b: Any) -> str:
    before, after = show_leaf(a), show_leaf(b)
    return f"{before} -> {'another' if before == after else after}"


def _kind(a: Any, b: Any) -> str:
    if isinstance(a, Identity) or isinstance(b, Identity):
        return "object"
    if is_tensor_key(a) and is_tensor_key(b):
        if a[2] is not b[2]:
            return "dtype"
        return "size" if len(a[1]) == len(b[1]) else "rank"
    numbers = (bool, int, float)
    return "number" if a[0] in numbers or b[0] in numbers else "value"


def _structures(signature: Signature, old: Arguments, new: Arguments) -> list[Difference]:
    """The arguments whose structures differ."""
    if len(old.args) != len(new.args):
        return [Difference("the arguments", "structure", "the number of positional arguments: "
                           f"{len(old.args)} -> {len(new.args)}")]  # fmt: skip
    if old.kwargs.keys() != new.kwargs.keys():
        names = [", ".join(sorted(x.kwargs)) or "none" for x in (old, new)]
        return [Difference("the arguments", "structure",
                           f"the keyword arguments: {names[0]} -> {names[1]}")]  # fmt: skip
    labels = [*signature.labels_of(len(new.args)), *sorted(new.kwargs)]
    pairs = [
        *zip(old.args, new.args),
        *((old.kwargs[k], new.kwargs[k]) for k in sorted(new.kwargs)),
    ]
    return [
        Difference(label, "structure", f"{label}{path}: {_form(a)} -> {_form(b)}")
        for label, (left, right) in zip(labels, pairs)
        for path, a, b in _first_difference(left, right)
    ]


def _first_difference(a: Any, b: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """The first place where two structures differ, and both parts there."""
    if nest.layout(a) == nest.layout(b):
        return []
    if nest.is_nest(a) and nest.is_nest(b) and type(a) is type(b):
        left, right = nest.children(a), nest.children(b)
        if [k for k, _ in left] == [k for k, _ in right]:
            for (step, x), (_, y) in zip(left, right):
                found = _first_difference(x, y, path + step)
                if found:
                    return found
    return [(path, a, b)]


def _form(x: Any) -> str:
    """A structure in a few words."""
    if not nest.is_nest(x):
        return show_leaf(leaf_key(x))
    kind = type(x).__name__
    if isinstance(x, dict):
        return f"{kind} with {', '.join(map(repr, x)) or 'nothing'}"
    return f"{kind} of {len(nest.children(x))}"


def _state(g: Guard, trace: ConcreteFunction) -> str:
    if not g.line:
        return g.label
    now = trace.guards.value(g)
    sides = ""
    was = g.was.value
    if isinstance(g.was, Scalar) and isinstance(now, SCALARS):
        sides = f": {reprlib.repr(was)} -> {reprlib.repr(now)}"
    elif isinstance(was, Arith | np.ndarray) and isinstance(now, Arith | np.ndarray):
        before, after = (getattr(x, "type", None) or x.shape for x in (was, now))
        sides = f": {before} -> {after}" if str(before) != str(after) else ""
    return f"the Python value `{g.label}`{sides} (read in {g.line})"


def nearest_difference(
    traces: list[ConcreteFunction], signature: Signature, arguments: Arguments
) -> list[Difference]:
    """How a call differs from the trace that it is most like, the latest of several."""
    every = [differences(t, signature, arguments) for t in reversed(traces)]
    return min(every, key=len, default=[])


def advice(found: list[Difference], calls: list[Arguments]) -> str:
    """What the user can do so that calls which differ so need one trace."""
    lines = []
    for d in {d.kind: d for d in reversed(found)}.values():
        proposed = None
        if d.kind == "size":
            latest = calls[-1]
            alike = [c for c in calls if _but_sizes(c) == _but_sizes(latest)]
            proposed = proposed_signature(alike)
        text = (
            "input_signature with None for them" if proposed is None else signature_text(proposed)
        )
        lines.append(ADVICE[d.kind].format(label=f"`{d.label}`", signature=text))
    return " ".join(filter(None, reversed(lines)))
