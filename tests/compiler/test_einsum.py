"""einsum and tensordot give what NumPy gives, with derivatives, and multiply in a good order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphgrad.compiler import dtypes
from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.errors import ArgumentError, GraphgradError, ShapeError
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.ir import Graph, trace
from graphgrad.compiler.ops.einsum import contraction_order, diagonal, einsum, parsed, tensordot
from graphgrad.compiler.transform.batching import batch_graph
from graphgrad.compiler.types import tensor_type
from tests.compiler.compiling import compile_full, run_compiled
from tests.compiler.differences import check_all, graph_of

EQUATIONS: list[tuple[str, *tuple[tuple[int, ...], ...]]] = [
    ("i->", (4,)),
    ("i->i", (4,)),
    ("ij->ji", (2, 3)),
    ("ij", (2, 3)),
    ("ba", (2, 3)),
    ("ii", (3, 3)),
    ("ii->i", (3, 3)),
    ("iii->i", (2, 2, 2)),
    ("iji->ji", (3, 2, 3)),
    ("iijj->", (2, 2, 3, 3)),
    ("...ii->...", (2, 3, 3)),
    ("i...->...", (2, 3, 2)),
    ("...", (2, 3)),
    ("i,i", (3,), (3,)),
    ("i,j", (2,), (3,)),
    ("i,j->ji", (2,), (3,)),
    ("ij,j", (2, 3), (3,)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ij,jk->ki", (2, 3), (3, 4)),
    ("ji,kj->ik", (3, 2), (4, 3)),
    ("ij,ij->i", (2, 3), (2, 3)),
    ("ij,ij->", (2, 3), (2, 3)),
    ("ij,kl->", (2, 3), (2, 2)),
    ("ij,kl->jl", (2, 3), (2, 2)),
    ("bij,bjk->bik", (2, 2, 3), (2, 3, 2)),
    ("bij,bkj->bki", (2, 2, 3), (2, 2, 3)),
    ("ibj,jbk->bik", (2, 2, 3), (3, 2, 2)),
    ("...ij,...jk->...ik", (2, 1, 2, 3), (4, 3, 2)),
    ("...ij,jk", (2, 2, 3), (3, 2)),
    ("ij...,jk...->ik...", (2, 3, 2), (3, 2, 2)),
    ("bhqd,bhkd->bhqk", (2, 2, 3, 2), (2, 2, 2, 2)),
    ("abcd,cbae->de", (2, 3, 2, 2), (2, 3, 2, 3)),
    ("ij,ij->ij", (1, 3), (2, 3)),
    ("ij,jk->ik", (2, 1), (3, 4)),
    ("ii,ij->j", (3, 3), (3, 2)),
    ("i,ij,j", (2,), (2, 3), (3,)),
    ("ij,jk,kl->il", (2, 3), (3, 2), (2, 4)),
    ("ij,jk,ki->", (2, 3), (3, 4), (4, 2)),
    ("a,b,c,d,e,f->fa", (2,), (1,), (2,), (3,), (2,), (2,)),
    ("ab,bc,cd,de,ef,fg,gh->ah", *((2, 2),) * 7),
    ("ij,ij,ij->j", (2, 3), (2, 3), (2, 3)),
    (" i j , j k -> i k ", (2, 3), (3, 4)),
    ("iJ,Ji->J", (2, 3), (3, 2)),
    ("ij,jk->ik", (0, 3), (3, 2)),
    ("ij,jk->ik", (2, 0), (0, 2)),
    (",ij->ij", (), (2, 3)),
    ("->", ()),
]  # fmt: skip


def example(equation: str, shapes: Any) -> tuple[Callable[..., Any], list[Any]]:
    rng = np.random.default_rng(len(equation))
    return lambda *xs: einsum(equation, *xs), [rng.uniform(-2, 2, s) for s in shapes]


@pytest.mark.parametrize("case", EQUATIONS, ids=lambda c: " ".join(map(str, c)))
def test_einsum_is_numpys(case: Any) -> None:
    equation, *shapes = case
    fn, arrays = example(equation, shapes)
    graph = graph_of(fn, arrays)
    wanted = np.einsum(equation, *arrays)
    (got,) = interpret(graph, arrays)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)
    check_all(graph, arrays)
    check_lanes(graph, arrays)


def check_lanes(graph: Graph, arrays: list[Any]) -> None:
    """Against a loop over the examples of the first operand."""
    lanes = np.stack([arrays[0], 2 * arrays[0]])
    batched = (True, *(False for _ in arrays[1:]))
    many, _ = batch_graph(graph, batched, 2)
    (got,) = interpret(many, [lanes, *arrays[1:]])
    for lane, g in zip(lanes, got, strict=True):
        np.testing.assert_allclose(g, interpret(graph, [lane, *arrays[1:]])[0], atol=1e-12)


def test_compiled_einsum_is_numpys() -> None:
    """All equations as one program."""
    arrays = [a for equation, *shapes in EQUATIONS for a in example(equation, shapes)[1]]

    def every(*xs: Any) -> list[Any]:
        rest = iter(xs)
        return [einsum(e, *(next(rest) for _ in shapes)) for e, *shapes in EQUATIONS]

    rest = iter(arrays)
    got = run_compiled(compile_full(graph_of(every, arrays)), arrays)
    for g, (equation, *shapes) in zip(got, EQUATIONS, strict=True):
        wanted = np.einsum(equation, *(next(rest) for _ in shapes))
        np.testing.assert_allclose(g, wanted, rtol=1e-12, atol=1e-12, err_msg=equation)


def test_dtypes_join_and_16_bit_floats_are_summed_in_float32() -> None:
    ones = np.ones((2, 600), np.float16)
    graph = graph_of(lambda x, y: einsum("ij,ij->i", x, y), [ones, ones])
    np.testing.assert_array_equal(interpret(graph, [ones, ones])[0], [600, 600])
    graph = graph_of(lambda x, y: einsum("ij,j", x, y), [ones, np.ones(600, np.float64)])
    assert graph.output_types[0].dtype is dtypes.float64
    whole = np.arange(6, dtype=np.int32).reshape(2, 3)
    graph = graph_of(lambda x: einsum("ij,kj->ik", x, x), [whole])
    np.testing.assert_array_equal(interpret(graph, [whole])[0], whole @ whole.T)


OPEN: list[tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = [
    ("matrices", lambda x: einsum("ij,kj", x, x), lambda x: x @ x.T),
    ("trace", lambda x: einsum("ii", einsum("ij,kj", x, x)), lambda x: np.trace(x @ x.T)),
    ("rows", lambda x: einsum("ij,ij->i", x, x), lambda x: (x * x).sum(1)),
    ("three", lambda x: einsum("ij,kj,kl->il", x, x, x), lambda x: x @ x.T @ x),
    ("tensordot", lambda x: tensordot(x, x, [[0], [0]]), lambda x: x.T @ x),
]


@pytest.mark.parametrize(("fn", "wanted"), [o[1:] for o in OPEN], ids=[o[0] for o in OPEN])
def test_one_trace_serves_all_sizes(fn: Callable[[Any], Any], wanted: Callable[[Any], Any]) -> None:
    n = DimScope().symbol("n", 0, 0, hint=3)
    graph, _ = trace(lambda x: [fn(x)], [tensor_type((n, 4), dtypes.float64)])
    for size in (1, 3, 5):
        x = np.random.default_rng(size).uniform(-1, 1, (size, 4))
        np.testing.assert_allclose(interpret(graph, [x])[0], wanted(x), atol=1e-12)


PAIRED: list[tuple[tuple[int, ...], tuple[int, ...], Any]] = [
    ((2, 3), (3, 4), 1),
    ((2, 3), (2, 3), 2),
    ((2,), (3,), 0),
    ((2, 3, 4), (3, 4, 2), 2),
    ((2, 3, 4), (4, 3, 2), [[1, 2], [1, 0]]),
    ((2, 3), (2, 4), [[0], [0]]),
    ((2, 3), (4, 3), (-1, -1)),
    ((2, 2, 3), (3, 2, 2), ([0, 2], [1, 0])),
]


@pytest.mark.parametrize(("a", "b", "axes"), PAIRED, ids=str)
def test_tensordot_is_numpys(a: Any, b: Any, axes: Any) -> None:
    rng = np.random.default_rng(1)
    arrays = [rng.uniform(-2, 2, s) for s in (a, b)]
    graph = graph_of(lambda x, y: tensordot(x, y, axes), arrays)
    np.testing.assert_allclose(interpret(graph, arrays)[0], np.tensordot(*arrays, axes))
    check_all(graph, arrays)


def products(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def test_products_need_no_transposes() -> None:
    x, y = np.zeros((2, 3)), np.zeros((4, 3))
    assert products(graph_of(lambda x, y: einsum("ij,kj->ik", x, y), [x, y])) == ["matmul"]
    assert products(graph_of(lambda x, y: einsum("ij,kj->ki", x, y), [x, y])) == ["matmul"]
    assert products(graph_of(lambda x, y: einsum("ji,jk->ik", x, y), [x, np.zeros((2, 4))])) == [
        "matmul"
    ]
    heads = np.zeros((2, 2, 3, 4))
    assert products(graph_of(lambda q, k: einsum("bhqd,bhkd->bhqk", q, k), [heads] * 2)) == [
        "matmul"
    ]


def test_what_only_one_operand_has_is_summed_first() -> None:
    x = np.zeros((50, 60))
    graph = graph_of(lambda x, y: einsum("ij,kl->", x, y), [x, x])
    assert max(n.out.type.size for n in graph.nodes) == 1  # type: ignore[type-var]


def cost(order: Any, terms: Any, output: Any, sizes: dict[int, int]) -> int:
    total, left = 0, [set(t) for t in terms]
    for i, j in order:
        rest = [t for k, t in enumerate(left) if k not in (i, j)]
        union = left[i] | left[j]
        total += int(np.prod([sizes[c] for c in union]))
        left = [*rest, union & set(output).union(*rest)]
    assert len(left) == 1
    return total


def test_the_order_takes_the_fewest_multiplications() -> None:
    """Chains: against the classic dynamic program."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        n = [int(v) for v in rng.integers(1, 30, 6)]
        terms = tuple((i, i + 1) for i in range(5))
        sizes = tuple(enumerate(n))
        order = contraction_order(terms, (0, 5), sizes)
        least = {(i, i + 1): 0 for i in range(5)}
        for length in range(2, 6):
            for i in range(6 - length):
                j = i + length
                least[i, j] = min(
                    least[i, k] + least[k, j] + n[i] * n[k] * n[j] for k in range(i + 1, j)
                )
        assert cost(order, terms, (0, 5), dict(sizes)) == least[0, 5]


def test_many_operands_have_a_good_order() -> None:
    terms = tuple((i, i + 1) for i in range(20))
    sizes = tuple((i, 2 if i % 2 else 50) for i in range(21))
    order = contraction_order(terms, (0, 20), sizes)
    in_turn = tuple((0, 1) if i == 0 else (0, 19 - i) for i in range(19))
    assert cost(order, terms, (0, 20), dict(sizes)) < cost(in_turn, terms, (0, 20), dict(sizes)) / 5


X = np.zeros((2, 3))
BAD: list[tuple[Callable[[], Any], type[GraphgradError], str]] = [
    (lambda: einsum("ij,jk", X), ArgumentError, "'ij,jk' has 2 operands, and 1 are given"),
    (lambda: einsum("ijk", X), ShapeError, "'ijk' of 'ijk' names 3 axes, and its operand has 2"),
    (lambda: einsum("i", X), ShapeError, "'i' of 'i' names 1 axes, and its operand has 2"),
    (lambda: einsum("ij,jk", X, X), ShapeError, "'j' is 3 in f64[2, 3] and 2 in f64[2, 3]"),
    (lambda: einsum("ij->ik", X), ArgumentError, "'k' of 'ij->ik' is in no operand"),
    (lambda: einsum("ij->ii", X), ArgumentError, "'i' of 'ij->ii' is named twice in the result"),
    (lambda: einsum("i1->i", X), ArgumentError, "'i1->i' is not of the form 'ij,jk->ik'"),
    (lambda: einsum("ii", X), ShapeError, "the diagonal of f64[2, 3]: 2 rows and 3 columns"),
    (lambda: einsum("ij", X, out=X), ArgumentError, "einsum: there is no argument 'out'"),
    (lambda: tensordot(X, X, 1), ShapeError, "axis 1 of f64[2, 3] is 3, and axis 0 of f64[2, 3]"),
    (lambda: tensordot(X, X, 3), ArgumentError, "f64[2, 3] and f64[2, 3] have no 3 axes in common"),
    (lambda: tensordot(X, X, [[0, 0], [0, 1]]), ArgumentError, "do not pair different axes"),
    (lambda: tensordot(X, X, [[0]]), ArgumentError, "a number or two lists of axes, not [[0]]"),
]  # fmt: skip


@pytest.mark.parametrize(("fn", "error", "text"), BAD, ids=[b[2] for b in BAD])
def test_errors_say_what_is_wrong(
    fn: Callable[[], Any], error: type[GraphgradError], text: str
) -> None:
    with pytest.raises(error) as found:
        trace(lambda: [fn()], [])
    assert text in found.value.message
    assert found.value.where is not None


def test_labels_are_read() -> None:
    assert parsed("...i,i->...", (3, 1)) == (((-2, -1, 105), (105,)), (-2, -1))
    assert parsed("cb,ab", (2, 2))[1] == (97, 99)


def test_a_diagonal_of_known_size_is_a_view() -> None:
    graph = graph_of(diagonal, [np.zeros((2, 3, 3))])
    assert products(graph) == ["reshape", "slice"]
