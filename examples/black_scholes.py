"""Black-Scholes prices of options and all their greeks, as derivatives instead of formulas.

    delta  d price / d spot        gamma  d delta / d spot      vega   d price / d volatility
    theta -d price / d time        rho    d price / d rate      vanna  d delta / d volatility
    volga  d vega / d volatility

Each price depends on its own option's numbers, so the gradient of the sum of all prices holds the
greeks of each. They are compared with the closed forms. Source of the formulas: Hull, Options,
Futures, and Other Derivatives.

    python -m examples.black_scholes
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import graphgrad as gg


def cdf(x: Any) -> Any:
    """The normal distribution function, with all digits in both tails."""
    return 0.5 * gg.math.erfc(-x * math.sqrt(0.5))


def call_price(spot: Any, strike: Any, volatility: Any, time: Any, rate: Any) -> Any:
    deviation = volatility * gg.sqrt(time)
    d1 = (gg.math.log(spot / strike) + (rate + 0.5 * volatility**2) * time) / deviation
    return spot * cdf(d1) - strike * gg.exp(-rate * time) * cdf(d1 - deviation)


@gg.function
def first_order(spot: Any, strike: Any, volatility: Any, time: Any, rate: Any) -> tuple[Any, Any]:
    """Prices, and delta, vega, theta and rho of each."""
    inputs = (spot, volatility, time, rate)
    with gg.GradientTape() as tape:
        tape.watch(inputs)
        price = call_price(spot, strike, volatility, time, rate)
    delta, vega, time_value, rho = tape.gradient(price, inputs)
    return price, {"delta": delta, "vega": vega, "theta": -time_value, "rho": rho}


@gg.function
def second_order(spot: Any, strike: Any, volatility: Any, time: Any, rate: Any) -> dict[str, Any]:
    """Gamma, vanna and volga, from tapes over the first-order greeks."""
    with gg.GradientTape(persistent=True) as outer:
        outer.watch((spot, volatility))
        _, greeks = first_order(spot, strike, volatility, time, rate)
        delta, vega = greeks["delta"], greeks["vega"]
    gamma, vanna = outer.gradient(delta, (spot, volatility))
    return {"gamma": gamma, "vanna": vanna, "volga": outer.gradient(vega, volatility)}


def closed_forms(s: Any, k: Any, v: Any, t: Any, r: Any) -> dict[str, Any]:
    """The same by the textbook, in NumPy."""
    from scipy.stats import norm

    root = np.sqrt(t)
    d1 = (np.log(s / k) + (r + v * v / 2) * t) / (v * root)
    d2 = d1 - v * root
    discounted = k * np.exp(-r * t)
    vega = s * norm.pdf(d1) * root
    return {
        "price": s * norm.cdf(d1) - discounted * norm.cdf(d2),
        "delta": norm.cdf(d1),
        "vega": vega,
        "theta": -s * norm.pdf(d1) * v / (2 * root) - r * discounted * norm.cdf(d2),
        "rho": discounted * t * norm.cdf(d2),
        "gamma": norm.pdf(d1) / (s * v * root),
        "vanna": -norm.pdf(d1) * d2 / v,
        "volga": vega * d1 * d2 / v,
    }


def options(count: int, seed: int = 0) -> list[Any]:
    """Spots, strikes, volatilities, times to expiry in years, and rates: float64 [count]."""
    rng = np.random.default_rng(seed)
    ranges = ((80, 120), (80, 120), (0.1, 0.5), (0.1, 2.0), (0.0, 0.08))
    return [rng.uniform(low, high, count) for low, high in ranges]


def main(count: int = 10_000, show: Callable[[str], Any] = print) -> None:
    chosen = options(count)
    tensors = [gg.constant(x) for x in chosen]
    price, greeks = first_order(*tensors)
    found = {"price": price, **greeks, **second_order(*tensors)}
    for name, wanted in closed_forms(*chosen).items():
        error = np.abs(found[name].numpy() - wanted).max() / np.abs(wanted).max()
        show(f"{name:>6}: first option {float(found[name][0]):+9.4f}, largest error {error:.1e}")
        assert error < 1e-12, name


if __name__ == "__main__":
    main()
