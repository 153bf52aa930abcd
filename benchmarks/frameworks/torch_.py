"""PyTorch's words, uncompiled: `compiled` leaves a function as it is."""

import time

import numpy as np
import torch
import torch.nn.functional as F


class Torch:
    def __init__(self):
        self.exp, self.sin, self.tanh, self.sigmoid = (
            torch.exp, torch.sin, torch.tanh, torch.sigmoid,
        )  # fmt: skip
        self.log, self.erf, self.rsqrt = torch.log, torch.erf, torch.rsqrt
        self.sqrt, self.square, self.relu = torch.sqrt, torch.square, torch.relu
        self.cross_entropy = F.cross_entropy
        self._images = False  # are there any among the arguments?

    def tensor(self, array):
        labels = array.dtype == np.int32  # cross_entropy takes int64 labels only
        return torch.tensor(array).long() if labels else torch.tensor(array)

    def arrays(self, result):
        if isinstance(result, tuple | list):
            return [a for part in result for a in self.arrays(part)]
        return [result.detach().numpy()]

    def bind(self, function, arguments):
        """Of images in either layout, channels first or last, the one that is faster."""
        if not self._images:
            return lambda: function(*arguments)
        last = [self._channels_last(a) for a in arguments]
        found = min((lambda: function(*arguments), lambda: function(*last)), key=_seconds)
        getattr(function, "restart", lambda: None)()
        return found

    def _channels_last(self, argument):
        if isinstance(argument, torch.Tensor) and argument.ndim == 4:
            return argument.contiguous(memory_format=torch.channels_last)
        return argument

    def compiled(self, f):
        return f

    def value_and_gradients(self, f):
        def both(parameters, *rest):
            listed = list(parameters) if isinstance(parameters, list) else [parameters]
            for p in listed:
                p.requires_grad_()
            value = f(parameters, *rest)
            return value, torch.autograd.grad(value, listed)

        return both

    def value_and_vjp(self, f):
        def both(g, *xs):
            for x in xs:
                x.requires_grad_()
            y = f(*xs)
            return y, torch.autograd.grad(y, xs, g)

        return both

    def value_and_derivative(self, f):
        def both(x, *rest):
            x.requires_grad_()
            y = f(x, *rest)
            return y, torch.autograd.grad(y, x, torch.ones_like(y))

        return both

    def training_step(self, loss, parameters, rate):
        given, parameters = parameters, [p.clone().requires_grad_() for p in parameters]

        def step(*rest):
            value = loss(parameters, *rest)
            gradients = torch.autograd.grad(value, parameters)
            with torch.no_grad():
                torch._foreach_sub_(parameters, gradients, alpha=rate)  # as torch.optim does
            return value, parameters

        step.restart = lambda: copied(given, parameters)
        return step

    def eager_gradient(self, f):
        def gradient(x):
            x.requires_grad_()
            return torch.autograd.grad(f(x), x)

        return gradient

    def images(self, x):
        self._images = True
        return x.permute(0, 3, 1, 2).contiguous()

    def from_images(self, x):
        return x.permute(0, 2, 3, 1)

    def filters(self, w, depthwise=False):
        return w.permute((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)).contiguous()

    def from_filters(self, w, depthwise=False):
        return w.permute((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))

    def convolution(self, x, w, c, bias=None):
        return F.conv2d(x, w, bias, c.stride, c.pad, 1, c.groups)

    def _pulled(self, g, x, w, c, wanted):
        mask = [wanted == "x", wanted == "w", False]
        found = torch.ops.aten.convolution_backward(
            g, x, w, None, [c.stride] * 2, [c.pad] * 2, [1, 1], False, [0, 0], c.groups, mask
        )
        return found[0 if wanted == "x" else 1]

    def convolution_to_input(self, g, x, w, c):
        return self._pulled(g, x, w, c, "x")

    def convolution_to_filter(self, g, x, w, c):
        return self._pulled(g, x, w, c, "w")

    def max_pool(self, x, n):
        return F.max_pool2d(x, n)

    def avg_pool(self, x, n):
        return F.avg_pool2d(x, n)

    def flat(self, x):
        return x.permute(0, 2, 3, 1).reshape(len(x), -1)

    def gelu(self, x):
        return F.gelu(x, approximate="tanh")

    def log_sum_exp(self, x):
        return torch.logsumexp(x, -1)

    def sum(self, x, axis=None):
        return x.sum() if axis is None else x.sum(axis)

    def mean(self, x, axis=None, keepdims=False):
        return x.mean() if axis is None else x.mean(axis, keepdim=keepdims)

    def unstack(self, x, n):
        return x.unbind()


def copied(source, target):
    with torch.no_grad():
        for p, q in zip(source, target, strict=True):
            q.copy_(p)


def _seconds(run):
    """The least time of some calls, after one that may compile."""
    run()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


words = Torch()
