"""Concrete functions: how they are called, where, and what they say of themselves."""

import numpy as np
import pytest

import graphgrad as gg

ONE = gg.constant(1.0)
SPEC = gg.TensorSpec([None])


def test_calls_look_like_those_of_the_function():
    f = gg.function(lambda x, k=3: x * k)
    c = f.get_concrete_function(SPEC)
    x = gg.constant([1.0, 2.0])
    for out in (c(x), c(x=x), c(x, 3), c(x, k=3), c([1, 2]), c(gg.Variable([1.0, 2.0]))):
        np.testing.assert_array_equal(out, [3, 6])
    with pytest.raises(TypeError, match="was traced for `k` = int 3, got int 4"):
        c(x, 4)
    with pytest.raises(TypeError, match=r"takes f32\[n\] as argument `x`, got f32\[\]"):
        c(ONE)
    with pytest.raises(TypeError, match="takes `x`, which is missing"):
        c(k=3)
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'y'"):
        c(y=x)
    with pytest.raises(TypeError, match="too many positional arguments"):
        c(x, 3, 4)


def test_structures_keywords_and_the_tensors_alone():
    @gg.function
    def f(z, b, *, a, flag=None):
        return {"r": z * b["x"] + a}

    c = f.get_concrete_function(SPEC, {"x": gg.TensorSpec([])}, a=gg.TensorSpec([]))
    x, b = gg.constant([1.0, 2.0]), {"x": gg.constant(5.0)}
    for out in (c(x, b, a=ONE), c(b=b, a=ONE, z=x), c(x, {"x": 5.0}, a=1.0, flag=None)):
        np.testing.assert_array_equal(out["r"], [6, 11])
    np.testing.assert_array_equal(c(x, b["x"], ONE)["r"], [6, 11])
    with pytest.raises(ValueError, match=r"argument `b` .* it has \['x'\] against \['y'\]"):
        c(x, {"y": ONE}, a=ONE)
    with pytest.raises(TypeError, match="was traced for `flag` = NoneType None, got int 1"):
        c(x, b, a=ONE, flag=1)


def test_methods_and_variable_arguments():
    class Model:
        k = 2.0

        @gg.function
        def call(self, x, *rest, **named):
            return x * self.k + sum(rest) + sum(named.values())

    m = Model()
    c = m.call.get_concrete_function(SPEC, gg.TensorSpec([]), y=gg.TensorSpec([]))
    np.testing.assert_array_equal(c(gg.ones(2), ONE, y=ONE), [4, 4])
    with pytest.raises(TypeError, match="takes 2 positional arguments and the keywords"):
        c(gg.ones(2), ONE, ONE, y=ONE)


def test_inside_of_other_functions_tapes_and_vmap():
    v = gg.Variable(2.0)

    @gg.function
    def f(x):
        v.assign_add(1.0)
        return x * x * v

    c = f.get_concrete_function(gg.TensorSpec([]))
    outer = gg.function(lambda x: c(x) + c(x))
    x = gg.constant(3.0)
    for first in (3.0, 5.0, 7.0):
        assert float(outer(x)) == 9 * first + 9 * (first + 1)
    assert float(v) == 8
    with gg.GradientTape() as tape:
        tape.watch(x)
        y = outer(x)
    np.testing.assert_allclose(tape.gradient(y, [x, v]), [6 * (9 + 10), 18])

    square = gg.function(lambda x: x * x).get_concrete_function(gg.TensorSpec([]))
    np.testing.assert_array_equal(gg.vmap(square)([1.0, 2.0, 3.0]), [1, 4, 9])
    second = gg.grad(gg.grad(lambda x: square(x) * x))
    assert float(gg.function(second)(x)) == 18


def test_open_sizes_inside_of_other_functions():
    f = gg.function(lambda x: x * 2 if x.shape[0] == 3 else gg.reshape(x, [-1, 1]) + x)
    three = f.get_concrete_function(gg.ones(3))
    other = gg.function(f.python_function, input_signature=[SPEC])
    c = other.get_concrete_function(gg.ones(4))
    outer = gg.function(lambda x: gg.reduce_sum(c(x)), input_signature=[SPEC])
    for n in (4, 5):
        assert float(outer(gg.ones(n))) == 2 * n * n
    with pytest.raises(ValueError, match="this trace relies on n != 3"):
        gg.function(lambda x: c(x))(gg.ones(3))
    assert float(gg.function(lambda x: gg.reduce_sum(three(x)))(gg.ones(3))) == 6
    with pytest.raises(ValueError, match=r"relies on n != 3, which does not hold for sizes \(3,\)"):
        c(gg.ones(3))


def test_it_is_the_trace_that_calls_use():
    f = gg.function(lambda x: x * 2)
    c = f.get_concrete_function(gg.TensorSpec([2]))
    f(gg.ones(2))
    assert f.experimental_get_tracing_count() == 1
    assert f.get_concrete_function(gg.ones(2)) is c


def test_what_it_says_of_itself():
    v, w = gg.Variable([1.0] * 3, name="v"), gg.constant([2.0] * 20)

    class Config:
        pass

    @gg.function
    def f(x, config, b, *, k=1):
        return {"r": x + v[0] + w[0] * b["y"][0] * k, "none": None}

    config = Config()
    c = f.get_concrete_function(SPEC, config, {"y": [gg.TensorSpec([])]}, k=2)
    assert c.pretty_printed_signature() == (
        "Input Parameters:\n"
        "  x (POSITIONAL_OR_KEYWORD): TensorSpec(shape=(None,), dtype=gg.float32, name=None)\n"
        "  config (POSITIONAL_OR_KEYWORD): Reference[Config]\n"
        "  b (POSITIONAL_OR_KEYWORD): Dict[['y', List[TensorSpec(shape=(), dtype=gg.float32, "
        "name=None)]]]\n"
        "  k (KEYWORD_ONLY): Literal[2]\n"
        "Output Type:\n"
        "  Dict[['r', TensorSpec(shape=(None,), dtype=gg.float32, name=None)], "
        "['none', Literal[None]]]\n"
        "Captures:\n"
        "  variable 'v:0': f32[3]\n"
        "  tensor f32[20]"
    )
    assert f.pretty_printed_concrete_signatures() == c.pretty_printed_signature()
    assert repr(c).startswith("<ConcreteFunction f(x: f32[None], config: object Config, ")
    assert [x.shape.as_list() for x in c.inputs] == [[None], [], [3], [20]]
    assert c.captured_inputs[0] is v
    assert c.captured_inputs[1] is w
    assert c.variables[0] is c.trainable_variables[0] is v
    assert c.structured_outputs == {"r": SPEC, "none": None}
    assert c.output_shapes == {"r": (None,), "none": None}
    assert c.output_dtypes == {"r": gg.float32, "none": None}
    assert "add" in str(c.graph)
    empty = gg.function(lambda: 1).get_concrete_function()
    assert empty.pretty_printed_signature() == (
        "Input Parameters:\n  None\nOutput Type:\n"
        "  TensorSpec(shape=(), dtype=gg.int32, name=None)\nCaptures:\n  None"
    )
