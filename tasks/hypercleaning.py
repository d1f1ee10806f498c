"""Data hyper-cleaning: one weight for each training example, half of whose labels are wrong.

    g = (1/n) Σ σ(λ_i) CE_i(W) + 0.001 ‖W‖²,     f = mean CE on clean validation data,     Φ a gradient step, γ = 1

The data loss is a mean: with the sum the paper's γ = 1 diverges.  W is (classes, features + 1), the bias as last input.
Logits are n × classes: X Wᵀ and Rᵀ X are the products that both frameworks do fastest on a CPU at the paper's sizes,
forward and in their pull-backs (W Xᵀ and R X, the same numbers, take a third longer).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from backends.hypergradient.protocol import Problem
from tasks.data import load
from tasks.protocol import TaskError

Tree = Any

DECAY = 0.001
CLASSES = 10
MARKED = 1 / (1 + np.exp(3.0))  # σ(−3): below it an example counts as marked corrupted


@dataclass(frozen=True)
class Hypercleaning:
    """Softmax regression; sizes default to the paper's on MNIST.

    dataset      "mnist", or "digits" (scikit-learn's 8×8 digits, a named stand-in at small sizes)
    train, validation, test    numbers of examples, drawn without replacement by the seed
    noise        share of corrupted training labels; each is uniform over the nine *other* classes, so half is half
    groups       number of weights: 0 gives every training example its own λ, n shares one among train/n examples
    rate         γ

    points: "init" λ = 0; "informed" λ = +3 where the label is right and −3 where it is wrong (with groups: all examples
    of a group are clean or all corrupted as far as numbers allow, and λ is by the majority).
    """

    dataset: str = "mnist"
    train: int = 5000
    validation: int = 5000
    test: int = 10000
    noise: float = 0.5
    groups: int = 0
    rate: float = 1.0

    points: ClassVar[tuple[str, ...]] = ("init", "informed")
    stochastic: ClassVar[bool] = False
    convex: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.dataset not in ("mnist", "digits"):
            raise TaskError(f"hypercleaning: unknown dataset {self.dataset!r}; allowed are mnist, digits")
        for name in ("train", "validation", "test"):
            if getattr(self, name) < 1:
                raise TaskError(
                    f"hypercleaning: {name} = {getattr(self, name)!r} is not allowed; it is a number from 1"
                )
        if not 0 <= self.noise <= 1:
            raise TaskError(f"hypercleaning: noise = {self.noise!r} is not allowed; it is a share from 0 to 1")
        if self.groups < 0 or (self.groups and self.train % self.groups):
            raise TaskError(
                f"hypercleaning: groups = {self.groups!r} is not allowed; it divides train = {self.train}, or is 0"
            )

    @property
    def datasets(self) -> tuple[str, ...]:
        return (self.dataset,)

    def problem(self, bk: Any) -> Problem:
        xp = bk.xp

        def embed(lam: Any, data: Tree) -> Any:
            weight = 1 / (1 + xp.exp(-lam))
            return weight[data["group"]] if self.groups else weight

        def logits(w: Any, X: Any) -> Any:
            return X @ w.T  # (n, classes)

        def losses(w: Any, X: Any, Y: Any) -> Any:
            z = logits(w, X)
            return bk.logsumexp(z) - xp.sum(Y * z, axis=1)

        def inner(w: Any, weight: Any, data: Tree) -> Any:
            return xp.sum(weight * losses(w, data["X"], data["Y"])) / self.train + DECAY * xp.sum(w**2)

        def step(w: Any, weight: Any, data: Tree, x: Any) -> Any:
            z = logits(w, data["X"])
            residual = xp.exp(z - bk.logsumexp(z)[:, None]) - data["Y"]
            grad = ((weight / self.train)[:, None] * residual).T @ data["X"] + 2 * DECAY * w
            return w - self.rate * grad

        def outer(w: Any, weight: Any, data: Tree) -> Any:
            return xp.sum(losses(w, data["X_val"], data["Y_val"])) / self.validation

        def metrics(w: Any, lam: Any, held: Tree) -> dict:
            weight = embed(lam, held)
            marked, corrupted = weight < MARKED, held["corrupted"]
            hit = xp.sum(xp.where(marked & corrupted, 1.0, 0.0))
            wrong = xp.sum(xp.where(marked != corrupted, 1.0, 0.0))

            def accuracy(X: Any, labels: Any) -> Any:
                return xp.sum(xp.where(xp.argmax(logits(w, X), axis=1) == labels, 1.0, 0.0)) / labels.shape[0]

            return {
                "test_accuracy": accuracy(held["X"], held["labels"]),
                "f1": 2 * hit / xp.where(2 * hit + wrong > 0, 2 * hit + wrong, 1.0),
                "noise_rate": xp.sum(xp.where(corrupted, 1.0, 0.0)) / corrupted.shape[0],
            }

        return Problem(
            embed=embed,
            init=lambda weight, data: 0.0 * data["zero"],
            step=step,
            outer_loss=outer,
            inner_loss=inner,
            metrics=metrics,
        )

    def hparams(self, seed: int, point: str = "init") -> np.ndarray:
        if point not in self.points:
            raise TaskError(f"hypercleaning: unknown point {point!r}; allowed are {', '.join(self.points)}")
        n = self.groups or self.train
        if point == "init":
            return np.zeros(n)
        draw = _draw(self, seed)
        if not self.groups:
            return np.where(draw["corrupted"], -3.0, 3.0)
        share = np.bincount(draw["group"], weights=draw["corrupted"], minlength=n) * n / self.train
        return np.where(share > 0.5, -3.0, 3.0)

    def context(self, seed: int, index: int, horizon: int) -> tuple[Tree, Tree]:
        draw = _draw(self, seed)
        data = {k: draw[k] for k in ("X", "Y", "X_val", "Y_val", "zero")}
        if self.groups:
            data["group"] = draw["group"]
        return data, np.arange(horizon)

    def evaluation(self, seed: int) -> Tree:
        draw = _draw(self, seed)
        held = {"X": draw["X_test"], "labels": draw["labels_test"], "corrupted": draw["corrupted"]}
        return held | ({"group": draw["group"]} if self.groups else {})


@lru_cache(maxsize=4)
def _draw(task: Hypercleaning, seed: int) -> dict[str, np.ndarray]:
    """Split, noise and groups of one seed.  Training and validation never share an example with test."""
    rng = np.random.default_rng([2, seed])
    fit, fit_labels, held, held_labels = _pools(task, rng)
    need = task.train + task.validation
    if need > len(fit) or task.test > len(held):
        raise TaskError(
            f"hypercleaning: {task.dataset} has {len(fit)} examples for train + validation and {len(held)} for test; "
            f"asked were {need} and {task.test}"
        )
    chosen = rng.permutation(len(fit))[:need]
    train, validation = chosen[: task.train], chosen[task.train :]
    test = rng.permutation(len(held))[: task.test]
    labels = fit_labels[train].copy()
    corrupted = np.zeros(task.train, bool)
    corrupted[rng.permutation(task.train)[: round(task.noise * task.train)]] = True
    labels[corrupted] = (labels[corrupted] + rng.integers(1, CLASSES, corrupted.sum())) % CLASSES
    # Members of a group are alike in their noise: shuffled, then corrupted ones first.
    order = rng.permutation(task.train)
    order = order[np.argsort(~corrupted[order], kind="stable")]
    group = np.empty(task.train, np.int64)
    group[order] = np.arange(task.train) * max(task.groups, 1) // task.train
    return {
        "X": _inputs(fit[train]),
        "Y": _one_hot(labels),
        "X_val": _inputs(fit[validation]),
        "Y_val": _one_hot(fit_labels[validation]),
        "X_test": _inputs(held[test]),
        "labels_test": held_labels[test].astype(np.int64),
        "corrupted": corrupted,
        "group": group,
        "zero": np.zeros((CLASSES, fit.shape[1] + 1)),
    }


def _pools(task: Hypercleaning, rng: np.random.Generator) -> tuple:
    """Flat images in [0, 1] and labels for fitting, and the same for testing."""
    raw = load(task.dataset)
    if task.dataset == "mnist":
        train, test = (raw[f"{part}_images"].reshape(-1, 784) / np.float64(255) for part in ("train", "test"))
        return train, raw["train_labels"].astype(np.int64), test, raw["test_labels"].astype(np.int64)
    images, labels = raw["images"], raw["labels"].astype(np.int64)
    order = rng.permutation(len(images))
    fit, held = order[: len(order) - task.test], order[len(order) - task.test :]
    return images[fit], labels[fit], images[held], labels[held]


def _inputs(images: np.ndarray) -> np.ndarray:
    return np.concatenate([images, np.ones((len(images), 1))], axis=1)


def _one_hot(labels: np.ndarray) -> np.ndarray:
    """(n, classes)."""
    return (labels[:, None] == np.arange(CLASSES)[None, :]).astype(np.float64)
