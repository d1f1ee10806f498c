"""One number above, one below: where a direct term makes K-RMD stop at a point that is not stationary (PAPER §1, C6).

g = ½ (w − λ)²,    f = ½ ŵ² + ½ δ (λ − 1)²,    w_0 = 2

As T → ∞, h = 0 at λ = δ/(δ + 1 − a^K), a = 1 − γ; there dF = δ a^K/(δ + 1 − a^K).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from backends.hypergradient.protocol import Problem
from tasks.protocol import TaskError
from tasks.spectrum import linear_quadratic

Tree = Any


@dataclass(frozen=True)
class Scalar:
    """The scalar example; without its direct term (δ = 0) the bias bound is sharp on it.

    direct  δ; 0 drops φ = ½ δ (λ − 1)²
    rate    γ

    points: "init" λ uniform in [−5, 5] by the seed; "stall" where 1-RMD is 0 as T → ∞: λ = δ/(δ + γ).
    """

    direct: float = 1.0
    rate: float = 0.1

    points: ClassVar[tuple[str, ...]] = ("init", "stall")
    stochastic: ClassVar[bool] = False
    convex: ClassVar[bool] = True
    datasets: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if not self.direct >= 0:
            raise TaskError(f"scalar: direct = {self.direct!r} is not allowed; it is a number from 0")
        if not 0 < self.rate < 2:
            raise TaskError(f"scalar: rate = {self.rate!r} is not allowed; gradient descent needs 0 < rate < 2")

    def problem(self, bk: Any) -> Problem:
        return linear_quadratic(bk)

    def hparams(self, seed: int, point: str = "init") -> np.ndarray:
        if point not in self.points:
            raise TaskError(f"scalar: unknown point {point!r}; allowed are {', '.join(self.points)}")
        if point == "stall":
            return np.array([self.direct / (self.direct + self.rate)])
        return np.random.default_rng([5, seed]).uniform(-5.0, 5.0, 1)

    def context(self, seed: int, index: int, horizon: int) -> tuple[Tree, Tree]:
        data = {
            "H": np.eye(1),
            "C": np.eye(1),
            "target": np.zeros(1),
            "anchor": np.ones(1),
            "direct": np.array(float(self.direct)),
            "rate": np.array(float(self.rate)),
            "start": np.array([2.0]),
        }
        return data, np.arange(horizon)

    def evaluation(self, seed: int) -> Tree:
        return {}

    def curvature_bounds(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(lower, upper) with lower ≼ ∇²_w g ≼ upper for every w and λ: both are 1."""
        return np.eye(1), np.eye(1)
