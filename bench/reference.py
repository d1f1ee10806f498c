"""What a hypergradient is held against, in float64.

exact         the finite-T hypergradient by the framework's native autodiff, not by our RMD
implicit      at w*, found by Newton until ‖∇g‖ stops falling, where g is strongly convex
implicit_wT   the same formula at w_T: CG's own estimand
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, cg

from backends.hypergradient import METHODS
from bench.record import Bias

DENSE = 1000  # up to this M the Hessian is formed, beyond it only multiplied with


@dataclass(frozen=True)
class References:
    """Flat vectors; None with a reason where the reference does not exist.  `floor` = ‖∂f/∂λ‖ + ‖∂f/∂w‖."""

    exact: np.ndarray
    floor: float
    implicit: np.ndarray | None
    implicit_wT: np.ndarray | None
    reason: str


def flat(bk: Any, tree: Any) -> np.ndarray:
    """A tree as one float64 vector."""
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in bk.leaves(bk.to_numpy(tree))]
    return np.concatenate(leaves) if leaves else np.zeros(0)


def bias(h: np.ndarray, reference: np.ndarray | None, floor: float, reason: str = "") -> Bias:
    """Relative and absolute error, cosine and descent; no relative figure where the reference itself is rounding."""
    if reference is None:
        return Bias(reason=reason)
    norm, distance = float(np.linalg.norm(reference)), float(np.linalg.norm(h - reference))
    if norm <= 1e-12 * floor:
        return Bias(absolute=distance, reference_norm=norm, reason="the reference is zero to rounding")
    inner, length = float(h @ reference), float(np.linalg.norm(h))
    return Bias(
        relative=distance / norm,
        absolute=distance,
        reference_norm=norm,
        cosine=inner / (norm * length) if length > 0 else None,
        descent=inner / norm**2,
        reason="" if length > 0 else "the estimate is zero: it has no direction",
    )


def references(bk: Any, task: Any, problem: Any, hparams: Any, data: Any, xs: Any) -> References:
    """All three, with a float64 backend and its arrays."""
    native = bk.compile(partial(METHODS["native-rmd"](), bk, problem))
    result = bk.wait(native(hparams, data, xs))
    theta, pull_embed = bk.vjp(lambda lam: problem.embed(lam, data), hparams)
    _, (f_w, f_theta) = bk.value_and_grad(lambda w, th: problem.outer_loss(w, th, data), (0, 1))(result.params, theta)
    floor = float(np.linalg.norm(flat(bk, pull_embed(f_theta)[0])) + np.linalg.norm(flat(bk, f_w)))
    reason = _no_implicit(task, problem)
    if reason:
        return References(flat(bk, result.grad), floor, None, None, reason)
    lower = _Lower(bk, problem, theta, pull_embed, data)
    w = result.params
    return References(flat(bk, result.grad), floor, lower.implicit(lower.solve(w)), lower.implicit(w), "")


def _no_implicit(task: Any, problem: Any) -> str:
    if problem.inner_loss is None:
        return "the problem has no inner_loss"
    if task.stochastic:
        return "the lower level is stochastic"
    if not task.convex:
        return "the lower level is not convex"
    return ""


class _Lower:
    """The lower problem at one θ: its minimiser, and the implicit hypergradient at any w."""

    def __init__(self, bk: Any, problem: Any, theta: Any, pull_embed: Any, data: Any) -> None:
        self.bk, self.problem, self.theta, self.pull_embed, self.data = bk, problem, theta, pull_embed, data
        # θ, data and the basis are arguments: a compiler must not fold them into the code.
        self.grad = bk.compile(self._gradient)
        self.products = bk.compile(lambda w, theta, data, p: bk.vjp(partial(self._gradient, data=data), w, theta)[1](p))
        self.hessian = bk.compile(self._hessian)

    def _gradient(self, w: Any, theta: Any, data: Any) -> Any:
        return self.bk.value_and_grad(lambda w: self.problem.inner_loss(w, theta, data))(w)[1]

    def _hessian(self, w: Any, theta: Any, data: Any, basis: Any) -> Any:
        """∇²g(w) as a matrix, all its products at once."""
        bk = self.bk
        _, pull = bk.vjp(lambda w: self._gradient(w, theta, data), w)
        _, unravel = bk.ravel(w)
        return bk.vmap(lambda e: bk.ravel(pull(unravel(e))[0])[0])(basis)

    def _solver(self, w: Any) -> Any:
        """b ↦ ∇²g(w)⁻¹ b on flat vectors."""
        bk = self.bk
        vector, unravel = bk.ravel(w)
        m = int(vector.shape[0])

        def product(p: np.ndarray) -> np.ndarray:
            p = unravel(bk.asarray(np.asarray(p, np.float64).reshape(-1)))
            return flat(bk, self.products(w, self.theta, self.data, p)[0])

        if m <= DENSE:
            H = bk.to_numpy(self.hessian(w, self.theta, self.data, bk.asarray(np.eye(m))))
            return partial(np.linalg.solve, (H + H.T) / 2)
        operator: Any = LinearOperator((m, m), matvec=product, dtype=np.float64)  # pyright: ignore[reportCallIssue]
        return lambda b: cg(operator, b, rtol=1e-14, maxiter=10 * m)[0]

    def solve(self, w: Any) -> Any:
        """w* by Newton from w, until ‖∇g‖ stops falling."""
        bk = self.bk
        best, last = np.inf, w
        while True:
            grad = flat(bk, self.grad(w, self.theta, self.data))
            if not np.linalg.norm(grad) < best:
                return last
            best, last = float(np.linalg.norm(grad)), w
            vector, unravel = bk.ravel(w)
            w = unravel(bk.asarray(np.asarray(bk.to_numpy(vector), np.float64) - self._solver(w)(grad)))

    def implicit(self, w: Any) -> np.ndarray:
        """∂f/∂θ − (∂²g/∂θ∂w) ∇²g⁻¹ ∂f/∂w, pulled back to λ."""
        bk, problem = self.bk, self.problem
        _, (f_w, f_theta) = bk.value_and_grad(lambda w, th: problem.outer_loss(w, th, self.data), (0, 1))(w, self.theta)
        _, unravel = bk.ravel(w)
        v = self._solver(w)(flat(bk, f_w))
        mixed = self.products(w, self.theta, self.data, unravel(bk.asarray(v)))[1]
        return flat(bk, self.pull_embed(bk.map(lambda a, b: a - b, f_theta, mixed))[0])


class ReferenceCache:
    """References on disk, shared by every cell of one (task, T, seed, λ) and one framework."""

    def __init__(self, folder: Path | None) -> None:
        self.folder, self.memory = folder, {}

    def get(self, key: str, make: Any) -> References:
        name = hashlib.sha256(key.encode()).hexdigest()[:24]
        if name not in self.memory:
            self.memory[name] = self._read(name) or self._write(name, make())
        return self.memory[name]

    def _read(self, name: str) -> References | None:
        if self.folder is None or not (self.folder / f"{name}.npz").exists():
            return None
        try:
            with np.load(self.folder / f"{name}.npz") as stored:
                parts = dict(stored)
        except (OSError, ValueError, zipfile.BadZipFile):
            return None  # half a file is no file: it is computed again
        return References(
            parts["exact"],
            float(parts["floor"]),
            parts.get("implicit"),
            parts.get("implicit_wT"),
            str(parts["reason"]),
        )

    def _write(self, name: str, made: References) -> References:
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            parts = {k: v for k, v in vars(made).items() if v is not None}
            temporary = self.folder / f".{name}.{os.getpid()}.npz"
            np.savez(temporary, **parts)
            os.replace(temporary, self.folder / f"{name}.npz")
        return made
