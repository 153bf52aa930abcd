"""Learning: descent, clusters, mixtures, graphs, games, series with feedback."""

from __future__ import annotations

import numpy as np

from tests.graphgrad.loop_programs.program import Table

LEARNING = Table()
RNG = np.random.default_rng(5)
POINTS = np.concatenate([RNG.normal(size=(5, 2)), RNG.normal(size=(5, 2)) + 4.0])
Y = np.sin(POINTS[:, 0])


@LEARNING(w=[0.1, -0.2], x=POINTS[:5], y=Y[:5], rate=0.05, n=10)
def descent_that_is_unrolled(w, x, y, rate, n):
    for _ in range(n):
        w = w - rate * x.T @ (np.tanh(x @ w) - y)
    return np.sum((np.tanh(x @ w) - y) ** 2)


@LEARNING(w=[0.5, -1.5], rate=0.1, n=12)
def adam_by_hand(w, rate, n):
    m, v = np.zeros_like(w), np.zeros_like(w)
    a = b = rate / rate
    for _ in range(n):
        a, b = a * 0.9, b * 0.99
        g = 4.0 * w**3 - 2.0 * w + 0.3
        m = 0.9 * m + 0.1 * g
        v = 0.99 * v + 0.01 * g * g
        w = w - rate * (m / (1.0 - a)) / (np.sqrt(v / (1.0 - b)) + 1e-3)
    return w


@LEARNING(x=[-1.2, 1.0], n=8, order=1, rtol=1e-7)
def broyden_fletcher(x, n):
    """Quasi-Newton on Rosenbrock's function; the search halves its steps."""
    f = lambda x: 5.0 * (x[1] - x[0] ** 2) ** 2 + (1.0 - x[0]) ** 2  # noqa: E731

    def slope(x):
        d = x[1] - x[0] ** 2
        return np.stack([-20.0 * x[0] * d - 2.0 * (1.0 - x[0]), 10.0 * d])

    h, g = np.eye(2), slope(x)
    k = 0
    while np.sum(g * g) > 1e-3 and k < n:
        p = -h @ g
        t = 1.0
        while f(x + t * p) > f(x) + 1e-4 * t * np.sum(g * p):
            t *= 0.5
        s = t * p
        x = x + s
        new = slope(x)
        d = new - g
        g = new
        sd = np.sum(s * d)
        if sd > 1e-10:
            left = np.eye(2) - np.outer(s, d) / sd
            h = left @ h @ left.T + np.outer(s, s) / sd
        k += 1
    return x


@LEARNING(x=POINTS, centers=POINTS[3:7:3])
def k_means(x, centers):
    changed, rounds = True, 0
    label = np.zeros(10, dtype=np.int64)
    while changed and rounds < 20:
        d = np.sum((x[:, None] - centers[None]) ** 2, axis=2)
        new = np.argmin(d, axis=1)
        changed = np.any(new != label)
        label = new
        rounds += 1
        own = np.where(label[:, None] == np.arange(2), 1.0, 0.0)
        centers = (own.T @ x) / (np.sum(own, axis=0)[:, None] + 1e-9)
    return centers, label


@LEARNING(x=POINTS[:, 0], mean=[-0.5, 3.0], spread=[1.0, 2.0], n=6)
def mixture_by_expectation(x, mean, spread, n):
    weight = np.ones(2) / 2.0
    for _ in range(n):
        d = (x[:, None] - mean) / spread
        p = weight * np.exp(-0.5 * d * d) / spread
        p = p / np.sum(p, axis=1, keepdims=True)
        total = np.sum(p, axis=0)
        weight = total / 10.0
        mean = np.sum(p * x[:, None], axis=0) / total
        spread = np.sqrt(np.sum(p * (x[:, None] - mean) ** 2, axis=0) / total + 0.01)
    return weight, mean, spread


@LEARNING(links=RNG.uniform(size=(5, 5)), damping=0.85)
def page_rank(links, damping):
    move = links / np.sum(links, axis=0)
    rank = np.ones(5) / 5.0
    change, steps = 1.0, 0
    while change > 1e-10:
        new = damping * (move @ rank) + (1.0 - damping) / 5.0
        change = np.sum(abs(new - rank))
        rank = new
        steps += 1
    return rank, steps


@LEARNING(kernel=RNG.uniform(0.2, 1.0, size=(4, 3)), a=[0.1, 0.2, 0.3, 0.4], b=[0.5, 0.25, 0.25],
          n=25)  # fmt: skip
def transport_by_scaling(kernel, a, b, n):
    """Sinkhorn's plan."""
    u, v = np.ones(4), np.ones(3)
    for _ in range(n):
        u = a / (kernel @ v)
        v = b / (kernel.T @ u)
    return u[:, None] * kernel * v


@LEARNING(w=[0.3, -0.1], tasks=RNG.normal(size=(3, 2)), rate=0.1, n=3)
def learning_to_learn(w, tasks, rate, n):
    """Each task starts at w and adapts by steps of its own."""
    total = 0.0
    for task in tasks:
        v = w
        for _ in range(n):
            v = v - rate * (np.sinh(v - task) + 0.1 * v)
        total += np.sum(np.cosh(v - task))
    return total / 3.0


@LEARNING(rewards=RNG.normal(size=(4, 2)), moves=RNG.dirichlet(np.ones(4), size=(4, 2)), rate=0.8,
          order=1)  # fmt: skip
def value_iteration(rewards, moves, rate):
    v, change = np.zeros(4), 1.0
    while change > 1e-8:
        q = rewards + rate * np.sum(moves * v, axis=2)
        new = np.max(q, axis=1)
        change = np.max(abs(new - v))
        v = new
    return v, np.argmax(q, axis=1)


@LEARNING(measured=RNG.normal(size=8), q=0.1, r=0.5)
def kalman_filter(measured, q, r):
    x, p, score = np.zeros(2), np.eye(2), 0.0
    move = np.array([[1.0, 1.0], [0.0, 1.0]])
    for z in measured:
        x = move @ x
        p = move @ p @ move.T + q * np.eye(2)
        s = p[0, 0] + r
        gain = p[:, 0] / s
        e = z - x[0]
        x = x + gain * e
        p = p - np.outer(gain, p[0])
        score = score + 0.5 * (np.log(s) + e * e / s)
    return score, x


@LEARNING(returns=0.1 * RNG.normal(size=9), a=0.1, b=0.8, start=0.02)
def conditional_variance(returns, a, b, start):
    variance, score = start, start * 0.0
    for r in returns:
        score += np.log(variance) + r * r / variance
        variance = 0.001 + a * r * r + b * variance
    return score


@LEARNING(price=100.0, strike=105.0, volatility=0.2, n=8, elements=True, order=1)
def american_option(price, strike, volatility, n):
    up = np.exp(volatility * 0.25)
    less = np.exp(-price / price / 256.0)
    p = (1.0 / less - 1.0 / up) / (up - 1.0 / up)
    value = np.zeros_like(price, shape=9)
    for i in range(n + 1):
        value[i] = np.maximum(strike - price * up ** (2.0 * i - n), 0.0)
    for step in range(n - 1, -1, -1):
        for i in range(step + 1):
            kept = less * (p * value[i + 1] + (1.0 - p) * value[i])
            now = strike - price * up ** (2.0 * i - step)
            value[i] = np.maximum(kept, now)
    return value[0]


@LEARNING(x=POINTS[:6, 0], n=4, order=1)
def boosted_stumps(x, n):
    y = np.sin(x)
    guess = np.zeros_like(x)
    for _ in range(n):
        r = y - guess
        best, at = 1e9, 0
        for i in range(x.shape[0]):
            left = np.where(x <= x[i], 1.0, 0.0)
            a = np.sum(left * r) / np.sum(left)
            b = np.sum((1.0 - left) * r) / (np.sum(1.0 - left) + 1e-9)
            loss = np.sum((r - np.where(x <= x[i], a, b)) ** 2)
            if loss < best:
                best, at = loss, i
        left = x <= x[at]
        a = np.sum(np.where(left, r, 0.0)) / np.sum(np.where(left, 1.0, 0.0))
        guess = guess + np.where(left, 0.5 * a, 0.0)
    return guess, best


@LEARNING(x=[3, 1, 2, 0, 3, 3], weights=[0.1, 0.2, 0.3, 0.4], elements=True)
def histogram_and_quantile(x, weights):
    count = np.zeros_like(weights)
    for v in x:
        count[v] += weights[v]
    total, i = count[0], 0
    while total < 0.5 * np.sum(count):
        i += 1
        total = total + count[i]
    return count, i, total


@LEARNING(x=RNG.normal(size=8))
def running_moments(x):
    """Welford's."""
    mean, square, third = 0.0, 0.0, 0.0
    for before, v in enumerate(x):
        n = before + 1
        d = v - mean
        mean = mean + d / n
        third = third + d**3 * before * (before - 1) / n**2 - 3.0 * d / n * square
        square = square + d * d * before / n
    return mean, square, third


@LEARNING(rates=[0.5, 6.0, 4.0], u=RNG.uniform(size=30), order=1)
def queue_of_events(rates, u):
    """Arrivals and services by Gillespie's method, up to a time."""
    t, waiting, served, area, k = 0.0, 0, 0, rates[0] * 0.0, 0
    while t < 3.0 and k < 15:
        total = rates[1] + np.where(waiting > 0, rates[2], 0.0)
        d = -np.log(u[2 * k]) / total
        area = area + waiting * d
        t = t + d
        if u[2 * k + 1] * total < rates[1]:
            waiting += 1
        else:
            waiting -= 1
            served += 1
        k += 1
    return area, served, t


@LEARNING(x=POINTS[:4], n=3)
def attention_by_blocks(x, n):
    """Softmax over blocks that are read once, with its running maximum."""
    q = x[:1]
    high, total, out = -1e9 + np.zeros(1), np.zeros(1), np.zeros((1, 2))
    for k in range(n + 1):
        s = (q @ x[k : k + 1].T)[:, 0]
        new = np.maximum(high, s)
        scale, p = np.exp(high - new), np.exp(s - new)
        total = total * scale + p
        out = out * scale[:, None] + p[:, None] * x[k]
        high = new
    return out / total[:, None]
