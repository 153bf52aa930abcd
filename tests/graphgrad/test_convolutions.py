"""gg.nn.conv2d and its like: direct sums over a grid, TensorFlow's numbers, every mode, errors."""

import itertools

import numpy as np
import pytest

import graphgrad as gg
from graphgrad.compiler.ops import convolution_reference
from graphgrad.errors import ArgumentError, DTypeError, ShapeError
from tests.graphgrad.modes import in_every_mode

# -- against the sum as it is written


def padded_by(padding, sizes, taps, strides, dilations):
    """What stands before and after each axis, by TensorFlow's documentation."""
    if padding == "VALID":
        return [(0, 0)] * len(sizes)
    if padding != "SAME":
        return padding
    pairs = []
    for n, k, s, d in zip(sizes, taps, strides, dilations, strict=True):
        places = -(-n // s)
        total = max((places - 1) * s + (k - 1) * d + 1 - n, 0)
        pairs.append((total // 2, total - total // 2))
    return pairs


def direct(x, w, strides, padding, dilations):
    """The convolution in float64, a number at a time; channels last."""
    n, *sizes, inputs = x.shape
    *taps, own, outputs = w.shape
    pairs = padded_by(padding, sizes, taps, strides, dilations)
    groups = inputs // own
    out = [
        max(0, (m + lo + hi - (k - 1) * d - 1) // s + 1)
        for m, k, s, (lo, hi), d in zip(sizes, taps, strides, pairs, dilations, strict=True)
    ]
    y = np.zeros((n, *out, outputs))
    for image, *place, j in np.ndindex(*y.shape):
        group = j // (outputs // groups)
        for *tap, i in np.ndindex(*taps, own):
            at = [
                o * s + k * d - lo
                for o, s, k, d, (lo, _) in zip(place, strides, tap, dilations, pairs, strict=True)
            ]
            if all(0 <= a < m for a, m in zip(at, sizes, strict=True)):
                y[(image, *place, j)] += x[(image, *at, group * own + i)] * w[(*tap, i, j)]
    return y


# spatial sizes, taps
SHAPES = [
    ((6,), (3,)), ((1,), (1,)), ((3,), (5,)), ((5, 4), (3, 2)), ((4, 5), (1, 1)), ((2, 3), (3, 4)),
    ((3, 2, 4), (2, 1, 3)),
]  # fmt: skip
STEPS = [(1, 1), (2, 1), (1, 2), (3, 2)]  # stride and dilation along the first axis
CHANNELS = [(1, 1, 1), (3, 2, 1), (4, 6, 2), (3, 3, 3), (1, 4, 1)]  # in, out, groups
GRID = [
    pytest.param(sizes, taps, padding, id=f"{sizes} {taps} {padding}")
    for sizes, taps in SHAPES
    for padding in ("SAME", "VALID", "pairs")
]


def settings(sizes, taps, padding):
    """Strides, dilations, padding and channels to try with one shape."""
    rank = len(sizes)
    for (s, d), channels in itertools.product(STEPS, CHANNELS):
        strides, dilations = (s, *(1, 2)[: rank - 1]), (d, *(1, 1)[: rank - 1])
        pairs = [(1, 2), (3, 0), (0, 1)][:rank] if padding == "pairs" else padding
        around = padded_by(pairs, sizes, taps, strides, dilations)
        room = [n + sum(p) + b for n, p, b in zip(sizes, around, strides, strict=True)]
        extents = [(k - 1) * a + 1 for k, a in zip(taps, dilations, strict=True)]
        if any(n < e for n, e in zip(room, extents, strict=True)):
            continue  # refused, as by TensorFlow
        yield strides, dilations, pairs, channels


@pytest.mark.parametrize(("sizes", "taps", "padding"), GRID)
def test_a_convolution_is_the_direct_sum(sizes, taps, padding):
    rng = np.random.default_rng(len(sizes) * 7 + sum(taps))
    for images, (strides, dilations, pairs, (inputs, outputs, groups)) in zip(
        itertools.cycle((1, 2, 0)), settings(sizes, taps, padding)
    ):
        x = rng.uniform(-1, 1, (images, *sizes, inputs))
        w = rng.uniform(-1, 1, (*taps, inputs // groups, outputs))
        wanted = direct(x, w, strides, pairs, dilations)
        found = gg.nn.convolution(x, w, strides, pairs, dilations=dilations)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize(("sizes", "taps", "padding"), GRID)
def test_the_transpose_is_the_adjoint(sizes, taps, padding):
    """<conv(x), g> = <x, transpose(g)>, and so is the gradient by the filter."""
    rng = np.random.default_rng(3)
    first = "NC" + "DHW"[-len(sizes) :]
    for strides, dilations, pairs, (inputs, outputs, groups) in settings(sizes, taps, padding):
        x = rng.uniform(-1, 1, (2, *sizes, inputs))
        w = gg.constant(rng.uniform(-1, 1, (*taps, inputs // groups, outputs)))
        with gg.GradientTape() as tape:
            tape.watch(w)
            y = gg.nn.convolution(x, w, strides, pairs, dilations=dilations)
        g = rng.uniform(-1, 1, y.shape)
        inner = np.vdot(y, g)
        back = gg.nn.conv_transpose(g, w, x.shape, strides, pairs, dilations=dilations)
        np.testing.assert_allclose(np.vdot(x, back), inner, atol=1e-11)
        by_filter = tape.gradient(y, w, output_gradients=gg.constant(g))
        np.testing.assert_allclose(np.vdot(w, by_filter), inner, atol=1e-11)
        if groups == 1:  # the spatial sizes alone do not tell of groups
            g = np.moveaxis(g, -1, 1)
            moved = gg.nn.conv_transpose(g, w, sizes, strides, pairs, first, dilations)
            np.testing.assert_allclose(np.moveaxis(moved, 1, -1), back, atol=1e-12)


def test_the_direct_sum_sees_mistakes():
    x, w = np.random.default_rng(0).uniform(-1, 1, (2, 5, 4)), np.ones((2, 4, 2))
    good = gg.nn.conv1d(x, w, 2, "SAME").numpy()
    np.testing.assert_allclose(good, direct(x, w, (2,), "SAME", (1,)), atol=1e-12)
    for strides, padding, dilations in (((1,), "SAME", (1,)), ((2,), [(1, 0)], (1,)),
                                        ((2,), [(1, 1)], (2,))):  # fmt: skip
        wrong = direct(x, w, strides, padding, dilations)
        assert wrong.shape != good.shape or np.abs(wrong - good).max() > 0.01


def test_windows_are_taken_in_blocks(monkeypatch):
    """Whatever fits into a block: some images, one, or rows of one."""
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (5, 6, 5, 4))

    def results(shape):
        w = gg.constant(rng.uniform(-1, 1, shape))
        with gg.GradientTape() as tape:
            tape.watch([source := gg.constant(x), w])
            y = gg.nn.conv2d(source, w, [2, 1], "SAME")
            total = gg.reduce_sum(gg.sin(y))
        return [y, *tape.gradient(total, [source, w])]

    for shape in ((3, 2, 4, 3), (3, 2, 2, 4), (3, 2, 1, 8)):
        state = rng.bit_generator.state
        whole = results(shape)
        for limit in (1, 400, 1500, 6000):
            monkeypatch.setattr(convolution_reference, "BLOCK_BYTES", limit)
            rng.bit_generator.state = state
            for a, b in zip(results(shape), whole, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-12)
        monkeypatch.undo()


# -- TensorFlow's numbers: the result, and the gradients of sum(y * y) by the arguments


def numbers(*shape, step=5):
    return (np.arange(np.prod(shape)) * step % 7 - 2.0).reshape(shape).astype(np.float32)


TENSORFLOW = {
    "conv1d": (
        lambda x, w: gg.nn.conv1d(x, w, 2, "SAME"),
        (numbers(1, 5, 2, step=3), numbers(3, 2, 2)),
        (1, 3, 2), [4, -2, 12, 14, -2, 2],
        [[24, 8, 56, -28, 152, -56, 120, 80, -8, -8],
         [88, 120, 8, -8, 52, 96, -32, -16, 80, 40, -48, -56]],
    ),
    "conv1d dilated": (
        lambda x, w: gg.nn.conv1d(x, w, 1, "VALID", dilations=3),
        (numbers(1, 6, 2, step=3), numbers(2, 2, 1)),
        (1, 3, 1), [11, -11, -12],
        [[-44, 66, 44, -66, 48, -72, 22, -22, -22, 22, -24, 24], [-204, 46, 22, -204]],
    ),
    "conv2d": (
        lambda x, w: gg.nn.conv2d(x, w, 2, "SAME"),
        (numbers(1, 4, 3, 2, step=3), numbers(2, 3, 2, 1)),
        (1, 2, 2, 1), [32, -9, -11, 22],
        [[64, -64, 292, 74, -18, 18, 192, 64, -64, 292, -54, -18,
          -22, 22, -176, 88, 44, -44, -66, -22, 22, -176, 132, 44],
         [-160, 44, 16, 38, 300, -22, 70, -160, 106, 16, 20, 300]],
    ),
    "conv2d in groups": (
        lambda x, w: gg.nn.conv2d(x, w, 1, "VALID"),
        (numbers(1, 3, 3, 4, step=3), numbers(2, 2, 2, 2)),
        (1, 2, 2, 2), [20, 19, 17, 13, 11, 8, 1, 2],
        [[-80, 40, 114, -38, 92, 34, 154, -102, 136, 0, 52, -52, 76, -18, 86, 136, 266, -112,
          70, 182, 76, -68, 8, 70, 66, -22, 16, 64, 50, -46, 4, 64, 4, -4, 0, 12],
         [8, 184, 50, -40, 246, 128, 92, 2, 92, 2, 148, 44, 190, 212, -48, 58]],
    ),
    "conv2d with pairs": (
        lambda x, w: gg.nn.conv2d(x, w, [1, 2], [[0, 0], [1, 0], [2, 1], [0, 0]]),
        (numbers(1, 2, 2, 1, step=3), numbers(2, 2, 1, 1)),
        (1, 2, 2, 1), [0, -3, 0, 11], [[-50, 72, 22, -22], [-44, 22, 100, -6]],
    ),
    "conv3d": (
        lambda x, w: gg.nn.conv3d(x, w, [1, 2, 1, 1, 1], "SAME"),
        (numbers(1, 3, 2, 2, 1, step=3), numbers(2, 2, 2, 1, 2)),
        (1, 2, 2, 2, 2), [39, -6, -9, 2, 0, 6, -6, -2, 2, -7, 4, 18, 3, -3, -6, 9],
        [[-192, 138, 324, -40, 222, -176, 168, -220, -50, 110, -42, 222],
         [-174, 260, 112, -86, 336, 60, 12, -42, 276, -8, -78, -12, 192, -32, -156, 24]],
    ),
    "depthwise_conv2d": (
        lambda x, w: gg.nn.depthwise_conv2d(x, w, [1, 2, 2, 1], "SAME"),
        (numbers(1, 3, 3, 2, step=3), numbers(2, 2, 2, 2)),
        (1, 2, 2, 4), [28, 4, -5, 3, -6, 9, -4, 13, -6, -7, 2, -4, -8, 12, 0, 0],
        [[-88, -16, 240, -12, 78, -34, 176, 34, 112, 38, -18, 112, -18, 12, -76, 16, 104, 0],
         [-200, 148, 6, -36, 248, 60, 4, -8, 112, 16, -4, 66, 56, 8, -40, 24]],
    ),
    "separable_conv2d": (
        lambda x, v, w: gg.nn.separable_conv2d(x, v, w, [1, 1, 1, 1], "VALID"),
        (numbers(1, 3, 3, 2, step=3), numbers(2, 2, 2, 1), numbers(1, 1, 2, 2, step=2)),
        (1, 2, 2, 2), [-50, -36, 8, 12, -2, -32, 42, 44],
        [[-400, -1464, 264, 872, -32, -128, 784, -1768, 216, 3056, -168, -776, 32, -528, -672,
          1568, 0, -1040],
         [-680, 2120, 712, 376, 696, 1480, -488, -1832], [-2428, -1608, 1904, 2200]],
    ),
    "conv2d_transpose": (
        lambda x, w: gg.nn.conv2d_transpose(x, w, [1, 3, 4, 2], 2),
        (numbers(1, 2, 2, 1, step=3), numbers(3, 3, 2, 1)),
        (1, 3, 4, 2),
        [0, 4, -6, -2, 2, -10, 3, 1, -12, 12, 8, -10, 16, 10, -2, 3, 0, -8, 12, 4, -4, 16, 0, 0],
        [[-268, 150, 572, -78],
         [-96, 96, 64, -80, 128, 80, 4, -100, 126, 42, -40, 168, 80, -28, -36, 46, -64, -40]],
    ),
    "conv1d_transpose": (
        lambda x, w: gg.nn.conv1d_transpose(x, w, [1, 8, 1], 2, "VALID"),
        (numbers(1, 3, 2, step=3), numbers(3, 1, 2)),
        (1, 8, 1), [7, -3, -14, 4, 7, 4, 10, 0],
        [[-146, -8, 120, -64, 60, 74], [-98, 0, 68, -14, 172, -48]],
    ),
    "atrous_conv2d": (
        lambda x, w: gg.nn.atrous_conv2d(x, w, 2, "SAME"),
        (numbers(1, 4, 4, 1, step=3), numbers(2, 2, 1, 1)),
        (1, 4, 4, 1), [1, 1, 1, 2, -1, 17, -1, -8, -5, 1, -3, -6, 12, -2, 1, 0],
        [[-68, -2, 134, -6, -2, -18, 32, -20, 42, 68, -62, 8, 2, 4, -14, 6], [-142, 262, 48, -46]],
    ),
}  # fmt: skip


@in_every_mode
@pytest.mark.parametrize("name", TENSORFLOW)
def test_values_and_gradients_are_tensorflows(name, mode):
    f, arrays, shape, wanted, gradients = TENSORFLOW[name]
    xs = [gg.constant(a) for a in arrays]

    def step(*xs):
        with gg.GradientTape() as tape:
            tape.watch(xs)
            y = f(*xs)
            total = gg.reduce_sum(y * y)
        return y, *tape.gradient(total, xs)

    y, *found = mode(step)(*xs)
    np.testing.assert_array_equal(y, np.reshape(wanted, shape))
    for g, x, w in zip(found, xs, gradients, strict=True):
        np.testing.assert_array_equal(g, np.reshape(w, x.shape))


@pytest.mark.parametrize("name", [n for n in TENSORFLOW if n != "atrous_conv2d"])
def test_derivatives_are_right_to_second_order(name):
    f, arrays, *_ = TENSORFLOW[name]
    gg.testing.check_grads(lambda *xs: gg.sin(f(*xs) / 8), *(a / 2 for a in arrays), order=2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["conv2d", "conv2d in groups", "depthwise_conv2d", "conv3d"])
def test_short_floats_are_rounded_once(name, dtype):
    f, arrays, *_ = TENSORFLOW[name]
    xs = [gg.cast(a / 3 + 0.01, dtype) for a in arrays]
    wanted = gg.cast(f(*(gg.cast(x, "float32") for x in xs)), dtype)
    found = f(*xs)
    assert found.dtype == dtype
    np.testing.assert_array_equal(gg.cast(found, "float32"), gg.cast(wanted, "float32"))


def test_integers():
    x, w = numbers(1, 4, 3, 2).astype(np.int32), numbers(2, 3, 2, 1).astype(np.int32)
    found = gg.nn.conv2d(x, w, 1, "SAME")
    assert found.dtype == gg.int32
    np.testing.assert_array_equal(found, gg.nn.conv2d(x * 1.0, w * 1.0, 1, "SAME"))


# -- batches


@pytest.mark.parametrize("name", TENSORFLOW)
@pytest.mark.parametrize("compiled", [False, True])
def test_a_batch_is_a_loop(name, compiled):
    f, arrays, *_ = TENSORFLOW[name]
    batches = [gg.constant(np.stack([a, a[..., ::-1], 2 - a])) for a in arrays]
    for axes in itertools.product((0, None), repeat=len(arrays)):
        if axes == (None,) * len(arrays):
            continue
        chosen = [b if a == 0 else b[0] for a, b in zip(axes, batches, strict=True)]
        mapped = gg.vmap(f, in_axes=axes)
        found = (gg.function(mapped) if compiled else mapped)(*chosen)
        lanes = [
            f(*(b[i] if a == 0 else b for a, b in zip(axes, chosen, strict=True))) for i in range(3)
        ]
        np.testing.assert_array_equal(found, gg.stack(lanes))


def test_gradients_for_each_example_of_an_open_number():
    """Each example has an image and a cotangent of its own."""
    w = gg.constant(numbers(2, 2, 4, 2))

    def loss(w, image):
        return gg.reduce_sum(gg.nn.conv2d(image[gg.newaxis], w, 2, "SAME") ** 2)

    each = gg.vmap(gg.grad(loss), in_axes=(None, 0))
    spec = gg.TensorSpec([None, 3, 3, 4])
    for wrapped in (each, gg.function(lambda x: each(w, x), input_signature=[spec])):
        images = gg.constant(numbers(5, 3, 3, 4, step=3))
        found = wrapped(w, images) if wrapped is each else wrapped(images)
        lanes = [gg.grad(loss)(w, images[i]) for i in range(5)]
        np.testing.assert_array_equal(found, gg.stack(lanes))


# -- layouts, sizes


def test_channels_first_is_the_same_with_other_axes():
    x, w = numbers(2, 5, 4, 6, step=3), numbers(3, 2, 3, 4)
    pairs = [[0, 0], [1, 0], [2, 1], [0, 0]]
    wanted = gg.nn.conv2d(x, w, [1, 2, 1, 1], pairs, dilations=[1, 1, 2, 1])
    moved = gg.nn.conv2d(
        np.moveaxis(x, -1, 1), w, [1, 1, 2, 1], [pairs[i] for i in (0, 3, 1, 2)],
        data_format="NCHW", dilations=[1, 1, 1, 2],
    )  # fmt: skip
    np.testing.assert_array_equal(np.moveaxis(moved, 1, -1), wanted)
    one = gg.nn.conv1d(x[:, 0], w[0], 1, "SAME")
    for name in ("NCW", "NCHW"):
        moved = gg.nn.conv1d(np.moveaxis(x[:, 0], -1, 1), w[0], 1, "SAME", data_format=name)
        np.testing.assert_array_equal(np.moveaxis(moved, 1, -1), one)
    deep = gg.nn.depthwise_conv2d(x, numbers(3, 2, 6, 2), 2, "SAME")
    moved = gg.nn.depthwise_conv2d(
        np.moveaxis(x, -1, 1), numbers(3, 2, 6, 2), 2, "SAME", data_format="NCHW"
    )
    np.testing.assert_array_equal(np.moveaxis(moved, 1, -1), deep)


@pytest.mark.parametrize("channels", [4, 16])
def test_transposes_between_layers_meet(channels):
    """A network with channels first transposes its input, and nothing else."""

    def network(x, w, b, v):
        h = gg.nn.conv2d(x, w, 1, "SAME", data_format="NCHW")
        h = gg.nn.relu(gg.nn.bias_add(h, b, data_format="NCHW"))
        h = gg.nn.conv2d(h, v, 1, "SAME", data_format="NCHW")
        return gg.transpose(gg.tanh(h), (0, 2, 3, 1))

    arrays = (2, 3, 5, 5), (3, 3, 3, channels), (channels,), (3, 3, channels, 2)
    xs = [gg.constant(numbers(*shape) / 50) for shape in arrays]
    f = gg.function(network)
    np.testing.assert_allclose(f(*xs), network(*xs), rtol=1e-5)
    assert f.ir("after").count("= transpose") == 1


def test_more_axes_of_images():
    x, w = numbers(2, 3, 4, 5, 2), numbers(2, 2, 2, 3)
    found = gg.nn.conv2d(x, w, 1, "SAME")
    wanted = gg.nn.conv2d(x.reshape(6, 4, 5, 2), w, 1, "SAME")
    np.testing.assert_array_equal(found, np.reshape(wanted, (2, 3, 4, 5, 3)))
    moved = gg.nn.conv2d(np.moveaxis(x, -1, 2), w, 1, "SAME", data_format="NCHW")
    np.testing.assert_array_equal(np.moveaxis(moved, 2, -1), found)


@pytest.mark.parametrize("images", [0, 2])
def test_no_places_and_no_images(images):
    x, w = gg.zeros((images, 3, 3, 1)), gg.ones((4, 2, 1, 2))
    with gg.GradientTape() as tape:
        tape.watch([x, w])
        y = gg.nn.conv2d(x, w, 1, "VALID")
    assert y.shape == (images, 0, 2, 2)
    by_input, by_filter = tape.gradient(y, [x, w])
    np.testing.assert_array_equal(by_input, gg.zeros_like(x))
    np.testing.assert_array_equal(by_filter, gg.zeros_like(w))


@pytest.mark.parametrize(("strides", "padding"), [(1, "SAME"), (2, "SAME"), (3, "VALID")])
def test_sizes_may_be_open(strides, padding):
    """SAME with a stride asks for the remainder, which becomes a guard: one trace for each."""
    w = gg.constant(numbers(3, 2, 2, 4))

    def step(x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = gg.nn.conv2d(x, w, strides, padding)
            total = gg.reduce_sum(y * y)
        return y, tape.gradient(total, x)

    f = gg.function(step, input_signature=[gg.TensorSpec([None, None, None, 2])])
    for images, height, width in ((2, 6, 6), (1, 8, 4), (3, 5, 7), (0, 6, 6), (1, 2, 3)):
        x = gg.constant(numbers(images, height, width, 2))
        for found, wanted in zip(f(x), step(x), strict=True):
            np.testing.assert_array_equal(found, wanted)
    if strides == 1:
        assert f.experimental_get_tracing_count() == 1


def test_sizes_of_depthwise_convolutions_may_be_open():
    """Rows that no window reaches have no gradient, however few taps a phase has."""
    w = gg.constant(numbers(3, 3, 4, 1))

    def layer(x):
        return gg.nn.depthwise_conv2d(x, w, 3, [(4, 0), (2, 1)])

    def gradient(f, x):
        with gg.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x, output_gradients=1 + y)

    f = gg.function(layer, input_signature=[gg.TensorSpec([None, None, None, 4])])
    for height, width in ((7, 6), (4, 9), (8, 8)):
        x = gg.constant(numbers(2, height, width, 4))
        np.testing.assert_array_equal(gradient(f, x), gradient(layer, x))


def test_outputs_of_transposes_may_be_open():
    w = gg.constant(numbers(3, 3, 5, 2))
    specs = [gg.TensorSpec([None, None, 4, 2])]
    f = gg.function(
        lambda x: gg.nn.conv2d_transpose(x, w, [gg.shape(x)[0], 2 * gg.shape(x)[1], 8, 5], 2),
        input_signature=specs,
    )
    for n, h in ((2, 3), (1, 5)):
        x = gg.constant(numbers(n, h, 4, 2))
        np.testing.assert_array_equal(f(x), gg.nn.conv2d_transpose(x, w, None, 2))


ALIKE = [
    (dict(strides=2, padding="SAME"), dict(strides=[1, 2, 2, 1], padding="same")),
    (dict(strides=[2], padding="VALID"), dict(strides=(2, 2), padding="Valid")),
    (dict(strides=np.array([1, 2]), padding="VALID"), dict(strides=[1, 1, 2, 1], padding="VALID")),
    (dict(strides=None, padding="VALID"), dict(strides=1, padding=[(0, 0), (0, 0)])),
    (dict(strides=1, padding="SAME"),
     dict(strides=1, padding=np.array([[0, 0], [1, 1], [0, 1], [0, 0]]))),
    (dict(strides=1, padding="VALID", dilations=2),
     dict(strides=1, padding="VALID", dilations=[1, 2, 2, 1])),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), ALIKE, ids=range(len(ALIKE)))
def test_arguments_have_several_forms(one, other):
    x, w = numbers(1, 6, 5, 2), numbers(3, 2, 2, 3)
    np.testing.assert_array_equal(gg.nn.conv2d(x, w, **one), gg.nn.conv2d(x, w, **other))


# -- errors

X, W = np.zeros((2, 6, 6, 4), np.float32), np.zeros((3, 3, 4, 5), np.float32)
ERRORS = [
    (lambda: gg.nn.conv2d(X, W[:, :, :3], 1, "SAME"), ShapeError,
     "conv2d: the input f32[2, 6, 6, 4] has 4 channels, and the filter f32[3, 3, 3, 5] takes 3, "
     "which does not divide 4: it is (height, width, input channels, output channels)"),
    (lambda: gg.nn.conv2d(X, np.moveaxis(W, (3, 2), (0, 1)), 1, "SAME"), ShapeError,
     "if it is (output, input channels, height, width), gg.transpose it by [2, 3, 1, 0]"),
    (lambda: gg.nn.conv2d(np.zeros((2, 3, 32, 32)), np.zeros((3, 3, 3, 8)), 1, "SAME"), ShapeError,
     "the 3 channels would be found with data_format='NCHW'"),
    (lambda: gg.nn.conv2d(X, np.zeros((3, 3, 2, 5)), 1, "SAME"), ShapeError,
     "conv2d: the 5 output channels of the filter f64[3, 3, 2, 5] do not fall into 2 groups"),
    (lambda: gg.nn.conv2d(X[0], W, 1, "SAME"), ShapeError,
     "conv2d: the input has 4 axes (images, height, width, channels), got f32[6, 6, 4]; one image "
     "becomes a batch by x[gg.newaxis], and gray images have their channel by x[..., gg.newaxis]"),
    (lambda: gg.nn.conv2d(X[..., :3], W, 1, "SAME"), ShapeError,
     "which does not divide 3: it is (height, width, input channels, output channels)\n"),
    (lambda: gg.nn.conv1d(X[0], W, 1, "SAME"), ShapeError,
     "conv1d: the filter has 3 axes (width, input channels, output channels), got f32[3, 3, 4, 5]"),
    (lambda: gg.nn.convolution(X, np.zeros((4, 5))), ShapeError,
     "convolution: the filter has 1 to 3 spatial axes"),
    (lambda: gg.nn.conv2d(X, np.zeros((0, 3, 4, 5)), 1, "SAME"), ShapeError,
     "conv2d: the sizes of the filter must be known, and its spatial ones at least 1"),
    (lambda: gg.nn.conv2d(X, W, 0, "SAME"), ArgumentError,
     "conv2d: strides should be 1 at least, got 0"),
    (lambda: gg.nn.conv2d(X, W, 1.5, "SAME"), ArgumentError,
     "conv2d: strides should be integers, got 1.5"),
    (lambda: gg.nn.conv2d(X, W, [2, 1, 1, 1], "SAME"), ArgumentError,
     "conv2d: strides [2, 1, 1, 1] should be 1 along images and channels"),
    (lambda: gg.nn.conv2d(X, W, [1, 2, 1], "SAME"), ArgumentError,
     "conv2d: strides is a number, or a list of 1, 2 or 4 numbers for 2 spatial axes"),
    (lambda: gg.nn.conv2d(X, W, 1, "SMAE"), ArgumentError,
     "for each axis, not 'SMAE'; did you mean 'SAME'?"),
    (lambda: gg.nn.conv2d(X, W, 1, 1), ArgumentError,
     "conv2d: padding is 'SAME', 'VALID' or a pair (before, after) for each axis, not 1"),
    (lambda: gg.nn.conv2d(X, W, 1, [[1, 1]] * 3), ArgumentError, "4 pairs for 2 spatial axes"),
    (lambda: gg.nn.conv2d(X, W, 1, [[1, 1], [1, 1], [0, 0], [0, 0]]), ArgumentError,
     "should be [0, 0] along images and channels"),
    (lambda: gg.nn.conv2d(X, W, 1, [[1, -1], [0, 0]]), ArgumentError, "should not be negative"),
    (lambda: gg.nn.conv2d(X, W, 1, "SAME", data_format="channels_first"), ArgumentError,
     "conv2d: data_format is 'NHWC' or 'NCHW' for 2 spatial axes, not 'channels_first'"),
    (lambda: gg.nn.conv2d(X, W, 1, "VALID", dilations=5), ShapeError,
     "conv2d: the window does not fit: along spatial axis 0 it covers 11 elements (3 taps 5 apart),"
     " and the input has 6 with 0 + 0 of padding"),
    (lambda: gg.nn.conv2d(gg.cast(X, "complex64"), W, 1, "SAME"), DTypeError,
     "conv2d: takes no complex numbers, got complex64; convolve gg.math.real and gg.math.imag"),
    (lambda: gg.nn.conv2d(X > 0, W > 0, 1, "SAME"), DTypeError,
     "conv2d: takes numbers, got bool tensors; cast them first"),
    (lambda: gg.nn.conv2d_transpose(X, W, None, 2), ShapeError,
     "conv2d_transpose: the input f32[2, 6, 6, 4] has 4 channels, and the filter f32[3, 3, 4, 5] "
     "takes 5: it is (height, width, output channels, input channels); its last two axes are the "
     "other way round than for a convolution"),
    (lambda: gg.nn.conv2d_transpose(X, np.zeros((3, 3, 5, 4)), [2, 13, 12, 5], 2), ShapeError,
     "conv2d_transpose: an output of [13, 12] belongs to an input of [7, 6]"),
    (lambda: gg.nn.conv2d_transpose(X, np.zeros((3, 3, 5, 4)), [3, 12, 12, 5], 2), ShapeError,
     "conv2d_transpose: output_shape [3, 12, 12, 5] has 3 images, and the input f64[2, 6, 6, 4] 2"),
    (lambda: gg.nn.conv2d_transpose(X, np.zeros((3, 3, 5, 4)), [2, 12, 12, 7], 2), ShapeError,
     "conv2d_transpose: an output of 7 channels does not fit the filter"),
    (lambda: gg.nn.conv2d_transpose(X, np.zeros((3, 3, 5, 4)), [12], 2), ArgumentError,
     "output_shape has the 4 sizes of the output or the 2 spatial ones, got [12]"),
    (lambda: gg.nn.depthwise_conv2d(X, np.zeros((3, 3, 5, 2)), 1, "SAME"), ShapeError,
     "depthwise_conv2d: the input f64[2, 6, 6, 4] has 4 channels, and the filter f64[3, 3, 5, 2] "
     "is for 5: it is (height, width, channels, multiplier)"),
    (lambda: gg.nn.separable_conv2d(X, W[..., :2], np.zeros((1, 1, 4, 2)), 1, "SAME"), ShapeError,
     "separable_conv2d: the depthwise filter f64[3, 3, 4, 2] gives 8 channels, and the pointwise"),
    (lambda: gg.nn.separable_conv2d(X, W, W, 1, "SAME"), ShapeError,
     "separable_conv2d: the pointwise filter is (1, 1, input channels, output channels), got"),
    (lambda: gg.nn.bias_add(X, [1.0] * 4, data_format="NWHX"), ArgumentError,
     "bias_add: data_format is of the form 'N...C' or 'NC...', not 'NWHX'"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), ERRORS, ids=[e[2][:50] for e in ERRORS])
def test_error(call, error, text):
    for wrapped in (call, gg.function(call)):
        with pytest.raises(error) as found:
            wrapped()
        assert text in str(found.value)
        assert "test_convolutions.py" in str(found.value)
