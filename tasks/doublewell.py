"""A lower problem that is not convex where it starts and strongly convex where it ends: C1's local case.

g = ½ wᵀHw − c Σ √(1 + w_i²) − wᵀCλ,    f = ½ ‖ŵ − a‖²,    Φ a gradient step

∇²_w g = H − c diag((1 + w_i²)^{−3/2}):  with the eigenvalues of H in [.6, 1] and c = 1.5 it is negative definite at 0.
For every w it lies between H − cI and H, so β = 1 holds everywhere, in the non-convex part too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from backends.hypergradient.protocol import Problem
from tasks.protocol import TaskError

Tree = Any

EIGENVALUES = (0.6, 1.0)
COUPLING = 0.2  # the size of an entry of Cλ: it tilts the wells and leaves them where they are


@dataclass(frozen=True)
class DoubleWell:
    """Wells at ± in every coordinate, entered from a random start near 0.

    dimension  M = N
    depth      c, in (1, 1.6]: above it the curvature at 0 is below −β
    rate       γ

    λ and a are standard normal; w_0 is ± .1 in every coordinate.
    """

    dimension: int = 10
    depth: float = 1.5
    rate: float = 1.0

    points: ClassVar[tuple[str, ...]] = ("init",)
    stochastic: ClassVar[bool] = False
    convex: ClassVar[bool] = False
    datasets: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise TaskError(f"doublewell: dimension = {self.dimension!r} is not allowed; it is a number from 1")
        if not 1 < self.depth <= 1 + EIGENVALUES[0]:
            raise TaskError(f"doublewell: depth = {self.depth!r} is not allowed; it is above 1 and at most 1.6")
        if not 0 < self.rate < 2:
            raise TaskError(f"doublewell: rate = {self.rate!r} is not allowed; gradient descent needs 0 < rate < 2")

    def problem(self, bk: Any) -> Problem:
        xp = bk.xp

        def inner(w: Any, lam: Any, data: Tree) -> Any:
            return xp.sum(w * (0.5 * (data["H"] @ w) - data["C"] @ lam)) - data["depth"] * xp.sum(xp.sqrt(1 + w**2))

        def step(w: Any, lam: Any, data: Tree, x: Any) -> Any:
            return w - data["rate"] * (data["H"] @ w - data["depth"] * w / xp.sqrt(1 + w**2) - data["C"] @ lam)

        def outer(w: Any, lam: Any, data: Tree) -> Any:
            return 0.5 * xp.sum((w - data["target"]) ** 2)

        return Problem(init=lambda lam, data: data["start"] * 1.0, step=step, outer_loss=outer, inner_loss=inner)

    def hparams(self, seed: int, point: str = "init") -> np.ndarray:
        if point not in self.points:
            raise TaskError(f"doublewell: unknown point {point!r}; allowed are {', '.join(self.points)}")
        return np.random.default_rng([7, seed, 0]).standard_normal(self.dimension)

    def context(self, seed: int, index: int, horizon: int) -> tuple[Tree, Tree]:
        rng = np.random.default_rng([7, seed, 1])
        M = self.dimension
        Q = np.linalg.qr(rng.standard_normal((M, M)))[0]
        H = (Q * np.linspace(*EIGENVALUES, M)) @ Q.T
        data = {
            "H": (H + H.T) / 2,
            "C": COUPLING * rng.standard_normal((M, M)) / np.sqrt(M),
            "target": rng.standard_normal(M),
            "depth": np.array(float(self.depth)),
            "rate": np.array(float(self.rate)),
            "start": rng.choice([-0.1, 0.1], M),
        }
        return data, np.arange(horizon)

    def evaluation(self, seed: int) -> Tree:
        return {}

    def curvature_bounds(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(lower, upper) with lower ≼ ∇²_w g ≼ upper for every w and λ."""
        H = self.context(seed, 0, 1)[0]["H"]
        return H - self.depth * np.eye(self.dimension), H
