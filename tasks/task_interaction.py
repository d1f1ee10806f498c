"""Regularization learning: which classes should have similar weights.  Each class is a task, C_jk their interaction.

    g = mean CE(W) + Σ_{j,k} C_jk ‖w_j − w_k‖² + ρ Σ_k ‖w_k‖²,     f = mean CE on validation data,     Φ a gradient step

C is symmetric and non-negative with a zero diagonal, and the sum is over ordered pairs, so each pair counts twice.
With L = diag(C 1) − C the penalty is tr(Wᵀ R W), R = 2L + ρI: `embed` makes R, and a step is matrix products alone.
λ = (C's upper triangle, ρ), clipped at 0 (ρ at 1e-6, so that g stays strongly convex).  W is (classes, features + 1).
Source: Franceschi et al. (ICML 2017), Shaban et al. (AISTATS 2019); both use features of a trained network.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np

from backends.hypergradient.protocol import Problem
from tasks.data import load
from tasks.features import image_features, read
from tasks.features.splits import stratified
from tasks.protocol import TaskError

Tree = Any

FLOOR = 1e-6  # of ρ
LOWEST = {"C": 0.0, "rho": FLOOR}
SIZES = {"cifar10": (50, 50, 1000), "cifar100": (40, 30, 30), "digits": (20, 20, 100), "file": (40, 30, 30)}
RATES = {"cifar10": 0.1, "cifar100": 3.0, "digits": 0.1, "file": 0.1}
ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")  # CIFAR-10's own halves: animals and vehicles


class Classes(NamedTuple):
    """What judges a learned C and never enters a problem: names, and one superclass a class (None where unknown)."""

    names: tuple[str, ...]
    superclass: np.ndarray | None


@dataclass(frozen=True)
class TaskInteraction:
    """Softmax regression whose classes are pulled together by a learned C; few examples of each class.

    dataset      "cifar10" or "cifar100" (k-means patch features, `tasks.features.patches`; of CIFAR-100 the test images
                 alone are used, 100 a class), "digits" (scikit-learn's 8×8 pixels, a named stand-in at small sizes), or
                 "file"
    features     for "file": the path of an .npz with X (n, d), y (n,) and maybe superclass (n,)
    train_each, validation_each, test_each    examples of each class, disjoint, drawn by the seed; 0 is the data set's
                 own number (cifar10 50/50/1000, cifar100 and file 40/30/30, digits 20/20/100)
    components   leading columns of the features that are used; 0 is all
    interaction  False: C = 0, and λ is ρ alone; the baseline
    start        C_0 of every pair
    rho          ρ_0
    rate         γ; 0 is the data set's own: 0.1, and 3 on CIFAR-100, where a class begins at a probability of 1/100 and
                 curvature is as much smaller.  A large C makes Φ unstable: its part of γβ is up to 8γ max_j Σ_k C_jk.
                 Adam at 1e-4 on CIFAR-100 and 3e-4 on CIFAR-10 stays far from that; at 1e-3, CIFAR-100 diverges

    Features are centred by the mean of the training examples and scaled so that their mean squared norm is `components`
    (or all columns).  points: "init" (C_0, ρ_0); "random" C_0 + |N(0, s)| with s = 0.01/classes, ρ_0.
    """

    dataset: str = "cifar10"
    features: str = ""
    train_each: int = 0
    validation_each: int = 0
    test_each: int = 0
    components: int = 0
    interaction: bool = True
    start: float = 0.0
    rho: float = 1e-3
    rate: float = 0.0

    points: ClassVar[tuple[str, ...]] = ("init", "random")
    stochastic: ClassVar[bool] = False
    convex: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.dataset not in SIZES:
            raise TaskError(f"task_interaction: unknown dataset {self.dataset!r}; allowed are {', '.join(SIZES)}")
        if (self.dataset == "file") != bool(self.features):
            raise TaskError(
                f"task_interaction: features = {self.features!r} is not allowed with dataset {self.dataset!r}; "
                "it is the path of an .npz with dataset 'file', and empty with the others"
            )
        for name in ("train_each", "validation_each", "test_each", "components"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise TaskError(
                    f"task_interaction: {name} = {value!r} is not allowed; it is a whole number from 1, or 0 "
                    f"for {'all' if name == 'components' else 'the number of the data set'}"
                )
        if type(self.interaction) is not bool:
            raise TaskError(f"task_interaction: interaction = {self.interaction!r} is not allowed; it is true or false")
        if not 0 <= self.start < np.inf:
            raise TaskError(f"task_interaction: start = {self.start!r} is not allowed; it is a number from 0")
        if not FLOOR <= self.rho < np.inf:
            raise TaskError(f"task_interaction: rho = {self.rho!r} is not allowed; it is a number from {FLOOR}")
        if not 0 <= self.rate < np.inf:
            raise TaskError(
                f"task_interaction: rate = {self.rate!r} is not allowed; it is above 0, or 0 for that of the data set"
            )

    @property
    def datasets(self) -> tuple[str, ...]:
        # CIFAR-100's encoder is fitted on images of CIFAR-10.
        return {"cifar100": ("cifar10", "cifar100"), "file": ()}.get(self.dataset, (self.dataset,))

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Examples of each class for training, validation and test."""
        own = SIZES[self.dataset]
        return self.train_each or own[0], self.validation_each or own[1], self.test_each or own[2]

    def problem(self, bk: Any) -> Problem:
        xp, rate = bk.xp, self.rate or RATES[self.dataset]

        def embed(lam: Tree, data: Tree) -> Any:
            eye = data["eye"]
            if not self.interaction:
                return lam["rho"] * eye
            C = lam["C"][data["pair"]]  # what stands on the diagonal cancels
            return 2 * (xp.sum(C, axis=1)[:, None] * eye - C) + lam["rho"] * eye

        def losses(w: Any, X: Any, Y: Any) -> Any:
            z = X @ w.T  # (n, classes)
            return bk.logsumexp(z) - xp.sum(Y * z, axis=1)

        def inner(w: Any, R: Any, data: Tree) -> Any:
            return xp.mean(losses(w, data["X"], data["Y"])) + xp.sum(w * (R @ w))

        def step(w: Any, R: Any, data: Tree, x: Any) -> Any:
            z = data["X"] @ w.T
            residual = xp.exp(z - bk.logsumexp(z)[:, None]) - data["Y"]
            return w - rate * (residual.T @ data["X"] / z.shape[0] + (R + R.T) @ w)

        def outer(w: Any, R: Any, data: Tree) -> Any:
            return xp.mean(losses(w, data["X_val"], data["Y_val"]))

        def metrics(w: Any, lam: Tree, held: Tree) -> dict:
            z = held["X"] @ w.T
            return {
                "accuracy": xp.mean(xp.where(xp.argmax(z, axis=1) == held["labels"], 1.0, 0.0)),
                "loss": xp.mean(losses(w, held["X"], held["Y"])),
            }

        def project(lam: Tree) -> Tree:
            return {name: xp.where(x > LOWEST[name], x, 0 * x + LOWEST[name]) for name, x in lam.items()}

        return Problem(
            embed=embed,
            init=lambda R, data: 0.0 * data["zero"],
            step=step,
            outer_loss=outer,
            inner_loss=inner,
            metrics=metrics,
            project=project,
        )

    def hparams(self, seed: int, point: str = "init") -> dict[str, np.ndarray]:
        if point not in self.points:
            raise TaskError(f"task_interaction: unknown point {point!r}; allowed are {', '.join(self.points)}")
        rho = {"rho": np.array(float(self.rho))}
        if not self.interaction:
            return rho
        classes = len(self.classes().names)
        C = np.full(classes * (classes - 1) // 2, float(self.start))
        if point == "random":
            C = C + np.abs(np.random.default_rng([11, seed, 1]).normal(0, 0.01 / classes, len(C)))
        return {"C": C} | rho

    def context(self, seed: int, index: int, horizon: int) -> tuple[Tree, Tree]:
        draw = _draw(self, seed)
        names = ("X", "Y", "X_val", "Y_val", "zero", "eye") + (("pair",) if self.interaction else ())
        return {name: draw[name] for name in names}, np.arange(horizon)

    def evaluation(self, seed: int) -> Tree:
        return _held(_draw(self, seed), "test")

    def selection(self, seed: int) -> Tree:
        """The validation data in the shape of `evaluation`: for choosing an iteration or a setting."""
        return _held(_draw(self, seed), "val")

    def classes(self) -> Classes:
        """Names and superclasses, in the order of the labels."""
        return _source(self.dataset, self.features)[2]

    def matrix(self, lam: Tree) -> np.ndarray:
        """C as a symmetric matrix, from λ."""
        if not self.interaction:
            raise TaskError("task_interaction: with interaction = false there is no C")
        vector = np.asarray(lam["C"], np.float64)
        classes = round((1 + (1 + 8 * len(vector)) ** 0.5) / 2)
        return vector[_pair(classes)] * (1 - np.eye(classes))


def _held(draw: dict[str, np.ndarray], part: str) -> Tree:
    Y = draw[f"Y_{part}"]
    return {"X": draw[f"X_{part}"], "Y": Y, "labels": np.argmax(Y, axis=1)}


def _pair(classes: int) -> np.ndarray:
    """(classes, classes): where C_jk stands in the upper triangle, row by row; 0 on the diagonal."""
    pair = np.zeros((classes, classes), np.int64)
    rows, columns = np.triu_indices(classes, 1)
    pair[rows, columns] = pair[columns, rows] = np.arange(len(rows))
    return pair


@lru_cache(maxsize=2)
def _source(dataset: str, path: str) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray] | None, Any]:
    """Features and labels of examples, those of a test set apart or None, and the classes."""
    if dataset == "file":
        table = read(path)
        return (table.X, table.y), None, Classes(table.names, table.superclass)
    raw = load(dataset)
    if dataset == "digits":
        return (raw["images"], raw["labels"].astype(np.int64)), None, Classes(tuple("0123456789"), None)
    found = {part: rows.astype(np.float64) for part, rows in image_features(dataset).items()}
    if dataset == "cifar10":
        names = tuple(map(str, raw["names"]))
        halves = np.array([int(name in ANIMALS) for name in names])
        train = found["train"], raw["train_labels"][: len(found["train"])]
        return train, (found["test"], raw["test_labels"]), Classes(names, halves)
    fine, names = raw["test_fine"], tuple(map(str, raw["fine_names"]))
    superclass = np.array([raw["test_coarse"][np.argmax(fine == k)] for k in range(len(names))])
    return (found["test"], fine), None, Classes(names, superclass)


@lru_cache(maxsize=4)
def _draw(task: TaskInteraction, seed: int) -> dict[str, np.ndarray]:
    """The split of one seed."""
    (X, y), apart, classes = _source(task.dataset, task.features)
    rng, what = np.random.default_rng([11, seed, 0]), f"task_interaction, {task.dataset}"
    if task.components > X.shape[1]:
        raise TaskError(f"{what}: components = {task.components} is not allowed; there are {X.shape[1]}")
    if apart is None:
        train, validation, test = stratified(rng, y, task.sizes, what)
        held, held_y = X, y
    else:
        train, validation = stratified(rng, y, task.sizes[:2], what)
        held, held_y = apart
        (test,) = stratified(rng, held_y, task.sizes[2:], f"{what}, test set")
    width = task.components or X.shape[1]
    rows = X[train, :width]
    mean = rows.mean(axis=0)
    scale = np.sqrt(np.mean((rows - mean) ** 2)) or 1.0

    def inputs(x: np.ndarray) -> np.ndarray:
        return np.concatenate([(x[:, :width] - mean) / scale, np.ones((len(x), 1))], axis=1)

    k = len(classes.names)
    return {
        "X": inputs(X[train]),
        "Y": np.eye(k)[y[train]],
        "X_val": inputs(X[validation]),
        "Y_val": np.eye(k)[y[validation]],
        "X_test": inputs(held[test]),
        "Y_test": np.eye(k)[held_y[test]],
        "zero": np.zeros((k, width + 1)),
        "eye": np.eye(k),
        "pair": _pair(k),
    }
