"""What the same model gets without hyperparameters: softmax regression on other parts of one draw of hyper-cleaning.

    all          every training example, right or wrong: no cleaning
    clean        the training examples whose label is right
    validation   the validation examples alone
    both         clean and validation together

T gradient steps at each of nine rates; the rate of least loss on validation data is taken.  What trains on validation
data is chosen on a fifth of them that it does not see, and then trained again on all.  Held-out data are read once, at
the end.  The cell's method is not used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.cell import Cell
from bench.errors import UserError
from bench.record import Baseline
from tasks.hypercleaning import Hypercleaning

PARTS = ("all", "clean", "validation", "both")
RATES = tuple(2.0**i for i in range(-6, 3))
KEPT_BACK = 5  # a fifth of the validation data chooses, where they train


@dataclass(frozen=True)
class Settings:
    """Which data to train on."""

    data: str

    def __post_init__(self) -> None:
        if self.data not in PARTS:
            raise UserError(f"kind baseline: unknown data {self.data!r}; allowed are {', '.join(PARTS)}")

    def check(self, task: Any, cell: Cell) -> None:
        if not isinstance(task, Hypercleaning):
            raise UserError(f"kind baseline: task {cell.task} has none; allowed is hypercleaning")


def measure(bk: Any, task: Any, method: Any, cell: Cell, cache: Path | None = None) -> dict[str, Any]:
    """Accuracy on held-out data at the chosen rate."""
    part = str(cell.settings["data"])
    data, _ = task.context(cell.seed, 0, cell.horizon)
    held = task.evaluation(cell.seed)
    fit, rest = _parts(part, data, held["corrupted"])
    losses = [_loss(bk, task, _trained(bk, task, fit, rate, cell.horizon), rest) for rate in RATES]
    finite = np.where(np.isfinite(losses), losses, np.inf)
    best = int(np.argmin(finite))
    if not np.isfinite(finite[best]):
        return {"status": "nonfinite", "reason": "no rate has a finite validation loss"}
    whole = fit if part in ("all", "clean") else _parts(part, data, held["corrupted"], kept_back=False)[0]
    w = _trained(bk, task, whole, RATES[best], cell.horizon)
    hit = np.argmax(held["X"] @ np.asarray(bk.to_numpy(w), np.float64).T, axis=1) == held["labels"]
    return {
        "status": "ok",
        "baseline": Baseline(
            examples=len(whole[0]),
            rates=list(RATES),
            losses=[float(x) if np.isfinite(x) else None for x in losses],
            rate=RATES[best],
            accuracy=float(hit.mean()),
        ),
    }


def _parts(part: str, data: dict, corrupted: np.ndarray, kept_back: bool = True) -> tuple[tuple, tuple]:
    """(X, Y) to train on and (X, Y) to choose by."""
    train, clean = (data["X"], data["Y"]), (data["X"][~corrupted], data["Y"][~corrupted])
    held = (data["X_val"], data["Y_val"])
    if part in ("all", "clean"):
        return (train if part == "all" else clean), held
    n = len(held[0]) - (len(held[0]) // KEPT_BACK if kept_back else 0)
    seen, unseen = tuple(x[:n] for x in held), tuple(x[n:] for x in held)
    if part == "validation":
        return seen, unseen
    return tuple(np.concatenate(pair) for pair in zip(clean, seen)), unseen


def _trained(bk: Any, task: Hypercleaning, examples: tuple, rate: float, horizon: int) -> Any:
    """w_T of the task's own Φ with every weight 1."""
    n = len(examples[0])
    problem = replace(task, train=n, groups=0, rate=rate).problem(bk)
    data = bk.asarray(
        {"X": examples[0], "Y": examples[1], "zero": np.zeros((examples[1].shape[1], len(examples[0].T)))}
    )

    def train(weight: Any, data: Any, xs: Any) -> Any:
        w = problem.init(weight, data)
        return bk.scan(lambda w, x: (problem.step(w, weight, data, x), None), w, xs)[0]

    return bk.compile(train)(bk.asarray(np.ones(n)), data, bk.asarray(np.arange(horizon)))


def _loss(bk: Any, task: Hypercleaning, w: Any, examples: tuple) -> float:
    """Mean cross-entropy."""
    problem = replace(task, validation=len(examples[0])).problem(bk)
    data = bk.asarray({"X_val": examples[0], "Y_val": examples[1]})
    return float(bk.to_numpy(problem.outer_loss(w, None, data)))
