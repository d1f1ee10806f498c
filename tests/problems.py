"""The two test problems of the suite: one as general as the protocol allows, one whose w* is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from backends.hypergradient.protocol import Problem


@dataclass(frozen=True)
class Case:
    """A problem and one point of it, in NumPy."""

    name: str
    make: Any  # backend -> Problem
    hparams: Any
    data: Any
    xs: Any

    def at(self, bk: Any) -> tuple:
        """(problem, hparams, data, xs) in a backend's arrays."""
        return self.make(bk), bk.asarray(self.hparams), bk.asarray(self.data), bk.asarray(self.xs)


def generic(m: int = 3, n: int = 4, p: int = 2, horizon: int = 6, seed: int = 0) -> Case:
    """Any Φ: no gradient step, time-varying, non-symmetric A_t; trees for w, λ, θ and xs; w_0 and f depend on λ.

    M = m + 2, N = n + 1, P = p + m + 1: with the defaults 5, 5, 6; choose sizes with P ≠ N ≠ M.
    """
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape) / np.sqrt(shape[-1])

    data = {
        "E": normal(p, n),
        "S": normal(m, n),
        "A": normal(m, m),
        "B": normal(m, p),
        "C": normal(2, m),
        "I": normal(m, p),
        "target": normal(m),
        "order": np.arange(3),
    }

    def make(bk: Any) -> Problem:
        xp = bk.xp

        def embed(lam: Any, data: Any) -> Any:
            return {
                "read": (xp.tanh(data["E"] @ lam["a"]) * lam["b"], lam["b"] ** 2),
                "unread": xp.sin(data["S"] @ lam["a"]),
            }

        def init(theta: Any, data: Any) -> Any:
            r, s = theta["read"]
            return {"u": xp.sin(data["I"] @ r) + 0.1, "v": [data["C"] @ data["target"] * s]}

        def step(w: Any, theta: Any, data: Any, x: Any) -> Any:
            r, s = theta["read"]
            shift, i = x
            u = 0.7 * xp.tanh(data["A"] @ w["u"] + data["B"] @ r + shift) + 0.2 * w["u"] * s
            v = 0.5 * w["v"][0] * xp.cos(data["C"] @ w["u"] + shift[0]) + 0.1 * s * xp.astype(i, shift.dtype)
            return {"u": u, "v": [v]}

        def outer(w: Any, theta: Any, data: Any) -> Any:
            r, s = theta["read"]
            fit = xp.sum((w["u"] - data["target"] * theta["unread"]) ** 2)
            return fit + xp.sum(xp.sin(w["v"][0])) * s + 0.3 * xp.sum(xp.exp(r))

        return Problem(init=init, step=step, outer_loss=outer, embed=embed, lower=lambda theta: theta["read"])

    hparams = {"a": rng.standard_normal(n), "b": np.array(0.8)}
    xs = (0.5 * rng.standard_normal((horizon, m)), np.arange(horizon))
    return Case(f"generic-{m}-{n}-{p}", make, hparams, data, xs)


def convex(
    m: int = 4, n: int = 3, horizon: int = 12, rate: float = 0.2, at_optimum: bool = False, seed: int = 1
) -> Case:
    """Φ a gradient step on g = ½ wᵀHw + ¼ε Σw⁴ − wᵀ(Cθ + c) with H ≽ I, every term non-zero; `at_optimum`: w_0 = w*."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((m, m)))[0]
    H = Q @ np.diag(np.linspace(1.0, 3.0, m)) @ Q.T
    data = {
        "H": H,
        "C": rng.standard_normal((m, n)),
        "c": rng.standard_normal(m),
        "target": rng.standard_normal(m),
        "eps": np.array(0.1),
        "rate": np.array(rate),
    }
    lam = 0.5 * rng.standard_normal(n)
    data["start"] = optimum(data, np.tanh(lam)) if at_optimum else rng.standard_normal(m)

    def make(bk: Any) -> Problem:
        xp = bk.xp

        def inner(w: Any, theta: Any, data: Any) -> Any:
            quartic = 0.25 * data["eps"] * xp.sum(w**4)
            return 0.5 * xp.sum(w * (data["H"] @ w)) + quartic - xp.sum(w * (data["C"] @ theta + data["c"]))

        def step(w: Any, theta: Any, data: Any, x: Any) -> Any:
            grad = data["H"] @ w + data["eps"] * w**3 - (data["C"] @ theta + data["c"])
            return w - data["rate"] * grad

        def outer(w: Any, theta: Any, data: Any) -> Any:
            return xp.sum(xp.sin(w - data["target"])) + 0.5 * xp.sum(w**2) + xp.sum(theta**3)

        return Problem(
            init=lambda theta, data: data["start"] + 0 * data["start"],
            step=step,
            outer_loss=outer,
            inner_loss=inner,
            embed=lambda lam, data: xp.tanh(lam),
        )

    name = f"convex-{m}-{n}" + ("-optimum" if at_optimum else "")
    return Case(name, make, lam, data, np.arange(horizon))


def optimum(data: Any, theta: np.ndarray) -> np.ndarray:
    """w* of `convex` by Newton, until the gradient stops falling."""
    b = data["C"] @ theta + data["c"]
    w, best = np.linalg.solve(data["H"], b), np.inf
    while True:
        grad = data["H"] @ w + data["eps"] * w**3 - b
        if np.linalg.norm(grad) >= best:
            return w
        best = np.linalg.norm(grad)
        w = w - np.linalg.solve(data["H"] + np.diag(3 * data["eps"] * w**2), grad)
