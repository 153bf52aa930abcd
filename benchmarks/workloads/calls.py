"""Small arrays: what a call costs when the arithmetic is nearly free."""

import numpy as np

from benchmarks.workloads.record import CALL, Arrays, normal, workload


def ten(r: np.random.Generator) -> Arrays:
    return {"x": normal(r, 10), "y": normal(r, 10)}


@workload("eager x + y, 10 elements", ten, lambda x, y: [x + y],
          bound=CALL, eager=True, numpy=False)  # fmt: skip
def eager_add(F, t):
    return (lambda x, y: x + y), (t["x"], t["y"])


@workload("eager gradient of sum(x*x + sin x), 10 elements", ten,
          lambda x, y: [2 * x + np.cos(x)], bound=CALL, eager=True, numpy=False)  # fmt: skip
def eager_grad(F, t):
    return F.eager_gradient(lambda x: F.sum(x * x + F.sin(x))), (t["x"],)


@workload("compiled x*2 + 1, 10 elements", ten, lambda x, y: [x * 2 + 1],
          bound=CALL, numpy=False)  # fmt: skip
def dispatch_jit(F, t):
    return F.compiled(lambda x: x * 2 + 1), (t["x"],)


# Rosenbrock's function: the sum over i of 100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2.


def hundred(r: np.random.Generator) -> Arrays:
    return {"x": normal(r, 100)}


def rosenbrock_with_gradient(x):
    here, there = x[:-1], x[1:]
    slack = there - here * here
    gradient = np.zeros_like(x)
    gradient[:-1] -= 400 * here * slack + 2 * (1 - here)
    gradient[1:] += 200 * slack
    return [np.sum(100 * slack * slack + (1 - here) ** 2), gradient]


def _term(here, there):
    return 100 * (there - here * here) ** 2 + (1 - here) ** 2


@workload("Rosenbrock's function of 100 variables, value and gradient", hundred,
          rosenbrock_with_gradient, bound=CALL)  # fmt: skip
def rosenbrock(F, t):
    return F.value_and_gradients(lambda x: F.sum(_term(x[:-1], x[1:]))), (t["x"],)


@workload("Rosenbrock's function as 99 terms of scalars, 1,000 operations", hundred,
          rosenbrock_with_gradient, numpy=False)  # fmt: skip
def rosenbrock_unrolled(F, t):
    def f(x):
        scalars = F.unstack(x, 100)
        total = _term(scalars[0], scalars[1])
        for i in range(1, 99):
            total = total + _term(scalars[i], scalars[i + 1])
        return total

    return F.value_and_gradients(f), (t["x"],)
