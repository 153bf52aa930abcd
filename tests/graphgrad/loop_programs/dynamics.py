"""Motion: differential equations, events, many bodies, chains of samples."""

from __future__ import annotations

import numpy as np

from tests.graphgrad.loop_programs.program import Table

DYNAMICS = Table()
RNG = np.random.default_rng(3)


@DYNAMICS(y=[1.0, 0.0], mu=1.2, order=2)
def adaptive_heun(y, mu):
    """Steps are accepted or rejected by the error of an embedded method."""
    f = lambda y: np.stack([y[1], mu * (1.0 - y[0] * y[0]) * y[1] - y[0]])  # noqa: E731
    t, h, rejected = 0.0, 0.3, 0
    while t < 1.0:
        h = np.minimum(h, 1.0 - t)
        a = f(y)
        b = f(y + h * a)
        error = np.max(abs(h * 0.5 * (b - a)))
        if error < 0.02:
            t = t + h
            y = y + h * 0.5 * (a + b)
            h = h * 1.2
        else:
            h = h * 0.6
            rejected += 1
    return y, rejected


@DYNAMICS(y0=[2.0, 0.5], k=0.8, times=np.linspace(0.1, 1.9, 5), elements=True, order=1, rtol=1e-8)
def dormand_prince_with_dense_output(y0, k, times):
    out = np.zeros((5, 2), like=y0)
    f = lambda y: np.stack([y[1], -k * y[0] - 0.1 * y[1]])  # noqa: E731
    t, h, y, at = 0.0 * k, 0.2, y0, 0
    k1 = f(y)
    while t < 2.0:
        k2 = f(y + h * (k1 / 5.0))
        k3 = f(y + h * (3.0 / 40 * k1 + 9.0 / 40 * k2))
        k4 = f(y + h * (44.0 / 45 * k1 - 56.0 / 15 * k2 + 32.0 / 9 * k3))
        k5 = f(y + h * (19372.0 / 6561 * k1 - 25360.0 / 2187 * k2 + 64448.0 / 6561 * k3
                        - 212.0 / 729 * k4))  # fmt: skip
        k6 = f(y + h * (9017.0 / 3168 * k1 - 355.0 / 33 * k2 + 46732.0 / 5247 * k3
                        + 49.0 / 176 * k4 - 5103.0 / 18656 * k5))  # fmt: skip
        step = 35.0 / 384 * k1 + 500.0 / 1113 * k3 + 125.0 / 192 * k4 - 2187.0 / 6784 * k5
        new = y + h * (step + 11.0 / 84 * k6)
        k7 = f(new)
        error = h * np.max(abs(71.0 / 57600 * k1 - 71.0 / 16695 * k3 + 71.0 / 1920 * k4
                               - 17253.0 / 339200 * k5 + 22.0 / 525 * k6 - k7 / 40.0))  # fmt: skip
        if error < 1e-5:
            while at < 5 and times[at] <= t + h:
                s = (times[at] - t) / h
                h00 = (1.0 + 2.0 * s) * (1.0 - s) ** 2
                h10 = s * (1.0 - s) ** 2
                h01 = s * s * (3.0 - 2.0 * s)
                h11 = s * s * (s - 1.0)
                out[at] = h00 * y + h10 * h * k1 + h01 * new + h11 * h * k7
                at += 1
            t, y, k1 = t + h, new, k7
        h = h * np.minimum(2.0, np.maximum(0.3, 0.9 * (1e-5 / (error + 1e-12)) ** 0.2))
    return out


@DYNAMICS(height=2.0, bounce=0.8, n=3)
def bouncing_ball(height, bounce, n):
    """The time of the n-th bounce, each found by steps and a last part of one."""
    y, v, t, h, bounces = height, 0.0, 0.0, 0.05, 0
    while True:
        a = y + h * v - 0.5 * 9.81 * h * h
        if a < 0.0:
            part = (v + np.sqrt(v * v + 2.0 * 9.81 * y)) / 9.81
            t = t + part
            v = (9.81 * part - v) * bounce
            y = height * 0.0
            bounces += 1
            if bounces == n:
                break
        else:
            y = a
            v = v - 9.81 * h
            t = t + h
    return t, v


@DYNAMICS(q=[1.0, 0.2], p=[0.1, 0.9], n=50)
def leapfrog(q, p, n):
    h = 0.05
    energies = np.sum(p * p) * 0.0
    for _ in range(n):
        p = p - 0.5 * h * q / np.sum(q * q) ** 1.5
        q = q + h * p
        p = p - 0.5 * h * q / np.sum(q * q) ** 1.5
        energies = energies + 0.5 * np.sum(p * p) - 1.0 / np.sqrt(np.sum(q * q))
    return q, p, energies


@DYNAMICS(x=RNG.normal(size=(4, 2)) * 2.0, v=RNG.normal(size=(4, 2)) * 0.1, m=[1.0, 2.0, 0.5, 1.5],
          n=12)  # fmt: skip
def verlet_of_many_bodies(x, v, m, n):
    def force(x):
        d = x[:, None] - x[None]
        r2 = np.sum(d * d, axis=-1) + 0.1
        return -np.sum(m[None, :, None] * d / r2[..., None] ** 1.5, axis=1)

    f = force(x)
    for _ in range(n):
        v = v + 0.01 * f
        x = x + 0.02 * v
        f = force(x)
        v = v + 0.01 * f
    return x, v


@DYNAMICS(q=[0.5, -0.3], noise=1.5 * RNG.normal(size=(6, 2)), u=RNG.uniform(size=6), n=5)
def hamiltonian_samples(q, noise, u, n):
    """Proposals by leapfrog are accepted by a coin that is given."""
    potential = lambda q: 0.5 * q[0] ** 2 + 0.25 * q[1] ** 4 + 0.5 * q[0] * q[1]  # noqa: E731
    slope = lambda q: np.stack([q[0] + 0.5 * q[1], q[1] ** 3 + 0.5 * q[0]])  # noqa: E731
    taken, total = 0, np.zeros_like(q)
    for k in range(noise.shape[0]):
        p = noise[k]
        old = potential(q) + 0.5 * np.sum(p * p)
        x = q
        for _ in range(n):
            p = p - 0.35 * slope(x)
            x = x + 0.7 * p
            p = p - 0.35 * slope(x)
        if np.log(u[k]) < old - potential(x) - 0.5 * np.sum(p * p):
            q = x
            taken += 1
        total = total + q
    return total, taken


@DYNAMICS(x=1.5, steps=RNG.normal(size=40), u=RNG.uniform(size=40))
def simulated_annealing(x, steps, u):
    energy = lambda x: 0.1 * x * x + np.cos(3.0 * x)  # noqa: E731
    best, least, heat = x, energy(x), 2.0
    for d, coin in zip(steps, u):
        y = x + heat * d
        rise = energy(y) - energy(x)
        if rise < 0.0 or coin < np.exp(-rise / heat):
            x = y
            if energy(x) < least:
                best, least = x, energy(x)
        heat *= 0.9
    return best, least


@DYNAMICS(x=[1.0, 1.0, 1.0], sigma=10.0, rho=28.0, n=20)
def lorenz_by_runge_kutta(x, sigma, rho, n):
    def f(x):
        return np.stack([
            sigma * (x[1] - x[0]), x[0] * (rho - x[2]) - x[1], x[0] * x[1] - 8.0 / 3.0 * x[2],
        ])  # fmt: skip

    h = 0.01
    for _ in range(n):
        a = f(x)
        b = f(x + 0.5 * h * a)
        c = f(x + 0.5 * h * b)
        d = f(x + h * c)
        x = x + h / 6.0 * (a + 2.0 * b + 2.0 * c + d)
    return x


@DYNAMICS(y=1.0, rate=30.0, n=8)
def implicit_euler(y, rate, n):
    """Each step is solved by Newton's method, until it does not move."""
    h = 0.1
    for _ in range(n):
        z, moved = y, 1.0
        while abs(moved) > 1e-13:
            moved = (z - y + h * rate * (z * z * z - 0.5)) / (1.0 + h * rate * 3.0 * z * z)
            z = z - moved
        y = z
    return y


@DYNAMICS(u=np.sin(np.arange(12.0)), nu=0.3, n=15)
def heat_equation(u, nu, n):
    for _ in range(n):
        u = u + nu * (np.roll(u, 1) - 2.0 * u + np.roll(u, -1))
    return u


@DYNAMICS(u=np.linspace(0.0, 1.0, 9) ** 2, c=0.4, n=6, elements=True)
def advection_in_place(u, c, n):
    for _ in range(n):
        for i in range(8, 0, -1):
            u[i] = u[i] - c * (u[i] - u[i - 1])
        u[0] = u[0] * 0.5
    return u


@DYNAMICS(cells=RNG.integers(0, 2, 31), n=10, order=0)
def rule_thirty(cells, n):
    total = 0
    for _ in range(n):
        cells = np.roll(cells, 1) ^ (cells | np.roll(cells, -1))
        total += np.sum(cells)
    return cells, total


@DYNAMICS(grid=RNG.integers(0, 2, (6, 7)), most=20, order=0)
def life(grid, most):
    changed, steps = True, 0
    while changed and steps < most:
        count = grid * 0
        for i in range(-1, 2):
            for j in range(-1, 2):
                if i != 0 or j != 0:
                    count = count + np.roll(np.roll(grid, i, 0), j, 1)
        new = np.where((count == 3) | ((grid == 1) & (count == 2)), grid * 0 + 1, grid * 0)
        changed = np.any(new != grid)
        grid = new
        steps += 1
    return grid, steps


@DYNAMICS(x=np.linspace(-2.0, 0.5, 5), y=np.linspace(-1.0, 1.0, 5), limit=30, order=0)
def mandelbrot(x, y, limit):
    a, b = x[None, :] + 0.0 * y[:, None], y[:, None] + 0.0 * x[None, :]
    u, v = np.zeros_like(a), np.zeros_like(a)
    count = np.zeros_like(a, dtype=np.int64)
    for _ in range(limit):
        inside = u * u + v * v <= 4.0
        count = count + np.where(inside, 1, 0)
        u, v = np.where(inside, u * u - v * v + a, u), np.where(inside, 2.0 * u * v + b, v)
    return count


@DYNAMICS(x0=[1.0, 0.0], controls=0.3 * RNG.normal(size=6), mass=1.3)
def rollout_of_a_controller(x0, controls, mass):
    x, cost = x0, 0.0
    for u in controls:
        x = x + 0.1 * np.stack([x[1], (u - np.sin(x[0])) / mass])
        cost += np.sum(x * x) + 0.01 * u * u
        if cost > 50.0:
            break
    return cost, x


@DYNAMICS(rate=0.5, cuts=[0.31, 0.88, 1.42], n=40)
def piecewise_dynamics(rate, cuts, n):
    """Which law holds is looked up in each step."""
    x = rate * 0.1
    for i in range(n):
        t = i * 0.05
        k = 0
        while k < 3 and cuts[k] < t:
            k += 1
        if k == 0:
            x = x + 0.05 * rate
        elif k == 1:
            x = x + 0.05 * rate * np.sin(x)
        elif k == 2:
            x = x * (1.0 - 0.05 * rate)
        else:
            x = x + 0.05 * np.cos(x * rate)
    return x


@DYNAMICS(spins=RNG.integers(0, 2, (4, 4)) * 2 - 1, u=RNG.uniform(size=(3, 4, 4)), order=0,
          elements=True)  # fmt: skip
def ising(spins, u):
    for sweep in range(u.shape[0]):
        for i in range(spins.shape[0]):
            for j in range(spins.shape[1]):
                around = (spins[(i + 1) % 4, j] + spins[i - 1, j] + spins[i, (j + 1) % 4]
                          + spins[i, j - 1])  # fmt: skip
                if u[sweep, i, j] < 1.0 / (1.0 + np.exp(0.8 * spins[i, j] * around)):
                    spins[i, j] = -spins[i, j]
    return spins
