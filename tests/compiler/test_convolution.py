"""The convolution ops beyond what the table's tests hold them to: batches of an unknown number of
examples, open sizes, and that planted mistakes are seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphgrad.compiler.dims import DimScope
from graphgrad.compiler.interpret import interpret
from graphgrad.compiler.op import ops
from graphgrad.compiler.ops.convolution_reference import output_size
from graphgrad.compiler.ops.padding import pad
from graphgrad.compiler.pipeline import optimise
from graphgrad.compiler.transform.autodiff import gradient_graph
from graphgrad.compiler.transform.batching import batch_graph
from graphgrad.compiler.verify import verify
from tests.compiler.differences import graph_of
from tests.compiler.op_cases import cases_of, check_value, run_ref
from tests.compiler.op_derivatives import is_seen

NAMES = ("conv", "conv_input_gradient", "conv_filter_gradient")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batched", [(True, True), (True, False), (False, True)], ids=str)
def test_a_batch_of_an_unknown_number_is_a_loop(name: str, batched: tuple[bool, bool]) -> None:
    rng = np.random.default_rng(0)
    for case in cases_of(ops[name], "float64"):
        graph = graph_of(case.call, case.arrays)
        inputs = [
            rng.uniform(-1, 1, (3, *a.shape)) if b else a
            for a, b in zip(case.arrays, batched, strict=True)
        ]
        n = DimScope().symbol("n", batched.index(True), 0)
        many = verify(batch_graph(graph, batched, n)[0])
        lanes = [
            interpret(graph, [x[i] if b else x for x, b in zip(inputs, batched, strict=True)])[0]
            for i in range(3)
        ]
        np.testing.assert_allclose(interpret(many, inputs)[0], np.stack(lanes), atol=1e-12)


def test_the_number_of_places_is_that_of_the_windows_that_fit() -> None:
    for n in range(6):
        for k, s, d, low, high in np.ndindex(4, 3, 3, 3, 3):
            k, s, d = k + 1, s + 1, d + 1
            last = n + low + high - ((k - 1) * d + 1)  # where the last window may begin
            assert output_size(n, k, s, (low, high), d) == len(range(0, last + 1, s))


# -- padding beside convolutions

ATTRS: dict[str, Any] = {
    "strides": (2, 1), "padding": ((1, 0), (0, 0)), "dilations": (1, 1), "groups": 1,
}  # fmt: skip
X, W = np.linspace(-1, 1, 120).reshape(2, 5, 4, 3), np.linspace(2, -1, 54).reshape(3, 3, 3, 2)


def names(graph: Any) -> set[str]:
    return {node.op.name for node in graph.nodes} - {"constant", "broadcast_to"}


def same_results(graph: Any, arrays: list[Any]) -> set[str]:
    """The ops that are left, after a check that the results are."""
    optimised = verify(optimise(graph)[0])
    for a, b in zip(interpret(optimised, arrays), interpret(graph, arrays), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    return names(optimised)


def test_padding_becomes_that_of_the_convolution() -> None:
    graph = graph_of(
        lambda x, w: ops["conv"](pad(x, ((0, 0), (1, 2), (3, 0), (0, 0))), w, **ATTRS), [X, W]
    )
    assert same_results(graph, [X, W]) == {"conv"}
    (node,) = (n for n in optimise(graph)[0].nodes if n.op.name == "conv")
    assert node.attrs["padding"] == ((2, 2), (3, 0))
    y = interpret(graph, [X, W])[0]
    back = gradient_graph(graph, (True,), (True, True))
    found = same_results(back, [X, W, y, np.sin(y)])
    assert found == {"conv_input_gradient", "conv_filter_gradient"}


OTHERS = {
    "images": lambda x: pad(x, ((1, 0), (1, 1), (1, 1), (0, 0))),
    "channels": lambda x: pad(ops["slice"](x, (0,) * 4, (2, 5, 4, 2), (1,) * 4),
                              ((0, 0), (1, 1), (1, 1), (0, 1))),
    "other numbers": lambda x: pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1.0),
    "between": lambda x: ops["unslice"](x, (2, 9, 4, 3), (0,) * 4, (1, 2, 1, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_padding_stays(name: str) -> None:
    graph = graph_of(lambda x, w: ops["conv"](OTHERS[name](x), w, **ATTRS), [X, W])
    assert same_results(graph, [X, W]) & {"update_slice", "unslice"}


def test_a_gradient_read_as_a_whole_is_computed_once() -> None:
    def fn(g: Any, w: Any) -> Any:
        whole = ops["conv_input_gradient"](g, w, **ATTRS, input_size=(6, 5))
        return [whole, ops["slice"](whole, (0, 1, 0, 0), (2, 4, 5, 3), (1,) * 4)]

    g = np.linspace(0, 1, 2 * 3 * 3 * 2).reshape(2, 3, 3, 2)
    assert same_results(graph_of(fn, [g, W]), [g, W]) == {"conv_input_gradient", "slice"}


def _from_the_low_end(wrong: Any) -> Any:
    """The rule `wrong` with the padding at the other end."""

    def rule(*args: Any, padding: Any, **attrs: Any) -> Any:
        return wrong(*args, padding=tuple((high, low) for low, high in padding), **attrs)

    return rule


def _without_groups(name: str) -> Any:
    def vjp(g: Any, z: Any, a: Any, b: Any, needs: Any, **attrs: Any) -> Any:
        return RULES[name].vjp(g, z, a, b, needs, **attrs | {"groups": 1})

    return vjp


RULES = {name: ops[name] for name in NAMES}
MISTAKES = [
    *((name, {"vjp": _from_the_low_end(RULES[name].vjp)}) for name in NAMES),
    *((name, {"vjp": _without_groups(name)}) for name in NAMES),
    *(
        (name, {"jvp": lambda ts, z, a, b, name=name, **attrs: ops[name](ts[0], b, **attrs)})
        for name in NAMES
    ),
    (
        "conv",
        {
            "vjp": lambda g, z, x, w, needs, **attrs: tuple(
                None if v is None else ops["stop_gradient"](v)
                for v in RULES["conv"].vjp(g, z, x, w, needs, **attrs)
            )
        },
    ),  # second order
]


@pytest.mark.parametrize(("name", "changes"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_planted_mistake_is_seen(name: str, changes: dict[str, Any]) -> None:
    assert is_seen(name, changes)


@pytest.mark.parametrize("name", NAMES)
def test_the_value_check_sees_a_wrong_place(name: str) -> None:
    case = next(c for c in cases_of(ops[name], "float32") if c.attrs["strides"] == (2, 3))
    (right,) = run_ref(case)
    check_value(case, [right])
    with pytest.raises(AssertionError):
        check_value(case, [np.roll(right, 1, axis=1)])
