"""The driver of rewrites: one walk over a graph applies a set of rules wherever they match.

The walk goes from inputs to outputs, so that a rule sees its inputs already rewritten, and what a
rule builds is rewritten in turn as it is built; only rules that depend on users can ask for
another walk. Rules are indexed by the op they start at and, under that, by what the inputs are,
so that a node at which no rule can match costs one dictionary lookup.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from graphgrad.compiler.arith import Arith
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.dtypes import DType
from graphgrad.compiler.errors import InvalidGraph
from graphgrad.compiler.ir import Builder, Graph, Node, Value
from graphgrad.compiler.op import Application, Attrs, Op, state
from graphgrad.compiler.passes.patterns import (
    COMMUTATIVE,
    STRETCHING,
    Child,
    Facts,
    Pattern,
    Rule,
    expression_text,
)
from graphgrad.compiler.source import Where

# What right sides build is rewritten in turn, at most this deep; ends rules that undo each other.
DEPTH = 40


class Firing(NamedTuple):
    """One application of a rule, for reports."""

    rule: Rule
    where: Where | None
    before: str
    after: str

    @property
    def name(self) -> str:
        return self.rule.name

    def __str__(self) -> str:
        place = f"{self.where.short()}: " if self.where is not None else ""
        return f"{place}{self.name}: {self.before} -> {self.after}"


class RuleSet:
    """Rules in order of preference, indexed by the op and the kinds of its inputs."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        names = Counter(r.name for r in self.rules)
        doubled = [name for name, n in names.items() if n > 1]
        if doubled:
            raise ValueError(f"rules with one name: {', '.join(doubled)}")
        self._candidates: dict[tuple[Op, tuple[Child, ...]], tuple[Rule, ...]] = {}
        self._chosen: dict[tuple[bool, frozenset[str]], RuleSet] = {}

    def candidates(self, op: Op, children: tuple[Child, ...]) -> tuple[Rule, ...]:
        """The rules that may match an application of `op` to such inputs."""
        key = (op, children)
        found = self._candidates.get(key)
        if found is None:
            found = tuple(r for r in self.rules if feasible(r, op, children))
            self._candidates[key] = found
        return found

    def choose(self, fast_math: bool, refused: frozenset[str]) -> RuleSet:
        """Without the rules that change results, unless `fast_math`, and without refused ones."""
        key = (fast_math, refused)
        found = self._chosen.get(key)
        if found is None:
            kept = [r for r in self.rules if r.name not in refused]
            found = RuleSet([r for r in kept if fast_math or r.exactness != "fast_math"])
            self._chosen[key] = found
        return found

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)


def feasible(rule: Rule, op: Op, children: tuple[Child, ...]) -> bool:
    """May `rule` match an application of `op` to inputs of these kinds?"""
    if op.name not in rule.roots and not (rule.of is not None and rule.of(op)):
        return False
    if rule.left is None:
        return rule.given is None or rule.given(children)
    wanted = rule.left.inputs
    if len(wanted) != len(children):
        return False
    orders = [children, children[::-1]] if op.name in COMMUTATIVE else [children]
    return any(all(map(_fits, wanted, order)) for order in orders)


def _fits(pattern: Any, child: Child) -> bool:
    name, is_scalar = child
    if not isinstance(pattern, Pattern) or pattern.constant:
        return is_scalar
    if pattern.op is None or name == pattern.op.name:
        return True
    return pattern.stretched and name in STRETCHING


@contextmanager
def building(builder: Builder) -> Iterator[None]:
    """Ops append to `builder` meanwhile; tapes do not see them."""
    saved = state.builder, state.recorders, state.where
    state.builder, state.recorders = builder, ()
    try:
        yield
    finally:
        state.builder, state.recorders, state.where = saved


class Rewriter(Builder):
    """Builds the rewritten graph; it is the kind of value that right sides compute with, and the
    facts that left sides ask for.

    Values of the old graph stand for themselves as long as no rule replaces them.
    """

    def __init__(self, graph: Graph, rules: RuleSet) -> None:
        super().__init__(graph.name, scope=DimScope())
        self.params = list(graph.params)
        self.graph = graph
        self.rules = rules
        self.producers: dict[Value, Node] = {}
        self.scalars: dict[Value, Any] = {}
        self.replaced: dict[Value, Value] = {}
        self.stands_for: dict[Value, list[Value]] = {}  # the old values that it took the place of
        self.made: dict[Any, tuple[Value, ...]] = {}  # new nodes, to build equal ones once
        self.firings: list[Firing] = []
        self.depth = 0

    # What the left sides ask.

    def producer(self, value: Any) -> Node | None:
        return self.producers.get(value)

    def scalar(self, value: Any) -> Any:
        return self.scalars.get(value)

    def used_once(self, value: Any) -> bool:
        """Is `value` read by one node at most, and no output? Then replacing it costs nothing."""
        old = self.stands_for.get(value, [value])
        readers = sum(len(self.graph.uses.get(v, ())) for v in old)
        return readers <= 1 and not any(v is o for v in old for o in self.graph.outputs)

    # What the right sides call.

    def lift(self, x: object, dtype: DType | None = None) -> Value:
        if isinstance(x, Value):
            return self.replaced.get(x, x)
        if isinstance(x, Arith):
            raise TypeError("a rule's right side used a value of another kind")
        return super().lift(x, dtype)

    def capture(self, x: Any, type: Any) -> Value:
        raise TypeError("a rule's right side built a constant that is too large for a literal")

    def append(self, op: Op, inputs: tuple[Value, ...], attrs: Attrs) -> tuple[Value, ...]:
        key = None
        if not op.effect:
            key = (op, inputs, attrs_key(attrs))
            found = self.made.get(key)
            if found is not None:
                return found
        types = op.infer(tuple(x.type for x in inputs), attrs)
        outputs = tuple(Value(t, None, state.where) for t in types)
        result = self.emit(Node(op, inputs, attrs, outputs, state.where))
        if key is not None:
            self.made[key] = result
        return result

    def copy(self, node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...]:
        """A node of another graph, on values of this one; it keeps the user's line."""
        saved, state.where = state.where, node.where
        try:
            return self.append(node.op, inputs, node.attrs)
        finally:
            state.where = saved

    # The walk.

    def visit(self, node: Node) -> None:
        """A node of the old graph."""
        replaced = self.replaced
        if replaced and not replaced.keys().isdisjoint(node.inputs):
            inputs = tuple(replaced.get(x, x) for x in node.inputs)
            node = Node(node.op, inputs, node.attrs, node.outputs, node.where)
        outputs = self.emit(node)
        if outputs is not node.outputs:
            for old, new in zip(node.outputs, outputs, strict=True):
                replaced[old] = new
                self.stands_for.setdefault(new, [new]).append(old)

    def emit(self, node: Node) -> tuple[Value, ...]:
        """What takes the place of the node's outputs; adds the node if no rule applies."""
        children = tuple(self._child(x) for x in node.inputs)
        rules = self.rules.candidates(node.op, children)
        if rules and self.depth < DEPTH:
            for rule in rules:
                outputs = self._apply(rule, node)
                if outputs is not None:
                    return outputs
        self.nodes.append(node)
        for v in node.outputs:
            self.producers[v] = node
        if node.op.name == "constant":
            array = node.attrs["value"].array
            if array.ndim == 0:
                self.scalars[node.out] = array[()]
        elif node.op.name in STRETCHING and node.inputs[0] in self.scalars:
            self.scalars[node.out] = self.scalars[node.inputs[0]]
        return node.outputs

    def _child(self, x: Value) -> Child:
        node = self.producers.get(x)
        return (None if node is None else node.op.name), x in self.scalars

    def _apply(self, rule: Rule, node: Node) -> tuple[Value, ...] | None:
        bound = rule.match(node, self)
        if bound is None:
            return None
        saved, state.where = state.where, node.where
        self.depth += 1
        try:
            result = rule.build(bound)
            if result is None:
                return None
            outputs = self._outputs(rule, node, result)
        finally:
            self.depth -= 1
            state.where = saved
        self.firings.append(firing(rule, node, outputs[0], self))
        return outputs

    def _outputs(self, rule: Rule, node: Node, result: Any) -> tuple[Value, ...]:
        """The results as the values that the node's outputs were: a smaller one is broadcast."""
        results = result if isinstance(result, tuple) else (result,)
        outputs = []
        for r, old in zip(results, node.outputs, strict=True):
            value = self.lift(r, old.type.dtype)
            if value.type.shape != old.type.shape:
                value = value.broadcast_to(old.type.shape)
            if value.type != old.type:
                raise InvalidGraph(f"rule {rule.name}: {value.type} for {old.type}", node.where)
            outputs.append(value)
        return tuple(outputs)

    def result(self, graph: Graph) -> Graph:
        """The rewritten graph; the same object where no rule fired."""
        if not self.firings:
            return graph
        outputs = tuple(self.replaced.get(v, v) for v in graph.outputs)
        return Graph(graph.params, tuple(self.nodes), outputs, graph.name)


def firing(rule: Rule, root: Application, after: Any, facts: Facts) -> Firing:
    """The record of one application of `rule`."""
    before = rule.before
    if not before:
        before = f"{root.op.name}({', '.join(expression_text(x, facts, 1) for x in root.inputs)})"
    text = str(rule.right) if isinstance(rule.right, Pattern) else expression_text(after, facts, 2)
    return Firing(rule, root.where, before, text)


def attrs_key(attrs: Attrs) -> Any:
    """Attributes as a key that tells 0.0 from -0.0 and 1 from 1.0 and True."""
    return tuple((k, _exact(attrs[k])) for k in sorted(attrs)) if attrs else ()


def _exact(x: Any) -> Any:
    if isinstance(x, bool | int | float):
        return type(x), repr(x)
    if isinstance(x, tuple):
        return tuple(map(_exact, x))
    return x


class _Refused:
    """The names of the rules that must not fire in this process."""

    names: frozenset[str] = frozenset()


def refused() -> frozenset[str]:
    """The names of the rules that must not fire."""
    return _Refused.names


def set_refused(names: Iterable[str]) -> None:
    """From now on the rules of these names, and no others, do not fire."""
    _Refused.names = frozenset(names)


def rewrite(
    graph: Graph, rules: RuleSet, firings: list[Firing] | None = None, fast_math: bool = False
) -> Graph:
    """`graph` with `rules` applied wherever they match; `firings` is extended by what happened.

    A graph to which no rule applies is returned as it is.
    """
    rewriter = Rewriter(graph, rules.choose(fast_math, refused()))
    with building(rewriter):
        for node in graph.nodes:
            rewriter.visit(node)
    if firings is not None:
        firings.extend(rewriter.firings)
    return rewriter.result(graph)
