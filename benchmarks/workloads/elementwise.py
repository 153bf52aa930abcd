"""Elementwise functions of large arrays, and their derivatives."""

from types import SimpleNamespace

import numpy as np

from benchmarks.workloads.record import Arrays, normal, workload

LONG = 10_000_000
IN_AND_OUT = 8 * LONG  # bytes: one array read, one written


def long_vector(r: np.random.Generator) -> Arrays:
    return {"x": normal(r, LONG)}


def chain(F, x):
    return F.tanh(x) * F.sigmoid(x) + F.exp(-x * x) * 0.5


def _chain_parts(x):
    return np.tanh(x), 1 / (1 + np.exp(-x)), np.exp(-x * x)


def _chain_reference(x):
    t, s, e = _chain_parts(x)
    return [t * s + e * 0.5]


def _chain_gradient_reference(x):
    t, s, e = _chain_parts(x)
    return [np.sum(t * s + e * 0.5), (1 - t * t) * s + t * s * (1 - s) - x * e]


@workload("the chain tanh(x)*sigmoid(x) + exp(-x*x)*0.5, 10M elements", long_vector,
          _chain_reference, cores=True, traffic=IN_AND_OUT)  # fmt: skip
def chain_fwd(F, t):
    return F.compiled(lambda x: chain(F, x)), (t["x"],)


@workload("the sum of that chain, value and gradient, 10M elements", long_vector,
          _chain_gradient_reference, cores=True, traffic=IN_AND_OUT)  # fmt: skip
def chain_vg(F, t):
    return F.value_and_gradients(lambda x: F.sum(chain(F, x))), (t["x"],)


WIDE = (4096, 1024)


def _gelu_inputs(r):
    return {"x": normal(r, *WIDE), "g": normal(r, *WIDE)}


def _gelu_reference(x, g):
    c = 0.7978845608028654
    t = np.tanh(c * (x + 0.044715 * x * x * x))
    slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x)
    return [0.5 * x * (1 + t), g * slope]


@workload("gelu, value and vjp, 4096 x 1024", _gelu_inputs, _gelu_reference,
          traffic=16 * WIDE[0] * WIDE[1])  # fmt: skip
def gelu_vjp(F, t):
    return F.value_and_vjp(lambda x: F.gelu(x)), (t["g"], t["x"])


# Black and Scholes: the price of a European call, and its derivative by the price of the share.

OPTIONS = 4_000_000
INTEREST, VOLATILITY = 0.02, 0.3


def _options(r):
    def between(low, high):
        return r.random(OPTIONS, dtype=np.float32) * np.float32(high - low) + np.float32(low)

    return {"share": between(80, 120), "strike": between(80, 120), "years": between(0.1, 2)}


def price_and_delta(F, share, strike, years):
    """What a call is worth, and its derivative; `F` has sqrt, log, exp and erf."""

    def normal_cdf(z):
        return 0.5 * (1 + F.erf(z * 0.7071067811865476))

    spread = VOLATILITY * F.sqrt(years)
    drift = (INTEREST + VOLATILITY * VOLATILITY / 2) * years
    d = (F.log(share / strike) + drift) / spread
    delta = normal_cdf(d)
    return share * delta - strike * F.exp(-INTEREST * years) * normal_cdf(d - spread), delta


def _options_reference(share, strike, years):
    from scipy.special import erf

    words = SimpleNamespace(sqrt=np.sqrt, log=np.log, exp=np.exp, erf=erf)
    return list(price_and_delta(words, share, strike, years))


@workload("prices of 4M call options and their deltas (Black-Scholes)", _options,
          _options_reference, traffic=20 * OPTIONS)  # fmt: skip
def black_scholes(F, t):
    def price(share, strike, years):
        return price_and_delta(F, share, strike, years)[0]  # the delta is left to the framework

    return F.value_and_derivative(price), (t["share"], t["strike"], t["years"])
