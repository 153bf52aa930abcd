"""Structures: order, round trips, and the path of a mismatch."""

import collections

import pytest

from graphgrad import nest

P = collections.namedtuple("P", "b a")


def test_order():
    x = {"b": [1, (2,)], "a": P(3, 4), "c": None}
    assert nest.flatten(x) == [3, 4, 1, 2, None]
    assert nest.pack(x, nest.flatten(x)) == x
    assert list(nest.pack(x, range(5))) == ["b", "a", "c"]
    assert nest.flatten_with_path(x)[:3] == [("['a'].b", 3), ("['a'].a", 4), ("['b'][0]", 1)]


def test_layout_tells_structures_apart():
    assert nest.layout([1, 2]) == nest.layout([3, "x"])
    assert nest.layout([1, 2]) != nest.layout((1, 2))
    assert nest.layout({"a": 1}) != nest.layout({"b": 1})


def test_mismatch():
    with pytest.raises(ValueError, match=r"differ at \['a'\]\[0\]: tuple against int"):
        nest.assert_same({"a": [(1,)]}, {"a": [1]})
    with pytest.raises(ValueError, match=r"differ at the top: it has \['a'\] against \['b'\]"):
        nest.assert_same({"a": 1}, {"b": 1})
