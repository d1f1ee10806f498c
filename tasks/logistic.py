"""Weighted logistic regression: strongly convex, not quadratic, with λ behind an embedding.

g = (1/n) Σ θ_i log(1 + exp(−y_i x_iᵀw)) + ½ ρ ‖w‖²,    θ = σ(λ),    f = mean logistic loss on validation data

Φ is a gradient step.  For every w and λ:  ρI ≼ ∇²_w g ≼ ρI + XᵀX/(4n), as 0 < θ < 1 and the loss's curvature is ≤ ¼.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from backends.hypergradient.protocol import Problem
from tasks.protocol import TaskError

Tree = Any

STARTS = ("zero", "optimum")


@dataclass(frozen=True)
class Logistic:
    """Logistic regression on drawn data, one weight σ(λ_i) for each training example.

    features    d = M
    examples    n = N, from d, so that ∂Φ/∂λ can have rank M
    validation  number of validation examples
    ridge       ρ
    rate        γ; 0 means 1/β
    start       "zero", or "optimum": w*(λ_0), a constant, λ_0 the seed's "init"

    x ~ N(0, I); a label is that of a hidden w with probability σ(xᵀw).  λ is standard normal.
    """

    features: int = 20
    examples: int = 60
    validation: int = 60
    ridge: float = 0.1
    rate: float = 0.0
    start: str = "zero"

    points: ClassVar[tuple[str, ...]] = ("init",)
    stochastic: ClassVar[bool] = False
    convex: ClassVar[bool] = True
    datasets: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name in ("features", "validation"):
            if getattr(self, name) < 1:
                raise TaskError(f"logistic: {name} = {getattr(self, name)!r} is not allowed; it is a number from 1")
        if self.examples < self.features:
            raise TaskError(
                f"logistic: examples = {self.examples!r} is not allowed; it is at least features = {self.features}"
            )
        if not self.ridge > 0:
            raise TaskError(f"logistic: ridge = {self.ridge!r} is not allowed; strong convexity needs ridge > 0")
        if not self.rate >= 0:
            raise TaskError(f"logistic: rate = {self.rate!r} is not allowed; it is above 0, or 0 for 1/β")
        if self.start not in STARTS:
            raise TaskError(f"logistic: unknown start {self.start!r}; allowed are {', '.join(STARTS)}")

    def problem(self, bk: Any) -> Problem:
        xp = bk.xp

        def losses(w: Any, X: Any) -> Any:
            margin = X @ w
            return xp.logaddexp(-margin, 0.0 * margin)

        def inner(w: Any, theta: Any, data: Tree) -> Any:
            return xp.mean(theta * losses(w, data["X"])) + 0.5 * data["ridge"] * xp.sum(w**2)

        def step(w: Any, theta: Any, data: Tree, x: Any) -> Any:
            wrong = 0.5 - 0.5 * xp.tanh(0.5 * (data["X"] @ w))  # σ(−margin), without overflow
            return w - data["rate"] * (data["ridge"] * w - (theta * wrong) @ data["X"] / self.examples)

        return Problem(
            embed=lambda lam, data: 1 / (1 + xp.exp(-lam)),
            init=lambda theta, data: data["start"] * 1.0,
            step=step,
            outer_loss=lambda w, theta, data: xp.mean(losses(w, data["X_val"])),
            inner_loss=inner,
        )

    def hparams(self, seed: int, point: str = "init") -> np.ndarray:
        if point not in self.points:
            raise TaskError(f"logistic: unknown point {point!r}; allowed are {', '.join(self.points)}")
        return np.random.default_rng([6, seed, 0]).standard_normal(self.examples)

    def context(self, seed: int, index: int, horizon: int) -> tuple[Tree, Tree]:
        X, X_val = self._draw(seed)
        upper = self.curvature_bounds(seed)[1]
        theta = 1 / (1 + np.exp(-self.hparams(seed)))
        data = {
            "X": X,
            "X_val": X_val,
            "ridge": np.array(float(self.ridge)),
            "rate": np.array(self.rate or 1 / np.linalg.eigvalsh(upper)[-1]),
            "start": optimum(X, theta, self.ridge) if self.start == "optimum" else np.zeros(self.features),
        }
        return data, np.arange(horizon)

    def _draw(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows y_i x_i of training and of validation data: a margin is a row times w."""
        rng = np.random.default_rng([6, seed, 1])
        hidden = rng.standard_normal(self.features)

        def rows(n: int) -> np.ndarray:
            X = rng.standard_normal((n, self.features))
            y = np.where(rng.uniform(size=n) < 1 / (1 + np.exp(-X @ hidden)), 1.0, -1.0)
            return y[:, None] * X

        return rows(self.examples), rows(self.validation)

    def evaluation(self, seed: int) -> Tree:
        return {}

    def curvature_bounds(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(lower, upper) with lower ≼ ∇²_w g ≼ upper for every w and λ."""
        X = self._draw(seed)[0]
        lower = self.ridge * np.eye(self.features)
        return lower, lower + X.T @ X / (4 * self.examples)


def optimum(X: np.ndarray, theta: np.ndarray, ridge: float) -> np.ndarray:
    """w* by Newton, until the gradient stops falling; X has rows y_i x_i."""
    w, last, best = np.zeros(X.shape[1]), np.zeros(X.shape[1]), np.inf
    while True:
        wrong = 0.5 - 0.5 * np.tanh(0.5 * (X @ w))
        grad = ridge * w - (theta * wrong) @ X / len(X)
        if not np.linalg.norm(grad) < best:
            return last
        best, last = np.linalg.norm(grad), w
        H = (X.T * (theta * wrong * (1 - wrong))) @ X / len(X) + ridge * np.eye(len(w))
        w = w - np.linalg.solve(H, grad)
