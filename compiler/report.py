"""What became of a graph, for people: kernels, what was fused and what was not, traffic and work.

report = make_report(compilation, shapes=[(64, 784)])
print(report)
report.steps[0].bytes_read
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import indent

from graphgrad.compiler.dims import Dim, symbols_of
from graphgrad.compiler.driver import Compilation
from graphgrad.compiler.hosted import Refusal
from graphgrad.compiler.ir import Graph, Node, Value
from graphgrad.compiler.loop_reader import LoopReader
from graphgrad.compiler.loop_report import LoopReport, every_loop
from graphgrad.compiler.passes.complexes import over_parts
from graphgrad.compiler.pipeline import StageRecord
from graphgrad.compiler.source import Where
from graphgrad.compiler.steps import CompiledStep, flattened
from graphgrad.compiler.transform.loop_memory import Schedule
from graphgrad.compiler.transform.sizes import bind_sizes, is_runtime
from graphgrad.compiler.work import (
    Sizes,
    Work,
    bytes_text,
    followed,
    nest_work,
    node_work,
    together,
)


@dataclass(frozen=True, slots=True)
class Apart:
    """Two operations that are not one kernel, and why."""

    first: str
    second: str
    first_place: str
    second_place: str
    reason: str
    times: int = 1

    def __str__(self) -> str:
        a = f"`{self.first}`" + (f" ({self.first_place})" if self.first_place else "")
        b = f"`{self.second}`" + (f" ({self.second_place})" if self.second_place else "")
        times = f" [{self.times} times]" if self.times > 1 else ""
        return f"{b} not with {a}: {self.reason}{times}"


@dataclass(frozen=True, slots=True)
class StepReport:
    """A kernel, one operation run by a library routine or by NumPy, or a loop or a branch."""

    kind: str  # kernel | routine | loop | branch | host
    name: str
    loops: str  # of a kernel, with sizes
    ops: tuple[tuple[str, tuple[str, ...]], ...]  # (user's line, operations of that line)
    apart: tuple[Apart, ...]
    work: Work | None  # None where sizes are unknown
    within: tuple[StepReport, ...] = ()  # of a loop or a branch, each run once
    loop: LoopReport | None = None
    refusals: tuple[Refusal, ...] = ()  # of a branch of the host: why it is not native

    @property
    def fused(self) -> tuple[str, ...]:
        """The operations of the step."""
        return tuple(op for _, ops in self.ops for op in ops)

    def __str__(self) -> str:
        lines = [f"{self.kind} {self.name}" + (f"  [{self.loops}]" if self.loops else "")]
        if self.work is not None:
            lines.append(f"    {self.work}")
        width = max((len(", ".join(ops)) for _, ops in self.ops), default=0)
        for place, ops in self.ops:
            names = ", ".join(ops)
            lines.append(f"    {names:<{min(width, 40)}}  # {place}" if place else f"    {names}")
        if self.loop is not None:
            lines += [f"    {text}" for text in self.loop.lines()]
        lines += [f"    not native: {r}" for r in self.refusals]
        lines += [f"    apart: {a}" for a in self.apart]
        lines += ["\n" + indent(str(step), "    ") for step in self.within]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Applied:
    """A rewrite rule that fired, where, and how often."""

    rule: str
    exactness: str
    place: str
    times: int

    def __str__(self) -> str:
        times = f" ({self.times} times)" if self.times > 1 else ""
        return f"{self.rule}{times}" + (f"  # {self.place}" if self.place else "")


@dataclass(frozen=True, slots=True)
class Report:
    """The steps of a compiled graph and what went before."""

    nodes_traced: int
    nodes: int  # after the passes
    steps: tuple[StepReport, ...]
    rules: tuple[Applied, ...]
    pass_seconds: float
    text_seconds: float  # passes, fusion and code text together
    compile_seconds: float | None = None
    cache_hit: bool | None = None
    buffers: Mapping[str, int] | None = None  # bytes by kind: see `_BUFFERS`
    schedules: tuple[Schedule, ...] = ()  # of loops that a bound on memory divides

    @property
    def kernels(self) -> tuple[StepReport, ...]:
        return tuple(s for s in every(self.steps) if s.kind == "kernel")

    @property
    def loops(self) -> tuple[LoopReport, ...]:
        """All loops, each followed by those within it."""
        return tuple(every_loop(s.loop for s in every(self.steps) if s.loop is not None))

    @property
    def stability_rules(self) -> tuple[Applied, ...]:
        """The rules that may change a result visibly: to one that is finite and right."""
        return tuple(r for r in self.rules if r.exactness == "stability")

    @property
    def total(self) -> Work | None:
        """The work of all steps; None where sizes are unknown."""
        parts = [s.work for s in self.steps if s.work is not None]
        return None if len(parts) < len(self.steps) else together(parts)

    def __str__(self) -> str:
        counts = Counter(s.kind for s in self.steps)
        made = ", ".join(_plural(counts[k], w) for k, w in _KINDS if counts[k]) or "nothing to run"
        lines = [f"{self.nodes_traced} operations traced, {self.nodes} after the passes: {made}"]
        for step in self.steps:
            lines += ["", str(step)]
        if self.schedules:
            lines += ["", "loops divided by loop_memory:"]
            lines += [f"    {schedule_text(s)}" for s in self.schedules]
        for title, rules in (
            ("stability rules", self.stability_rules),
            ("other rules", tuple(r for r in self.rules if r.exactness != "stability")),
        ):
            if rules:
                lines += ["", f"{title}:", *(f"    {r}" for r in rules)]
        return "\n".join([*lines, *self.buffer_lines(), "", self.summary()])

    def buffer_lines(self) -> list[str]:
        """The buffers of one call, kind by kind, and what they leave out."""
        if self.buffers is None:
            return []
        found = [(n, _BUFFERS[kind]) for kind, n in self.buffers.items() if n]
        kinds = {s.kind for s in every(self.steps)}
        apart = [text for kind, text in _NOT_COUNTED.items() if kind in kinds]
        lines = [f"    {bytes_text(n)} {text}" for n, text in found] or ["    none"]
        return [
            "",
            "buffers, alignment included:",
            *lines,
            *(f"    not counted: {x}" for x in apart),
        ]

    def summary(self) -> str:
        """The last line: traffic, memory and time."""
        parts = []
        if self.total is not None and len(self.steps) > 1:
            work = replace(self.total, elements=1)
            parts.append(f"together {work}")
        if self.buffers is not None:
            parts.append(f"{bytes_text(sum(self.buffers.values()))} of buffers")
        parts.append(f"text in {self.text_seconds * 1e3:.1f} ms")
        if self.compile_seconds is not None:
            source = " (from the cache)" if self.cache_hit else ""
            parts.append(f"compiled in {self.compile_seconds * 1e3:.1f} ms{source}")
        return "; ".join(parts)


_BUFFERS = {
    "constants": "of constants, for as long as the program is loaded",
    "arena": "of temporaries and scratch rows, kept from call to call",
    "fresh": "of outputs, made anew by each call",
    "recycled": "of large outputs, on memory that is used again once nobody holds them",
    "donated": "of outputs in the place of inputs that nobody else holds",
    "host": "of results of NumPy calls",
}
_NOT_COUNTED = {
    "routine": "what the BLAS library packs matrices into, which it keeps for the whole process",
    "host": "what NumPy allocates inside its calls",
}
_KINDS = (
    ("kernel", "kernel"),
    ("routine", "library call"),
    ("loop", "loop"),
    ("branch", "branch"),
    ("host", "NumPy call"),
)


def schedule_text(s: Schedule) -> str:
    """What a loop keeps and makes again, in one line."""
    place = f"  # {s.where.describe()}" if s.where is not None else ""
    state, each = bytes_text(s.state), bytes_text(s.each)
    if s.steps is None:
        made = (
            f"up to {s.slots} checkpoints of {state}, ever further apart; the last {s.levels[-1]} "
        )
        made += f"steps keep {each} each meanwhile"
    elif s.levels:
        spacing = " and every ".join(map(str, s.levels))
        made = (
            f"{s.steps} steps: a checkpoint of {state} every {spacing} steps, which are made again "
        )
        made += f"and keep {each} each meanwhile"
    else:
        made = f"{s.steps} steps: each keeps its state, {state}, and is made again from it"
    text = f"{made}; {bytes_text(s.peak)} of {bytes_text(s.bound)}"
    return text + place


def every(steps: Iterable[StepReport]) -> Iterator[StepReport]:
    """The steps, each followed by those within it."""
    for step in steps:
        yield step
        yield from every(step.within)


def make_report(
    compilation: Compilation,
    nodes_traced: int | None = None,
    shapes: Sequence[Sequence[int]] | None = None,
    compile_seconds: float | None = None,
    cache_hit: bool | None = None,
    buffers: Mapping[str, int] | None = None,
    schedules: Sequence[Schedule] = (),
    kept: int | None = None,
) -> Report:
    """The report of a compilation, with numbers for inputs of `shapes`.

    Without `shapes`, unknown sizes are those of the call that was traced. The outputs from number
    `kept` on are for a derivative.
    """
    sizes = None if compilation.parts is not None else sizes_of(compilation.graph, shapes)
    numbered = [*flattened(compilation.steps)]
    place_of = {id(n): k for k, s in enumerate(numbered) for n in s.nodes}
    reasons = {id(s): apart(compilation.refusals, place_of, k) for k, s in enumerate(numbered)}
    stages = compilation.stages
    reader = LoopReader([m for stage in stages for m in stage.moves], sizes)
    ends = () if kept is None else over_parts(compilation.graph).outputs[kept:]
    steps = tuple(step_report(s, reasons, sizes, reader, ends) for s in compilation.steps)
    if not steps and compilation.program.steps:  # sizes that are known only while it runs
        lines = lines_of(compilation.graph.nodes)
        steps = (StepReport("host", compilation.graph.name, "in parts", lines, (), None),)
    return Report(
        nodes_traced if nodes_traced is not None else stages[0].before if stages else 0,
        len(compilation.graph.nodes),
        steps,
        applied_rules(stages),
        sum(s.seconds for s in stages),
        compilation.seconds,
        compile_seconds,
        cache_hit,
        buffers,
        tuple(schedules),
    )


def sizes_of(graph: Graph, shapes: Sequence[Sequence[int]] | None) -> Sizes | None:
    """The unknown sizes of a graph's inputs: from `shapes`, else from the traced call; None where
    one is not known."""
    symbols = {s for t in graph.types for n in t.shape if isinstance(n, Dim) for s in symbols_of(n)}
    if shapes is not None:
        found = {s: n for s, n in bind_sizes(graph.types, shapes).items() if isinstance(n, int)}
    else:
        found = {s: s.scope.hints[s] for s in symbols if s in s.scope.hints}
    return found if symbols <= found.keys() else None


# -- steps


def step_report(
    step: CompiledStep,
    apart: Mapping[int, tuple[Apart, ...]],
    sizes: Sizes | None,
    reader: LoopReader,
    kept: Iterable[Value] = (),
    again: bool = False,
) -> StepReport:
    """The report of a step; `apart` has the reasons of each step, by identity. `kept` are values of
    the graph it stands in that a derivative reads elsewhere; `again` says that this graph is a part
    of a derivative."""
    nest, reasons = step.nest, apart[id(step)]
    if any(is_runtime(v.type) for n in step.nodes for v in (*n.inputs, *n.outputs)):
        sizes = None  # known to the run alone
    loop = reader.of_step(step, kept, again)
    ends = kept_within(step, loop, kept)
    inside = again or (loop is not None and loop.where is not None and loop.where.derivative)
    within = tuple(step_report(s, apart, sizes, reader, ends, inside) for s in step.within)
    if nest is None:
        name = step.kernel.name if step.kernel is not None else step.nodes[0].op.name
        work = None if sizes is None else node_work(step.nodes[0], sizes)
        if work is not None and step.epilogue is not None and sizes is not None:
            work = followed(work, step.nodes[0], *step.epilogue, sizes)
        refusals = () if loop is not None else step.refusals
        return StepReport(
            step.kind, name, "", lines_of(step.nodes), reasons, work, within, loop, refusals
        )
    name = step.kernel.name if step.kernel is not None else nest.title
    loops = " x ".join(
        f"{n}{' parallel' if d < nest.parallel else ''}" for d, n in enumerate(nest.dims)
    )
    if step.others:
        counts = Counter([loops, *(str(other.dims[0]) for other, _ in step.others)])
        loops = ", ".join(f"{n}{f' ({k} times)' if k > 1 else ''}" for n, k in counts.items())
        loops = f"{len(step.others) + 1} in one launch: {loops}"
    work = None
    if sizes is not None:
        work = together([nest_work(n, arrays, sizes) for n, arrays in step.parts])
    return StepReport(step.kind, name, loops, lines_of(step.nodes), reasons, work)


def kept_within(step: CompiledStep, loop: LoopReport | None, kept: Iterable[Value]) -> list[Value]:
    """The values of a loop's body, or of branches, that a derivative outside reads."""
    if not step.within:
        return []
    attrs, wanted = step.nodes[0].attrs, set(kept)
    if loop is not None:
        stacked = zip(over_parts(attrs["body_graph"]).outputs[attrs["carried"] :], loop.stacked)
        return [v for v, s in stacked if s.why]
    branches = [over_parts(attrs[k]).outputs for k in ("true_graph", "false_graph") if k in attrs]
    return [v for outs in branches for v, w in zip(outs, step.nodes[0].outputs) if w in wanted]


def lines_of(nodes: Iterable[Node]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The operations by the user's line they came from, in order; its text is shown once."""
    found: dict[str, list[str]] = {}
    shown: dict[tuple[str, int], str] = {}
    for node in nodes:
        where = node.where
        place = ""
        if where is not None:
            first = shown.setdefault((where.file, where.line), where.short())
            place = where.describe() if first == where.short() else where.short()
        found.setdefault(place, []).append(node.op.name)
    return tuple((place, tuple(ops)) for place, ops in found.items())


def apart(
    refusals: Iterable[tuple[Node, Node, str]], step_of: Mapping[int, int], step: int
) -> tuple[Apart, ...]:
    """Why operations of step number `step` did not join those before them."""
    found: Counter[Apart] = Counter()
    seen: set[tuple[int, int, str]] = set()  # a pair may be tried more than once
    for first, second, reason in refusals:
        here = step_of.get(id(second))
        key = (id(first), id(second), reason)
        if here == step and step_of.get(id(first)) != here and key not in seen:
            seen.add(key)
            places = _short(first.where), _short(second.where)
            found[Apart(first.op.name, second.op.name, *places, reason)] += 1
    return tuple(replace(a, times=n) for a, n in found.items())


def applied_rules(stages: Iterable[StageRecord]) -> tuple[Applied, ...]:
    """The rules that fired, by name and line."""
    found: Counter[tuple[str, str, str]] = Counter()
    for stage in stages:
        for f in stage.firings:
            found[f.name, f.rule.exactness, _short(f.where)] += 1
    return tuple(Applied(*key, times) for key, times in found.items())


def _short(where: Where | None) -> str:
    return where.short() if where is not None else ""


def _plural(n: int, word: str) -> str:
    ending = "es" if word.endswith("ch") else "s"
    return f"{n} {word}{'' if n == 1 else ending}"
