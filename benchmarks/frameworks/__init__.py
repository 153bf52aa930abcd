"""The vocabulary in which workloads are written, one class a framework.

Each module has `words`, an object with

- `tensor(array)`: the framework's own array, and `arrays(result)`: NumPy arrays of a result, its
  structure flattened;
- `bind(function, arguments)`: a `run()` that calls the function and waits for its result (JAX
  computes in the background, PyTensor needs the arguments' types to compile);
- `compiled(f)`: f as the framework compiles it, and three functions compiled too:
  `value_and_gradients(f)`: for f(parameters, *rest) -> scalar, (parameters, *rest) -> (value,
  gradients); `value_and_vjp(f)`: for f(*xs) -> y, (g, *xs) -> (y, cotangents);
  `value_and_derivative(f)`: for f(x, *rest) -> y, elementwise, (x, *rest) -> (y, dy/dx);
- `training_step(loss, parameters, rate)`: for loss(parameters, *rest) -> scalar, (*rest) ->
  (value, parameters), which moves its own copy of the parameters down the gradient;
- `eager_gradient(f)`: x -> the gradient of f at x, nothing compiled;
- mathematics: exp, log, sin, tanh, sigmoid, erf, sqrt, rsqrt, square, relu, gelu (its tanh form),
  log_sum_exp over the last axis, sum(x, axis=None), mean(x, axis=None, keepdims=False),
  unstack(x, n): the n scalars of a vector, cross_entropy(logits, labels): the mean over the rows;
- images: images(x) and filters(w, depthwise=False) lay out what is (number, height, width,
  channels) and (height, width, in, out) as the framework likes it, from_images and from_filters
  undo that; convolution(x, w, c, bias=None) with the sizes `c` of `workloads/convolutions.py`, its
  pullbacks convolution_to_input(g, x, w, c) and convolution_to_filter(g, x, w, c), max_pool(x, n)
  and avg_pool(x, n) over windows of n x n side by side, flat(x): images as rows.

A word that a framework lacks makes the rows that use it errors in its column.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Known:
    """A framework: the module that is imported, and the distributions that may supply it."""

    module: str
    distributions: tuple[str, ...]
    compiles: bool = True  # a first call takes much longer than the second
    eager: bool = True  # it runs operations as they are called


KNOWN = {
    "graphgrad": Known("graphgrad", ("graphgrad",)),
    "numpy": Known("numpy", ("numpy",), compiles=False),
    "jax": Known("jax", ("jax",)),
    "torch": Known("torch", ("torch",), compiles=False),
    "torch-compile": Known("torch", ("torch",), eager=False),
    "tensorflow": Known("tensorflow", ("tensorflow-cpu", "tensorflow")),
    "tf-xla": Known("tensorflow", ("tensorflow-cpu", "tensorflow"), eager=False),
    "pytensor": Known("pytensor.tensor", ("pytensor",), eager=False),
}


def words(framework: str) -> Any:
    """The vocabulary of a framework, which is imported here."""
    return importlib.import_module(f"benchmarks.frameworks.{framework.replace('-', '_')}_").words
