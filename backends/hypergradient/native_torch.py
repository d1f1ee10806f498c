"""PyTorch's own idioms: one graph and `backward`, `detach`, `torch.func`, double backward."""

from __future__ import annotations

from typing import Any

import optree
import torch

from backends.hypergradient.protocol import Hypergrad, Problem

Tree = Any


def _leaves(tree: Tree) -> list:
    return optree.tree_leaves(tree)


def _fresh(tree: Tree) -> Tree:
    return optree.tree_map(lambda t: t.detach().clone().requires_grad_(t.is_floating_point()), tree)


def _cut(tree: Tree) -> Tree:
    return optree.tree_map(torch.Tensor.detach, tree)


def _gradients(out: Any, tree: Tree, cotangents: list | None = None, **options: Any) -> Tree:
    leaves, treedef = optree.tree_flatten(tree)
    outs = out if isinstance(out, list) else [out]
    cts = cotangents if cotangents is not None else [torch.ones_like(outs[0])]
    pairs = [(o, c) for o, c in zip(outs, cts) if o.requires_grad]
    if not pairs:
        return treedef.unflatten([torch.zeros_like(leaf) for leaf in leaves])
    found = torch.autograd.grad([o for o, _ in pairs], leaves, [c for _, c in pairs], allow_unused=True, **options)
    return treedef.unflatten([torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found)])


def _steps(problem: Problem, w: Tree, theta: Tree, data: Tree, xs: Tree, start: int, stop: int) -> Tree:
    rows, treedef = optree.tree_flatten(xs)
    for t in range(start, stop):
        w = problem.step(w, theta, data, treedef.unflatten([row[t] for row in rows]))
    return w


def _horizon(xs: Tree) -> int:
    return int(_leaves(xs)[0].shape[0])


def rmd(problem: Problem, hparams: Tree, data: Tree, xs: Tree) -> Hypergrad:
    with torch.enable_grad():
        lam = _fresh(hparams)
        theta = problem.embed(lam, data)
        w = _steps(problem, problem.init(theta, data), theta, data, xs, 0, _horizon(xs))
        value = problem.outer_loss(w, theta, data)
    return Hypergrad(value.detach(), _gradients(value, lam), _cut(w), {})


def krmd(problem: Problem, hparams: Tree, data: Tree, xs: Tree, K: int) -> Hypergrad:
    T = _horizon(xs)
    with torch.enable_grad():
        lam = _fresh(hparams)
        theta = problem.embed(lam, data)
        with torch.no_grad():
            w = _steps(problem, problem.init(theta, data), theta, data, xs, 0, T - K)
        w = _steps(problem, _cut(w), theta, data, xs, T - K, T)
        value = problem.outer_loss(w, theta, data)
    return Hypergrad(value.detach(), _gradients(value, lam), _cut(w), {})


def fmd(problem: Problem, hparams: Tree, data: Tree, xs: Tree) -> Hypergrad:
    leaves, treedef = optree.tree_flatten(hparams)
    sizes = [leaf.numel() for leaf in leaves]
    flat = torch.cat([leaf.reshape(-1) for leaf in leaves])

    def unravel(v: torch.Tensor) -> Tree:
        return treedef.unflatten([p.reshape(leaf.shape) for p, leaf in zip(v.split(sizes), leaves)])

    def F(lam: torch.Tensor) -> Any:
        theta = problem.embed(unravel(lam), data)
        w = _steps(problem, problem.init(theta, data), theta, data, xs, 0, _horizon(xs))
        return problem.outer_loss(w, theta, data), (problem.outer_loss(w, theta, data), w)

    grad, (value, w) = torch.func.jacfwd(F, has_aux=True)(flat)
    return Hypergrad(value, unravel(grad), w, {})


def _at_last_iterate(problem: Problem, hparams: Tree, data: Tree, xs: Tree) -> tuple:
    """λ, θ(λ) with its graph, and detached ŵ, θ as fresh leaves."""
    lam = _fresh(hparams)
    theta = problem.embed(lam, data)
    with torch.no_grad():
        w = _steps(problem, problem.init(theta, data), theta, data, xs, 0, _horizon(xs))
    return lam, theta, _fresh(w), _fresh(theta)


def _finish(lam: Tree, theta: Tree, w: Tree, value: Any, h: Tree) -> Hypergrad:
    grad = _gradients(_leaves(theta), lam, _leaves(h))
    return Hypergrad(value.detach(), grad, _cut(w), {})


def cg(problem: Problem, hparams: Tree, data: Tree, xs: Tree, K: int) -> Hypergrad:
    with torch.enable_grad():
        lam, theta, w, at = _at_last_iterate(problem, hparams, data, xs)
        value = problem.outer_loss(w, at, data)
        f_w, f_theta = _gradients(value, (w, at), retain_graph=True)
        inner_loss: Any = problem.inner_loss
        grad_w = _leaves(_gradients(inner_loss(w, at, data), w, create_graph=True))
        b = _leaves(f_w)
        v, r, p = [torch.zeros_like(x) for x in b], list(b), list(b)
        for _ in range(K):
            rr = sum((x * x).sum() for x in r)
            Hp = _leaves(_gradients(grad_w, w, p, retain_graph=True))
            pHp = sum((x * y).sum() for x, y in zip(p, Hp))
            if rr == 0 or pHp == 0:
                break
            a = rr / pHp
            v = [x + a * y for x, y in zip(v, p)]
            r = [x - a * y for x, y in zip(r, Hp)]
            ratio = sum((x * x).sum() for x in r) / rr
            p = [x + ratio * y for x, y in zip(r, p)]
        mixed = _gradients(grad_w, at, v, retain_graph=True)
        h = optree.tree_map(torch.sub, f_theta, mixed)
        return _finish(lam, theta, w, value, h)


def neumann(problem: Problem, hparams: Tree, data: Tree, xs: Tree, K: int) -> Hypergrad:
    T = _horizon(xs)
    with torch.enable_grad():
        lam, theta, w, at = _at_last_iterate(problem, hparams, data, xs)
        value = problem.outer_loss(w, at, data)
        a, h = _gradients(value, (w, at), retain_graph=True)
        for k in range(K):
            out = _steps(problem, w, at, data, xs, T - 1 - k, T - k)
            a, b = _gradients(_leaves(out), (w, at), _leaves(a))
            h = optree.tree_map(torch.add, h, b)
        return _finish(lam, theta, w, value, h)
