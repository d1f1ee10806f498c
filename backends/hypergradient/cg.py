"""Implicit differentiation at w_T, the linear system by K steps of conjugate gradients.

∇²g v = ∂f/∂w,    h = ∂f/∂θ − (∂²g/∂θ∂w) v        at ŵ = w_T, g = `inner_loss`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from backends.hypergradient.protocol import (
    Counts,
    Hypergrad,
    Problem,
    Sizes,
    Tree,
    Unsupported,
    check_truncation,
    length,
)


@dataclass(frozen=True)
class CG:
    """K Hessian-vector products from v = 0; biased by T (ŵ ≠ w*) and by K.

    One pull-back of ∇_w g gives both ∇²g p and (∂²g/∂θ∂w) p, so the mixed term is summed along the way and v itself is
    never formed.  Once the residual or pᵀHp is 0 the iterate is frozen.  Directions with pᵀHp < 0 are counted in
    `stats["negative_curvature"]`.  Memory O(M), whatever T and K.
    """

    truncation: int

    estimand = "implicit at w_T"

    def __post_init__(self) -> None:
        check_truncation("cg", self.truncation)

    def check(self, problem: Problem, horizon: int) -> None:
        if problem.inner_loss is None:
            raise Unsupported(
                "cg: the problem has no inner_loss; CG needs a full-batch g(w, theta, data) "
                "with ∇_w g = 0 at Φ's fixed point"
            )

    def __call__(self, bk: Any, problem: Problem, hparams: Tree, data: Tree, xs: Tree) -> Hypergrad:
        self.check(problem, length(bk, xs))
        xp, inner_loss = bk.xp, cast(Callable, problem.inner_loss)
        theta, pull_embed = bk.vjp(lambda lam: problem.embed(lam, data), hparams)
        w, _ = bk.scan(lambda w, x: (problem.step(w, theta, data, x), None), problem.init(theta, data), xs)
        value, (f_w, f_theta) = bk.value_and_grad(lambda w, theta: problem.outer_loss(w, theta, data), (0, 1))(w, theta)

        def grad_g(w: Tree, theta: Tree) -> Tree:
            return bk.value_and_grad(lambda w: inner_loss(w, theta, data))(w)[1]

        _, products = bk.vjp(grad_g, w, theta)

        def iterate(carry: tuple, _: Any) -> tuple:
            h, r, p, rr, negative = carry
            Hp, mixed = products(p)
            pHp = bk.dot(p, Hp)
            live = (rr > 0) & (pHp != 0)
            a = xp.where(live, rr / xp.where(live, pHp, 1), 0)
            r_next = bk.map(lambda r, Hp: r - a * Hp, r, Hp)
            rr_next = bk.dot(r_next, r_next)
            b = xp.where(live, rr_next / xp.where(live, rr, 1), 0)
            p_next = bk.map(lambda r, p: xp.where(live, r + b * p, p), r_next, p)
            h = bk.map(lambda h, m: h - a * m, h, mixed)
            return (h, r_next, p_next, rr_next, negative + xp.where(pHp < 0, 1, 0)), None

        none = bk.asarray(0)
        (h, _, _, rr, negative), _ = bk.scan(
            iterate, (f_theta, f_w, f_w, bk.dot(f_w, f_w), none), None, length=self.truncation
        )
        (grad,) = pull_embed(h)
        return Hypergrad(value, grad, w, {"residual": xp.sqrt(rr), "negative_curvature": negative})

    def cost(self, sizes: Sizes) -> Counts:
        once = {"linearise": 1, "pull": 1}
        inner = {"linearise": 1, "pull": self.truncation} if self.truncation else {"linearise": 1}
        return {"step": {"call": sizes.horizon}, "init": {"call": 1}, "embed": once, "outer": once, "inner": inner}

    def law(self, sizes: Sizes) -> int | None:
        """Numbers that must be kept: residual, direction, product."""
        return 3 * sizes.M
