"""A bilevel problem, what an estimator returns, and what K means.

    min_λ F(λ) = f(w_T, θ),    θ = embed(λ),    w_0 = init(θ),    w_{t+1} = Φ(w_t, θ, x_t),  t = 0 … T−1

K (`truncation`) is **the number of pull-backs (VJPs) of Φ**: K-RMD pulls back through the last K steps, Neumann sums K
terms, CG makes K Hessian-vector products.  K = T in K-RMD is RMD without the pull-back of `init`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

Tree = Any


class InvalidOption(ValueError):
    """An option that makes no sense for a method or for the problem at hand.  The message is one line."""


class Unsupported(InvalidOption):
    """A pair of method and problem for which the method's formula does not hold."""


def identity(hparams: Tree, data: Tree = None) -> Tree:
    """`embed` where the lower problem sees λ itself."""
    return hparams


def whole(theta: Tree) -> Tree:
    """`lower` where `init` and `step` read all of θ."""
    return theta


def no_metrics(params: Tree, hparams: Tree, held: Tree) -> dict:
    """`metrics` of a problem that names none."""
    return {}


@dataclass(frozen=True)
class Problem:
    """A bilevel problem as functions of trees of backend arrays; data are arguments, never closed over.

    init, step, outer_loss     w_0 = init(θ, data), w_{t+1} = step(w_t, θ, data, x_t), f = outer_loss(w_T, θ, data)
    embed                      θ = embed(λ, data), differentiated once per hypergradient
    inner_loss                 full-batch g(w, θ, data) with ∇_w g = 0 at Φ's fixed points; None where there is none
    metrics                    (w_T, λ, held-out data) → {name: scalar}, read by the runner alone
    lower                      θ → the part of it that init and step read; FMD's tangents live there.  It must select
                               leaves of θ without changing them
    project                    λ → λ, after each upper step
    """

    init: Callable[[Tree, Tree], Tree]
    step: Callable[[Tree, Tree, Tree, Tree], Tree]
    outer_loss: Callable[[Tree, Tree, Tree], Any]
    embed: Callable[[Tree, Tree], Tree] = identity
    inner_loss: Callable[[Tree, Tree, Tree], Any] | None = None
    metrics: Callable[[Tree, Tree, Tree], dict] = no_metrics
    lower: Callable[[Tree], Tree] = whole
    project: Callable[[Tree], Tree] = identity

    def replace(self, **changes: Any) -> Problem:
        """A copy with some functions replaced."""
        return replace(self, **changes)


class Hypergrad(NamedTuple):
    """What every estimator returns, a tree of arrays.

    value   f(w_T, θ), a scalar
    grad    the estimate of dF/dλ, shaped like λ
    params  w_T, shaped like w
    stats   named scalars that the method counted on the way (CG: directions of negative curvature, …)
    """

    value: Any
    grad: Tree
    params: Tree
    stats: dict


class Sizes(NamedTuple):
    """T, and the numbers of floating-point entries of w (M), λ (N), θ (P) and lower(θ)."""

    horizon: int
    M: int
    N: int
    P: int
    lower: int


Counts = dict[str, dict[str, int]]
"""{function: {kind: calls}}, functions `step init embed outer inner`, kinds `call linearise pull jvp`; no zeros."""


@runtime_checkable
class Method(Protocol):
    """A hypergradient estimator: a frozen dataclass of its options."""

    estimand: str

    def __call__(self, bk: Any, problem: Problem, hparams: Tree, data: Tree, xs: Tree) -> Hypergrad:
        """The estimate at λ = `hparams`; the arguments are arrays of `bk`.  T is the leading axis of `xs`."""
        ...

    def check(self, problem: Problem, horizon: int) -> None:
        """Raise `InvalidOption` (or `Unsupported`) in one line if these options make no sense here."""
        ...

    def cost(self, sizes: Sizes) -> Counts:
        """The calls that one hypergradient takes, by formula."""
        ...


def length(bk: Any, xs: Tree) -> int:
    """T: the leading axis of the per-step inputs."""
    leaves = bk.leaves(xs)
    if not leaves:
        raise InvalidOption(
            "xs has no arrays: the horizon T is the leading axis of xs, "
            "so give arange(T) to a problem without per-step inputs"
        )
    return int(leaves[0].shape[0])


def head(bk: Any, xs: Tree, n: int) -> Tree:
    """x_0 … x_{n−1}."""
    return bk.map(lambda x: x[:n], xs)


def tail(bk: Any, xs: Tree, n: int) -> Tree:
    """x_n … x_{T−1}."""
    return bk.map(lambda x: x[n:], xs)


def size(bk: Any, tree: Tree) -> int:
    """The number of floating entries of a tree: what can be differentiated."""
    return sum(_entries(leaf.shape) for leaf in bk.leaves(tree) if bk.xp.isdtype(leaf.dtype, "real floating"))


def _entries(shape: Any) -> int:
    n = 1
    for axis in shape:
        n *= int(axis)
    return n


def add(bk: Any, a: Tree, b: Tree) -> Tree:
    """a + b, leaf by leaf."""
    return bk.map(lambda x, y: x + y, a, b)


def check_truncation(name: str, truncation: int, horizon: int | None = None) -> None:
    """K is a whole number from 0, and at most T where each pull-back belongs to a step."""
    if isinstance(truncation, bool) or not isinstance(truncation, int) or truncation < 0:
        raise InvalidOption(
            f"{name}: truncation = {truncation!r} is not allowed; it is the number of pull-backs, a whole number from 0"
        )
    if horizon is not None and truncation > horizon:
        raise InvalidOption(
            f"{name}: truncation = {truncation} is more than the horizon T = {horizon}; allowed are 0 to {horizon}"
        )
