"""Quadratic lower problems whose spectrum, coupling, start and direct term are chosen: what the theory is tried on.

g = ½ wᵀHw − wᵀCλ,    f = ½ ‖ŵ − a‖² + ½ δ ‖λ − b‖²,    Φ a gradient step of rate γ,    w* = H⁻¹Cλ

So A = I − γH and B = γC are the same at every step, and everything the theory names is known in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from backends.hypergradient.protocol import Problem
from tasks.protocol import TaskError

Tree = Any

COUPLINGS = ("-I", "dense", "commuting")
STARTS = ("fixed", "lambda", "optimum")


def linear_quadratic(bk: Any) -> Problem:
    """The problem above; data: H, C, target (a), anchor (b), direct (δ), rate (γ), start, S where w_0 = start + Sλ."""
    xp = bk.xp

    def init(lam: Any, data: Tree) -> Any:
        return data["start"] + data["S"] @ lam if "S" in data else data["start"] * 1.0

    def inner(w: Any, lam: Any, data: Tree) -> Any:
        return xp.sum(w * (0.5 * (data["H"] @ w) - data["C"] @ lam))

    def step(w: Any, lam: Any, data: Tree, x: Any) -> Any:
        return w - data["rate"] * (data["H"] @ w - data["C"] @ lam)

    def outer(w: Any, lam: Any, data: Tree) -> Any:
        return 0.5 * xp.sum((w - data["target"]) ** 2) + 0.5 * data["direct"] * xp.sum((lam - data["anchor"]) ** 2)

    return Problem(init=init, step=step, outer_loss=outer, inner_loss=inner)


@dataclass(frozen=True)
class Spectrum:
    """Quadratic with eigenvalues from 1/κ to 1 in equal ratios, so α = 1/κ and β = 1.

    dimension  M
    width      N; 0 means N = M
    kappa      κ; H = Q diag Qᵀ, Q orthogonal and random
    coupling   "-I": ∂²g/∂w∂λ = −I, so C = I;  "dense": C random;  "commuting": C random with CCᵀH = HCCᵀ, N ≥ M
    start      "fixed": w_0 random;  "lambda": w_0 + Sλ, so B_0 = S;  "optimum": w_0 = w*(λ_0), a constant, where λ_0 is
               the seed's "init" point: Φ stands still at that λ alone
    direct     δ; 0 is no direct term
    rate       γ

    λ, a and b are standard normal.
    """

    dimension: int = 20
    width: int = 0
    kappa: float = 10.0
    coupling: str = "dense"
    start: str = "fixed"
    direct: float = 0.0
    rate: float = 1.0

    points: ClassVar[tuple[str, ...]] = ("init",)
    stochastic: ClassVar[bool] = False
    convex: ClassVar[bool] = True
    datasets: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.dimension < 2:
            raise TaskError(f"spectrum: dimension = {self.dimension!r} is not allowed; it is a number from 2")
        if not self.kappa >= 1:
            raise TaskError(f"spectrum: kappa = {self.kappa!r} is not allowed; a condition number is at least 1")
        if self.coupling not in COUPLINGS:
            raise TaskError(f"spectrum: unknown coupling {self.coupling!r}; allowed are {', '.join(COUPLINGS)}")
        if self.start not in STARTS:
            raise TaskError(f"spectrum: unknown start {self.start!r}; allowed are {', '.join(STARTS)}")
        least, most = {"-I": (self.dimension,) * 2, "dense": (1, np.inf), "commuting": (self.dimension, np.inf)}[
            self.coupling
        ]
        if self.width and not least <= self.width <= most:
            raise TaskError(
                f"spectrum: width = {self.width!r} is not allowed with coupling {self.coupling} and dimension = "
                f"{self.dimension}; it is 0 or {'at least ' if most > least else ''}{least}"
            )
        if not 0 < self.rate < 2:
            raise TaskError(f"spectrum: rate = {self.rate!r} is not allowed; gradient descent needs 0 < rate < 2")

    def problem(self, bk: Any) -> Problem:
        return linear_quadratic(bk)

    def hparams(self, seed: int, point: str = "init") -> np.ndarray:
        if point not in self.points:
            raise TaskError(f"spectrum: unknown point {point!r}; allowed are {', '.join(self.points)}")
        return np.random.default_rng([3, seed, 0]).standard_normal(self.width or self.dimension)

    def context(self, seed: int, index: int, horizon: int) -> tuple[Tree, Tree]:
        rng = np.random.default_rng([3, seed, 1])
        M, N = self.dimension, self.width or self.dimension
        Q = np.linalg.qr(rng.standard_normal((M, M)))[0]
        H = _symmetric(Q, np.geomspace(1 / self.kappa, 1.0, M))
        data = {
            "H": H,
            "C": self._coupling(Q, N, rng),
            "target": rng.standard_normal(M),
            "anchor": rng.standard_normal(N),
            "direct": np.array(float(self.direct)),
            "rate": np.array(float(self.rate)),
            "start": rng.standard_normal(M),
        }
        if self.start == "lambda":
            data["S"] = rng.standard_normal((M, N)) / np.sqrt(N)
        if self.start == "optimum":
            data["start"] = np.linalg.solve(H, data["C"] @ self.hparams(seed))
        return data, np.arange(horizon)

    def _coupling(self, Q: np.ndarray, N: int, rng: np.random.Generator) -> np.ndarray:
        """C, M×N."""
        M = len(Q)
        if self.coupling == "-I":
            return np.eye(M)
        if self.coupling == "dense":
            return rng.standard_normal((M, N)) / np.sqrt(N)
        U = np.linalg.qr(rng.standard_normal((N, M)))[0]
        return (Q * rng.uniform(0.5, 2.0, M)) @ U.T

    def evaluation(self, seed: int) -> Tree:
        return {}

    def curvature_bounds(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(lower, upper) with lower ≼ ∇²_w g ≼ upper for every w and λ: both are H."""
        H = self.context(seed, 0, 1)[0]["H"]
        return H, H


def _symmetric(Q: np.ndarray, eigenvalues: np.ndarray) -> np.ndarray:
    """Q diag Qᵀ, symmetric to the last bit."""
    H = (Q * eigenvalues) @ Q.T
    return (H + H.T) / 2
