"""PyTorch's words, uncompiled: `compiled` leaves a function as it is."""

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

    def tensor(self, array):
        labels = array.dtype == np.int32  # cross_entropy takes int64 labels only
        return torch.tensor(array).long() if labels else torch.tensor(array)

    def arrays(self, result):
        if isinstance(result, tuple | list):
            return [a for part in result for a in self.arrays(part)]
        return [result.detach().numpy()]

    def bind(self, function, arguments):
        return lambda: function(*arguments)

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
        parameters = [p.clone().requires_grad_() for p in parameters]

        def step(*rest):
            value = loss(parameters, *rest)
            gradients = torch.autograd.grad(value, parameters)
            with torch.no_grad():
                torch._foreach_sub_(parameters, gradients, alpha=rate)  # as torch.optim does
            return value, parameters

        return step

    def eager_gradient(self, f):
        def gradient(x):
            x.requires_grad_()
            return torch.autograd.grad(f(x), x)

        return gradient

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


words = Torch()
