"""Equations: roots, fixed points, linear systems, eigenvalues, integrals."""

from __future__ import annotations

import numpy as np

from tests.graphgrad.loop_programs.program import Table

SOLVERS = Table()

RNG = np.random.default_rng(7)
A = RNG.normal(size=(4, 4))
SPD = A @ A.T + 4.0 * np.eye(4)
GENERAL = A + 5.0 * np.eye(4)
B = RNG.normal(size=4)


@SOLVERS(a=2.0)
def newton_square_root(a):
    x = a
    while abs(x * x - a) > 1e-12:
        x = 0.5 * (x + a / x)
    return x


@SOLVERS(c=0.7, n=40)
def newton_with_line_search(c, n):
    x = c * 0.0 + 3.0
    for _ in range(n):
        r = np.arctan(x) + 0.1 * x - c
        if abs(r) < 1e-13:
            break
        step = r / (1.0 / (1.0 + x * x) + 0.1)
        t = 1.0
        while abs(np.arctan(x - t * step) + 0.1 * (x - t * step) - c) >= abs(r) * (1.0 - 0.1 * t):
            t = t * 0.5
        x = x - t * step
    return x


@SOLVERS(c=[0.2, 0.5, 0.9], order=0)
def bisection_of_many(c):
    low, high = np.zeros_like(c), np.ones_like(c) * 2.0
    while np.max(high - low) > 1e-10:
        middle = 0.5 * (low + high)
        beyond = np.tanh(middle) > c
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    return low


@SOLVERS(a=1.0, b=2.0, c=0.5)
def secant(a, b, c):
    f = lambda x: x**3 - c * x - 2.0  # noqa: E731
    fa, fb = f(a), f(b)
    steps = 0
    while abs(fb) > 1e-12 and steps < 30:
        a, b = b, b - fb * (b - a) / (fb - fa)
        fa, fb = fb, f(b)
        steps += 1
    return b, steps


@SOLVERS(x=1.0, rate=0.9)
def fixed_point(x, rate):
    count = 0
    while True:
        following = np.cos(x * rate)
        count += 1
        if abs(following - x) < 1e-14:
            break
        x = following
    return following, count


@SOLVERS(x=0.5, n=20)
def fixed_point_with_acceleration(x, n):
    for _ in range(n):
        y = np.exp(-x)
        z = np.exp(-y)
        d = z - 2.0 * y + x
        if abs(d) < 1e-14:
            return z
        x = x - (y - x) ** 2 / d
    return x


@SOLVERS(a=24.0, b=6.0)
def arithmetic_geometric_mean(a, b):
    while a - b > 1e-10 * a:
        a, b = (a + b) / 2.0, np.sqrt(a * b)
    return a, b


@SOLVERS(a=SPD, b=B, rtol=1e-7)
def conjugate_gradients(a, b):
    x = np.zeros_like(b)
    r = b
    p = r
    rr = np.sum(r * r)
    k = 0
    while rr > 1e-20 and k < 3:
        ap = a @ p
        alpha = rr / np.sum(p * ap)
        x = x + alpha * p
        r = r - alpha * ap
        new = np.sum(r * r)
        p = r + new / rr * p
        rr = new
        k += 1
    return x


@SOLVERS(a=GENERAL, b=B, n=3, order=1, rtol=1e-7)
def bicgstab(a, b, n):
    x = np.zeros_like(b)
    r = b - a @ x
    shadow = r
    rho, alpha, omega = 1.0, 1.0, 1.0
    v = np.zeros_like(b)
    p = np.zeros_like(b)
    for _ in range(n):
        if np.sum(r * r) < 1e-20:
            break
        old, rho = rho, np.sum(shadow * r)
        beta = rho / old * alpha / omega
        p = r + beta * (p - omega * v)
        v = a @ p
        alpha = rho / np.sum(shadow * v)
        s = r - alpha * v
        t = a @ s
        omega = np.sum(t * s) / np.sum(t * t)
        x = x + alpha * p + omega * s
        r = s - omega * t
    return x


@SOLVERS(a=GENERAL, b=B, steps=3, elements=True, rtol=1e-8)
def gmres(a, b, steps):
    """Three steps of Arnoldi, with Givens rotations."""
    m = 3
    q = np.zeros((m + 1, 4), like=a)
    h = np.zeros((m + 1, m), like=a)
    g = np.zeros(m + 1, like=a)
    g[0] = np.sqrt(np.sum(b * b))
    q[0] = b / g[0]
    for j in range(steps):
        w = a @ q[j]
        for i in range(j + 1):
            h[i, j] = np.sum(w * q[i])
            w = w - h[i, j] * q[i]
        h[j + 1, j] = np.sqrt(np.sum(w * w))
        q[j + 1] = w / h[j + 1, j]
    for j in range(m):
        d = np.sqrt(h[j, j] ** 2 + h[j + 1, j] ** 2)
        c, s = h[j, j] / d, h[j + 1, j] / d
        for k in range(j, m):
            x, y = h[j, k], h[j + 1, k]
            h[j, k] = c * x + s * y
            h[j + 1, k] = c * y - s * x
        x, y = g[j], g[j + 1]
        g[j] = c * x + s * y
        g[j + 1] = c * y - s * x
    y = np.zeros(m, like=a)
    for k in range(m):
        i = m - 1 - k
        t = g[i]
        for j in range(i + 1, m):
            t = t - h[i, j] * y[j]
        y[i] = t / h[i, i]
    return y @ q[:m]


@SOLVERS(a=SPD, v=[1.0, 0.5, -0.25, 0.75], n=30)
def power_iteration(a, v, n):
    value = 0.0
    for _ in range(n):
        w = a @ v
        value = np.sum(v * w) / np.sum(v * v)
        v = w / np.sqrt(np.sum(w * w))
    return value, v


@SOLVERS(a=SPD, start=np.ones((2, 4)) + 0.1 * np.arange(8.0).reshape(2, 4), elements=True, n=25)
def power_iteration_with_deflation(a, start, n):
    values = np.zeros(2, like=a)
    for k in range(2):
        v = start[k]
        for _ in range(n):
            w = a @ v
            v = w / np.sqrt(np.sum(w * w))
        values[k] = np.sum(v * (a @ v))
        a = a - values[k] * np.outer(v, v)
    return values


@SOLVERS(a=SPD, v=B, n=3, elements=True)
def lanczos(a, v, n):
    diagonal, beside = np.zeros(3, like=a), np.zeros(3, like=a)
    v = v / np.sqrt(np.sum(v * v))
    before, beta = np.zeros_like(v), 0.0
    for j in range(n):
        w = a @ v - beta * before
        diagonal[j] = np.sum(w * v)
        w = w - diagonal[j] * v
        beta = np.sqrt(np.sum(w * w))
        beside[j] = beta
        before, v = v, w / beta
    return diagonal, beside[:2]


@SOLVERS(a=GENERAL, b=B, n=60)
def jacobi_iteration(a, b, n):
    d = np.diagonal(a)
    x = np.zeros_like(b)
    for _ in range(n):
        x = x + (b - a @ x) / d
    return x


@SOLVERS(a=GENERAL, b=B, elements=True, n=25)
def gauss_seidel(a, b, n):
    x = np.zeros_like(b)
    for _ in range(n):
        for i in range(b.shape[0]):
            x[i] = x[i] + (b[i] - np.sum(a[i] * x)) / a[i, i]
    return x


@SOLVERS(a=SPD, elements=True)
def cholesky_by_loops(a):
    low = np.zeros_like(a)
    for i in range(a.shape[0]):
        for j in range(i + 1):
            s = a[i, j]
            for k in range(j):
                s = s - low[i, k] * low[j, k]
            if i == j:
                low[i, j] = np.sqrt(s)
            else:
                low[i, j] = s / low[j, j]
    return low


@SOLVERS(a=GENERAL, b=B, n=4, elements=True)
def elimination_with_pivots(a, b, n):
    a, b = a + 0.0, b + 0.0
    for k in range(n):
        p = k
        for i in range(k + 1, n):
            if abs(a[i, k]) > abs(a[p, k]):
                p = i
        row, other = a[k] + 0.0, a[p] + 0.0
        a[k] = other
        a[p] = row
        x, y = b[k] + 0.0, b[p] + 0.0
        b[k] = y
        b[p] = x
        for i in range(k + 1, n):
            m = a[i, k] / a[k, k]
            a[i] = a[i] - m * a[k]
            b[i] = b[i] - m * b[k]
    for j in range(n):
        i = n - 1 - j
        b[i] = (b[i] - np.sum(np.where(np.arange(4) > i, a[i] * b, 0.0))) / a[i, i]
    return b


@SOLVERS(low=0.0, high=2.0, rate=1.3, n=64)
def simpson(low, high, rate, n):
    h = (high - low) / n
    total = np.sin(rate * low) + np.sin(rate * high)
    for i in range(1, n):
        weight = 4.0 if i % 2 == 1 else 2.0
        total += weight * np.sin(rate * (low + i * h))
    return total * h / 3.0


@SOLVERS(high=1.5, rate=0.8, levels=5, elements=True)
def romberg(high, rate, levels):
    table = np.zeros_like(high, shape=(5, 5))
    h = high
    table[0, 0] = 0.5 * h * (1.0 + np.exp(-rate * high * high))
    points = 1
    for i in range(1, levels):
        h = h * 0.5
        s = 0.0
        for k in range(points):
            x = (2 * k + 1) * h
            s = s + np.exp(-rate * x * x)
        table[i, 0] = 0.5 * table[i - 1, 0] + h * s
        points = points * 2
        for j in range(1, i + 1):
            table[i, j] = table[i, j - 1] + (table[i, j - 1] - table[i - 1, j - 1]) / (4.0**j - 1.0)
    return table[levels - 1, levels - 1]


@SOLVERS(x=0.3, n=40)
def continued_fraction(x, n):
    """tan x by Lambert."""
    f = x * 0.0
    for k in range(n):
        f = x * x / (2 * (n - k) + 1.0 - f)
    return x / (1.0 - f)


@SOLVERS(z=[0.5, 1.5, 3.0], nu=0.7)
def bessel_series(z, nu):
    term = np.ones_like(z)
    total = term
    k = 1
    while np.max(abs(term)) > 1e-16 and k < 200:
        term = -term * z * z / (4.0 * k * (k + nu))
        total = total + term
        k += 1
    return total


@SOLVERS(c=[-2.0, -1.0, 0.5, 3.0], x=0.3)
def horner(c, x):
    y = x * 0.0
    for k in c:
        y = y * x + k
    return y


@SOLVERS(n=97, order=0)
def primes(n):
    count, total = 0, 0
    for k in range(2, n):
        d = 2
        prime = True
        while d * d <= k:
            if k % d == 0:
                prime = False
                break
            d += 1
        if prime:
            count += 1
            total += k
    return count, total


@SOLVERS(a=1071, b=462, order=0)
def extended_euclid(a, b):
    x, y, u, v = 1, 0, 0, 1
    while b != 0:
        q = a // b
        a, b = b, a - q * b
        x, u = u, x - q * u
        y, v = v, y - q * v
    return a, x, y


@SOLVERS(base=7, power=123, modulus=1009, order=0)
def modular_power(base, power, modulus):
    result = 1
    base = base % modulus
    while power > 0:
        if power % 2 == 1:
            result = result * base % modulus
        base = base * base % modulus
        power = power // 2
    return result


@SOLVERS(n=60, order=0, elements=True, sizes=False)
def sieve(n):
    marked = np.zeros_like(n, dtype=bool, shape=60)
    for i in range(2, n):
        if not marked[i]:
            for j in range(i * i, n, i):
                marked[j] = True
    return marked
