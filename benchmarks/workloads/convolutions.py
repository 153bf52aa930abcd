"""Convolutions with their gradients, pooling, and LeNet.

Images are (number, height, width, channels) and filters (height, width, in, out), those of a
depthwise convolution (height, width, channels, 1). A framework that has them otherwise turns its
inputs before the first call, and what is checked after it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.workloads.record import normal, workload
from benchmarks.workloads.reductions import cross_entropy_with_gradient

GROUP = "convolutions"


@dataclass(frozen=True)
class Convolution:
    """The sizes of one: `pad` rows and columns of zeros stand around each image."""

    name: str
    image: tuple[int, int, int, int]
    filter: tuple[int, int, int, int]
    stride: int = 1
    pad: int = 0

    @property
    def depthwise(self) -> bool:
        return self.filter[3] == 1 and self.filter[2] == self.image[3] > 1

    @property
    def groups(self) -> int:
        return self.filter[2] if self.depthwise else 1

    @property
    def out(self) -> tuple[int, int, int, int]:
        n, height, width, _ = self.image
        sizes = (
            (size + 2 * self.pad - taps) // self.stride + 1
            for size, taps in ((height, self.filter[0]), (width, self.filter[1]))
        )
        return (n, *sizes, self.filter[2] if self.depthwise else self.filter[3])

    @property
    def flops(self) -> int:
        taps = self.filter[0] * self.filter[1] * (1 if self.depthwise else self.filter[2])
        return 2 * int(np.prod(self.out)) * taps

    @property
    def title(self) -> str:
        kind = "depthwise " if self.depthwise else ""
        step = f", stride {self.stride}" if self.stride > 1 else ""
        image, filters = (" x ".join(map(str, sizes)) for sizes in (self.image, self.filter))
        return f"{kind}convolution of {image} by {filters}{step}"


# -- in NumPy: a product, or a multiplication, for each tap of the filter


def taps_of(c: Convolution, x: Any) -> Any:
    """((row, column), the elements of padded `x` that this tap meets) for each tap."""
    _, height, width, _ = c.out
    s = c.stride
    for i in range(c.filter[0]):
        for j in range(c.filter[1]):
            yield (i, j), x[:, i : i + s * height : s, j : j + s * width : s][:, :height, :width]


def padded(c: Convolution, x: Any) -> Any:
    return np.pad(x, ((0, 0), (c.pad, c.pad), (c.pad, c.pad), (0, 0)))


def forward(c: Convolution, x: Any, w: Any) -> Any:
    y = np.zeros(c.out, x.dtype)
    for tap, part in taps_of(c, padded(c, x)):
        y += part * w[tap][:, 0] if c.depthwise else part @ w[tap]
    return y


def to_input(c: Convolution, g: Any, w: Any) -> Any:
    x = padded(c, np.zeros(c.image, g.dtype))
    for tap, part in taps_of(c, x):
        part += g * w[tap][:, 0] if c.depthwise else g @ w[tap].T
    return x[:, c.pad : c.pad + c.image[1], c.pad : c.pad + c.image[2]]


def to_filter(c: Convolution, g: Any, x: Any) -> Any:
    w = np.zeros(c.filter, g.dtype)
    for tap, part in taps_of(c, padded(c, x)):
        if c.depthwise:
            w[tap][:, 0] = np.einsum("nhwc,nhwc->c", part, g)
        else:
            w[tap] = part.reshape(-1, c.image[3]).T @ g.reshape(-1, c.out[3])
    return w


# -- the rows of one convolution


def _named(build: Callable[..., Any], name: str) -> Callable[..., Any]:
    build.__name__ = name
    return build


def rows_of(c: Convolution, parts: str = "yxw") -> None:
    """Up to three rows: `y` forward, `x` and `w` the gradients of image and filter."""
    facts: dict[str, Any] = {"cores": True, "flops": c.flops, "group": GROUP}

    def inputs(*names: str) -> Callable[..., Any]:
        sizes = {"x": c.image, "w": c.filter, "g": c.out}
        return lambda r: {k: normal(r, *sizes[k]) for k in names}

    def filters(F: Any, t: Any) -> Any:
        return F.filters(t["w"], c.depthwise)

    def y(F: Any, t: Any) -> Any:
        f = F.compiled(lambda x, w: F.convolution(x, w, c))
        return f, (F.images(t["x"]), filters(F, t))

    def x(F: Any, t: Any) -> Any:
        f = F.compiled(lambda g, x, w: F.convolution_to_input(g, x, w, c))
        empty = F.tensor(np.zeros(c.image, np.float32))  # only its size counts
        return f, (F.images(t["g"]), F.images(empty), filters(F, t))

    def w(F: Any, t: Any) -> Any:
        f = F.compiled(lambda g, x, w: F.convolution_to_filter(g, x, w, c))
        empty = F.filters(F.tensor(np.zeros(c.filter, np.float32)), c.depthwise)
        return f, (F.images(t["g"]), F.images(t["x"]), empty)

    def image(F: Any, result: Any) -> Any:
        return F.from_images(result)

    def filter_(F: Any, result: Any) -> Any:
        return F.from_filters(result, c.depthwise)

    for letter, what, build, names, reference, finish in (
        ("y", "", y, "xw", lambda x, w: [forward(c, x, w)], image),
        ("x", ", gradient of the image", x, "gw", lambda g, w: [to_input(c, g, w)], image),
        ("w", ", gradient of the filter", w, "gx", lambda g, x: [to_filter(c, g, x)], filter_),
    ):
        if letter in parts:
            declare = workload(c.title + what, inputs(*names), reference, finish=finish, **facts)
            declare(_named(build, f"{c.name}_{letter}"))


CONVOLUTIONS = (
    Convolution("conv3_64", (8, 56, 56, 64), (3, 3, 64, 64), pad=1),
    Convolution("conv3_128_s2", (8, 28, 28, 128), (3, 3, 128, 128), stride=2, pad=1),
    Convolution("conv1_256_64", (8, 56, 56, 256), (1, 1, 256, 64)),
    Convolution("conv1_256_256", (8, 56, 56, 256), (1, 1, 256, 256)),
    Convolution("depthwise3_32", (8, 112, 112, 32), (3, 3, 32, 1), pad=1),
    Convolution("conv5_lenet_1", (64, 28, 28, 1), (5, 5, 1, 6), pad=2),
    Convolution("conv5_lenet_2", (64, 14, 14, 6), (5, 5, 6, 16)),
)
for _c in CONVOLUTIONS:
    rows_of(_c)


# -- pooling: windows beside each other


POOLED = (8, 112, 112, 64)
MOVED = 4 * int(np.prod(POOLED)) * 5 // 4  # read once, and a quarter of it written


def windows(x: Any) -> Any:
    """The four elements of each window of 2 x 2 along the last axis."""
    n, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    x = x.reshape(n, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 5, 2, 4)
    return x.reshape(n, height // 2, width // 2, channels, 4)


def unwindowed(x: Any) -> Any:
    """The inverse of `windows`, of even sizes."""
    n, height, width, channels, _ = x.shape
    x = x.reshape(n, height, width, channels, 2, 2).transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(n, 2 * height, 2 * width, channels)


def _largest(x: Any) -> Any:
    found = windows(x)
    return found == found.max(-1, keepdims=True)


def _image(r: Any) -> Any:
    """Numbers in a random order: those of a window differ, as normal ones mostly do."""
    numbers = r.permutation(int(np.prod(POOLED))).astype(np.float32)
    return {"x": numbers.reshape(POOLED) * np.float32(2**-20)}


def _image_and_cotangent(r: Any) -> Any:
    n, height, width, channels = POOLED
    return _image(r) | {"g": normal(r, n, height // 2, width // 2, channels)}


@workload("max pooling by 2 x 2, 8 x 112 x 112 x 64", _image, lambda x: [windows(x).max(-1)],
          cores=True, group=GROUP, traffic=MOVED, finish=lambda F, y: F.from_images(y))  # fmt: skip
def max_pool_y(F, t):
    return F.compiled(lambda x: F.max_pool(x, 2)), (F.images(t["x"]),)


@workload("average pooling by 2 x 2, 8 x 112 x 112 x 64", _image, lambda x: [windows(x).mean(-1)],
          cores=True, group=GROUP, traffic=MOVED, finish=lambda F, y: F.from_images(y))  # fmt: skip
def avg_pool_y(F, t):
    return F.compiled(lambda x: F.avg_pool(x, 2)), (F.images(t["x"]),)


def _both(F, result):
    y, (x,) = result
    return F.from_images(y), F.from_images(x)


@workload("max pooling by 2 x 2, value and vjp, 8 x 112 x 112 x 64", _image_and_cotangent,
          lambda x, g: [windows(x).max(-1), unwindowed(_largest(x) * g[..., None])],
          cores=True, group=GROUP, traffic=2 * MOVED, finish=_both)  # fmt: skip
def max_pool_vjp(F, t):
    return F.value_and_vjp(lambda x: F.max_pool(x, 2)), (F.images(t["g"]), F.images(t["x"]))


# -- LeNet


RATE = 0.05
LAYERS = ((5, 5, 1, 6), (5, 5, 6, 16), (400, 120), (120, 84), (84, 10))
FIRST = Convolution("lenet_1", (64, 28, 28, 1), LAYERS[0], pad=2)
SECOND = Convolution("lenet_2", (64, 14, 14, 6), LAYERS[1])
PARAMETERS = tuple(f"{kind}{i}" for i in range(len(LAYERS)) for kind in "wb")


def _lenet_inputs(r):
    d = {
        "x": r.random(FIRST.image, dtype=np.float32),
        "y": r.integers(0, 10, FIRST.image[0]).astype(np.int32),
    }
    for i, sizes in enumerate(LAYERS):
        d[f"w{i}"] = normal(r, *sizes, scale=(2 / np.prod(sizes[:-1])) ** 0.5)
        d[f"b{i}"] = normal(r, sizes[-1], scale=0.01)
    return d


def _lenet_reference(x, y, **p):
    z0 = forward(FIRST, x, p["w0"]) + p["b0"]
    h0 = windows(np.maximum(z0, 0)).max(-1)
    z1 = forward(SECOND, h0, p["w1"]) + p["b1"]
    h1 = windows(np.maximum(z1, 0)).max(-1)
    h = [h1.reshape(len(x), -1)]
    for i in (2, 3, 4):
        z = h[-1] @ p[f"w{i}"] + p[f"b{i}"]
        h.append(z if i == 4 else np.maximum(z, 0))
    loss, dz = cross_entropy_with_gradient(h[-1], y)
    gradients = []
    for i in (4, 3, 2):
        gradients = [h[i - 2].T @ dz, dz.sum(0), *gradients]
        dz = (dz @ p[f"w{i}"].T) * (h[i - 2] > 0 if i > 2 else 1)
    # Where the largest of a window is 0, the derivative of relu is 0: ties do not matter.
    dz1 = unwindowed(_largest(z1) * dz.reshape(h1.shape)[..., None]) * (z1 > 0)
    dh0 = to_input(SECOND, dz1, p["w1"])
    dz0 = unwindowed(_largest(z0) * dh0[..., None]) * (z0 > 0)
    for c, image, g in ((SECOND, h0, dz1), (FIRST, x, dz0)):
        gradients = [to_filter(c, g, image), g.sum((0, 1, 2)), *gradients]
    return [loss, *(p[k] - RATE * g for k, g in zip(PARAMETERS, gradients))]


def _lenet_loss(F):
    def loss(p, x, y):
        h = F.max_pool(F.relu(F.convolution(x, p[0], FIRST, p[1])), 2)
        h = F.max_pool(F.relu(F.convolution(h, p[2], SECOND, p[3])), 2)
        h = F.relu(F.flat(h) @ p[4] + p[5])
        h = F.relu(h @ p[6] + p[7])
        return F.cross_entropy(h @ p[8] + p[9], y)

    return loss


def _lenet_result(F, result):
    loss, (w0, b0, w1, *rest) = result
    return loss, [F.from_filters(w0), b0, F.from_filters(w1), *rest]


# The gradient of the images is not taken.
_LENET_FLOPS = 2 * FIRST.flops + 3 * SECOND.flops + 6 * 64 * (400 * 120 + 120 * 84 + 84 * 10)


@workload("LeNet, a step of gradient descent, batch 64", _lenet_inputs, _lenet_reference,
          cores=True, group=GROUP, trains=True, flops=_LENET_FLOPS,
          finish=_lenet_result)  # fmt: skip
def lenet_step(F, t):
    parameters = [F.filters(t[k]) if k in ("w0", "w1") else t[k] for k in PARAMETERS]
    return F.training_step(_lenet_loss(F), parameters, RATE), (F.images(t["x"]), t["y"])
