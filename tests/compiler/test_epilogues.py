"""What follows a convolution becomes part of its kernel, if it goes element by element."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.compiler.codegen.python_convolution import python_convolution
from graphgrad.compiler.driver import Compilation, compile_in_full
from graphgrad.compiler.op import ops
from graphgrad.compiler.report import make_report
from graphgrad.runtime import engine
from tests.compiler.compiling import (
    check,
    compile_full,
    graph_of,
    prepared,
    run_compiled,
    samples,
    t,
    with_threads,
)
from tests.graphgrad.test_buffers import check_program

ATTRS = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilations": (1, 1), "groups": 1}


def conv(x: Any, w: Any, **changed: Any) -> Any:
    return ops["conv"](x, w, **(ATTRS | changed))


def types(inputs: int, outputs: int, dtype: str = "float32", images: int = 2) -> list[Any]:
    """Of images, a filter, a vector a channel, and an array like the result."""
    shapes = ((images, 6, 7, inputs), (3, 3, inputs, outputs), (outputs,), (images, 6, 7, outputs))
    return [t(*s, dtype=dtype) for s in shapes]


def steps(compilation: Compilation) -> list[list[str]]:
    return [[n.op.name for n in s.nodes] for s in compilation.steps]


ONE: dict[str, Callable[..., Any]] = {
    "bias and relu": lambda conv, x, w, b, r: ops["relu"](conv(x, w) + b),
    "a scale a channel, and tanh": lambda conv, x, w, b, r: ops["tanh"](conv(x, w) * b + 0.5),
    "a residual": lambda conv, x, w, b, r: ops["relu"](conv(x, w) + b + r),
    "rare paths": lambda conv, x, w, b, r: ops["sin"](conv(x, w) * b),
    "many instructions": lambda conv, x, w, b, r: ops["gelu"](conv(x, w) + b) * r,
    "a comparison": lambda conv, x, w, b, r: conv(x, w) > b,
    "several results": lambda conv, x, w, b, r: (
        lambda y: (ops["relu"](y), y > 0.0, y * r)
    )(conv(x, w) + b),
}  # fmt: skip


WITH_ARRAYS = "a residual", "many instructions", "several results"


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize(
    ("inputs", "outputs", "dtype"),
    [(3, 20, "float32"), (2, 6, "float32"), (5, 3, "float64"), (4, 100, "float32")],
)
def test_one_kernel(name: str, inputs: int, outputs: int, dtype: str) -> None:
    compilation = check(partial(ONE[name], conv), *types(inputs, outputs, dtype))
    # of 100 channels there are several panels, and arrays like the result are read elsewhere
    apart = outputs == 100 and name in WITH_ARRAYS
    assert len(compilation.steps) == (2 if apart else 1)
    assert steps(compilation)[0][0] == "conv"


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize(
    ("channels", "multiplier", "dtype"),
    [(20, 1, "float32"), (3, 1, "float32"), (65, 1, "float64"), (5, 2, "float32")],
)
def test_one_depthwise_kernel(name: str, channels: int, multiplier: int, dtype: str) -> None:
    x, w, b, r = types(channels, channels * multiplier, dtype)
    w = t(3, 3, 1, channels * multiplier, dtype=dtype)

    def conv(x: Any, w: Any) -> Any:
        return ops["conv"](x, w, **(ATTRS | {"groups": channels}))

    compilation = check(partial(ONE[name], conv), x, w, b, r)
    assert [s[0] for s in steps(compilation)] == ["conv"]


@pytest.mark.parametrize(("channels", "stride", "kernels"), [(20, 2, 1), (3, 1, 1), (3, 2, 2)])
def test_a_depthwise_gradient_by_the_input(channels: int, stride: int, kernels: int) -> None:
    """Where neighbouring results share a vector and lie apart, what follows is a kernel."""
    attrs = ATTRS | {"groups": channels, "strides": (stride, stride)}

    def masked(g: Any, w: Any, y: Any, b: Any) -> Any:
        found = ops["conv_input_gradient"](g, w, **attrs, input_size=(8, 10))
        return ops["where"](y > 0.0, found * b, 0.0), found

    places = (8 // stride, 10 // stride)
    given = t(2, *places, channels), t(3, 3, 1, channels), t(2, 8, 10, channels), t(channels)
    assert len(check(masked, *given).steps) == kernels


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_halves_are_rounded_before_what_follows(dtype: str) -> None:
    compilation = check(partial(ONE["bias and relu"], conv), *types(4, 5, dtype))
    assert len(compilation.steps) == 1


def test_casts_and_other_dtypes() -> None:
    x, w, _, _ = types(3, 20)
    b, r = t(20, dtype="float64"), t(2, 6, 7, 20, dtype="int8")
    compilation = check(
        lambda x, w, b, r: conv(x, w).cast("float64") * b + r.cast("float64"), x, w, b, r
    )
    assert len(compilation.steps) == 1


def test_a_gradient_by_the_input_takes_the_mask_of_what_was_before() -> None:
    def masked(g: Any, w: Any, y: Any) -> Any:
        found = ops["conv_input_gradient"](g, w, **ATTRS, input_size=(6, 7))
        return ops["where"](y > 0.0, found, 0.0)

    compilation = check(masked, t(2, 6, 7, 20), t(3, 3, 5, 20), t(2, 6, 7, 5))
    assert steps(compilation)[0][0] == "conv_input_gradient"
    assert len(compilation.steps) == 1


def test_a_result_that_is_needed_is_stored_as_well() -> None:
    def both(x: Any, w: Any, b: Any, r: Any) -> Any:
        y = conv(x, w)
        return y, ops["relu"](y + b), conv(y, r)

    x, w, b, _ = types(3, 20)
    compilation = check(both, x, w, b, t(3, 3, 20, 2))
    assert sorted(steps(compilation)) == [["conv"], ["conv", "add", "relu"]]


def test_the_next_convolution_reads_what_the_epilogue_wrote() -> None:
    def two(x: Any, w: Any, v: Any, b: Any) -> Any:
        h = ops["relu"](conv(x, w) + b)
        return ops["relu"](conv(h, v) + h)

    compilation = check(two, t(2, 6, 7, 3), t(3, 3, 3, 8), t(3, 3, 8, 8), t(8))
    assert [s[0] for s in steps(compilation)] == ["conv", "conv"]


def test_two_convolutions_that_are_added() -> None:
    compilation = check(
        lambda x, w, v: ops["relu"](conv(x, w) + conv(x, v)), t(1, 6, 7, 3), t(3, 3, 3, 9),
        t(3, 3, 3, 9),
    )  # fmt: skip
    assert sorted(map(len, steps(compilation))) == [1, 3]


ROW, IMAGE, PART = t(1, 6, 1, 20), t(6, 7, 20), t(2, 5, 7, 20)
APART: dict[str, tuple[Callable[..., Any], Any]] = {
    "a sum": (lambda x, w, r: ops["sum"](conv(x, w) + r, (0, 1, 2), False), t(20)),
    "a transpose": (lambda x, w, r: conv(x, w).transpose((0, 3, 1, 2)) + r, t(2, 20, 6, 7)),
    "a value a row": (lambda x, w, r: conv(x, w) + r, ROW),
    "an image for all": (lambda x, w, r: conv(x, w) + r, IMAGE),
    "a part": (
        lambda x, w, r: ops["slice"](conv(x, w), (0, 1, 0, 0), (2, 5, 7, 20), (1,) * 4) * r, PART
    ),
    "backwards": (
        lambda x, w, r: ops["slice"](conv(x, w), (0, 0, 0, 19), (2, 6, 7, 20), (1, 1, 1, -1)) * r,
        t(20),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", APART)
def test_what_goes_elsewhere_is_a_kernel_of_its_own(name: str) -> None:
    fn, other = APART[name]
    compilation = check(fn, *types(3, 20)[:2], other)
    assert steps(compilation)[0] == ["conv"]
    assert len(compilation.steps) > 1


def test_channels_that_are_not_the_last_axis_of_the_kernel() -> None:
    """The gradient of a filter as large as its input is one product, of all places at once."""

    def gradient(g: Any, w: Any, b: Any) -> Any:
        attrs = ATTRS | {"padding": ((0, 0), (0, 0))}
        return ops["conv_input_gradient"](g, w, **attrs, input_size=(2, 3)) + b

    compilation = check(gradient, t(9, 1, 1, 4), t(2, 3, 5, 4), t(5))
    assert steps(compilation) == [["conv_input_gradient"], ["add"]]


def test_blocks_and_threads() -> None:
    given = (t(4, 26, 29, 70), t(3, 3, 70, 40), t(40))
    compilation = check(lambda x, w, b: ops["tanh"](conv(x, w) + b), *given)
    arrays = samples(given)
    run = prepared(compilation).run
    first, *others = with_threads(lambda: run(arrays)[0])
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_reports_and_memory() -> None:
    given = types(3, 20)
    compilation = check(partial(ONE["bias and relu"], conv), *given)
    (step,) = make_report(compilation).steps
    assert step.name.startswith("k_conv_add_relu_")
    assert step.work is not None
    sizes = [int(np.prod(x.shape)) * 4 for x in given]
    assert (step.work.bytes_read, step.work.bytes_written) == (sum(sizes[:3]), sizes[3])
    program = compile_in_full(compilation.graph, engine.host_target()).program
    check_program(program, samples(compilation.graph.types))


@pytest.mark.parametrize("activation", [gg.nn.relu, gg.nn.relu6])
def test_of_a_layer_one_result_is_kept(activation: Any) -> None:
    """The derivative asks the activation, which the next layer reads, not what was before it."""

    @gg.function
    def step(x: Any, w: Any, v: Any) -> Any:
        with gg.GradientTape() as tape:
            tape.watch([w, v])
            y = gg.nn.conv2d(activation(gg.nn.conv2d(x, w, 1, "SAME")), v, 1, "SAME")
            loss = gg.reduce_sum(y * y)
        return tape.gradient(loss, [w, v])

    step(*(gg.ones(s) for s in ((2, 6, 7, 3), (3, 3, 3, 20), (3, 3, 20, 4))))
    written = re.search(r"kernel k_conv_relu\S+\n.*writes (\S+) kB", step.report())
    assert written is not None
    count = 2 * 6 * 7 * 20
    assert float(written[1]) * 1000 <= 4 * count + count  # the activation, and a mask


@pytest.mark.parametrize("groups", [1, 2])
def test_kernels_as_python(groups: int) -> None:
    attrs = {
        "strides": (2, 1), "padding": ((1, 0), (1, 2)), "dilations": (1, 2), "groups": groups,
    }  # fmt: skip
    x, w = t(2, 5, 7, 4), t(3, 2, 4 // groups, 6)
    for name, extra in (
        ("conv", {}),
        ("conv_input_gradient", {"input_size": (5, 7)}),
        ("conv_filter_gradient", {"filter_size": (3, 2)}),
    ):
        y = graph_of(lambda x, w: conv(x, w, **attrs), x, w).output_types[0]
        given = {"conv": (x, w), "conv_input_gradient": (y, w), "conv_filter_gradient": (x, y)}
        graph = graph_of(lambda a, b: ops[name](a, b, **attrs, **extra), *given[name])  # noqa: B023
        arrays = samples(graph.types)
        (expected,) = run_compiled(compile_full(graph), arrays)
        scope: dict[str, Any] = {"np": np}
        exec(python_convolution(graph.nodes[-1], "kernel"), scope)
        made = np.full_like(expected, np.nan)
        scope["kernel"](*arrays, made)
        np.testing.assert_allclose(made, expected, 1e-4, 1e-4)


def test_the_kernels_of_a_function_show_the_convolution_and_what_follows() -> None:
    @gg.function
    def layer(x: Any, w: Any) -> Any:
        return gg.nn.relu(gg.nn.conv2d(x, w, 1, "SAME"))

    layer(gg.ones([1, 4, 4, 2]), gg.ones([3, 3, 2, 5]))
    text = layer.kernels()
    assert "y[(n, *o)][:] += x[(n, *at)][:] @ w[k][:, :]" in text
    assert "_then(" in text
