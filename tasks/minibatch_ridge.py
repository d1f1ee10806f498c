"""Ridge regression by minibatch SGD, one decay for each group of features: the smallest problem whose Φ reads x_t.

    g = (1/2n) ‖X w − y‖² + ½ Σ_j θ_j w_j²,     θ_j = exp(λ_{group(j)}),     f = (1/2m) ‖X_val w − y_val‖²
    Φ(w, x) = w − γ ((1/b) X_xᵀ (X_x w − y_x) + θ ∘ w),     x the b examples of the step

Φ is affine in w, so its A_t = I − γ (X_xᵀ X_x / b + diag θ) and B_t = −γ diag(w_t) can be written down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from backends.hypergradient.protocol import Problem
from tasks.protocol import TaskError

Tree = Any

NOISE = 0.1  # standard deviation of the labels around X w_true


@dataclass(frozen=True)
class MinibatchRidge:
    """Synthetic data by the seed; the examples of each step are drawn with replacement by seed and index.

    features, groups    M = P and N; feature j belongs to group j mod groups
    examples, validation    n, m
    batch    b
    rate     γ

    points: "init" λ = −1 in the first group, rising in steps of ½.
    """

    features: int = 6
    groups: int = 2
    examples: int = 24
    validation: int = 20
    batch: int = 4
    rate: float = 0.05

    points: ClassVar[tuple[str, ...]] = ("init",)
    stochastic: ClassVar[bool] = True
    convex: ClassVar[bool] = True
    datasets: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name in ("features", "groups", "examples", "validation", "batch"):
            if getattr(self, name) < 1:
                raise TaskError(
                    f"minibatch_ridge: {name} = {getattr(self, name)!r} is not allowed; it is a number from 1"
                )
        if self.groups > self.features:
            raise TaskError(
                f"minibatch_ridge: groups = {self.groups} is not allowed; at most features = {self.features}"
            )
        if not self.rate > 0:
            raise TaskError(f"minibatch_ridge: rate = {self.rate!r} is not allowed; it is a number > 0")

    def problem(self, bk: Any) -> Problem:
        xp = bk.xp

        def loss(w: Any, X: Any, y: Any) -> Any:
            return xp.sum((X @ w - y) ** 2) / (2 * y.shape[0])

        def inner(w: Any, theta: Any, data: Tree) -> Any:
            return loss(w, data["X"], data["y"]) + xp.sum(theta * w**2) / 2

        def step(w: Any, theta: Any, data: Tree, x: Any) -> Any:
            X, y = data["X"][x], data["y"][x]
            return w - data["rate"] * (X.T @ (X @ w - y) / self.batch + theta * w)

        return Problem(
            embed=lambda lam, data: xp.exp(lam)[data["group"]],
            init=lambda theta, data: data["start"],
            step=step,
            outer_loss=lambda w, theta, data: loss(w, data["X_val"], data["y_val"]),
            inner_loss=inner,
        )

    def hparams(self, seed: int, point: str = "init") -> np.ndarray:
        if point not in self.points:
            raise TaskError(f"minibatch_ridge: unknown point {point!r}; allowed are {', '.join(self.points)}")
        return -1.0 + 0.5 * np.arange(self.groups)

    def context(self, seed: int, index: int, horizon: int) -> tuple[Tree, Tree]:
        draw = np.random.default_rng([17, seed])
        true, start = draw.normal(size=(2, self.features))
        X = draw.normal(size=(self.examples + self.validation, self.features))
        y = X @ true + NOISE * draw.normal(size=len(X))
        n = self.examples
        data = {
            "X": X[:n],
            "y": y[:n],
            "X_val": X[n:],
            "y_val": y[n:],
            "group": np.arange(self.features) % self.groups,
            "start": start,
            "rate": np.array(float(self.rate)),
        }
        batches = np.random.default_rng([18, seed, index])
        return data, batches.integers(n, size=(horizon, self.batch))

    def evaluation(self, seed: int) -> Tree:
        return {}
