"""Where sufficient descent fails although ∂Φ/∂λ has rank M: h_1 and dF can point apart (PAPER §1, C2).

H = diag(1, 1/κ),    ∂²g/∂w∂λ = −C,    CCᵀ = [[1, r], [r, 1]],    f = ½ ‖ŵ − a‖²,    no direct term
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from backends.hypergradient.protocol import Problem
from tasks.protocol import TaskError
from tasks.spectrum import linear_quadratic

Tree = Any

DIRECTIONS = 100_000  # of ∇f, over half a turn


@dataclass(frozen=True)
class Counterexample:
    """Two dimensions, κ = 100, r = .9: cos(h_1, dF) goes down to −.85 as T grows.

    kappa        κ
    correlation  r
    rate         γ

    points: "init" λ standard normal by the seed; "worst" λ whose ∇f at w* has the smallest cos(h_1, dF), T → ∞.
    """

    kappa: float = 100.0
    correlation: float = 0.9
    rate: float = 1.0

    points: ClassVar[tuple[str, ...]] = ("init", "worst")
    stochastic: ClassVar[bool] = False
    convex: ClassVar[bool] = True
    datasets: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if not self.kappa >= 1:
            raise TaskError(f"counterexample: kappa = {self.kappa!r} is not allowed; a condition number is at least 1")
        if not -1 < self.correlation < 1:
            raise TaskError(
                f"counterexample: correlation = {self.correlation!r} is not allowed; rank 2 needs −1 < correlation < 1"
            )
        if not 0 < self.rate < 2:
            raise TaskError(f"counterexample: rate = {self.rate!r} is not allowed; gradient descent needs 0 < rate < 2")

    def problem(self, bk: Any) -> Problem:
        return linear_quadratic(bk)

    def hparams(self, seed: int, point: str = "init") -> np.ndarray:
        if point not in self.points:
            raise TaskError(f"counterexample: unknown point {point!r}; allowed are {', '.join(self.points)}")
        if point == "init":
            return np.random.default_rng([4, seed, 0]).standard_normal(2)
        data = self.context(seed, 0, 1)[0]
        H, C = data["H"], data["C"]
        turn = np.linspace(0, np.pi, DIRECTIONS)
        f_w = np.stack([np.cos(turn), np.sin(turn)])
        h, dF = C.T @ f_w, C.T @ np.linalg.solve(H, f_w)
        cosine = np.sum(h * dF, axis=0) / (np.linalg.norm(h, axis=0) * np.linalg.norm(dF, axis=0))
        return np.linalg.solve(C, H @ (data["target"] + f_w[:, np.argmin(cosine)]))

    def context(self, seed: int, index: int, horizon: int) -> tuple[Tree, Tree]:
        data = {
            "H": np.diag([1.0, 1 / self.kappa]),
            "C": np.linalg.cholesky(np.array([[1.0, self.correlation], [self.correlation, 1.0]])),
            "target": np.random.default_rng([4, seed, 1]).standard_normal(2),
            "anchor": np.zeros(2),
            "direct": np.array(0.0),
            "rate": np.array(float(self.rate)),
            "start": np.zeros(2),
        }
        return data, np.arange(horizon)

    def evaluation(self, seed: int) -> Tree:
        return {}

    def curvature_bounds(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(lower, upper) with lower ≼ ∇²_w g ≼ upper for every w and λ: both are H."""
        H = np.diag([1.0, 1 / self.kappa])
        return H, H
