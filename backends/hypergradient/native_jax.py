"""JAX's own idioms: `grad` of a scan, `stop_gradient`, `jacfwd`, `jax.scipy.sparse.linalg.cg`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from backends.hypergradient.protocol import Hypergrad, Problem

Tree = Any


def _run(problem: Problem, w: Tree, theta: Tree, data: Tree, xs: Tree) -> Tree:
    return jax.lax.scan(lambda w, x: (problem.step(w, theta, data, x), None), w, xs)[0]


def _objective(problem: Problem, data: Tree, xs: Tree) -> Any:
    def F(lam: Tree) -> tuple:
        theta = problem.embed(lam, data)
        w = _run(problem, problem.init(theta, data), theta, data, xs)
        return problem.outer_loss(w, theta, data), w

    return F


def rmd(problem: Problem, hparams: Tree, data: Tree, xs: Tree) -> Hypergrad:
    (value, w), grad = jax.value_and_grad(_objective(problem, data, xs), has_aux=True)(hparams)
    return Hypergrad(value, grad, w, {})


def krmd(problem: Problem, hparams: Tree, data: Tree, xs: Tree, K: int) -> Hypergrad:
    cut = jax.tree.leaves(xs)[0].shape[0] - K

    def F(lam: Tree) -> tuple:
        theta = problem.embed(lam, data)
        w = _run(problem, problem.init(theta, data), theta, data, jax.tree.map(lambda x: x[:cut], xs))
        w = _run(problem, jax.lax.stop_gradient(w), theta, data, jax.tree.map(lambda x: x[cut:], xs))
        return problem.outer_loss(w, theta, data), w

    (value, w), grad = jax.value_and_grad(F, has_aux=True)(hparams)
    return Hypergrad(value, grad, w, {})


def fmd(problem: Problem, hparams: Tree, data: Tree, xs: Tree) -> Hypergrad:
    flat, unravel = ravel_pytree(hparams)
    F = _objective(problem, data, xs)
    value, w = F(hparams)
    grad = jax.jacfwd(lambda lam: F(unravel(lam))[0])(flat)
    return Hypergrad(value, unravel(grad), w, {})


def _implicit(problem: Problem, hparams: Tree, data: Tree, xs: Tree, pulled: Any) -> Hypergrad:
    """f_θ + `pulled(w, θ, f_w)`, taken back to λ; `pulled` says how a cotangent of ŵ reaches θ."""
    theta, back = jax.vjp(lambda lam: problem.embed(lam, data), hparams)
    w = _run(problem, problem.init(theta, data), theta, data, xs)
    value, (f_w, f_theta) = jax.value_and_grad(problem.outer_loss, (0, 1))(w, theta, data)
    (grad,) = back(jax.tree.map(jnp.add, f_theta, pulled(w, theta, f_w)))
    return Hypergrad(value, grad, w, {})


def cg(problem: Problem, hparams: Tree, data: Tree, xs: Tree, K: int) -> Hypergrad:
    g: Any = problem.inner_loss

    def pulled(w: Tree, theta: Tree, f_w: Tree) -> Tree:
        grad_w = jax.grad(g)
        v, _ = jax.scipy.sparse.linalg.cg(
            lambda p: jax.jvp(lambda w: grad_w(w, theta, data), (w,), (p,))[1], f_w, tol=0.0, maxiter=K
        )
        # −∂²g/∂θ∂w v is the gradient in θ of −⟨∇_w g, v⟩.
        flat_v = ravel_pytree(v)[0]
        return jax.grad(lambda theta: -jnp.vdot(ravel_pytree(grad_w(w, theta, data))[0], flat_v))(theta)

    return _implicit(problem, hparams, data, xs, pulled)


def neumann(problem: Problem, hparams: Tree, data: Tree, xs: Tree, K: int) -> Hypergrad:
    T = jax.tree.leaves(xs)[0].shape[0]

    def pulled(w: Tree, theta: Tree, f_w: Tree) -> Tree:
        def term(k: Any, state: tuple) -> tuple:
            a, total = state
            x = jax.tree.map(lambda x: x[T - 1 - k], xs)
            a, b = jax.vjp(lambda w, theta: problem.step(w, theta, data, x), w, theta)[1](a)
            return a, jax.tree.map(jnp.add, total, b)

        return jax.lax.fori_loop(0, K, term, (f_w, jax.tree.map(jnp.zeros_like, theta)))[1]

    return _implicit(problem, hparams, data, xs, pulled)
