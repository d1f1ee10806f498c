"""Upper iterations: λ ← project(λ − η_τ d), from one start or many, with dF beside h at every E-th of them.

    gd     d = h
    adam   m = .9 m + .1 h,  v = .999 v + .001 h²,  d = m̂/(√v̂ + 1e-8), both without their bias to zero
    η_τ    rate, or rate/√(τ+1)

λ and the optimiser's state are NumPy float64 whatever the backend, so both frameworks walk the same path.  Start i is
the cell's λ of seed `seed + i`; the data are those of the cell's seed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import backends
from backends.hypergradient import METHODS
from backends.hypergradient.protocol import identity
from bench import arrays, stamp
from bench.cell import Cell
from bench.errors import UserError
from bench.record import Training
from bench.reference import flat

CHECKPOINT = 10.0  # seconds between two of them
DIVERGED = 1e8  # ‖λ‖ beyond this multiple of 1 + ‖λ_0‖ is on its way to infinity
MEAN, SQUARE, EPS = 0.9, 0.999, 1e-8  # Adam's
SCHEDULES = ("constant", "sqrt")
OPTIMISERS = ("gd", "adam")


@dataclass(frozen=True)
class Settings:
    """The upper optimiser: how many iterations, at which rate, from how many λ, and how often dF is computed."""

    iterations: int
    rate: float
    starts: int = 1
    every: int = 10
    schedule: str = "constant"
    optimiser: str = "gd"

    def __post_init__(self) -> None:
        for name in ("iterations", "starts", "every"):
            value = getattr(self, name)
            if not (type(value) is int and value >= 1):
                raise UserError(f"kind training: {name} = {value!r} is not allowed; it is a whole number from 1")
        if type(self.rate) not in (int, float) or not 0 < self.rate < np.inf:
            raise UserError(f"kind training: rate = {self.rate!r} is not allowed; it is a number above 0")
        for name, allowed in (("schedule", SCHEDULES), ("optimiser", OPTIMISERS)):
            if getattr(self, name) not in allowed:
                raise UserError(
                    f"kind training: unknown {name} {getattr(self, name)!r}; allowed are {', '.join(allowed)}"
                )

    def check(self, task: Any, cell: Cell) -> None:
        """Nothing to refuse: any task, any dtype."""

    def eta(self, iteration: int) -> float:
        """η_τ."""
        return self.rate / np.sqrt(iteration + 1) if self.schedule == "sqrt" else float(self.rate)


class State(NamedTuple):
    """Before iteration τ: λ and Adam's moments, a row a start."""

    iteration: int
    lam: np.ndarray
    mean: np.ndarray
    square: np.ndarray


class Row(NamedTuple):
    """What is recorded of one iteration; arrays over the starts."""

    iteration: int
    value: np.ndarray
    norm: np.ndarray
    exact_norm: np.ndarray
    inner: np.ndarray  # ⟨h, dF⟩
    lam: np.ndarray  # λ_τ for N ≤ 4, else nothing


def measure(bk: Any, task: Any, method: Any, cell: Cell, cache: Path | None = None) -> dict[str, Any]:
    """The trajectory.  What a killed run had done is taken up where it stopped."""
    given: dict[str, Any] = dict(cell.settings)
    settings = Settings(**given)
    upper = _Upper(bk, task, method, cell, settings.starts)
    kept = _Kept(None if cache is None else cache / f"{cell.key}.npz", stamp.stamp(cell))
    state, rows = kept.read() or (State(0, upper.start, 0 * upper.start, 0 * upper.start), [])
    bounds = DIVERGED * (1 + np.linalg.norm(upper.start, axis=1))
    outcome = {"status": "ok"}
    while True:
        tau, inputs = state.iteration, upper.inputs(state.iteration)
        value, h = upper.estimate(state.lam, inputs)
        outcome = _verdict(tau, value, h)
        if outcome["status"] == "ok" and (tau % settings.every == 0 or tau == settings.iterations):
            dF = upper.exact(state.lam, inputs)
            outcome = _verdict(tau, value, dF, "dF")
            if outcome["status"] == "ok":
                rows = [*rows, _row(state, value, h, dF)]
        if outcome["status"] != "ok" or tau == settings.iterations:
            break
        state = _step(settings, state, h, upper.project)
        outcome = _left(state, bounds)
        if outcome["status"] != "ok":
            break
        kept.write(state, rows)
    kept.remove()
    seeds = [cell.seed + i for i in range(settings.starts)]
    return {**outcome, "training": _training(settings, state, rows, seeds, outcome["status"]) if rows else None}


def _step(settings: Settings, state: State, h: np.ndarray, project: Callable[[np.ndarray], np.ndarray]) -> State:
    tau, lam, mean, square = state
    if settings.optimiser == "adam":
        mean, square = MEAN * mean + (1 - MEAN) * h, SQUARE * square + (1 - SQUARE) * h**2
        h = mean / (1 - MEAN ** (tau + 1)) / (np.sqrt(square / (1 - SQUARE ** (tau + 1))) + EPS)
    return State(tau + 1, project(lam - settings.eta(tau) * h), mean, square)


def _row(state: State, value: np.ndarray, h: np.ndarray, dF: np.ndarray) -> Row:
    norm, exact_norm = np.linalg.norm(h, axis=1), np.linalg.norm(dF, axis=1)
    drawn = state.lam if state.lam.shape[1] <= 4 else state.lam[:, :0]
    return Row(state.iteration, value, norm, exact_norm, np.sum(h * dF, axis=1), drawn)


def _verdict(tau: int, value: np.ndarray, h: np.ndarray, name: str = "h") -> dict[str, Any]:
    for what, x in ((name, h), ("F", value[:, None])):
        if not np.isfinite(x).all():
            start = int(np.argmin(np.isfinite(x).all(axis=1)))
            reason = f"{what} has NaN or infinite entries at iteration {tau}, start {start}"
            return {"status": "nonfinite", "reason": reason}
    return {"status": "ok"}


def _left(state: State, bounds: np.ndarray) -> dict[str, Any]:
    """Where λ went."""
    finite = np.isfinite(state.lam).all(axis=1)
    if not finite.all():
        reason = f"λ has NaN or infinite entries at iteration {state.iteration}, start {int(np.argmin(finite))}"
        return {"status": "nonfinite", "reason": reason}
    with np.errstate(over="ignore"):
        norm = np.linalg.norm(state.lam, axis=1)
    start = int(np.argmax(norm > bounds))
    if norm[start] > bounds[start]:
        return {
            "status": "diverged",
            "reason": f"‖λ‖ = {norm[start]:.2e} at iteration {state.iteration}, start {start}",
        }
    return {"status": "ok"}


def _training(settings: Settings, state: State, rows: list[Row], seeds: list[int], status: str) -> Training:
    iterations = [row.iteration for row in rows]
    value, norm, exact_norm, inner = (
        np.stack([getattr(row, name) for row in rows], axis=1) for name in ("value", "norm", "exact_norm", "inner")
    )
    N = state.lam.shape[1]
    return Training(
        seeds=seeds,
        iterations=iterations,
        value=value.tolist(),
        norm=norm.tolist(),
        exact_norm=exact_norm.tolist(),
        cosine=_ratio(inner, norm * exact_norm),
        descent=_ratio(inner, exact_norm**2),
        lam=np.stack([row.lam for row in rows], axis=1).tolist() if N <= 4 else None,
        last=state.lam.tolist() if N <= 64 and status == "ok" else None,
        rates=[settings.eta(tau) for tau in iterations],
    )


def _ratio(above: np.ndarray, below: np.ndarray) -> list[list[float | None]]:
    return [[float(a / b) if b > 0 else None for a, b in zip(*lists)] for lists in zip(above, below)]


class _Upper:
    """The upper objective on flat λ, a row a start: h and F by the method, dF by the native idiom in float64."""

    def __init__(self, bk: Any, task: Any, method: Any, cell: Cell, starts: int) -> None:
        self.bk, self.task, self.cell = bk, task, cell
        framework = cell.backend.partition(":")[0]
        self.exactly = bk if cell.dtype == "float64" else backends.load(framework, "float64", cell.device)
        trees = [self.exactly.asarray(task.hparams(cell.seed + i, cell.lam)) for i in range(starts)]
        self.start = np.stack([flat(self.exactly, tree) for tree in trees])
        self.unravel = self.exactly.ravel(trees[0])[1]
        problem, unravel = task.problem(bk), bk.ravel(bk.asarray(task.hparams(cell.seed, cell.lam)))[1]

        def estimate(vector: Any, data: Any, xs: Any) -> tuple:
            result = method(bk, problem, unravel(vector), data, xs)
            return result.value, bk.ravel(result.grad)[0]

        self.mapped = starts > 1
        self._estimate = bk.compile(bk.vmap(estimate, (0, None, None)) if self.mapped else estimate)
        self.problem = task.problem(self.exactly)
        self._exact = self.exactly.compile(partial(METHODS["native-rmd"](), self.exactly, self.problem))
        self._inputs: tuple | None = None

    def inputs(self, iteration: int) -> tuple:
        """(data, xs) of iteration τ, in NumPy and in the backend's arrays; made once where they do not change."""
        if getattr(self.task, "episodic", False) or self._inputs is None:
            given = self.task.context(self.cell.seed, iteration, self.cell.horizon)
            self._inputs = given, tuple(self.bk.asarray(x) for x in given)
        return self._inputs

    def estimate(self, lam: np.ndarray, inputs: tuple) -> tuple[np.ndarray, np.ndarray]:
        """F and h, (starts,) and (starts, N)."""
        found = self._estimate(self.bk.asarray(lam if self.mapped else lam[0]), *inputs[1])
        value, h = (np.asarray(x, np.float64) for x in self.bk.to_numpy(found))
        return value.reshape(len(lam)), h.reshape(lam.shape)

    def exact(self, lam: np.ndarray, inputs: tuple) -> np.ndarray:
        """dF, start by start."""
        bk = self.exactly
        given = inputs[1] if bk is self.bk else tuple(bk.asarray(x) for x in inputs[0])
        return np.stack([flat(bk, self._exact(self.unravel(bk.asarray(row)), *given).grad) for row in lam])

    def project(self, lam: np.ndarray) -> np.ndarray:
        if self.problem.project is identity:
            return lam
        bk = self.exactly
        return np.stack([flat(bk, self.problem.project(self.unravel(bk.asarray(row)))) for row in lam])


class _Kept:
    """State and rows of a run that is not done, in one file; another code's are not taken up."""

    def __init__(self, file: Path | None, made_by: str) -> None:
        self.file, self.made_by, self.last = file, made_by, time.monotonic()

    def read(self) -> tuple[State, list[Row]] | None:
        parts = None if self.file is None else arrays.read(self.file)
        if parts is None or str(parts["stamp"]) != self.made_by:
            return None
        columns = [parts[f"row_{name}"] for name in Row._fields]
        state = State(int(parts["iteration"]), parts["lam"], parts["mean"], parts["square"])
        return state, [Row(int(row[0]), *row[1:]) for row in zip(*columns)]

    def write(self, state: State, rows: list[Row]) -> None:
        """Once in a while."""
        if self.file is None or time.monotonic() - self.last < CHECKPOINT:
            return
        columns = {f"row_{name}": np.stack([getattr(row, name) for row in rows]) for name in Row._fields}
        arrays.write(self.file, {"stamp": self.made_by, **state._asdict(), **columns})
        self.last = time.monotonic()

    def remove(self) -> None:
        if self.file is not None:
            self.file.unlink(missing_ok=True)
