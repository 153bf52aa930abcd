"""Frozen records: fields, defaults, inheritance, and what they refuse."""

from dataclasses import FrozenInstanceError

import pytest

from graphgrad.compiler.frozen import Frozen
from graphgrad.compiler.op import Op


class Base(Frozen):
    name: str
    size: int = 1


class Derived(Base):
    size: int = 2  # another default
    scale: float

    def __post_init__(self):
        object.__setattr__(self, "area", self.size * self.scale)


def test_fields_and_defaults_are_inherited():
    base, derived = Base(name="a"), Derived(name="b", scale=1.5)
    assert (base.name, base.size) == ("a", 1)
    assert (derived.name, derived.size, derived.scale, derived.area) == ("b", 2, 1.5, 3.0)


def test_equality_is_identity():
    a = Base(name="a")
    assert a != Base(name="a")
    assert len({a, a, Base(name="a")}) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "a"}, r"missing \['scale'\]"),
        ({"name": "a", "scale": 1.0, "colour": 2}, r"unknown fields \['colour'\]"),
    ],
)
def test_wrong_fields_are_named(given, message):
    with pytest.raises(TypeError, match=message):
        Derived(**given)


def test_an_op_without_its_type_is_refused():
    with pytest.raises(TypeError, match=r"missing \['type', 'ref'\]"):
        Op(name="planted", nondifferentiable=True)


def test_fields_cannot_be_changed():
    a = Base(name="a")
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'size'"):
        a.size = 3
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'size'"):
        del a.size
    assert a.size == 1
