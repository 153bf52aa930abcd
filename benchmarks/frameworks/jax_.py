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

    def images(self, x):
        return x

    def filters(self, w, depthwise=False):
        return w.transpose(0, 1, 3, 2) if depthwise else w

    from_images, from_filters = images, filters

    def convolution(self, x, w, c, bias=None):
        y = lax.conv_general_dilated(
            x, w, (c.stride,) * 2, [(c.pad,) * 2] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=c.groups,
        )  # fmt: skip
        return y if bias is None else y + bias

    def convolution_to_input(self, g, x, w, c):
        return jax.vjp(lambda x: self.convolution(x, w, c), x)[1](g)[0]

    def convolution_to_filter(self, g, x, w, c):
        return jax.vjp(lambda w: self.convolution(x, w, c), w)[1](g)[0]

    def max_pool(self, x, n):
        window = (1, n, n, 1)
        return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")

    def avg_pool(self, x, n):
        window = (1, n, n, 1)
        return lax.reduce_window(x, 0.0, lax.add, window, window, "VALID") / (n * n)

    def flat(self, x):
        return x.reshape(len(x), -1)

    def cross_entropy(self, logits, labels):
        return -jnp.mean(jnp.take_along_axis(nn.log_softmax(logits), labels[:, None], 1))


words = Jax()
