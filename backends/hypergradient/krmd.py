"""Reverse mode: RMD, and its truncation to the last K steps (Shaban et al. 2019).

    α_T = ∂f/∂w,  h = ∂f/∂θ;     for t = T … T−K+1:  h += B_tᵀ α,  α = A_tᵀ α

with A_t, B_t = ∂Φ/∂w, ∂Φ/∂θ at (w_{t−1}, x_{t−1}).  RMD is K = T and then the pull-back of `init`: h += B_0ᵀ α.
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
    head,
    length,
    tail,
)


def _check_stash(name: str, stash: str) -> None:
    if stash not in STASHES:
        raise InvalidOption(f"{name}: stash = {stash!r} is not allowed; allowed are {' and '.join(STASHES)}")


def _iterates(bk: Any, phi: Callable, start: Callable, theta: Tree, xs: Tree) -> tuple[Tree, Callable]:
    """Keep w_t, and linearise Φ there again on the way back."""
    w, pull_start = bk.vjp(start, theta)
    w, points = bk.scan(lambda w, x: (phi(w, theta, x), (w, x)), w, xs, length=length(bk, xs))

    def pull(alpha: Tree, h: Tree) -> Tree:
        def back(carry: tuple, point: tuple) -> tuple:
            alpha, h = carry
            w, x = point
            _, pull_phi = bk.vjp(lambda w, theta: phi(w, theta, x), w, theta)
            A_alpha, B_alpha = pull_phi(alpha)
            return (A_alpha, add(bk, h, B_alpha)), None

        (alpha, h), _ = bk.scan(back, (alpha, h), points, length=length(bk, xs), reverse=True)
        (B_alpha,) = pull_start(alpha)
        return add(bk, h, B_alpha)

    return w, pull


def _residuals(bk: Any, phi: Callable, start: Callable, theta: Tree, xs: Tree) -> tuple[Tree, Callable]:
    """Keep what the pull-back of all these steps needs: Φ is not evaluated again."""

    def steps(theta: Tree) -> Tree:
        return bk.scan(lambda w, x: (phi(w, theta, x), None), start(theta), xs, length=length(bk, xs))[0]

    w, pull_steps = bk.vjp(steps, theta)
    return w, lambda alpha, h: add(bk, h, pull_steps(alpha)[0])


STASHES = {"iterates": _iterates, "residuals": _residuals}
"""Steps of Φ from w = start(θ): the last iterate, and (α, h) ↦ h + Σ_t B_tᵀ α_t with α_t pulled back step by step."""


def _step_calls(T: int, K: int, stash: str) -> dict[str, int]:
    return {"call": T if stash == "iterates" else T - K, "linearise": K, "pull": K}


@dataclass(frozen=True)
class RMD:
    """The exact finite-T hypergradient by reverse mode.

    stash   "iterates": keep w_0 … w_{T−1} and linearise again on the way back; memory M·T
            "residuals": keep the pull-backs; no second evaluation of Φ, memory activations·T
    """

    stash: str = "iterates"

    estimand = "exact"

    def __post_init__(self) -> None:
        _check_stash("rmd", self.stash)

    def check(self, problem: Problem, horizon: int) -> None:
        """Nothing to refuse: any problem, any T."""

    def __call__(self, bk: Any, problem: Problem, hparams: Tree, data: Tree, xs: Tree) -> Hypergrad:
        def phi(w: Tree, theta: Tree, x: Tree) -> Tree:
            return problem.step(w, theta, data, x)

        theta, pull_embed = bk.vjp(lambda lam: problem.embed(lam, data), hparams)
        w, pull = STASHES[self.stash](bk, phi, lambda theta: problem.init(theta, data), theta, xs)
        value, (alpha, h) = bk.value_and_grad(lambda w, theta: problem.outer_loss(w, theta, data), (0, 1))(w, theta)
        (grad,) = pull_embed(pull(alpha, h))
        return Hypergrad(value, grad, w, {})

    def cost(self, sizes: Sizes) -> Counts:
        T = sizes.horizon
        once = {"linearise": 1, "pull": 1}
        return {"step": _step_calls(T, T, self.stash), "init": once, "embed": once, "outer": once}

    def law(self, sizes: Sizes) -> int | None:
        """Numbers that must be kept: T iterates."""
        return sizes.horizon * sizes.M if self.stash == "iterates" else None


@dataclass(frozen=True)
class KRMD:
    """K-RMD: reverse mode through the last K steps, without the `init` term.  K = 0 is the direct term ∂f/∂θ.

    Biased by B-terms of the first T−K steps: ‖dF − h‖ ≤ (1−γα)^K/(γα) · ‖∂f/∂w‖ · max‖B_t‖ for gradient steps γ on an
    α-strongly convex loss.  Time T·step + K·vjp; memory as RMD with K for T.  `stash` as in `RMD`.
    """

    truncation: int
    stash: str = "iterates"

    @property
    def estimand(self) -> str:
        return f"truncated({self.truncation})"

    def __post_init__(self) -> None:
        check_truncation("krmd", self.truncation)
        _check_stash("krmd", self.stash)

    def check(self, problem: Problem, horizon: int) -> None:
        check_truncation("krmd", self.truncation, horizon)

    def __call__(self, bk: Any, problem: Problem, hparams: Tree, data: Tree, xs: Tree) -> Hypergrad:
        def phi(w: Tree, theta: Tree, x: Tree) -> Tree:
            return problem.step(w, theta, data, x)

        forgotten = length(bk, xs) - self.truncation
        self.check(problem, length(bk, xs))
        theta, pull_embed = bk.vjp(lambda lam: problem.embed(lam, data), hparams)
        w_cut, _ = bk.scan(
            lambda w, x: (phi(w, theta, x), None), problem.init(theta, data), head(bk, xs, forgotten), length=forgotten
        )
        # From here w_{T−K} is a constant.
        w, pull = STASHES[self.stash](bk, phi, lambda theta: w_cut, theta, tail(bk, xs, forgotten))
        value, (alpha, h) = bk.value_and_grad(lambda w, theta: problem.outer_loss(w, theta, data), (0, 1))(w, theta)
        (grad,) = pull_embed(pull(alpha, h))
        return Hypergrad(value, grad, w, {})

    def cost(self, sizes: Sizes) -> Counts:
        once = {"linearise": 1, "pull": 1}
        step = _step_calls(sizes.horizon, self.truncation, self.stash)
        return {"step": step, "init": {"call": 1}, "embed": once, "outer": once}

    def law(self, sizes: Sizes) -> int | None:
        """Numbers that must be kept: K iterates."""
        return self.truncation * sizes.M if self.stash == "iterates" else None
