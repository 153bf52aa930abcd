"""JAX's words."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn

tensor = jnp.asarray
compiled = jax.jit
wait = jax.block_until_ready
eager_gradient = jax.grad
exp, sin, tanh, sigmoid = jnp.exp, jnp.sin, jnp.tanh, nn.sigmoid
relu, rsqrt, square, sum, mean = nn.relu, lax.rsqrt, jnp.square, jnp.sum, jnp.mean


def arrays(result):
    return [np.asarray(a) for a in jax.tree.leaves(result)]


def value_and_gradients(f):
    return jax.jit(jax.value_and_grad(f))


def value_and_vjp(f):
    def both(g, *xs):
        y, back = jax.vjp(f, *xs)
        return y, back(g)

    return jax.jit(both)


def gelu(x):
    return nn.gelu(x, approximate=True)


def log_sum_exp(x):
    return nn.logsumexp(x, axis=-1)


def cross_entropy(logits, labels):
    return -jnp.mean(jnp.take_along_axis(nn.log_softmax(logits), labels[:, None], 1))
