"""Helpers for tests of rewrites: graphs before and after, and equality at edge values."""

import itertools

import numpy as np

from graphgrad.compiler import dtypes
from graphgrad.compiler.errors import GraphgradError
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import Graph, trace
from graphgrad.compiler.passes.cse import cse
from graphgrad.compiler.passes.dce import dce
from graphgrad.compiler.passes.patterns import Attr, Pattern, instantiate
from graphgrad.compiler.passes.rewrite import RuleSet, rewrite
from graphgrad.compiler.printer import graph_text
from graphgrad.compiler.types import tensor_type
from graphgrad.compiler.verify import verify

FLOAT_EDGES = (
    0.0, -0.0, 1.0, -1.0, 2.5, -3.0, 1e-3, 88.8, -104.0, 1e-45, -1e-310, 1.2e-38, 3e-308, 1e-20,
    1e20, -3.4e38, np.inf, -np.inf, np.nan,
)  # fmt: skip


def f32(*shape):
    return tensor_type(shape, dtypes.float32)


def typed(dtype, *shape):
    return tensor_type(shape, dtypes.as_dtype(dtype))


def graph_of(fn, types):
    """The trace of a function of values that returns one value or several."""

    def several(*xs):
        result = fn(*xs)
        return result if isinstance(result, list | tuple) else [result]

    graph, captured = trace(several, types, "f")
    assert not captured
    return graph


def tidy(graph):
    """Without dead and doubled nodes, in the order in which the outputs need them."""
    graph = dce(cse(graph))
    order = {}

    def need(v):
        node = graph.producers.get(v)
        if node is not None and node not in order:
            for x in node.inputs:
                need(x)
            order[node] = True

    for v in graph.outputs:
        need(v)
    return Graph(graph.params, tuple(order), graph.outputs, graph.name)


def edges(dtype):
    """Values at which exactness is decided."""
    d = dtypes.as_dtype(dtype)
    with np.errstate(all="ignore"):
        if d.is_bool:
            return np.array([False, True])
        if d.is_integer:
            return np.array([0, 1, 2, 7, d.min, d.max, d.max - 1], d.dtype)
        return np.array(FLOAT_EDGES).astype(d.dtype)


def edge_arrays(types):
    """Arrays of `types` filled with edge values, differently one from another."""
    arrays = []
    for i, t in enumerate(types):
        values = np.roll(edges(t.dtype), -3 * i)
        arrays.append(np.resize(values, t.shape))
    return arrays


def same_bits(a, b):
    """Equal bit for bit, but any NaN equals any other."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    equal = (
        a.view(f"V{a.itemsize}") == b.view(f"V{b.itemsize}")
        if a.ndim
        else a.tobytes() == b.tobytes()
    )
    return bool(np.all(equal | (is_nan(a) & is_nan(b))))


def is_nan(a):
    return a != a


def nearly(a, b, ulps=4):
    """Equal but for the rounding that the contract leaves open; NaN, inf and 0 agree."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    eps = 2.0**-23
    with np.errstate(all="ignore"):
        close = np.abs(a - b) <= ulps * eps * np.abs(b) + 1e-44
    return bool(np.all((a == b) | close | (np.isnan(a) & np.isnan(b))))


def assert_rewrites(run_pass, before, after, types, exactness="exact"):
    """`run_pass` makes the trace of `before` that of `after`, and both compute the same."""
    given = graph_of(before, types)
    got = tidy(verify(run_pass(given)))
    wanted = tidy(graph_of(after, types))
    assert got.fingerprint == wanted.fingerprint, (
        f"input:\n{graph_text(given, False)}\ngot:\n{graph_text(got, False)}\n"
        f"wanted:\n{graph_text(wanted, False)}"
    )
    if exactness != "stability":
        arrays = edge_arrays(types)
        agree = same_bits if exactness == "exact" else nearly
        for a, b in zip(interpret(given, arrays), interpret(got, arrays), strict=True):
            assert agree(a, b), f"{a}\n{b}"


def variables(pattern, found=None):
    """The variables of a pattern, in order: name -> what kind."""
    found = {} if found is None else found
    if isinstance(pattern, Pattern):
        if pattern.op is None:
            found.setdefault(pattern.name, "constant" if pattern.constant else "value")
        for x in pattern.inputs:
            variables(x, found)
        for a in pattern.attrs.values():
            if isinstance(a, Attr):
                found.setdefault(a.name, "attribute")
    return found


def check_rule(rule, dtype, shaped=None, constants=(2.0, -3.0, 0.5, 0.1, 1.0, np.inf)):
    """Run both sides of an elementwise rule at all combinations of edge values.

    `shaped` maps a variable to a function that makes it what the guard asks for. Returns how many
    graphs the rule fired on; raises AssertionError where the sides differ.
    """
    kinds = variables(rule.left)
    assert "attribute" not in kinds.values()
    values = [n for n, kind in kinds.items() if kind == "value"]
    numbers = [n for n, kind in kinds.items() if kind == "constant"]
    types = [typed("bool" if n == "p" else dtype, 1) for n in values]
    grids = [edges(t.dtype) for t in types]
    arrays = [np.array(column) for column in zip(*itertools.product(*grids), strict=True)]
    types = [typed(t.dtype, len(a)) for t, a in zip(types, arrays, strict=True)]
    fired = 0
    for chosen in itertools.product(constants, repeat=len(numbers)):

        def left(*xs, chosen=chosen):
            bound = {
                n: (shaped or {}).get(n, lambda x: x)(x) for n, x in zip(values, xs, strict=True)
            }
            bound |= dict(zip(numbers, chosen, strict=True))
            return instantiate(rule.left, bound)

        try:
            graph = graph_of(left, types)
        except (GraphgradError, OverflowError):
            return 0  # not for this dtype
        firings = []
        rewritten = verify(rewrite(graph, RuleSet([rule]), firings, fast_math=True))
        if not firings:
            continue
        fired += 1
        agree = (
            same_bits if rule.exactness == "exact" or dtypes.as_dtype(dtype).is_integer else nearly
        )
        for a, b in zip(interpret(graph, arrays), interpret(rewritten, arrays), strict=True):
            bad = [i for i in range(len(a)) if not agree(a[i], b[i])]
            assert not bad, (
                f"{rule.name} in {dtype}, constants {chosen}: at "
                f"{[x[bad[0]] for x in arrays]} the left side is {a[bad[0]]}, the right {b[bad[0]]}"
            )
    return fired
