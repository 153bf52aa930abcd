"""Structures of tensors in every place where derivatives take or give them."""

import collections
import dataclasses
from typing import Any

import numpy as np
import pytest

import graphgrad as gg
from tests.graphgrad.modes import in_every_mode

Pair = collections.namedtuple("Pair", "a b")


@dataclasses.dataclass
class Record:
    a: Any
    b: Any


@dataclasses.dataclass(frozen=True)
class Frozen:
    a: Any
    b: Any = None


class Marked(list):
    pass


FORMS = {
    "dict": lambda a, b: {"b": b, "a": a},
    "ordered dict": lambda a, b: collections.OrderedDict(b=b, a=a),
    "defaultdict": lambda a, b: collections.defaultdict(list, {"a": a, "b": b}),
    "namedtuple": Pair,
    "dataclass": Record,
    "frozen dataclass": Frozen,
    "nested": lambda a, b: [a, ({"c": Pair(b, None)},)],
    "subclass of list": lambda a, b: Marked([a, b]),
    "with None": lambda a, b: {"a": a, "b": [None, (b,)], "c": None},
}  # fmt: skip
in_every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
VALUES = (2.0, 3.0)


def values(structure):
    return [x for x in gg.nest.flatten(structure) if x is not None]


def same_form(a, b):
    gg.nest.assert_same_structure(a, b)
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
    return [float(x) for x in values(a)]


@in_every_mode
@in_every_form
def test_sources_targets_and_seeds(mode, form):
    def run(p, seeds):
        with gg.GradientTape() as tape:
            tape.watch(p)
            a, b = values(p)
            found = form(a * b, a + 10.0 * b)
            target = gg.nest.map_structure(lambda x: a * 1.0 if x is None else x, found)
        return tape.gradient(target, p, output_gradients=seeds)

    p = form(*map(gg.constant, VALUES))
    seeds = gg.nest.map_structure(lambda x: gg.constant(0.0) if x is None else x, p)
    found = mode(run)(p, seeds)
    # seeds are the values: d(a * b) * s + d(a + 10 b) * t
    first, second = values(p)
    s, t = float(first), float(second)
    assert same_form(found, p) == [3 * s + t, 2 * s + 10 * t]


@in_every_mode
@in_every_form
def test_arguments_and_results_of_transforms(mode, form):
    def f(p):
        a, b = values(p)
        return form(a * b, a + b)

    def total(p):
        return sum(values(f(p)))

    p, t = form(*map(gg.constant, VALUES)), form(gg.constant(1.0), gg.constant(10.0))
    assert same_form(mode(gg.grad(total))(p), p) == [4, 3]
    y, slopes = mode(lambda p, t: gg.jvp(f, (p,), (t,)))(p, t)
    assert same_form(y, p) == [6, 5]
    assert same_form(slopes, p) == [23, 11]
    assert same_form(mode(lambda p, t: gg.vjp(f, p)[1](t)[0])(p, t), p) == [13, 12]
    assert same_form(mode(lambda p, t: gg.hvp(total, p, t))(p, t), p) == [10, 1]
    rows = gg.nest.map_structure(lambda x: None if x is None else gg.stack([x, x]), p)
    found = mode(gg.vmap(f))(rows)
    assert same_form(gg.nest.map_structure(lambda x: None if x is None else x[1], found), p) == [
        6,
        5,
    ]


def test_mismatches_name_the_path():
    x = gg.constant(1.0)
    with gg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = {"a": [x * x, x], "b": x}
    text = r"target and output_gradients differ at \['a'\]: it has \[0\], \[1\] against \[0\]"
    with pytest.raises(ValueError, match=text):
        tape.gradient(y, x, output_gradients={"a": [x], "b": x})
    with pytest.raises(
        ValueError, match=r"differ at the top: it has \['a'\], \['b'\] against \[0\]"
    ):
        tape.gradient(y, x, output_gradients=[x, x, x])
    with pytest.raises(ValueError, match=r"jvp: primals and tangents differ at \[0\]\['a'\]"):
        gg.jvp(lambda p: p["a"][0], ({"a": [x]},), ({"a": x},))
    with pytest.raises(TypeError, match="the target is None of type 'NoneType', not a tensor"):
        tape.gradient([x, None], x)
    with pytest.raises(ValueError, match="Passed in object None of type 'NoneType' as a source"):
        tape.gradient(x, None)
    with pytest.raises(ValueError, match="Passed in object None of type 'NoneType', not"):
        tape.watch(None)


def test_seeds_as_tensorflow_takes_them():
    x = gg.constant([1.0, 2.0])
    with gg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
    for seeds in (
        gg.constant([1.0, 10.0]),
        [gg.constant([1.0, 10.0])],
        [1.0, 10.0],
        np.r_[1.0, 10],
    ):
        np.testing.assert_array_equal(tape.gradient(y, x, output_gradients=seeds), [2, 40])
    found = tape.gradient((y, [y]), x, output_gradients=[None, (x,)])
    np.testing.assert_array_equal(found, [2 + 2, 4 + 8])


# -- gg.nest


def test_the_face():
    nest = gg.nest
    tree = {"b": [1, (2,)], "a": Pair(3, None)}
    assert nest.flatten(tree) == [3, None, 1, 2]
    assert nest.pack_sequence_as(tree, "wxyz") == {"b": ["y", ("z",)], "a": Pair("w", "x")}
    assert nest.map_structure(lambda x, y: (x, y), [1, {"a": 2}], [3, {"a": 4}]) == [
        (1, 3),
        {"a": (2, 4)},
    ]
    assert nest.map_structure(lambda x, y: x + y, [1, 2], (3, 4), check_types=False) == [4, 6]
    assert (nest.is_nested(()), nest.is_nested("ab"), nest.is_nested(gg.ones(2))) == (
        True,
        False,
        False,
    )
    with pytest.raises(ValueError, match="Structure had 4 atoms, but flat_sequence had 3 items"):
        nest.pack_sequence_as(tree, [1, 2, 3])
    with pytest.raises(TypeError, match="func must be callable, got: 3"):
        nest.map_structure(3, tree)
    with pytest.raises(ValueError, match="at least one structure"):
        nest.map_structure(len)
    with pytest.raises(ValueError, match=r"differ at \['b'\]\[1\]: tuple against int"):
        nest.assert_same_structure(tree, {"b": [1, 2], "a": Pair(3, None)})
    with pytest.raises(ValueError, match="differ at the top: list against tuple"):
        nest.assert_same_structure([1], (1,))
    nest.assert_same_structure([1], (1,), check_types=False)


def test_classes_of_dicts_are_kept():
    tree = collections.defaultdict(list, {"b": 1, "a": 2})
    found = gg.nest.map_structure(lambda x: x * 10, tree)
    assert found == {"b": 10, "a": 20}
    assert (found.default_factory, list(found)) == (list, ["b", "a"])
    assert tree == {"b": 1, "a": 2}
