"""Hyper-cleaning as its source problem has it (Franceschi et al. 2017): weights in a box and an ℓ1-ball, no decay.

    g = (1/n) Σ λ_i CE_i(W),     λ ∈ [0, 1]^n,  ‖λ‖₁ ≤ R,     f = mean CE on clean validation data

Draws, sizes, Φ's layout and metrics are those of `tasks.hypercleaning`; an example counts as marked corrupted where
λ_i < 1e-3.  R is not known from the texts at hand: an option, as a share of n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from backends.hypergradient.protocol import Problem
from tasks.hypercleaning import Hypercleaning
from tasks.protocol import TaskError

Tree = Any

MARKED = 1e-3
HALVINGS = 60  # of the interval of the ℓ1-ball's threshold: to float64's rounding


@dataclass(frozen=True)
class HypercleaningL1(Hypercleaning):
    """Softmax regression, one weight a training example; `radius` is R/n.

    points: "init" λ = R/n; "informed" λ = min(1, R/clean) where the label is right and 0 where it is wrong.
    """

    radius: float = 0.5

    points: ClassVar[tuple[str, ...]] = ("init", "informed")
    convex: ClassVar[bool] = False  # without decay g has no curvature along some directions

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.radius <= 1:
            raise TaskError(
                f"hypercleaning_l1: radius = {self.radius!r} is not allowed; it is a share above 0 and up to 1"
            )
        if self.groups:
            raise TaskError(f"hypercleaning_l1: groups = {self.groups!r} is not allowed; every example has its weight")

    def problem(self, bk: Any) -> Problem:
        xp = bk.xp

        def softmax(w: Any, X: Any) -> Any:
            z = X @ w.T
            return xp.exp(z - bk.logsumexp(z)[:, None])

        def step(w: Any, weight: Any, data: Tree, x: Any) -> Any:
            residual = softmax(w, data["X"]) - data["Y"]
            return w - self.rate * ((weight / self.train)[:, None] * residual).T @ data["X"]

        def inner(w: Any, weight: Any, data: Tree) -> Any:
            z = data["X"] @ w.T
            return xp.sum(weight * (bk.logsumexp(z) - xp.sum(data["Y"] * z, axis=1))) / self.train

        def metrics(w: Any, lam: Any, held: Tree) -> dict:
            marked, corrupted = lam < MARKED, held["corrupted"]
            hit = xp.sum(xp.where(marked & corrupted, 1.0, 0.0))
            wrong = xp.sum(xp.where(marked != corrupted, 1.0, 0.0))
            right = xp.where(xp.argmax(held["X"] @ w.T, axis=1) == held["labels"], 1.0, 0.0)
            return {
                "test_accuracy": xp.sum(right) / held["labels"].shape[0],
                "f1": 2 * hit / xp.where(2 * hit + wrong > 0, 2 * hit + wrong, 1.0),
                "noise_rate": xp.sum(xp.where(corrupted, 1.0, 0.0)) / corrupted.shape[0],
            }

        def project(lam: Any) -> Any:
            """The nearest point: clip(λ − t, 0, 1), t = 0 inside the ball, else where the sum is R."""
            R = self.radius * self.train

            def halve(bounds: tuple, _: Any) -> tuple:
                low, high = bounds
                middle = (low + high) / 2
                above = xp.sum(xp.clip(lam - middle, 0.0, 1.0)) > R
                return (xp.where(above, middle, low), xp.where(above, high, middle)), None

            top = xp.max(lam)
            (_, t), _ = bk.scan(halve, (0.0 * top, xp.where(top > 0, top, 0.0 * top)), None, length=HALVINGS)
            inside = xp.clip(lam, 0.0, 1.0)
            return xp.where(xp.sum(inside) > R, xp.clip(lam - t, 0.0, 1.0), inside)

        base = super().problem(bk)
        return Problem(
            init=base.init,
            step=step,
            outer_loss=base.outer_loss,
            inner_loss=inner,
            metrics=metrics,
            project=project,
        )

    def hparams(self, seed: int, point: str = "init") -> np.ndarray:
        if point == "init":
            return np.full(self.train, float(self.radius))
        clean = super().hparams(seed, point) > 0
        return np.where(clean, min(1.0, self.radius * self.train / clean.sum()), 0.0)
