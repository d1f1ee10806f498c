"""The constants of the theory at one λ, computed and never assumed, and the bias bound they give (PAPER §1, C1).

α and β come from the matrices between which a task says its Hessian lies; the rest from the iterates, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, Protocol

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from backends.hypergradient.protocol import Problem
from bench.reference import DENSE, flat

Tree = Any

WITHIN = 4  # points on the segment from one iterate to the next at which the curvature is taken, beside its ends


class Bounded(Protocol):
    """A task that bounds its curvature."""

    convex: Any

    def curvature_bounds(self, seed: int) -> tuple[Any, Any]:
        """Symmetric (lower, upper), arrays or linear operators: lower ≼ ∇²_w g ≼ upper for every w and λ."""
        ...


@dataclass(frozen=True)
class Constants:
    """What the theory's statements are made of, at one λ.

    alpha        α: the smallest eigenvalue of the lower bound; not positive where g is not strongly convex everywhere
    beta         β: the largest |eigenvalue| between the bounds, so that ∇_w g is β-Lipschitz
    gamma        γ
    horizon      T
    f_w          ‖∂f/∂w‖ at w_T
    B_max        max ‖B_t‖₂ over t = 0 … T, with respect to λ (the embedding's derivative included), B_0 = ∂init/∂λ
    size         M
    rank         the smallest rank of B_1 … B_T; C2 and C5 ask for M
    commutator   ‖BBᵀH − HBBᵀ‖/(‖BBᵀ‖ ‖H‖), Frobenius norms, B and H of the last step; C2′ asks for 0
    alpha_tail   (T,): at K − 1 the smallest eigenvalue of ∇²_w g on the segments w_{T−K} … w_T; empty where α > 0
    """

    alpha: float
    beta: float
    gamma: float
    horizon: int
    f_w: float
    B_max: float
    size: int
    rank: int
    commutator: float
    alpha_tail: np.ndarray

    def bound(self, truncation: int) -> float:
        """C1's bound on ‖dF − h_{T−K}‖; ∞ where C1 says nothing: γ > 1/β, or a tail that is not strongly convex.

        (1−γα)^K/(γα) · ‖∂f/∂w‖ · max ‖B_t‖, or, with the α of the last K steps alone, 2^{T−K+1} instead of 1/(γα).
        """
        K = truncation
        if self.gamma * self.beta > 1 + 1e-12:
            return inf
        if self.alpha > 0:
            return (1 - self.gamma * self.alpha) ** K / (self.gamma * self.alpha) * self.f_w * self.B_max
        alpha = self.alpha_tail[K - 1] if 0 < K <= self.horizon else 0.0
        if alpha <= 0:
            return inf
        return float((1 - self.gamma * alpha) ** K * 2.0 ** (self.horizon - K + 1) * self.f_w * self.B_max)


def constants(bk: Any, task: Bounded, problem: Problem, seed: int) -> Callable[[Tree, Tree, Tree], Constants]:
    """`(λ, data, xs) ↦ Constants` in the arrays of a float64 backend; it compiles once for a T, so loop over λ with it.

    M pull-backs of each step, all of them at once: O(TMN) numbers.  For problems of a few dozen dimensions.
    """
    if bk.dtype != "float64":
        raise ValueError(f"constants need float64; the backend {bk.name} has {bk.dtype}")
    alpha, beta = curvature(task, seed)
    measured = bk.compile(partial(_along, bk, problem, alpha <= 0))

    def at(hparams: Tree, data: Tree, xs: Tree) -> Constants:
        found = {k: np.asarray(v, np.float64) for k, v in bk.to_numpy(measured(hparams, data, xs)).items()}
        B, H = found["B"], found["H"]
        BB = B[-1] @ B[-1].T
        scale = np.linalg.norm(BB) * np.linalg.norm(H)
        return Constants(
            alpha=alpha,
            beta=beta,
            gamma=float(data["rate"]),
            horizon=len(B),
            f_w=float(np.linalg.norm(found["f_w"])),
            B_max=float(max(_largest(B), _largest(found["B_0"]))),
            size=B.shape[1],
            rank=int(np.linalg.matrix_rank(B).min()),
            commutator=float(np.linalg.norm(BB @ H - H @ BB) / scale) if scale else 0.0,
            alpha_tail=_tail(found["segments"]) if "segments" in found else np.zeros(0),
        )

    return at


def curvature(task: Bounded, seed: int) -> tuple[float, float]:
    """(α, β) of a task."""
    lower, upper = (extremes(bound) for bound in task.curvature_bounds(seed))
    return lower[0], max(abs(lower[0]), abs(upper[1]))


def extremes(matrix: Any) -> tuple[float, float]:
    """The smallest and the largest eigenvalue: dense up to M = 1000, by Lanczos beyond and for a linear operator."""
    if not isinstance(matrix, np.ndarray) or len(matrix) > DENSE:
        return lanczos(matrix)
    values = np.linalg.eigvalsh(matrix)
    return float(values[0]), float(values[-1])


def lanczos(matrix: Any) -> tuple[float, float]:
    """The same from products alone, to machine precision."""
    m = int(matrix.shape[0])
    v0 = np.random.default_rng(0).standard_normal(m)
    ends = (eigsh(matrix, k=1, which=which, v0=v0, ncv=min(m, 60), return_eigenvectors=False) for which in ("SA", "LA"))
    low, high = (float(values[0]) for values in ends)
    return low, high


def hessian(bk: Any, problem: Problem, params: Tree, hparams: Tree, data: Tree) -> LinearOperator:
    """∇²_w g at one (w, λ), as products with flat vectors."""
    vector, unravel = bk.ravel(params)
    theta = problem.embed(hparams, data)
    product = bk.compile(lambda p: bk.vjp(partial(_gradient, bk, problem, theta, data), params)[1](unravel(p))[0])

    def matvec(p: np.ndarray) -> np.ndarray:
        return flat(bk, product(bk.asarray(np.asarray(p, np.float64).reshape(-1))))

    m = int(vector.shape[0])
    return LinearOperator((m, m), matvec=matvec, dtype=np.float64)  # pyright: ignore[reportCallIssue] - SciPy's stub does not know `matvec`


def _gradient(bk: Any, problem: Problem, theta: Tree, data: Tree, w: Tree) -> Tree:
    """∇_w g."""
    inner: Any = problem.inner_loss
    return bk.value_and_grad(lambda w: inner(w, theta, data))(w)[1]


def _along(bk: Any, problem: Problem, segments: bool, lam: Tree, data: Tree, xs: Tree) -> dict:
    """B_0, B_1 … B_T, ∂f/∂w, H of the last step and, if asked, H on the segments between iterates, as flat arrays."""
    lam_vector, lam_tree = bk.ravel(lam)
    theta = problem.embed(lam, data)
    w_0 = problem.init(theta, data)
    w_tree = bk.ravel(w_0)[1]
    w_T, W = bk.scan(lambda w, x: (problem.step(w, theta, data, x), bk.ravel(w)[0]), w_0, xs)
    w_last = bk.ravel(w_T)[0]
    eye = bk.asarray(np.eye(int(w_last.shape[0])))

    def jacobian(f: Callable, at: Any) -> Any:
        return bk.vmap(lambda e: bk.vjp(lambda v: bk.ravel(f(v))[0], at)[1](e)[0])(eye)

    def B(w: Any, x: Tree) -> Any:
        return jacobian(lambda v: problem.step(w_tree(w), problem.embed(lam_tree(v), data), data, x), lam_vector)

    def H(w: Any) -> Any:
        return jacobian(lambda w: _gradient(bk, problem, theta, data, w_tree(w)), w)

    found = {
        "B_0": jacobian(lambda v: problem.init(problem.embed(lam_tree(v), data), data), lam_vector),
        "B": bk.vmap(B)(W, xs),
        "f_w": bk.ravel(bk.value_and_grad(lambda w: problem.outer_loss(w, theta, data))(w_T)[1])[0],
        "H": H(W[-1]),
    }
    if segments:
        after = bk.xp.concat([W[1:], w_last[None]], axis=0)
        share = bk.asarray(np.linspace(0.0, 1.0, WITHIN + 2))
        on = lambda a, b: bk.vmap(lambda s: H(a + s * (b - a)))(share)  # noqa: E731 - reads as the formula
        found["segments"] = bk.vmap(on)(W, after)
    return found


def _largest(B: np.ndarray) -> float:
    """max ‖B‖₂ over a stack of matrices, or ‖B‖₂ of one."""
    return float(np.max(np.linalg.norm(B, 2, axis=(-2, -1))))


def _tail(H: np.ndarray) -> np.ndarray:
    """(T, points, M, M) → at K − 1 the smallest eigenvalue over the last K segments."""
    smallest = np.linalg.eigvalsh((H + np.swapaxes(H, -1, -2)) / 2)[..., 0].min(axis=1)
    return np.minimum.accumulate(smallest[::-1])
