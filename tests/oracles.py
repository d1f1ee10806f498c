"""Hypergradients by other derivations: dense Jacobians in NumPy, central differences, Krylov spaces.  Nothing of ours.

The Jacobians A_t = ∂Φ/∂w, B_t = ∂Φ/∂θ and the derivatives of f, init and embed come from jax.jacrev of the functions;
the recursions below are NumPy on matrices and know no pull-back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

import backends


@dataclass(frozen=True)
class Dense:
    """All matrices along one trajectory, for λ, θ and w as flat vectors."""

    A: list[np.ndarray]  # A_1 … A_T, each M × M
    B: list[np.ndarray]  # B_1 … B_T, each M × P
    B_0: np.ndarray  # ∂init/∂θ
    E: np.ndarray  # ∂θ/∂λ
    f_w: np.ndarray
    f_theta: np.ndarray
    w: list[np.ndarray]
    value: float
    H: np.ndarray | None  # ∇²_w g at w_T
    mixed: np.ndarray | None  # ∂²g/∂θ∂w at w_T, P × M

    @property
    def T(self) -> int:
        return len(self.A)

    def rmd(self) -> np.ndarray:
        """dF/dλ, as the product of matrices of the total derivative of w_T."""
        Z = self.B_0
        for A, B in zip(self.A, self.B):
            Z = A @ Z + B
        return self.E.T @ (self.f_theta + Z.T @ self.f_w)

    def krmd(self, K: int) -> np.ndarray:
        """The same with w_{T−K} taken as a constant."""
        Z = np.zeros_like(self.B_0)
        for A, B in zip(self.A[self.T - K :], self.B[self.T - K :]):
            Z = A @ Z + B
        return self.E.T @ (self.f_theta + Z.T @ self.f_w)

    def neumann(self, K: int) -> np.ndarray:
        """Σ_{k<K} Bᵀ (Aᵀ)^k ∂f/∂w; A and B of the last step.  Only for a Φ that does not change with t."""
        A, B = self.A_at_w, self.B_at_w
        total = sum((np.linalg.matrix_power(A, k) @ B for k in range(K)), np.zeros_like(B))
        return self.E.T @ (self.f_theta + total.T @ self.f_w)

    A_at_w: Any = None
    B_at_w: Any = None

    def cg(self, K: int) -> np.ndarray:
        """v minimises ½vᵀHv − vᵀ∂f/∂w over the Krylov space of dimension K."""
        assert self.H is not None
        assert self.mixed is not None
        v = np.zeros_like(self.f_w)
        if K:
            vectors: list[np.ndarray] = []
            b = self.f_w
            for _ in range(min(K, len(b))):
                q = b.copy()
                for _ in range(2):
                    for u in vectors:
                        q = q - (u @ q) * u
                vectors.append(q / np.linalg.norm(q))
                b = self.H @ vectors[-1]
            Q = np.stack(vectors, axis=1)
            v = Q @ np.linalg.solve(Q.T @ self.H @ Q, Q.T @ self.f_w)
        return self.E.T @ (self.f_theta - self.mixed @ v)

    def implicit(self) -> np.ndarray:
        """−∂²g/∂θ∂w (∇²g)^{-1} ∂f/∂w + ∂f/∂θ at w_T."""
        assert self.H is not None
        assert self.mixed is not None
        return self.E.T @ (self.f_theta - self.mixed @ np.linalg.solve(self.H, self.f_w))


def dense(case: Any) -> Dense:
    """Every matrix of a case."""
    bk = backends.load("jax", "float64")
    problem, hparams, data, xs = case.at(bk)
    lam, unlam = ravel_pytree(hparams)
    theta, untheta = ravel_pytree(problem.embed(hparams, data))
    w0, unw = ravel_pytree(problem.init(untheta(theta), data))
    T = jax.tree.leaves(xs)[0].shape[0]
    at = [jax.tree.map(lambda x, t=t: x[t], xs) for t in range(T)]

    def embed(lam: Any) -> Any:
        return ravel_pytree(problem.embed(unlam(lam), data))[0]

    def init(theta: Any) -> Any:
        return ravel_pytree(problem.init(untheta(theta), data))[0]

    def phi(w: Any, theta: Any, x: Any) -> Any:
        return ravel_pytree(problem.step(unw(w), untheta(theta), data, x))[0]

    def f(w: Any, theta: Any) -> Any:
        return problem.outer_loss(unw(w), untheta(theta), data)

    w, A, B = [w0], [], []
    for x in at:
        A.append(np.array(jax.jacrev(phi, 0)(w[-1], theta, x)))
        B.append(np.array(jax.jacrev(phi, 1)(w[-1], theta, x)))
        w.append(phi(w[-1], theta, x))
    H = mixed = None
    if problem.inner_loss is not None:

        def g(w: Any, theta: Any) -> Any:
            return problem.inner_loss(unw(w), untheta(theta), data)

        H = np.array(jax.hessian(g)(w[-1], theta))
        mixed = np.array(jax.jacrev(jax.grad(g), 1)(w[-1], theta)).T
    return Dense(
        A=A,
        B=B,
        B_0=np.array(jax.jacrev(init)(theta)),
        E=np.array(jax.jacrev(embed)(lam)),
        f_w=np.array(jax.grad(f, 0)(w[-1], theta)),
        f_theta=np.array(jax.grad(f, 1)(w[-1], theta)),
        w=[np.array(x) for x in w],
        value=float(f(w[-1], theta)),
        H=H,
        mixed=mixed,
        A_at_w=np.array(jax.jacrev(phi, 0)(w[-1], theta, at[-1])),
        B_at_w=np.array(jax.jacrev(phi, 1)(w[-1], theta, at[-1])),
    )


def central_differences(case: Any, step: float = 1e-5) -> np.ndarray:
    """dF/dλ from values of F alone, fourth order."""
    bk = backends.load("jax", "float64")
    problem, hparams, data, xs = case.at(bk)
    lam, unlam = ravel_pytree(hparams)
    T = jax.tree.leaves(xs)[0].shape[0]

    @jax.jit
    def F(lam: Any) -> Any:
        theta = problem.embed(unlam(lam), data)
        w = problem.init(theta, data)
        for t in range(T):
            w = problem.step(w, theta, data, jax.tree.map(lambda x, t=t: x[t], xs))
        return problem.outer_loss(w, theta, data)

    step = 1e-3

    def slope(e: np.ndarray) -> float:
        near = float(F(lam + step * e) - F(lam - step * e))
        far = float(F(lam + 2 * step * e) - F(lam - 2 * step * e))
        return (8 * near - far) / (12 * step)

    return np.array([slope(e) for e in np.eye(len(lam))])
