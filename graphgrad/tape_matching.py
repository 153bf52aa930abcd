"""Generated code that tells whether a backward walk has a known structure, in little time.

`matcher` says of the same walks yes as `describe` gives the key of the one it was made for, and
then fetches what the walk reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphgrad.eager import array_of
from graphgrad.tape_structure import Groups, Targets, attributes_key, stretched

Matcher = Callable[..., list[Any] | None]


def matcher(
    records: Sequence[Any],
    targets: Targets,
    groups: Groups,
    others: Sequence[Any],
    reads: Sequence[Any],
    parts: Mapping[int, Any],
    answers: Sequence[tuple[Any, Any]],
) -> Matcher:
    """A function `match(records, targets, groups, others, constant)` for tapes with the same
    operations in the same order: the arrays of what corresponds to `reads`, or None.

    `parts[id(x)]` is what is read of a value that is stretched. `answers` are values with what
    `constant` is to say of them.

    For `y = sin(x)`, with x of three floats, asked for the gradient of y by x:

        def match(records, targets, groups, others, constant):
            try:
                r0, = records
                v0, = r0.inputs
                a = v0.array
                if a.shape != (3,) or a.dtype != k4 or 0 in a.strides: return
                if r0.attrs: return
                v1, = r0.outputs
                (t0, g0), = targets
                if t0 is not v1: return
                if g0 is not None: return
                ids = {id(v0), id(v1)}
                if len(ids) != 2: return
                q0, = groups
                s0, = q0
                if s0 is not v0: return
                () = others
                a = v0.array
                a0 = a if a.flags.c_contiguous else contiguous(v0)
                return [a0]
            except ValueError:  # another number of inputs or of sources
                return
    """
    w = _Writer()
    w.line(f"{_row('r{0}', len(records))} = records")
    for i, r in enumerate(records):
        w.record(i, r)
    w.line(f"{_row('(t{0}, g{0})', len(targets))} = targets")
    for i, (t, g) in enumerate(targets):
        w.same(f"t{i}", t)
        if g is None:
            w.refuse(f"g{i} is not None")
        else:
            w.refuse(f"g{i} is None")
            w.value(f"g{i}", g)
    w.distinct()
    w.line(f"{_row('q{0}', len(groups))} = groups")
    for i, group in enumerate(groups):
        w.line(f"{_row('s{0}', len(group))} = q{i}")
        for j, s in enumerate(group):
            w.same(f"s{j}", s)
    w.line(f"{_row('s{0}', len(others))} = others")
    for i, o in enumerate(others):
        w.same(f"s{i}", o)
    for x, answer in answers:
        w.refuse(f"not same(constant({w.names[id(x)]}), {w.constant(answer)})")
    return w.finish(reads, parts)


def _row(name: str, count: int) -> str:
    """The left side that takes a sequence of `count` apart."""
    return "".join(name.format(i) + ", " for i in range(count)).rstrip() or "()"


class _Writer:
    """The text of a matcher, the names of the values in it, and the constants that it refers to."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[int, str] = {}
        self.scope: dict[str, Any] = {
            "contiguous": array_of,
            "attributes_key": attributes_key,
            "stretched": stretched,
            "same": same,
        }

    def line(self, text: str) -> None:
        self.lines.append(text)

    def refuse(self, condition: str) -> None:
        self.line(f"if {condition}: return")

    def constant(self, x: Any) -> str:
        name = f"k{len(self.scope)}"
        self.scope[name] = x
        return name

    def new(self, value: Any) -> str:
        name = self.names[id(value)] = f"v{len(self.names)}"
        return name

    def record(self, i: int, record: Any) -> None:
        left, known, fresh = [], [], []
        for j, x in enumerate(record.inputs):
            if id(x) in self.names:
                left.append(f"x{j}")
                known.append(f"x{j} is not {self.names[id(x)]}")
            else:
                left.append(self.new(x))
                fresh.append(x)
        self.line(f"{', '.join(left)}, = r{i}.inputs")
        for x in fresh:
            self.outside(x)
        if known:
            self.refuse(" or ".join(known))
        if record.attrs:
            attrs, key = self.constant(record.attrs), self.constant(attributes_key(record.attrs))
            self.line(f"a = r{i}.attrs")
            self.refuse(f"a is not {attrs} and attributes_key(a) != {key}")
        else:
            self.refuse(f"r{i}.attrs")
        self.line(f"{', '.join(map(self.new, record.outputs))}, = r{i}.outputs")

    def value(self, name: str, value: Any) -> None:
        """`name` is `value`, which may come from outside."""
        if id(value) in self.names:
            self.refuse(f"{name} is not {self.names[id(value)]}")
        else:
            self.line(f"{self.new(value)} = {name}")
            self.outside(value)

    def outside(self, value: Any) -> None:
        """The type of a value that no record made."""
        array = value.array
        self.line(f"a = {self.names[id(value)]}.array")
        strides = "0 in a.strides"
        if 0 in array.strides:
            strides = f"stretched(a) != {stretched(array)}"
        dtype = self.constant(array.dtype)
        self.refuse(f"a.shape != {array.shape} or a.dtype != {dtype} or {strides}")

    def distinct(self) -> None:
        self.line(f"ids = {{{', '.join(f'id({v})' for v in self.names.values())}}}")
        self.refuse(f"len(ids) != {len(self.names)}")

    def same(self, name: str, value: Any) -> None:
        """`name` is `value`, or as it no value of the tape."""
        known = self.names.get(id(value))
        self.refuse(f"id({name}) in ids" if known is None else f"{name} is not {known}")

    def finish(self, reads: Sequence[Any], parts: Mapping[int, Any]) -> Matcher:
        for i, x in enumerate(reads):
            name, part = self.names[id(x)], parts.get(id(x))
            self.line(f"a = {name}.array" + ("" if part is None else f"[{self.constant(part)}]"))
            copied = f"contiguous({name})" if part is None else "a.copy()"
            self.line(f"a{i} = a if a.flags.c_contiguous else {copied}")
        self.line(f"return [{', '.join(f'a{i}' for i in range(len(reads)))}]")
        body = "".join(f"        {text}\n" for text in self.lines)
        text = (
            "def match(records, targets, groups, others, constant):\n"
            f"    try:\n{body}"
            "    except ValueError:  # another number of inputs or of sources\n"
            "        return\n"
        )
        exec(text, self.scope)
        found: Matcher = self.scope["match"]
        found.__doc__ = text
        return found


def same(a: Any, b: Any) -> bool:
    """Are two answers equal, bit by bit?"""
    if a is None or b is None:
        return a is b
    return bool(a.dtype == b.dtype and a.tobytes() == b.tobytes())
