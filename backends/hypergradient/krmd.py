"""Reverse mode: RMD, and its truncation to the last K steps (Shaban et al. 2019).

    α_T = ∂f/∂w,  h = ∂f/∂θ;     for t = T … T−K+1:  h += B_tᵀ α,  α = A_tᵀ α

with A_t, B_t = ∂Φ/∂w, ∂Φ/∂θ at (w_{t−1}, x_{t−1}).  RMD is K = T and then the pull-back of `init`: h += B_0ᵀ α.
"""

from __future__ import annotations

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

STASHES = ("iterates", "residuals")


def _check_stash(name: str, stash: str) -> None:
    if stash not in STASHES:
        raise InvalidOption(f"{name}: stash = {stash!r} is not allowed; allowed are {' and '.join(STASHES)}")


def _reverse(bk: Any, problem: Problem, w: Tree, theta: Tree, data: Tree, xs: Tree, K: int, stash: str) -> tuple:
    """T steps forward, K of them pulled back: f(w_T, θ), w_T, α_{T−K}, h_{T−K}."""

    def phi(w: Tree, theta: Tree, x: Tree) -> Tree:
        return problem.step(w, theta, data, x)

    def forget(w: Tree, x: Tree) -> tuple:
        return phi(w, theta, x), None

    def keep_iterate(w: Tree, x: Tree) -> tuple:
        return phi(w, theta, x), (w, x)

    def keep_pull(w: Tree, x: Tree) -> tuple:
        return bk.vjp(lambda w, theta: phi(w, theta, x), w, theta)

    def pull_at(point: tuple) -> Any:
        w, x = point
        return bk.vjp(lambda w, theta: phi(w, theta, x), w, theta)[1]

    keep, opened = (keep_iterate, pull_at) if stash == "iterates" else (keep_pull, lambda pull: pull)

    forgotten = length(bk, xs) - K
    w, _ = bk.scan(forget, w, head(bk, xs, forgotten), length=forgotten)
    w, kept = bk.scan(keep, w, tail(bk, xs, forgotten), length=K)

    value, (alpha, h) = bk.value_and_grad(lambda w, theta: problem.outer_loss(w, theta, data), (0, 1))(w, theta)

    def back(carry: tuple, point: Any) -> tuple:
        alpha, h = carry
        A_alpha, B_alpha = opened(point)(alpha)
        return (A_alpha, add(bk, h, B_alpha)), None

    (alpha, h), _ = bk.scan(back, (alpha, h), kept, length=K, reverse=True)
    return value, w, alpha, h


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
        theta, pull_embed = bk.vjp(lambda lam: problem.embed(lam, data), hparams)
        w, pull_init = bk.vjp(lambda theta: problem.init(theta, data), theta)
        value, w, alpha, h = _reverse(bk, problem, w, theta, data, xs, length(bk, xs), self.stash)
        (B_alpha,) = pull_init(alpha)
        (grad,) = pull_embed(add(bk, h, B_alpha))
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
        self.check(problem, length(bk, xs))
        theta, pull_embed = bk.vjp(lambda lam: problem.embed(lam, data), hparams)
        w = problem.init(theta, data)
        value, w, _, h = _reverse(bk, problem, w, theta, data, xs, self.truncation, self.stash)
        (grad,) = pull_embed(h)
        return Hypergrad(value, grad, w, {})

    def cost(self, sizes: Sizes) -> Counts:
        once = {"linearise": 1, "pull": 1}
        step = _step_calls(sizes.horizon, self.truncation, self.stash)
        return {"step": step, "init": {"call": 1}, "embed": once, "outer": once}

    def law(self, sizes: Sizes) -> int | None:
        """Numbers that must be kept: K iterates."""
        return self.truncation * sizes.M if self.stash == "iterates" else None
