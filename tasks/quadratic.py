"""The paper's toy: a quadratic lower problem under a wavy upper one, both in R² (PAPER: section 'toy problem').

g = ½ (w−λ)ᵀ G (w−λ),  G = diag(1, ½);    f = ‖ŵ‖² + 10 ‖sin ŵ‖²;    w_0 = (2, 2),  γ = 0.1,  T = 100
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from backends.hypergradient.protocol import Problem
from tasks.protocol import TaskError

Tree = Any

CURVATURE = np.array([1.0, 0.5])
START = np.array([2.0, 2.0])


@dataclass(frozen=True)
class Quadratic:
    """The toy; `rate` is γ.  λ is drawn uniformly from [−5, 5]² by the seed ("init")."""

    rate: float = 0.1

    points: ClassVar[tuple[str, ...]] = ("init",)
    stochastic: ClassVar[bool] = False
    convex: ClassVar[bool] = True
    datasets: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if not 0 < self.rate < 2:
            raise TaskError(f"quadratic: rate = {self.rate!r} is not allowed; gradient descent needs 0 < rate < 2")

    def problem(self, bk: Any) -> Problem:
        xp = bk.xp

        def inner(w: Any, lam: Any, data: Tree) -> Any:
            return 0.5 * xp.sum(data["curvature"] * (w - lam) ** 2)

        def step(w: Any, lam: Any, data: Tree, x: Any) -> Any:
            return w - data["rate"] * data["curvature"] * (w - lam)

        def outer(w: Any, lam: Any, data: Tree) -> Any:
            return xp.sum(w**2) + 10.0 * xp.sum(xp.sin(w) ** 2)

        # A start that the caller may differentiate through is its own array.
        return Problem(init=lambda lam, data: data["start"] * 1.0, step=step, outer_loss=outer, inner_loss=inner)

    def hparams(self, seed: int, point: str = "init") -> np.ndarray:
        if point not in self.points:
            raise TaskError(f"quadratic: unknown point {point!r}; allowed are {', '.join(self.points)}")
        return np.random.default_rng([1, seed]).uniform(-5.0, 5.0, 2)

    def context(self, seed: int, index: int, horizon: int) -> tuple[Tree, Tree]:
        data = {"curvature": CURVATURE, "start": START, "rate": np.array(self.rate)}
        return data, np.arange(horizon)

    def evaluation(self, seed: int) -> Tree:
        return {}

    def curvature_bounds(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(lower, upper) with lower ≼ ∇²_w g ≼ upper for every w and λ: both are G."""
        return np.diag(CURVATURE), np.diag(CURVATURE)


def last_iterate(lam: np.ndarray, horizon: int, rate: float = 0.1) -> np.ndarray:
    """ŵ = λ + (I − γG)^T (w_0 − λ) for λ of shape (…, 2)."""
    return lam + (1 - rate * CURVATURE) ** horizon * (START - lam)


def closed_form(lam: np.ndarray, truncation: int, horizon: int, rate: float = 0.1) -> np.ndarray:
    """h_{T−K} = (I − (I − γG)^K) ∇f(ŵ), the K-RMD hypergradient in closed form; K = T is dF."""
    w = last_iterate(lam, horizon, rate)
    return (1 - (1 - rate * CURVATURE) ** truncation) * (2 * w + 10 * np.sin(2 * w))


def outer_value(lam: np.ndarray, horizon: int, rate: float = 0.1) -> np.ndarray:
    """F(λ) in closed form."""
    w = last_iterate(lam, horizon, rate)
    return np.sum(w**2 + 10 * np.sin(w) ** 2, axis=-1)
