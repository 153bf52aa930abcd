"""PyTorch's words, compiled by Inductor."""

import torch

from benchmarks.frameworks.torch_ import Torch, copied


class TorchCompile(Torch):
    def compiled(self, f):
        return torch.compile(f, dynamic=False)

    def value_and_gradients(self, f):
        both = self.compiled(torch.func.grad_and_value(f))

        def value_first(parameters, *rest):
            gradients, value = both(parameters, *rest)
            return value, gradients

        return value_first

    def value_and_vjp(self, f):
        def both(g, *xs):
            y, back = torch.func.vjp(f, *xs)
            return y, back(g)

        return self.compiled(both)

    def value_and_derivative(self, f):
        def both(x, *rest):
            y, back = torch.func.vjp(lambda x: f(x, *rest), x)
            return y, back(torch.ones_like(y))

        return self.compiled(both)

    def training_step(self, loss, parameters, rate):
        given, parameters = parameters, [p.clone() for p in parameters]

        def moved(parameters, *rest):
            gradients, value = torch.func.grad_and_value(loss)(parameters, *rest)
            for p, g in zip(parameters, gradients):
                p.sub_(g, alpha=rate)
            return value

        moved = self.compiled(moved)

        def step(*rest):
            return moved(parameters, *rest), parameters

        step.restart = lambda: copied(given, parameters)
        return step


words = TorchCompile()
