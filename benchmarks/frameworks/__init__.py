"""The vocabulary in which workloads are written, one module a framework.

Each module has

- `tensor(array)`: the framework's own array, and `arrays(result)`: NumPy arrays of a result;
- `wait(result)`: the result, once it is there (JAX computes in the background);
- `compiled(f)`: f as the framework compiles it, and `value_and_gradients(f)`, compiled too: for
  f(parameters, *rest) -> scalar, (parameters, *rest) -> (value, gradients);
  `value_and_vjp(f)`: for f(*xs) -> y, (g, *xs) -> (y, cotangents);
- `eager_gradient(f)`: x -> the gradient of f at x, nothing compiled;
- mathematics: exp, sin, tanh, sigmoid, relu, gelu (its tanh form), rsqrt, square, log_sum_exp over
  the last axis, sum(x, axis=None), mean(x, axis=None, keepdims=False), cross_entropy(logits,
  labels): the mean over the rows.

A name that a framework lacks makes the workloads that use it absent from its column.
"""
