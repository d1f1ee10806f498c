"""What a hypergradient is held against, in float64.

exact         the finite-T hypergradient by the framework's native autodiff, not by our RMD
implicit      at w*, found by Newton until ‖∇g‖ stops falling, where g is strongly convex
implicit_wT   the same formula at w_T: CG's own estimand
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, cg

from backends.hypergradient import METHODS
from bench import arrays
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
    exact, w = flat(bk, result.grad), result.params
    floor = floor_of(bk, direct(bk, problem, w, hparams, data))
    reason = no_implicit(task, problem)
    if reason:
        return References(exact, floor, None, None, reason)
    lower = Lower(bk, problem)
    at_optimum = lower.implicit(lower.minimiser(w, hparams, data), hparams, data)
    return References(exact, floor, at_optimum, lower.implicit(w, hparams, data), "")


def direct(bk: Any, problem: Any, params: Any, hparams: Any, data: Any) -> tuple[Any, Any]:
    """(∂f/∂w, ∂f/∂λ), the partial derivatives of f."""
    theta, pull = bk.vjp(lambda lam: problem.embed(lam, data), hparams)
    _, (f_w, f_theta) = bk.value_and_grad(lambda w, th: problem.outer_loss(w, th, data), (0, 1))(params, theta)
    return f_w, pull(f_theta)[0]


def floor_of(bk: Any, terms: tuple[Any, Any]) -> float:
    """‖∂f/∂λ‖ + ‖∂f/∂w‖: what rounding is measured in."""
    return float(sum(np.linalg.norm(flat(bk, term)) for term in terms))


def no_implicit(task: Any, problem: Any) -> str:
    if problem.inner_loss is None:
        return "the problem has no inner_loss"
    if task.stochastic:
        return "the lower level is stochastic"
    if not task.convex:
        return "the lower level is not convex"
    return ""


class Lower:
    """The lower problem at any λ: its minimiser, its curvature, and the implicit hypergradient at any w.

    It compiles once: λ and data are arguments.
    """

    def __init__(self, bk: Any, problem: Any) -> None:
        self.bk = bk

        def grad_g(w: Any, theta: Any, data: Any) -> Any:
            return bk.value_and_grad(lambda w: problem.inner_loss(w, theta, data))(w)[1]

        self.grad = bk.compile(grad_g)
        self.products = bk.compile(lambda w, th, data, p: bk.vjp(lambda w, th: grad_g(w, th, data), w, th)[1](p))
        self.hessian = bk.compile(partial(_hessian, bk, grad_g))
        self.embed = bk.compile(problem.embed)
        self.pull = bk.compile(lambda lam, data, ct: bk.vjp(lambda lam: problem.embed(lam, data), lam)[1](ct)[0])
        self.direct = bk.compile(partial(direct, bk, problem))

    def _product(self, w: Any, theta: Any, data: Any) -> Callable[[np.ndarray], tuple[np.ndarray, Any]]:
        """p ↦ ∇²_ww g · p, flat, and ∇²_θw g · p, a tree."""
        unravel = self.bk.ravel(w)[1]

        def product(p: np.ndarray) -> tuple[np.ndarray, Any]:
            vector = self.bk.asarray(np.asarray(p, np.float64).reshape(-1))
            by_w, by_theta = self.products(w, theta, data, unravel(vector))
            return flat(self.bk, by_w), by_theta

        return product

    def _hessian(self, w: Any, theta: Any, data: Any) -> np.ndarray:
        H = self.bk.to_numpy(self.hessian(w, theta, data, self.bk.asarray(np.eye(len(flat(self.bk, w))))))
        return (H + H.T) / 2

    def _solver(self, w: Any, theta: Any, data: Any) -> Callable[[np.ndarray], np.ndarray]:
        """b ↦ ∇²g(w)⁻¹ b on flat vectors."""
        m = int(self.bk.ravel(w)[0].shape[0])
        if m <= DENSE:
            return partial(np.linalg.solve, self._hessian(w, theta, data))
        product = self._product(w, theta, data)
        by_w: Callable = lambda p: product(p)[0]  # noqa: E731 - reads as the formula
        operator: Any = LinearOperator((m, m), matvec=by_w, dtype=np.float64)  # pyright: ignore[reportCallIssue] - SciPy's stub does not know `matvec`
        return lambda b: cg(operator, b, rtol=1e-14, maxiter=10 * m)[0]

    def second(self, w: Any, hparams: Any, data: Any) -> tuple[np.ndarray, np.ndarray]:
        """(∇²_ww g, ∂²g/∂w∂λ) as matrices, M×M and M×N, by 2M products."""
        theta = self.embed(hparams, data)
        product = self._product(w, theta, data)
        mixed = [flat(self.bk, self.pull(hparams, data, product(e)[1])) for e in np.eye(len(flat(self.bk, w)))]
        return self._hessian(w, theta, data), np.stack(mixed)

    def minimiser(self, w: Any, hparams: Any, data: Any) -> Any:
        """w* by Newton from w, until ‖∇g‖ stops falling."""
        bk, theta = self.bk, self.embed(hparams, data)
        best, last = np.inf, w
        while True:
            grad = flat(bk, self.grad(w, theta, data))
            if not np.linalg.norm(grad) < best:
                return last
            best, last = float(np.linalg.norm(grad)), w
            vector, unravel = bk.ravel(w)
            newton = np.asarray(bk.to_numpy(vector), np.float64) - self._solver(w, theta, data)(grad)
            w = unravel(bk.asarray(newton))

    def implicit(self, w: Any, hparams: Any, data: Any) -> np.ndarray:
        """∂f/∂λ − (∂²g/∂λ∂w) ∇²g⁻¹ ∂f/∂w."""
        f_w, f_lam = (flat(self.bk, term) for term in self.direct(w, hparams, data))
        theta = self.embed(hparams, data)
        v = self._solver(w, theta, data)(f_w)
        mixed = self._product(w, theta, data)(v)[1]
        return f_lam - flat(self.bk, self.pull(hparams, data, mixed))


def _hessian(bk: Any, grad_g: Callable, w: Any, theta: Any, data: Any, basis: Any) -> Any:
    """∇²_ww g as a matrix, all its products at once.  The basis is an argument: a compiler must not fold it in."""
    _, unravel = bk.ravel(w)
    _, pull = bk.vjp(lambda w: grad_g(w, theta, data), w)
    return bk.vmap(lambda e: bk.ravel(pull(unravel(e))[0])[0])(basis)


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
        parts = arrays.read(self.folder / f"{name}.npz") if self.folder is not None else None
        if parts is None:
            return None
        return References(
            parts["exact"],
            float(parts["floor"]),
            parts.get("implicit"),
            parts.get("implicit_wT"),
            str(parts["reason"]),
        )

    def _write(self, name: str, made: References) -> References:
        if self.folder is not None:
            arrays.write(self.folder / f"{name}.npz", {k: v for k, v in vars(made).items() if v is not None})
        return made
