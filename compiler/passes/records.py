"""Stability rules on the records of a tape, before its backward walk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from typing import Any

from graphgrad.compiler.ir import Builder, Node, Value
from graphgrad.compiler.op import Application, ops
from graphgrad.compiler.passes.patterns import STRETCHING, Rule
from graphgrad.compiler.passes.rewrite import Firing, firing, refused
from graphgrad.compiler.passes.stability import gradient_rules
from graphgrad.compiler.transform.autodiff import Recording, at, recording

Constant = Callable[[Any], Any]
Make = Callable[..., Application]


@cache
def roots() -> frozenset[str]:
    """The ops that rules start at."""
    return frozenset(root for r in gradient_rules() for root in r.roots)


@lru_cache(maxsize=256)
def _rules_for(present: frozenset[str]) -> dict[str, tuple[Rule, ...]]:
    """The rules whose ops are all present or built by such rules, by the op they start at."""
    possible: list[Rule] = []
    while True:  # what one rule builds, another may look for
        possible = [r for r in gradient_rules() if r.requires <= present]
        wider = present.union(*(r.provides for r in possible))
        if wider == present:
            break
        present = wider
    return {root: tuple(r for r in possible if root in r.roots) for root in roots()}


def stabilise(
    applications: Sequence[Application],
    make: Make = Node,
    sources: Iterable[Any] = (),
    constant: Constant | None = None,
    firings: list[Firing] | None = None,
) -> Sequence[Application]:
    """The records with unstable forms replaced, for a backward walk to `sources`.

    A replacement is computed by calling ops in the kind at work, so that other active tapes see
    it; its last record is `identity` to the value that the user holds, which stays as it was. The
    backward walk, and what comes later on the tape, use the value of the stable form. Forms
    through a value among `sources` are left alone: its own derivative is asked for.

    `make(op, inputs, attrs, outputs, where)` makes a record. `constant(value)` is the NumPy scalar
    that a value which no tape watches is known to be, or None; symbolic constants are known.
    Records in which no rule can start cost one set operation.
    """
    present = frozenset([a.op.name for a in applications])
    if present.isdisjoint(roots()):
        return applications
    rules = _rules_for(present)
    if not any(rules.values()):
        return applications
    return _Records(rules, make, sources, constant, firings).run(applications)


class _Records:
    """The records seen so far, as facts for the left sides, and the records to be."""

    def __init__(
        self,
        rules: dict[str, tuple[Rule, ...]],
        make: Make,
        sources: Iterable[Any],
        constant: Constant | None,
        firings: list[Firing] | None,
    ) -> None:
        self.rules = rules
        self.make = make
        self.sources = {id(x) for x in sources}
        self.constant = constant
        self.firings = firings
        self.refused = refused()
        self.made_by: dict[int, Application] = {}
        self.nodes: dict[Builder, dict[Value, Node]] = {}
        self.stable: dict[int, Any] = {}  # what stands for a value from now on, by its id
        self.out: list[Application] = []

    def producer(self, value: Any) -> Application | None:
        return self.made_by.get(id(value))

    def scalar(self, value: Any) -> Any:
        made = self.made_by.get(id(value))
        while made is not None and made.op.name in STRETCHING:
            value = made.inputs[0]
            made = self.made_by.get(id(value))
        if made is not None or id(value) in self.sources:
            return None
        known = self._symbolic_scalar(value) if isinstance(value, Value) else None
        return self.constant(value) if known is None and self.constant is not None else known

    def _symbolic_scalar(self, value: Value) -> Any:
        if value.builder is None:
            return None
        nodes = self.nodes.get(value.builder)
        if nodes is None:
            nodes = {v: n for n in value.builder.nodes for v in n.outputs}
            self.nodes[value.builder] = nodes
        node = nodes.get(value)
        while node is not None and node.op.name in STRETCHING:
            node = nodes.get(node.inputs[0])
        if node is None or node.op.name != "constant" or not node.attrs["value"].is_scalar:
            return None
        return node.attrs["value"].array[()]

    def used_once(self, value: Any) -> bool:
        return False

    def run(self, applications: Sequence[Application]) -> Sequence[Application]:
        for a in applications:
            self.add(a)
        return self.out

    def add(self, a: Application) -> None:
        """One record, or its replacement, which may be replaced in turn."""
        stable = self.stable
        if stable and any(id(x) in stable for x in a.inputs):
            inputs = tuple(stable.get(id(x), x) for x in a.inputs)
            a = self.make(a.op, inputs, a.attrs, a.outputs, a.where)
        for r in self.rules.get(a.op.name, ()):
            if r.name not in self.refused and self._apply(r, a):
                return
        for v in a.outputs:
            if id(v) not in self.sources:
                self.made_by[id(v)] = a
        self.out.append(a)

    def _apply(self, r: Rule, a: Application) -> bool:
        bound = r.match(a, self)
        if bound is None:
            return False
        with recording(Recording()) as parts, at(a.where):
            result = r.build(bound)
        old = a.outputs[0]
        if result is None or result.type != old.type:
            return False
        for part in parts.applications:
            self.add(self.make(part.op, part.inputs, part.attrs, part.outputs, a.where))
        if self.firings is not None:
            self.firings.append(firing(r, a, result, self))
        result = self.stable.get(id(result), result)
        self.out.append(self.make(ops["identity"], (result,), {}, (old,), a.where))
        if id(old) not in self.sources:
            self.stable[id(old)] = result
        return True
