"""One weight decay a feature on text: which words a linear classifier may use.

    g = mean CE(W) + 1/(kd) Σ_{c,j} exp(λ_j) W_cj²,     f = mean CE on validation data,     Φ a gradient step

W is (k classes, d words), without a bias, so that g is strongly convex for every λ.  λ_j is clipped to ± `bound`.
Source: Grazzi et al. (ICML 2020) and HOAG (Pedregosa, ICML 2016), on 20 newsgroups.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from backends.hypergradient.protocol import Problem
from tasks.features import read
from tasks.features.splits import stratified
from tasks.protocol import TaskError

Tree = Any

LENGTH = 80  # mean number of words of a synthetic document
LIFT = 4.0  # a topical word's odds in its own class over those elsewhere


@dataclass(frozen=True)
class FeatureDecay:
    """Softmax regression on bags of words with λ = one log-decay a word, N = d.

    The text collections that this is usually run on have to be downloaded by scikit-learn's loaders, which have no
    checksum of ours: the default is **synthetic text**, a named stand-in.  Words follow Zipf's law; each class has
    `topical` words of its own, at random ranks of the frequent half, that are 4 times as likely in its documents; the
    others say nothing.  Inputs are tf-idf (idf from the training documents), rows of norm 1.

    features     "": synthetic text; else the path of an .npz with X (n, d) and y (n,), used as it is but for the rows'
                 norms: real text goes in here
    words, classes, topical    of the synthetic text
    train_each, validation_each, test_each    examples of each class, drawn by the seed
    rate         γ: rows have norm 1 and the curvature of the mean loss is small, .05 here
    bound        of |λ_j|; at its upper end the decay's part of γβ is 2γ exp(bound)/(kd), .4 here

    points: "init" λ = 0, "informed" λ = −4 on topical words and +4 on others (synthetic text alone).
    """

    features: str = ""
    words: int = 2000
    classes: int = 10
    topical: int = 20
    train_each: int = 50
    validation_each: int = 50
    test_each: int = 200
    rate: float = 10.0
    bound: float = 6.0

    points: ClassVar[tuple[str, ...]] = ("init", "informed")
    stochastic: ClassVar[bool] = False
    convex: ClassVar[bool] = True
    datasets: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name, low in (("classes", 2), ("topical", 1), ("train_each", 1), ("validation_each", 1), ("test_each", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < low:
                raise TaskError(f"feature_decay: {name} = {value!r} is not allowed; it is a whole number from {low}")
        if type(self.words) is not int or self.words < 2 * self.classes * self.topical:
            raise TaskError(
                f"feature_decay: words = {self.words!r} is not allowed; it is at least 2 × classes × topical = "
                f"{2 * self.classes * self.topical}"
            )
        for name in ("rate", "bound"):
            if not 0 < getattr(self, name) < np.inf:
                raise TaskError(f"feature_decay: {name} = {getattr(self, name)!r} is not allowed; it is above 0")

    def problem(self, bk: Any) -> Problem:
        xp = bk.xp

        def embed(lam: Any, data: Tree) -> Any:
            return xp.exp(lam) / (data["zero"].shape[0] * data["zero"].shape[1])

        def losses(w: Any, X: Any, Y: Any) -> Any:
            z = X @ w.T  # (n, classes)
            return bk.logsumexp(z) - xp.sum(Y * z, axis=1)

        def inner(w: Any, decay: Any, data: Tree) -> Any:
            return xp.mean(losses(w, data["X"], data["Y"])) + xp.sum(decay * w**2)

        def step(w: Any, decay: Any, data: Tree, x: Any) -> Any:
            z = data["X"] @ w.T
            residual = xp.exp(z - bk.logsumexp(z)[:, None]) - data["Y"]
            return w - self.rate * (residual.T @ data["X"] / z.shape[0] + 2 * decay * w)

        def metrics(w: Any, lam: Any, held: Tree) -> dict:
            z = held["X"] @ w.T
            return {
                "accuracy": xp.mean(xp.where(xp.argmax(z, axis=1) == held["labels"], 1.0, 0.0)),
                "loss": xp.mean(losses(w, held["X"], held["Y"])),
            }

        def project(lam: Any) -> Any:
            low, high = 0 * lam - self.bound, 0 * lam + self.bound
            return xp.where(lam > high, high, xp.where(lam < low, low, lam))

        return Problem(
            embed=embed,
            init=lambda decay, data: 0.0 * data["zero"],
            step=step,
            outer_loss=lambda w, decay, data: xp.mean(losses(w, data["X_val"], data["Y_val"])),
            inner_loss=inner,
            metrics=metrics,
            project=project,
        )

    def hparams(self, seed: int, point: str = "init") -> np.ndarray:
        if point not in self.points:
            raise TaskError(f"feature_decay: unknown point {point!r}; allowed are {', '.join(self.points)}")
        if point == "init":
            return np.zeros(self.words if not self.features else read(self.features).X.shape[1])
        if self.features:
            raise TaskError("feature_decay: point 'informed' is not allowed with features; nobody knows it there")
        lam = np.full(self.words, 4.0)
        lam[_topics(self, seed).ravel()] = -4.0
        return lam

    def context(self, seed: int, index: int, horizon: int) -> tuple[Tree, Tree]:
        draw = _draw(self, seed)
        return {name: draw[name] for name in ("X", "Y", "X_val", "Y_val", "zero")}, np.arange(horizon)

    def evaluation(self, seed: int) -> Tree:
        return _held(_draw(self, seed), "test")

    def selection(self, seed: int) -> Tree:
        """The validation data in the shape of `evaluation`: for choosing an iteration or a setting."""
        return _held(_draw(self, seed), "val")


def _held(draw: dict[str, np.ndarray], part: str) -> Tree:
    Y = draw[f"Y_{part}"]
    return {"X": draw[f"X_{part}"], "Y": Y, "labels": np.argmax(Y, axis=1)}


def _topics(task: FeatureDecay, seed: int) -> np.ndarray:
    """(classes, topical): words of each class, among the more frequent half so that they occur at all."""
    rng = np.random.default_rng([12, seed, 1])
    return rng.permutation(task.words // 2)[: task.classes * task.topical].reshape(task.classes, task.topical)


@lru_cache(maxsize=4)
def _draw(task: FeatureDecay, seed: int) -> dict[str, np.ndarray]:
    """Documents of one seed."""
    rng = np.random.default_rng([12, seed, 0])
    sizes = (task.train_each, task.validation_each, task.test_each)
    if task.features:
        table = read(task.features)
        k, parts = table.classes, stratified(rng, table.y, sizes, "feature_decay")
        labels = [table.y[part] for part in parts]
        rows = [table.X[part] for part in parts]
    else:
        k, rows, labels = task.classes, [], []
        chance = 1 / (np.arange(task.words) + 3.0)
        topics = _topics(task, seed)
        for size in sizes:
            labels.append(rng.permutation(np.repeat(np.arange(k), size)))
            rows.append(np.stack([_document(rng, chance, topics[label]) for label in labels[-1]]))
        idf = np.log((1 + len(rows[0])) / (1 + np.count_nonzero(rows[0], axis=0))) + 1
        rows = [np.log1p(x) * idf for x in rows]
    out = {"zero": np.zeros((k, rows[0].shape[1]))}
    for suffix, x, y in zip(("", "_val", "_test"), rows, labels):
        norm = np.linalg.norm(x, axis=1, keepdims=True)
        out[f"X{suffix}"], out[f"Y{suffix}"] = x / np.where(norm > 0, norm, 1), np.eye(k)[y]
    return out


def _document(rng: np.random.Generator, chance: np.ndarray, topic: np.ndarray) -> np.ndarray:
    """Counts of words."""
    p = chance.copy()
    p[topic] *= LIFT
    return rng.multinomial(rng.poisson(LENGTH) + 1, p / p.sum()).astype(np.float64)
