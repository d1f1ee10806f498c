"""Each framework's own idiom for the same hypergradients: independent oracles, and honest rows in the timing tables.

Nothing here uses the protocol's transforms; the texts are in `native_jax.py` and `native_torch.py`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, ClassVar

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


def _texts(bk: Any) -> Any:
    """The module of texts for the backend's framework."""
    return importlib.import_module(f"backends.hypergradient.native_{bk.name.partition(':')[0]}")


class _Native:
    idiom: ClassVar[str]

    def check(self, problem: Problem, horizon: int) -> None:
        """Refuse in one line what the idiom cannot do."""

    def cost(self, sizes: Sizes) -> Counts | None:
        """None: the framework's transforms cannot be counted from outside."""
        return None

    def law(self, sizes: Sizes) -> int | None:
        """None: what the framework keeps is its own affair."""
        return None


@dataclass(frozen=True)
class NativeRMD(_Native):
    """Differentiate the whole unrolled loop: `jax.grad` of a scan, or one autograd graph and `backward`."""

    estimand = "exact"

    def __call__(self, bk: Any, problem: Problem, hparams: Tree, data: Tree, xs: Tree) -> Hypergrad:
        return _texts(bk).rmd(problem, hparams, data, xs)


@dataclass(frozen=True)
class NativeFMD(_Native):
    """`jacfwd` of the whole loop with respect to λ: all N tangents at once."""

    estimand = "exact"

    def __call__(self, bk: Any, problem: Problem, hparams: Tree, data: Tree, xs: Tree) -> Hypergrad:
        return _texts(bk).fmd(problem, hparams, data, xs)


@dataclass(frozen=True)
class _NativeTruncated(_Native):
    truncation: int

    def __post_init__(self) -> None:
        check_truncation(self.idiom, self.truncation)

    def __call__(self, bk: Any, problem: Problem, hparams: Tree, data: Tree, xs: Tree) -> Hypergrad:
        self.check(problem, length(bk, xs))
        text = getattr(_texts(bk), self.idiom.removeprefix("native-"))
        return text(problem, hparams, data, xs, self.truncation)


@dataclass(frozen=True)
class NativeKRMD(_NativeTruncated):
    """Cut the graph before the last K steps: `stop_gradient`, or `detach`."""

    idiom = "native-krmd"

    @property
    def estimand(self) -> str:
        return f"truncated({self.truncation})"

    def check(self, problem: Problem, horizon: int) -> None:
        check_truncation(self.idiom, self.truncation, horizon)


@dataclass(frozen=True)
class NativeCG(_NativeTruncated):
    """The implicit-function rule with `jax.scipy.sparse.linalg.cg`, or a hand-written loop over double backward."""

    idiom = "native-cg"
    estimand = "implicit at w_T"

    def check(self, problem: Problem, horizon: int) -> None:
        if problem.inner_loss is None:
            raise Unsupported("native-cg: the problem has no inner_loss")


@dataclass(frozen=True)
class NativeNeumann(_NativeTruncated):
    """The Neumann series of the implicit-function rule at w_T."""

    idiom = "native-neumann"
    estimand = "implicit at w_T"

    def check(self, problem: Problem, horizon: int) -> None:
        check_truncation(self.idiom, self.truncation, horizon)
