"""A symbolic tensor outside of its trace is an error that says whose it is and who made it."""

import copy
import pickle
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import graphgrad as gg
from graphgrad import numpy_protocol

ONE = gg.constant(1.0)
V = gg.Variable(1.0)


@pytest.fixture(scope="module")
def leaked():
    kept = []

    @gg.function
    def f(x):
        kept.append(x * 2)
        return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f(ONE)
    return kept[0]


USES = {
    "operator": lambda y: y + 1,
    "reversed": lambda y: 1 - y,
    "beside a tensor": lambda y: ONE + y,
    "comparison": lambda y: y == 1,
    "power": lambda y: 2.0**y,
    "op": gg.sin,
    "index": lambda y: y[None],
    "numpy": lambda y: y.numpy(),
    "item": lambda y: y.item(),
    "bool": bool,
    "float": float,
    "int": int,
    "format": lambda y: f"{y:.3f}",
    "if": lambda y: 1 if y else 2,
    "in a list": lambda y: y in [ONE],
    "range": range,
    "sum": lambda y: sum([y]),
    "max": lambda y: max([y, ONE]),
    "np.asarray": np.asarray,
    "np.sin": np.sin,
    "np.unwrap": np.unwrap,
    "np.concatenate": lambda y: np.concatenate([y, ONE]),
    "constant": gg.constant,
    "convert": gg.convert_to_tensor,
    "stack": lambda y: gg.stack([y, ONE]),
    "nested list": lambda y: gg.constant([[y, 1.0]]),
    "zeros_like": gg.zeros_like,
    "shape": gg.shape,
    "assign": lambda y: V.assign(y),
    "assign_add": lambda y: V.assign_add(y),
    "variable": gg.Variable,
    "argument": lambda y: gg.function(lambda x: x * 2)(y),
    "capture": lambda y: gg.function(lambda x: x * y)(ONE),
    "result": lambda y: gg.function(lambda: y)(),
    "specified": lambda y: gg.function(lambda x: x, input_signature=[gg.TensorSpec([])])(y),
    "concrete": lambda y: gg.function(lambda x: x).get_concrete_function(ONE)(y),
    "condition": lambda y: gg.cond(y > 0, lambda: ONE, lambda: ONE),
    "loop": lambda y: gg.while_loop(lambda i: i < 3, lambda i: (i + 1,), [y]),
    "vmap": lambda y: gg.vmap(lambda x: x * y)(gg.ones(3)),
    "grad": lambda y: gg.grad(lambda x: x * y)(ONE),
    "pickle": pickle.dumps,
    "copy": copy.copy,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_every_use_names_the_function_and_the_line(leaked, use):
    before = float(V)
    with pytest.raises(gg.errors.LeakedTensorError) as e:
        use(leaked)
    text = str(e.value)
    assert text.startswith("a symbolic tensor f32[] of the function `f` is used outside of its")
    assert "It was made in test_leaks.py:" in text
    assert "kept.append(x * 2)" in text
    assert "Return it from the function, or keep it in a gg.Variable." in text
    assert float(V) == before


def test_looking_at_one_is_no_use(leaked):
    assert "symbolic" in str(leaked) + repr(leaked) + f"{leaked}"
    assert leaked.shape == ()
    assert leaked.dtype is gg.float32
    assert isinstance(hash(leaked), int)


def test_an_argument_says_that_it_is_one():
    kept = []

    def example(x):
        kept.append(x)
        return x

    gg.vmap(example)(gg.ones(3))
    with pytest.raises(gg.errors.LeakedTensorError, match="the function `example` is used outside"):
        kept[0] + 1


def test_by_ways_around():
    box = SimpleNamespace()

    @gg.function
    def outer(x):
        z = x * 3
        box.inner = gg.function(lambda q: q + z)
        box.last = x * 5
        return box.inner(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert float(outer(ONE)) == 4
    with pytest.raises(gg.errors.LeakedTensorError, match="of the function `outer`") as e:
        box.inner(ONE)
    assert "z = x * 3" in str(e.value)
    with pytest.raises(gg.errors.LeakedTensorError) as e:
        gg.function(lambda x: x * box.last)(ONE)
    assert "box.last = x * 5" in str(e.value)


def test_out_of_a_branch():
    kept = []

    @gg.function
    def f(x):
        def branch():
            kept.append(x * 5)
            return x

        return gg.cond(x > 0, branch, lambda: x) + kept[0]

    with pytest.raises(gg.errors.LeakedTensorError) as e:
        f(ONE)
    assert "kept.append(x * 5)" in str(e.value)


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (np.unwrap, r"np\.unwrap has no counterpart in graphgrad, .* compose gg functions"),
        (lambda x: f"{x:.3f}", r"the format '\.3f' needs the value of a symbolic tensor"),
        (np.array, "converting to a NumPy array needs the value of a symbolic tensor"),
    ],
)
def test_what_needs_a_value_is_a_type_error_with_a_way_out(use, text):
    with pytest.raises(TypeError, match=text) as e:
        gg.function(lambda x: use(x))(ONE)
    assert isinstance(e.value, gg.errors.NoValueError)


def test_the_function_that_takes_other_arguments_is_named(monkeypatch):
    monkeypatch.setitem(numpy_protocol.namespace, "math.unwrap", gg.sin)
    with pytest.raises(TypeError, match=r"np\.unwrap has no counterpart .*; use gg\.math\.unwrap"):
        gg.function(lambda x: np.unwrap(x))(gg.ones(3))
