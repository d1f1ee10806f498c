"""K terms of the Neumann series at w_T: K-RMD's recursion with every step taken at the last iterate.

α = ∂f/∂w,  h = ∂f/∂θ;     for t = T … T−K+1:  h += Bᵀ α,  α = Aᵀ α     with A, B at (w_T, x_{t−1})
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from backends.hypergradient.protocol import (
    Counts,
    Hypergrad,
    InvalidOption,
    Problem,
    Sizes,
    Tree,
    add,
    check_truncation,
    length,
    tail,
)

LINEARISE = ("each", "once")


@dataclass(frozen=True)
class Neumann:
    """Equal to K-RMD where w_T is a fixed point of Φ; there, K → ∞ gives the implicit hypergradient.

    linearise   "each": at (w_T, x_{t−1}) for every term; memory O(M)
                "once": at (w_T, x_{T−1}) for all terms, the same h where Φ does not read x and cheaper by K − 1
                evaluations of Φ; memory O(M) and the activations of one step
    """

    truncation: int
    linearise: str = "each"

    estimand = "implicit at w_T"

    def __post_init__(self) -> None:
        check_truncation("neumann", self.truncation)
        if self.linearise not in LINEARISE:
            raise InvalidOption(
                f"neumann: linearise = {self.linearise!r} is not allowed; allowed are {' and '.join(LINEARISE)}"
            )

    def check(self, problem: Problem, horizon: int) -> None:
        check_truncation("neumann", self.truncation, horizon)

    def __call__(self, bk: Any, problem: Problem, hparams: Tree, data: Tree, xs: Tree) -> Hypergrad:
        T, K = length(bk, xs), self.truncation
        self.check(problem, T)
        theta, pull_embed = bk.vjp(lambda lam: problem.embed(lam, data), hparams)
        w, _ = bk.scan(lambda w, x: (problem.step(w, theta, data, x), None), problem.init(theta, data), xs)
        value, (alpha, h) = bk.value_and_grad(lambda w, theta: problem.outer_loss(w, theta, data), (0, 1))(w, theta)

        def linearised(x: Tree) -> Callable:
            return bk.vjp(lambda w, theta: problem.step(w, theta, data, x), w, theta)[1]

        pull_last = linearised(bk.map(lambda x: x[-1], xs)) if self.linearise == "once" else None

        def back(carry: tuple, x: Tree) -> tuple:
            alpha, h = carry
            pull = pull_last or linearised(x)
            A_alpha, B_alpha = pull(alpha)
            return (A_alpha, add(bk, h, B_alpha)), None

        (_, h), _ = bk.scan(back, (alpha, h), tail(bk, xs, T - K), length=K, reverse=True)
        (grad,) = pull_embed(h)
        return Hypergrad(value, grad, w, {})

    def cost(self, sizes: Sizes) -> Counts:
        once = {"linearise": 1, "pull": 1}
        K = self.truncation
        step = {"call": sizes.horizon, "linearise": K if self.linearise == "each" else 1, "pull": K}
        return {"step": step, "init": {"call": 1}, "embed": once, "outer": once}

    def law(self, sizes: Sizes) -> int | None:
        """Numbers that must be kept: the adjoint."""
        return sizes.M if self.linearise == "each" else None
