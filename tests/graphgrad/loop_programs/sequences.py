"""Sequences: dynamic programming, hidden states, recurrent networks, transforms."""

from __future__ import annotations

import numpy as np

from tests.graphgrad.loop_programs.program import Table

SEQUENCES = Table()
RNG = np.random.default_rng(11)

WORDS = {"a": [3, 1, 4, 1, 5, 9], "b": [1, 4, 2, 5, 5]}
PROBABILITIES = RNG.dirichlet(np.ones(3), size=3)
LOGITS = RNG.normal(size=(6, 4))
X = RNG.normal(size=(5, 2))
W = 0.5 * RNG.normal(size=(3, 9))
U = 0.5 * RNG.normal(size=(2, 9))


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def log_sum(a, b):
    high = np.maximum(a, b)
    return high + np.log(np.exp(a - high) + np.exp(b - high))


@SEQUENCES(**WORDS, order=0, elements=True)
def edit_distance(a, b):
    m, n = a.shape[0], b.shape[0]
    d = np.zeros_like(a, shape=(m + 1, n + 1))
    for i in range(m + 1):
        d[i, 0] = i
    for j in range(n + 1):
        d[0, j] = j
    for i in range(1, m + 1):
        for j in range(1, n + 1):
            other = 0 if a[i - 1] == b[j - 1] else 1
            d[i, j] = np.minimum(
                np.minimum(d[i - 1, j] + 1, d[i, j - 1] + 1), d[i - 1, j - 1] + other
            )
    return d[m, n]


@SEQUENCES(**WORDS, gap=0.7, match=1.1, order=1, elements=True)
def alignment_with_score(a, b, gap, match):
    """Smith and Waterman's best score."""
    h = np.zeros_like(gap, shape=(7, 6))
    best = gap * 0.0
    for i in range(1, a.shape[0] + 1):
        for j in range(1, b.shape[0] + 1):
            s = match if a[i - 1] == b[j - 1] else -0.5 * match
            v = np.maximum(h[i - 1, j - 1] + s, np.maximum(h[i - 1, j], h[i, j - 1]) - gap)
            h[i, j] = np.maximum(v, 0.0)
            best = np.maximum(best, h[i, j])
    return best, h


@SEQUENCES(x=RNG.normal(size=5), y=RNG.normal(size=4), elements=True)
def soft_time_warping(x, y):
    gamma = 0.7
    r = np.full((6, 5), 1e6, like=x)
    r[0, 0] = 0.0
    for i in range(1, x.shape[0] + 1):
        for j in range(1, y.shape[0] + 1):
            a, b, c = r[i - 1, j - 1], r[i - 1, j], r[i, j - 1]
            least = -gamma * log_sum(log_sum(-a / gamma, -b / gamma), -c / gamma)
            r[i, j] = (x[i - 1] - y[j - 1]) ** 2 + least
    return r[5, 4]


@SEQUENCES(values=[6.0, 10.0, 12.0, 7.5], weights=[1, 2, 3, 2], room=5, order=1, elements=True)
def knapsack(values, weights, room):
    best = np.zeros(6, like=values)
    for i in range(values.shape[0]):
        for w in range(room, 0, -1):
            if weights[i] <= w:
                best[w] = np.maximum(best[w], best[w - weights[i]] + values[i])
    return best[room]


@SEQUENCES(x=[3, 1, 4, 1, 5, 9, 2, 6], order=0, elements=True)
def longest_rise(x):
    n = x.shape[0]
    length = np.ones(8, dtype=np.int64, like=x)
    for i in range(n):
        for j in range(i):
            if x[j] < x[i] and length[j] + 1 > length[i]:
                length[i] = length[j] + 1
    return np.max(length)


@SEQUENCES(p=[30.0, 35.0, 15.0, 5.0, 10.0], n=4, order=1, elements=True)
def matrix_chain(p, n):
    cost = np.zeros((4, 4), like=p)
    for length in range(2, n + 1):
        for i in range(0, n + 1 - length):
            j = i + length - 1
            best = 1e12
            for k in range(i, j):
                best = np.minimum(best, cost[i, k] + cost[k + 1, j] + p[i] * p[k + 1] * p[j + 1])
            cost[i, j] = best
    return cost[0, 3]


@SEQUENCES(d=RNG.uniform(1.0, 9.0, size=(5, 5)), order=1, elements=True)
def shortest_paths(d):
    n = d.shape[0]
    for k in range(n):
        for i in range(n):
            for j in range(n):
                if d[i, k] + d[k, j] < d[i, j]:
                    d[i, j] = d[i, k] + d[k, j]
    return d


@SEQUENCES(logits=LOGITS, labels=[1, 3], elements=True)
def connectionist_loss(logits, labels):
    """Minus the log probability of the labels, with class 0 for blanks."""
    logp = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    alpha = np.full(5, -1e5, like=logits)
    alpha[0] = logp[0, 0]
    alpha[1] = logp[0, labels[0]]
    for t in range(1, logits.shape[0]):
        old = alpha + 0.0
        for s in range(2 * labels.shape[0] + 1):
            v = old[s]
            if s > 0:
                v = log_sum(v, old[s - 1])
            if s % 2 == 1:
                label = labels[s // 2]
                if s > 1 and label != labels[s // 2 - 1]:
                    v = log_sum(v, old[s - 2])
                alpha[s] = v + logp[t, label]
            else:
                alpha[s] = v + logp[t, 0]
    return -log_sum(alpha[4], alpha[3])


@SEQUENCES(move=PROBABILITIES, emit=RNG.dirichlet(np.ones(4), size=3), seen=[0, 2, 3, 3, 1, 0],
           elements=True)  # fmt: skip
def forward_backward(move, emit, seen):
    """The probability of each state at each time."""
    alphas, betas = np.zeros((6, 3), like=move), np.zeros((6, 3), like=move)
    a = emit[:, seen[0]] / 3.0
    alphas[0] = a / np.sum(a)
    for t in range(1, seen.shape[0]):
        a = (alphas[t - 1] @ move) * emit[:, seen[t]]
        alphas[t] = a / np.sum(a)
    betas[5] = np.ones(3, like=move)
    for t in range(seen.shape[0] - 2, -1, -1):
        b = move @ (emit[:, seen[t + 1]] * betas[t + 1])
        betas[t] = b / np.sum(b)
    gamma = alphas * betas
    return gamma / np.sum(gamma, axis=1, keepdims=True)


@SEQUENCES(scores=RNG.normal(size=(6, 3)), move=RNG.normal(size=(3, 3)), order=1, elements=True)
def viterbi(scores, move):
    n = scores.shape[0]
    best = scores[0]
    back = np.zeros((6, 3), dtype=np.int64, like=scores)
    for t in range(1, n):
        each = best[:, None] + move
        back[t] = np.argmax(each, axis=0)
        best = np.max(each, axis=0) + scores[t]
    path = np.zeros(6, dtype=np.int64, like=scores)
    path[n - 1] = np.argmax(best)
    for t in range(n - 1, 0, -1):
        path[t - 1] = back[t, path[t]]
    return np.max(best), path


@SEQUENCES(logits=LOGITS, width=2, order=1, elements=True)
def beam_search(logits, width):
    """Each class costs more where it was chosen in the step before."""
    scores = np.zeros(2, like=logits)
    last = np.zeros(2, dtype=np.int64, like=logits)
    for t in range(logits.shape[0]):
        each = scores[:, None] + logits[t] - np.where(np.arange(4) == last[:, None], 0.75, 0.0)
        flat = np.reshape(each, (8,))
        if t == 0:
            flat = np.where(np.arange(8) < 4, flat, -1e9)
        chosen = np.zeros(2, dtype=np.int64, like=logits)
        for k in range(width):
            i = np.argmax(flat)
            chosen[k] = i
            scores[k] = flat[i]
            flat = np.where(np.arange(8) == i, -1e9, flat)
        last = chosen % 4
    return scores, last


@SEQUENCES(x=X, w=W, u=U, lengths=5)
def gated_units(x, w, u, lengths):
    h = x[0, 0] * np.zeros(3)
    for t in range(lengths):
        a, b = x[t] @ u, h @ w
        r, z = sigmoid(a[:3] + b[:3]), sigmoid(a[3:6] + b[3:6])
        h = z * h + (1.0 - z) * np.tanh(a[6:] + r * b[6:])
    return h


@SEQUENCES(x=RNG.normal(size=(3, 5, 2)), w=0.5 * RNG.normal(size=(3, 12)),
           u=0.5 * RNG.normal(size=(2, 12)), lengths=[2, 5, 3], order=2)  # fmt: skip
def long_short_term_memory_of_lengths(x, w, u, lengths):
    n = x.shape[0]
    h, c = np.zeros((3, 3)), np.zeros((3, 3))
    t = 0
    while t < np.max(lengths):
        g = x[:, t] @ u + h @ w
        keep = (t < lengths)[:, None]
        new = sigmoid(g[:, :3]) * c + sigmoid(g[:, 3:6]) * np.tanh(g[:, 6:9])
        h = np.where(keep, sigmoid(g[:, 9:]) * np.tanh(new), h)
        c = np.where(keep, new, c)
        t += 1
    return h, c / n


@SEQUENCES(x=X, w=W[:, :3], u=U[:, :3], n=5, elements=True)
def both_directions(x, w, u, n):
    out = np.zeros((5, 6), like=x)
    h, g = np.zeros(3, like=x), np.zeros(3, like=x)
    for t in range(n):
        h = np.tanh(x[t] @ u + h @ w)
        g = np.tanh(x[n - 1 - t] @ u - g @ w)
        out[t, :3] = h
        out[n - 1 - t, 3:] = g
    return out


@SEQUENCES(x=X[0], key=RNG.normal(size=(2, 2)), value=RNG.normal(size=(2, 2)), n=4, elements=True)
def decoder_with_a_cache(x, key, value, n):
    keys, values = np.zeros((6, 2), like=x), np.zeros((6, 2), like=x)
    for t in range(n):
        keys[t] = x @ key
        values[t] = x @ value
        s = np.where(np.arange(6) <= t, keys @ x, -1e9)
        p = np.exp(s - np.max(s))
        x = np.tanh(x + (p / np.sum(p)) @ values)
    return x


@SEQUENCES(x=RNG.normal(size=8), y=RNG.normal(size=8), n=8, elements=True)
def fourier_by_loops(x, y, n):
    """Real and imaginary part of the transform, in place, by Cooley and Tukey."""
    a, b = x + 0.0, y + 0.0
    j = 0
    for i in range(1, n):
        bit = n // 2
        while j & bit:
            j = j ^ bit
            bit = bit >> 1
        j = j ^ bit
        if i < j:
            a[i], a[j] = a[j], a[i]
            b[i], b[j] = b[j], b[i]
    size = 2
    while size <= n:
        for start in range(0, n, size):
            for k in range(size // 2):
                angle = (x[0] - x[0] - np.pi) * (2 * k) / size
                c, s = np.cos(angle), np.sin(angle)
                p, q = start + k, start + k + size // 2
                u, v = c * a[q] - s * b[q], s * a[q] + c * b[q]
                e, f = a[p], b[p]
                a[p], b[p] = e + u, f + v
                a[q], b[q] = e - u, f - v
        size *= 2
    return a, b


@SEQUENCES(x=RNG.normal(size=7), order=1, elements=True)
def insertion_sort(x):
    n = x.shape[0]
    x = x + 0.0
    for i in range(1, n):
        v = x[i]
        j = i - 1
        while j >= 0 and x[j] > v:
            x[j + 1] = x[j]
            j -= 1
        x[j + 1] = v
    return x


@SEQUENCES(x=[1.0, 3.0, 4.0, 8.0, 9.5], v=[0.0, 3.5, 9.5, 12.0], order=0)
def binary_search(x, v):
    places = np.zeros(4, dtype=np.int64)
    for k in range(v.shape[0]):
        low, high = 0, x.shape[0]
        while low < high:
            middle = (low + high) // 2
            if x[middle] < v[k]:
                low = middle + 1
            else:
                high = middle
        places = places + np.where(np.arange(4) == k, low, 0)
    return places


@SEQUENCES(x=RNG.normal(size=9), a=0.7, elements=True)
def smoothing_there_and_back(x, a):
    y = np.zeros_like(x)
    y[0] = x[0]
    for i in range(1, x.shape[0]):
        y[i] = a * y[i - 1] + (1.0 - a) * x[i]
    for i in range(x.shape[0] - 2, -1, -1):
        y[i] = a * y[i + 1] + (1.0 - a) * y[i]
    return y


@SEQUENCES(x=RNG.normal(size=10), level=0.4, order=1)
def longest_run(x, level):
    """The sum of the longest run above a level, and where it starts."""
    best, best_sum, at = 0, level * 0.0, 0
    run, total = 0, level * 0.0
    for i, v in enumerate(x):
        if abs(v) > level:
            run += 1
            total = total + v * v
        else:
            run, total = 0, level * 0.0
        if run > best:
            best, best_sum, at = run, total, i - run + 1
    return best_sum, best, at
