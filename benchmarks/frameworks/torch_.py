"""PyTorch's words, uncompiled: `compiled` leaves a function as it is."""

import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(1)
exp, sin, tanh, sigmoid = torch.exp, torch.sin, torch.tanh, torch.sigmoid
relu, rsqrt, square = torch.relu, torch.rsqrt, torch.square


def tensor(array):
    labels = array.dtype == np.int32  # cross_entropy takes int64 labels only
    return torch.tensor(array).long() if labels else torch.tensor(array)


def arrays(result):
    if isinstance(result, tuple | list):
        return [a for part in result for a in arrays(part)]
    return [result.detach().numpy()]


def wait(result):
    return result


def compiled(f):
    return f


def value_and_gradients(f):
    def both(parameters, *rest):
        listed = list(parameters) if isinstance(parameters, list) else [parameters]
        for p in listed:
            p.requires_grad_()
        value = f(parameters, *rest)
        return value, torch.autograd.grad(value, listed)

    return both


def value_and_vjp(f):
    def both(g, *xs):
        for x in xs:
            x.requires_grad_()
        y = f(*xs)
        return y, torch.autograd.grad(y, xs, g)

    return both


def eager_gradient(f):
    def gradient(x):
        x.requires_grad_()
        return torch.autograd.grad(f(x), x)

    return gradient


def gelu(x):
    return F.gelu(x, approximate="tanh")


def log_sum_exp(x):
    return torch.logsumexp(x, -1)


def sum(x, axis=None):
    return x.sum() if axis is None else x.sum(axis)


def mean(x, axis=None, keepdims=False):
    return x.mean() if axis is None else x.mean(axis, keepdim=keepdims)


cross_entropy = F.cross_entropy
