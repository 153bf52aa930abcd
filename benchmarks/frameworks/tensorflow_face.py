"""The words of TensorFlow 2's face, which graphgrad has too."""

import numpy as np


class TensorFlowFace:
    """`tf` is the namespace, `function` what compiles."""

    def __init__(self, tf, function):
        self.tf, self.compiled = tf, function
        self.tensor = tf.constant
        self.exp, self.sin, self.tanh, self.sigmoid = tf.exp, tf.sin, tf.tanh, tf.sigmoid
        self.log, self.erf, self.rsqrt = tf.math.log, tf.math.erf, tf.math.rsqrt
        self.sqrt, self.square, self.relu = tf.sqrt, tf.square, tf.nn.relu
        self.sum, self.mean = tf.reduce_sum, tf.reduce_mean
        self.softmax, self.transpose = tf.nn.softmax, tf.transpose

    def arrays(self, result):
        return [np.asarray(a.numpy()) for a in self.tf.nest.flatten(result)]

    def bind(self, function, arguments):
        return lambda: function(*arguments)

    def value_and_gradients(self, f):
        def both(parameters, *rest):
            with self.tf.GradientTape() as tape:
                tape.watch(parameters)
                value = f(parameters, *rest)
            return value, tape.gradient(value, parameters)

        return self.compiled(both)

    def value_and_vjp(self, f):
        def both(g, *xs):
            with self.tf.GradientTape() as tape:
                tape.watch(xs)
                y = f(*xs)
            return y, tape.gradient(y, xs, output_gradients=g)

        return self.compiled(both)

    def value_and_derivative(self, f):
        return self.value_and_gradients(f)  # a tape sums what is not a scalar

    def training_step(self, loss, parameters, rate):
        variables = [self.tf.Variable(p) for p in parameters]

        @self.compiled
        def step(*rest):
            with self.tf.GradientTape() as tape:
                value = loss(variables, *rest)
            for v, g in zip(variables, tape.gradient(value, variables)):
                v.assign_sub(rate * g)
            return value

        return lambda *rest: (step(*rest), variables)

    def eager_gradient(self, f):
        def gradient(x):
            with self.tf.GradientTape() as tape:
                tape.watch(x)
                y = f(x)
            return tape.gradient(y, x)

        return gradient

    def gelu(self, x):
        return self.tf.nn.gelu(x, approximate=True)

    def log_sum_exp(self, x):
        return self.tf.reduce_logsumexp(x, axis=-1)

    def unstack(self, x, n):
        return self.tf.unstack(x)

    def images(self, x):
        return x

    def filters(self, w, depthwise=False):
        return w

    from_images, from_filters = images, filters

    def convolution(self, x, w, c, bias=None):
        pads = [[0, 0], [c.pad] * 2, [c.pad] * 2, [0, 0]]
        padding = pads if c.pad else "VALID"
        if c.depthwise:
            return self.tf.nn.depthwise_conv2d(x, w, [1, c.stride, c.stride, 1], padding)
        y = self.tf.nn.conv2d(x, w, c.stride, padding)
        return y if bias is None else y + bias

    def convolution_to_input(self, g, x, w, c):
        with self.tf.GradientTape() as tape:
            tape.watch(x)
            y = self.convolution(x, w, c)
        return tape.gradient(y, x, output_gradients=g)

    def convolution_to_filter(self, g, x, w, c):
        with self.tf.GradientTape() as tape:
            tape.watch(w)
            y = self.convolution(x, w, c)
        return tape.gradient(y, w, output_gradients=g)

    def max_pool(self, x, n):
        return self.tf.nn.max_pool2d(x, n, n, "VALID")

    def avg_pool(self, x, n):
        return self.tf.nn.avg_pool2d(x, n, n, "VALID")

    def flat(self, x):
        return self.tf.reshape(x, [x.shape[0], -1])

    def cross_entropy(self, logits, labels):
        losses = self.tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        return self.tf.reduce_mean(losses)
