"""PyTensor's words, compiled by Numba.

Functions are symbolic here until `bind` compiles them for the types of the arguments.
"""

from typing import NamedTuple

import numpy as np
import pytensor
import pytensor.tensor as pt

MODE = "NUMBA"


class Update(NamedTuple):
    """What a training step gives: its value, and the next values of shared variables."""

    value: object
    updates: list


def leaves(structure):
    if isinstance(structure, tuple | list):
        return [leaf for part in structure for leaf in leaves(part)]
    return [structure]


class PyTensor:
    def __init__(self):
        pytensor.config.floatX = "float32"
        self.tensor = np.asarray
        self.exp, self.sin, self.tanh, self.sigmoid = pt.exp, pt.sin, pt.tanh, pt.sigmoid
        self.log, self.erf, self.sqrt, self.square = pt.log, pt.erf, pt.sqrt, pt.sqr
        self.sum, self.mean = pt.sum, pt.mean

    def arrays(self, result):
        return [np.asarray(a) for a in leaves(result)]

    def bind(self, function, arguments):
        def symbol(argument):
            if isinstance(argument, list):
                return [symbol(a) for a in argument]
            return pt.tensor(dtype=argument.dtype, shape=argument.shape)

        symbols, flat = [symbol(a) for a in arguments], leaves(arguments)
        result = function(*symbols)
        if isinstance(result, Update):
            shared = [variable for variable, _ in result.updates]
            step = self._call(leaves(symbols), result.value, updates=result.updates)
            return lambda: [step(*flat), *(s.get_value(borrow=True) for s in shared)]
        call = self._call(leaves(symbols), leaves(result))
        return lambda: call(*flat)

    def _call(self, symbols, result, updates=None):
        call = pytensor.function(
            symbols, result, updates=updates, mode=MODE, on_unused_input="ignore"
        )
        call.trust_input = True
        return call

    def compiled(self, f):
        return f

    def value_and_gradients(self, f):
        def both(parameters, *rest):
            value = f(parameters, *rest)
            return value, pt.grad(value, parameters)

        return both

    def value_and_vjp(self, f):
        def both(g, *xs):
            y = f(*xs)
            return y, pt.grad(None, list(xs), known_grads={y: g})

        return both

    def value_and_derivative(self, f):
        def both(x, *rest):
            y = f(x, *rest)
            return y, pt.grad(y.sum(), x)

        return both

    def training_step(self, loss, parameters, rate):
        shared = [pytensor.shared(np.array(p)) for p in parameters]

        def step(*rest):
            value = loss(shared, *rest)
            moved = (p - np.float32(rate) * g for p, g in zip(shared, pt.grad(value, shared)))
            return Update(value, list(zip(shared, moved)))

        return step

    def rsqrt(self, x):
        return 1 / pt.sqrt(x)

    def relu(self, x):
        return pt.maximum(x, 0)

    def gelu(self, x):
        inner = np.float32(0.7978845608028654) * (x + np.float32(0.044715) * x * x * x)
        return np.float32(0.5) * x * (1 + pt.tanh(inner))

    def log_sum_exp(self, x):
        return pt.logsumexp(x, axis=-1)

    def unstack(self, x, n):
        return [x[i] for i in range(n)]

    def cross_entropy(self, logits, labels):
        rows = pt.arange(logits.shape[0])
        return -pt.special.log_softmax(logits, axis=1)[rows, labels].mean()


words = PyTensor()
