"""Forward mode: tangents travel with the iterates.

    Z_0 = B_0,  Z_t = A_t Z_{t−1} + B_t;     h = Z_Tᵀ ∂f/∂w + ∂f/∂θ

A column of Z is the tangent for one direction: of λ, or of that part of θ that `init` and `step` read, whichever has
fewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from backends.hypergradient.protocol import Counts, Hypergrad, InvalidOption, Problem, Sizes, Tree, add, size


@dataclass(frozen=True)
class FMD:
    """The exact finite-T hypergradient by forward mode, `chunk` directions at a time.

    Cost: n·T JVPs of Φ with n = min(N, |lower|), and ⌈n/chunk⌉ forward passes; memory M·chunk, whatever T.
    """

    chunk: int = 256

    estimand = "exact"

    def __post_init__(self) -> None:
        if isinstance(self.chunk, bool) or not isinstance(self.chunk, int) or self.chunk < 1:
            raise InvalidOption(f"fmd: chunk = {self.chunk!r} is not allowed; it is a whole number from 1")

    def check(self, problem: Problem, horizon: int) -> None:
        """Nothing to refuse: any problem, any T."""

    def __call__(self, bk: Any, problem: Problem, hparams: Tree, data: Tree, xs: Tree) -> Hypergrad:
        def embed(lam: Tree) -> Tree:
            return problem.embed(lam, data)

        def phi(w: Tree, theta: Tree, x: Tree) -> Tree:
            return problem.step(w, theta, data, x)

        theta, pull_embed = bk.vjp(embed, hparams)
        lower, pull_lower = bk.vjp(problem.lower, theta)
        if size(bk, hparams) <= size(bk, lower):
            origin, lift = hparams, lambda direction: bk.jvp(embed, (hparams,), (direction,))[1]
        else:
            origin, lift = lower, lambda direction: pull_lower(direction)[0]
        flat, unravel = bk.ravel(origin)
        n = int(flat.shape[0])

        def forward(rows: Any) -> tuple:
            """One forward pass with the tangents of the directions e_i, i in `rows`: f, w_T, ∂f/∂θ and Z_Tᵀ ∂f/∂w."""
            basis = bk.xp.astype(rows[:, None] == bk.asarray(np.arange(n))[None, :], flat.dtype)
            D = bk.vmap(lambda e: lift(unravel(e)))(basis)

            def start(d: Tree) -> Tree:
                return bk.jvp(lambda theta: problem.init(theta, data), (theta,), (d,))[1]

            def step(carry: tuple, x: Tree) -> tuple:
                w, Z = carry

                def advance(z: Tree, d: Tree) -> Tree:
                    return bk.jvp(lambda w, theta: phi(w, theta, x), (w, theta), (z, d))[1]

                return (phi(w, theta, x), bk.vmap(advance)(Z, D)), None

            (w, Z), _ = bk.scan(step, (problem.init(theta, data), bk.vmap(start)(D)), xs)
            value, (f_w, f_theta) = bk.value_and_grad(lambda w, theta: problem.outer_loss(w, theta, data), (0, 1))(
                w, theta
            )
            return value, w, f_theta, bk.vmap(lambda z: bk.dot(z, f_w))(Z)

        whole, rest = divmod(n, self.chunk)
        parts = []
        value = w = f_theta = None
        if whole:
            rows = bk.asarray(np.arange(whole * self.chunk).reshape(whole, self.chunk))
            first = forward(rows[0])
            value, w, f_theta, part = first
            parts.append(part)
            if whole > 1:
                _, more = bk.scan(lambda carry, r: (carry, forward(r)[3]), value, rows[1:])
                parts.append(bk.xp.reshape(more, (-1,)))
        if rest:
            value, w, f_theta, part = forward(bk.asarray(np.arange(whole * self.chunk, n)))
            parts.append(part)
        h = unravel(bk.xp.concat(parts))
        if origin is hparams:
            grad = add(bk, h, pull_embed(f_theta)[0])
        else:
            grad = pull_embed(add(bk, f_theta, lift(h)))[0]
        return Hypergrad(value, grad, w, {})

    def cost(self, sizes: Sizes) -> Counts:
        n = min(sizes.N, sizes.lower)
        passes = -(-n // self.chunk)
        embed = {"linearise": 1, "pull": 1} | ({"jvp": n} if sizes.lower >= sizes.N else {})
        return {
            "step": {"call": passes * sizes.horizon, "jvp": n * sizes.horizon},
            "init": {"call": passes, "jvp": n},
            "embed": embed,
            "outer": {"linearise": passes, "pull": passes},
        }

    def law(self, sizes: Sizes) -> int | None:
        """Numbers that must be kept: the tangents of one chunk."""
        return min(self.chunk, sizes.N, sizes.lower) * sizes.M
