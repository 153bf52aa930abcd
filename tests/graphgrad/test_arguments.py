"""gg.function: what arguments and results may be, and which calls share a trace."""

import collections
import dataclasses
import enum
import functools
import inspect

import numpy as np
import pytest

import graphgrad as gg

pytestmark = pytest.mark.usefixtures("entry")

ONE = gg.constant(1.0)


def count(f):
    return f.experimental_get_tracing_count()


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


@pytest.mark.parametrize(
    ("value", "equal", "other"),
    [
        (None, None, 0),
        ("a", "a", "b"),
        (b"a", b"a", "a"),
        (Colour.RED, Colour.RED, Colour.BLUE),
        (Level.LOW, Level.LOW, 1),
        (gg.float32, gg.as_dtype("float32"), gg.float64),
        (np.dtype("f4"), np.dtype("float32"), np.dtype("f8")),
        (np.float32, np.float32, np.float64),
        (1, 1, True),
        (1.0, 1.0, 1),
        (2j, 2j, 2.0),
        (1j, 1j, complex(-0.0, 1)),
        (range(3), range(3), range(4)),
        (slice(1, 2), slice(1, 2), slice(1, 3)),
        (frozenset({1, 2}), frozenset({2, 1}), frozenset({1.0, 2})),
        (gg.TensorShape([1, 2]), gg.TensorShape([1, 2]), (1, 2)),
        ((1, [2, {"k": None}]), (1, [2, {"k": None}]), (1, (2, {"k": None}))),
        ([], [], ()),
    ],
    ids=repr,
)
def test_python_values_are_keys_by_type_and_value(value, equal, other):
    f = gg.function(lambda x, v: x * 2)
    for v in (value, equal, value, equal):
        f(ONE, v)
    assert count(f) == 1
    f(ONE, other)
    f(ONE, value)
    assert count(f) == 2


@pytest.mark.parametrize("value", [{1, 2}, bytearray(b"a"), collections.deque([1])], ids=repr)
def test_what_can_change_without_notice_is_refused(value):
    f = gg.function(lambda x, v: x)
    f(ONE, (1, 2))
    for _ in range(2):
        with pytest.raises(TypeError, match="can change between calls without notice: pass a"):
            f(ONE, value)


def test_bound_methods_are_keys_by_instance_and_function():
    class Model:
        def __init__(self, k):
            self.k = k

        def loss(self, x):
            return x * self.k

    f = gg.function(lambda loss, x: loss(x))
    a, b = Model(2.0), Model(3.0)
    for _ in range(4):
        assert (float(f(a.loss, ONE)), float(f(b.loss, ONE))) == (2, 3)
    assert count(f) == 2
    a.k = 5.0
    assert float(f(a.loss, ONE)) == 5


@dataclasses.dataclass(frozen=True)
class Checked:
    x: object
    n: int = 3

    def __post_init__(self):
        if not isinstance(self.x, gg.Tensor):
            raise AssertionError


@dataclasses.dataclass
class Derived:
    x: object
    norm: object = dataclasses.field(default=None, init=False)

    def __post_init__(self):
        self.norm = gg.reduce_sum(self.x * self.x)


class Named(collections.namedtuple("Named", "x y")):
    def __new__(cls, x, y):
        assert isinstance(x, gg.Tensor)
        return super().__new__(cls, x, y)


def test_dataclasses_that_check_and_derive():
    f = gg.function(lambda c: Checked(c.x * c.n))
    for k in (1.0, 2.0, 3.0):
        assert float(f(Checked(gg.constant(k))).x) == 3 * k
    assert count(f) == 1
    g = gg.function(lambda d: (Derived(d.x * 2), d.norm))
    for k in (1.0, 2.0, 3.0):
        made, norm = g(Derived(gg.constant([k, 0.0])))
        assert (float(made.norm), float(norm)) == (4 * k * k, k * k)
    assert count(g) == 1


def test_classes_of_structures_are_kept():
    @gg.function
    def f(named, default, ordered):
        return named, default, ordered

    default = collections.defaultdict(list, {"a": ONE})
    for _ in range(3):
        named, d, o = f(Named(ONE, None), default, collections.OrderedDict(z=ONE, a=2))
        assert type(named) is Named
        assert type(d) is collections.defaultdict
        assert d["missing"] == []
        assert list(o) == ["z", "a"]
    assert count(f) == 1


def test_parameters_of_every_kind_are_one_call():
    three = gg.constant(3.0)

    @gg.function
    def f(a, /, b=2.0, *rest, k, s=three, **named):
        return a * b + sum(rest) + k + s + sum(named.values())

    for _ in range(3):
        assert float(f(ONE, k=1.0)) == float(f(ONE, b=2.0, k=1.0)) == float(f(ONE, 2.0, k=1.0)) == 6
        assert float(f(ONE, 2.0, ONE, ONE, k=1.0, z=ONE, y=ONE)) == 10
    assert count(f) == 2
    with pytest.raises(TypeError, match=r"f\(\) missing a required argument: 'k'"):
        f(ONE)


def test_callables_of_every_kind():
    class Call:
        kernels = 3.0  # no part of what the function is asked for

        def __call__(self, x):
            return x * self.kernels

    def scaled(k, x, shift=0.0):
        return k * x + shift

    call = gg.function(Call())
    part = gg.function(functools.partial(scaled, gg.constant(2.0), shift=1.0))
    for _ in range(3):
        assert (float(call(ONE)), float(part(ONE))) == (3, 3)
        assert float(gg.function(np.sin)(gg.constant(0.0))) == 0
        assert float(gg.function(sum)([ONE, ONE])) == 2
    assert (call.__name__, part.__name__) == ("Call", "scaled")
    assert call.kernels() != 3.0


def test_descriptors():
    class Model:
        k = 2.0

        @staticmethod
        @gg.function
        def inside_static(x):
            return x * 2

        @gg.function
        @staticmethod
        def outside_static(x):
            return x * 3

        @classmethod
        @gg.function
        def inside_class(cls, x):
            return x * cls.k

        @gg.function
        @classmethod
        def outside_class(cls, x):
            return x * cls.k

        @property
        @gg.function
        def doubled(self):
            return gg.constant(2.0) * self.k

    class Other(Model):
        k = 5.0

    m, other = Model(), Other()
    for _ in range(3):
        assert (float(m.inside_static(ONE)), float(Model.outside_static(ONE))) == (2, 3)
        assert (float(m.inside_class(ONE)), float(Other.inside_class(ONE))) == (2, 5)
        assert (float(Model.outside_class(ONE)), float(other.outside_class(ONE))) == (2, 5)
        assert (float(m.doubled), float(other.doubled)) == (4, 10)
    assert count(Model.outside_static) == 1


def test_a_decorated_function_looks_like_the_function():
    @gg.function
    def f(x, n: int = 2) -> gg.Tensor:
        """Twice x."""
        return x * n

    assert (f.__name__, f.__doc__, f.__module__) == ("f", "Twice x.", __name__)
    assert str(inspect.signature(f)).startswith("(x, n: int = 2)")
    assert inspect.unwrap(f) is f.python_function
    assert callable(f)

    @functools.wraps(f)
    def g(x):
        return f(x)

    assert (g.__name__, float(g(ONE))) == ("f", 2)

    class Model:
        @gg.function
        def call(self, x):
            return x

    assert str(inspect.signature(Model().call)) == "(x)"


def generator(x):
    yield x


async def coroutine(x):
    return x


async def asynchronous_generator(x):
    yield x


class Generates:
    def __call__(self, x):
        yield x


@pytest.mark.parametrize(
    "f",
    [generator, coroutine, asynchronous_generator, Generates(), functools.partial(generator, 1)],
    ids=["generator", "coroutine", "async generator", "object", "partial"],
)
def test_what_runs_later_is_refused(f):
    with pytest.raises(ValueError, match="returns before its body runs; decorate a plain function"):
        gg.function(f)


@pytest.mark.parametrize(
    ("f", "kind"),
    [
        (lambda x: (y for y in [x]), "generator"),
        (lambda x: map(gg.sin, [x]), "map"),
        (lambda x: {x}, "set of tensors"),
        (lambda x: {"a": {1: x}.values()}, "dict_values of tensors"),
    ],
)
def test_results_that_calls_cannot_rebuild(f, kind):
    with pytest.raises(TypeError, match=f"returns a {kind}"):
        gg.function(f)(ONE)


def test_results():
    box = object()

    def f(x, n):
        return {
            "none": None, "text": "s", "int": 3, "float": 2.5, "bool": True, "colour": Colour.RED,
            "np": np.float64(2), "dtype": x.dtype, "shape": x.shape, "size": x.shape[0],
            "more": x.shape[0] * 2 + 1, "object": box, "set": {1, 2}, "n": n,
        }  # fmt: skip

    spec = gg.TensorSpec([None, 2])
    compiled = gg.function(f, input_signature=[spec, None])
    plain = gg.function(f)
    for n in (1, 3, 4):
        x = gg.ones((n, 2))
        for out in (compiled(x, None), plain(x, None)):
            assert (out["none"], out["text"], out["colour"]) == (None, "s", Colour.RED)
            assert (int(out["int"]), float(out["float"]), bool(out["bool"])) == (3, 2.5, True)
            assert out["np"].dtype == gg.float64
            assert out["dtype"] is gg.float32
            np.testing.assert_array_equal(out["shape"], np.array([n, 2], np.int32))
            assert out["shape"].dtype == gg.int32
            assert (int(out["size"]), int(out["more"])) == (n, 2 * n + 1)
            assert out["object"] is box
            assert out["set"] == {1, 2}


def test_arguments_may_not_be_modified():
    @gg.function
    def grows(x, items):
        items.append(x)
        return x

    @gg.function
    def replaces(x, *, d):
        d["y"] = d["x"] * x
        return d

    text = r"should not modify its Python input arguments, and changes `{}`\. Check if it modifies"
    items, d = [ONE], {"x": ONE, "y": None}
    with pytest.raises(ValueError, match=text.format("items")):
        grows(ONE, items)
    with pytest.raises(ValueError, match=text.format("d")):
        replaces(ONE, d=d)
    assert len(items) == 1
    gg.config.run_functions_eagerly(True)
    try:
        with pytest.raises(ValueError, match=text.format("items")):
            grows(ONE, items)
    finally:
        gg.config.run_functions_eagerly(False)
    copies = gg.function(lambda items: [*items, ONE])
    assert len(copies(items)) == 2


def test_arrays_are_tensors_inside_of_nested_functions():
    inner = gg.function(lambda x: gg.reduce_sum(x) * x.shape.as_list()[0])
    outer = gg.function(lambda x: x + inner(np.ones(3, np.float32)) + inner(np.float32([1, 1])))
    assert float(outer(ONE)) == 1 + 9 + 4


@pytest.mark.parametrize(
    ("signature", "text"),
    [
        ([gg.TensorSpec([]), gg.TensorSpec([])], "has 2 entries, and the function takes 1"),
        ([gg.float32], r"input_signature\[0\] of `.*` is gg.float32: an entry is a gg.TensorSpec"),
        ([{"a": 3}], r"input_signature\[0\]\['a'\] of `.*` is 3"),
        ("f", "input_signature is a list with an entry an argument"),
    ],
)
def test_input_signatures_that_are_none(signature, text):
    with pytest.raises(TypeError, match=text):
        gg.function(lambda x: x, input_signature=signature)


def test_input_signatures_of_structures():
    spec = {"w": gg.TensorSpec([None, 2]), "b": (gg.TensorSpec([], gg.int32), None)}
    f = gg.function(lambda p, k=2: p["w"] * k, input_signature=[spec])
    for n in (1, 4):
        assert f({"w": gg.ones((n, 2)), "b": (3, None)}).shape == (n, 2)
        np.testing.assert_array_equal(f({"w": [[1, 2]], "b": (3, None)}), [[2, 4]])
    assert count(f) == 1
    with pytest.raises(TypeError, match=r"argument `p\['b'\]\[1\]` is to be None"):
        f({"w": gg.ones((1, 2)), "b": (3, 4)})
    with pytest.raises(TypeError, match=r"argument `p\['w'\]` is TensorSpec\(shape=\(2,\)"):
        f({"w": gg.ones(2), "b": (3, None)})
    with pytest.raises(TypeError, match="given where a call needs a tensor; get_concrete_function"):
        gg.function(lambda x: x)(gg.TensorSpec([]))


def test_input_signatures_of_variable_arguments():
    spec = gg.TensorSpec([None])
    f = gg.function(lambda *xs: xs[0] + xs[1], input_signature=[spec, spec])
    np.testing.assert_array_equal(f(gg.ones(2), [1.0, 2.0]), [2, 3])
    with pytest.raises(TypeError, match=r"argument `xs\[1\]` is TensorSpec\(shape=\(\)"):
        f(gg.ones(2), 1.0)


def test_specifications():
    spec = gg.TensorSpec([2, None], gg.float32, "x")
    assert spec.is_compatible_with(gg.ones((2, 5)))
    assert spec.is_compatible_with(np.ones((2, 5), np.float32))
    assert spec.is_compatible_with([[1.0], [2.0]])
    assert not spec.is_compatible_with([1.0])
    assert gg.TensorSpec.from_tensor(gg.Variable([1])) == gg.TensorSpec([1], gg.int32)


def test_options_of_tensorflow():
    f = gg.function(
        lambda x: x * 2, autograph=False, jit_compile=True, experimental_implements="double",
        experimental_autograph_options=None, experimental_attributes={"a": 1},
    )  # fmt: skip
    assert float(f(ONE)) == 2
    assert gg.function(lambda x: x, experimental_compile=False)._how["compiled"] is False
    relaxed = gg.function(lambda x: x * 2, experimental_relax_shapes=True)
    for n in (1, 2, 3):
        relaxed(gg.ones(n))
    assert count(relaxed) == 2
    with pytest.raises(ValueError, match="experimental_follow_type_hints does not exist here"):
        gg.function(lambda x: x, experimental_follow_type_hints=True)
    with pytest.raises(ValueError, match="max_traces is at least 1, got 0"):
        gg.function(lambda x: x, max_traces=0)
