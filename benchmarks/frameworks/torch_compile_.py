"""PyTorch's words, compiled by Inductor."""

import torch

from benchmarks.frameworks.torch_ import (  # noqa: F401  (the vocabulary)
    arrays,
    cross_entropy,
    eager_gradient,
    exp,
    gelu,
    log_sum_exp,
    mean,
    relu,
    rsqrt,
    sigmoid,
    sin,
    square,
    sum,
    tanh,
    tensor,
    wait,
)


def compiled(f):
    return torch.compile(f, dynamic=False)


def value_and_gradients(f):
    both = torch.compile(torch.func.grad_and_value(f), dynamic=False)

    def value_first(parameters, *rest):
        gradients, value = both(parameters, *rest)
        return value, gradients

    return value_first


def value_and_vjp(f):
    def both(g, *xs):
        y, back = torch.func.vjp(f, *xs)
        return y, back(g)

    return torch.compile(both, dynamic=False)
