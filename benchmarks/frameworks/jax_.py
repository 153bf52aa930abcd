"""JAX's words."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn


class Jax:
    def __init__(self):
        self.tensor, self.compiled, self.eager_gradient = jnp.asarray, jax.jit, jax.grad
        self.exp, self.sin, self.tanh, self.sigmoid = jnp.exp, jnp.sin, jnp.tanh, nn.sigmoid
        self.log, self.erf, self.rsqrt = jnp.log, lax.erf, lax.rsqrt
        self.sqrt, self.square, self.relu = jnp.sqrt, jnp.square, nn.relu
        self.sum, self.mean = jnp.sum, jnp.mean

    def arrays(self, result):
        return [np.asarray(a) for a in jax.tree.leaves(result)]

    def bind(self, function, arguments):
        return lambda: jax.block_until_ready(function(*arguments))

    def value_and_gradients(self, f):
        return jax.jit(jax.value_and_grad(f))

    def value_and_vjp(self, f):
        def both(g, *xs):
            y, back = jax.vjp(f, *xs)
            return y, back(g)

        return jax.jit(both)

    def value_and_derivative(self, f):
        def both(x, *rest):
            y, back = jax.vjp(lambda x: f(x, *rest), x)
            return y, back(jnp.ones_like(y))

        return jax.jit(both)

    def training_step(self, loss, parameters, rate):
        def moved(parameters, *rest):
            value, gradients = jax.value_and_grad(loss)(parameters, *rest)
            return value, [p - rate * g for p, g in zip(parameters, gradients)]

        moved = jax.jit(moved, donate_argnums=0)
        parameters = [jnp.array(p) for p in parameters]

        def step(*rest):
            nonlocal parameters
            value, parameters = moved(parameters, *rest)
            return value, parameters

        return step

    def gelu(self, x):
        return nn.gelu(x, approximate=True)

    def log_sum_exp(self, x):
        return nn.logsumexp(x, axis=-1)

    def unstack(self, x, n):
        return [x[i] for i in range(n)]

    def cross_entropy(self, logits, labels):
        return -jnp.mean(jnp.take_along_axis(nn.log_softmax(logits), labels[:, None], 1))


words = Jax()
