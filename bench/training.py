"""Upper iterations: λ ← project(λ − η_τ d_τ), from one start or many, with dF beside h at every E-th of them.

Start i is the cell's λ of seed `seed + i`; the data are those of the cell's seed.  With one start, a task's metrics are
recorded with dF, on validation data and on held-out data; which λ is chosen depends on validation data alone: the
lowest validation loss (of `metrics`; F where that has none) of the recorded iterations.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench import stamp
from bench.cell import Cell
from bench.checkpoint import Checkpoint
from bench.errors import UserError
from bench.optimisers import OPTIMISERS, SCHEDULES, Moments
from bench.record import Seconds, Training
from bench.upper import Estimate, Upper

DIVERGED = 1e8  # ‖λ‖ beyond this multiple of 1 + ‖λ_0‖ is on its way to infinity
DRAWN = 4  # λ_τ is recorded up to this N,
ENDED = 64  # the last λ of every start up to this N,
CHOSEN = 5000  # and the chosen one of a single start up to this N


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
        return self.rate * SCHEDULES[self.schedule](iteration, self.iterations)


class State(NamedTuple):
    """Before iteration τ: λ, the optimiser's moments, and the λ chosen so far with its loss; a row a start."""

    iteration: int
    lam: np.ndarray
    moments: Moments
    least: np.ndarray
    chosen: np.ndarray


class Row(NamedTuple):
    """What is recorded of an E-th iteration; arrays over the starts."""

    iteration: int
    value: np.ndarray
    norm: np.ndarray
    exact_norm: np.ndarray
    inner: np.ndarray  # ⟨h, dF⟩
    error: np.ndarray  # ‖h − dF‖
    loss: np.ndarray  # what is chosen by
    lam: np.ndarray  # λ_τ for few N, else nothing
    validation: dict[str, float]
    held: dict[str, float]


class Step(NamedTuple):
    """What is recorded of every iteration of a single start."""

    value: float
    norm: float
    seconds: float


def measure(bk: Any, task: Any, method: Any, cell: Cell, cache: Path | None = None) -> dict[str, Any]:
    """The trajectory.  What a killed run had done is taken up where it stopped."""
    given: dict[str, Any] = dict(cell.settings)
    settings = Settings(**given)
    upper = Upper(bk, task, method, cell, settings.starts)
    kept = Checkpoint(None if cache is None else cache / f"{cell.key}.npz", stamp.stamp(cell))
    state, rows, steps = _unpacked(kept.read()) or (_start(upper.start), [], [])
    bounds = DIVERGED * (1 + np.linalg.norm(upper.start, axis=1))
    outcome = {"status": "ok"}
    while True:
        tau, inputs = state.iteration, upper.inputs(state.iteration)
        found = upper.estimate(state.lam, inputs)
        outcome = _verdict(tau, found.value, found.h)
        if outcome["status"] == "ok" and (tau % settings.every == 0 or tau == settings.iterations):
            dF = upper.exact(state.lam, inputs)
            outcome = _verdict(tau, found.value, dF, "dF")
            if outcome["status"] == "ok":
                rows = [*rows, _row(upper, state, found, dF)]
                state = _choose(state, rows[-1].loss)
        if outcome["status"] != "ok" or tau == settings.iterations:
            break
        if settings.starts == 1:
            steps.append(Step(float(found.value[0]), float(np.linalg.norm(found.h)), found.seconds))
        state = _step(settings, state, found.h, upper.project)
        outcome = _left(state, bounds)
        if outcome["status"] != "ok":
            break
        kept.write(lambda state=state, rows=rows: _packed(state, rows, steps))
    kept.remove()
    seeds = [cell.seed + i for i in range(settings.starts)]
    return {**outcome, "training": _training(settings, state, rows, steps, seeds, outcome["status"]) if rows else None}


def _start(lam: np.ndarray) -> State:
    return State(0, lam, Moments(0 * lam, 0 * lam), np.full(len(lam), np.inf), lam)


def _step(settings: Settings, state: State, h: np.ndarray, project: Callable[[np.ndarray], np.ndarray]) -> State:
    tau = state.iteration
    d, moments = OPTIMISERS[settings.optimiser](h, state.moments, tau)
    return state._replace(iteration=tau + 1, lam=project(state.lam - settings.eta(tau) * d), moments=moments)


def _row(upper: Upper, state: State, found: Estimate, dF: np.ndarray) -> Row:
    h = found.h
    selecting = upper.measured("validation", state.lam, found.params)
    return Row(
        iteration=state.iteration,
        value=found.value,
        norm=np.linalg.norm(h, axis=1),
        exact_norm=np.linalg.norm(dF, axis=1),
        inner=np.sum(h * dF, axis=1),
        error=np.linalg.norm(h - dF, axis=1),
        loss=np.array([selecting["loss"]]) if "loss" in selecting else found.value,
        lam=state.lam if state.lam.shape[1] <= DRAWN else state.lam[:, :0],
        validation=selecting,
        held=upper.measured("held", state.lam, found.params),
    )


def _choose(state: State, loss: np.ndarray) -> State:
    better = loss < state.least
    return state._replace(
        least=np.where(better, loss, state.least), chosen=np.where(better[:, None], state.lam, state.chosen)
    )


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


def _training(
    settings: Settings, state: State, rows: list[Row], steps: list[Step], seeds: list[int], status: str
) -> Training:
    iterations = [row.iteration for row in rows]
    value, norm, exact_norm, inner, error, loss = (
        np.stack([getattr(row, name) for row in rows], axis=1)
        for name in ("value", "norm", "exact_norm", "inner", "error", "loss")
    )
    N, single = state.lam.shape[1], settings.starts == 1
    return Training(
        seeds=seeds,
        iterations=iterations,
        value=value.tolist(),
        norm=norm.tolist(),
        exact_norm=exact_norm.tolist(),
        cosine=_ratio(inner, norm * exact_norm),
        descent=_ratio(inner, exact_norm**2),
        bias=_ratio(error, exact_norm),
        lam=np.stack([row.lam for row in rows], axis=1).tolist() if N <= DRAWN else None,
        last=state.lam.tolist() if N <= ENDED and status == "ok" else None,
        rates=[settings.eta(tau) for tau in iterations],
        selected=[iterations[i] for i in np.argmin(loss, axis=1)],
        chosen=[float(f"{x:.6g}") for x in state.chosen[0]] if single and N <= CHOSEN else None,
        validation=_columns([row.validation for row in rows]),
        held=_columns([row.held for row in rows]),
        every_value=[step.value for step in steps] if single else None,
        every_norm=[step.norm for step in steps] if single else None,
        seconds=_seconds([step.seconds for step in steps]) if single else None,
    )


def _ratio(above: np.ndarray, below: np.ndarray) -> list[list[float | None]]:
    return [[float(a / b) if b > 0 else None for a, b in zip(*lists)] for lists in zip(above, below)]


def _columns(rows: list[dict[str, float]]) -> dict[str, list[float | None]]:
    """Metric → its values; what is not finite is None."""
    return {name: [row[name] if np.isfinite(row[name]) else None for row in rows] for name in rows[0]}


def _seconds(values: list[float]) -> Seconds | None:
    """Of the second iteration and later ones: the first compiles."""
    if len(values) < 3:
        return None
    lower, middle, upper = statistics.quantiles(values[1:], n=4, method="inclusive")
    return Seconds(first=values[0], median=middle, lower=lower, upper=upper)


def _packed(state: State, rows: list[Row], steps: list[Step]) -> dict[str, Any]:
    """As named arrays."""
    parts: dict[str, Any] = {f"row_{name}": np.stack([getattr(row, name) for row in rows]) for name in Row._fields[:-2]}
    for part in Row._fields[-2:]:
        held = [getattr(row, part) for row in rows]
        parts |= {f"{part}_{name}": np.array([row[name] for row in held]) for name in held[0]}
    fields = state._asdict() | state.moments._asdict()
    return parts | {"steps": np.array(steps)} | {k: v for k, v in fields.items() if k != "moments"}


def _unpacked(parts: dict[str, np.ndarray] | None) -> tuple[State, list[Row], list[Step]] | None:
    """The way back."""
    if parts is None:
        return None
    columns = [parts[f"row_{name}"] for name in Row._fields[:-2]]
    metrics = {
        part: {k.removeprefix(f"{part}_"): v for k, v in parts.items() if k.startswith(f"{part}_")}
        for part in Row._fields[-2:]
    }
    rows = [
        Row(int(row[0]), *row[1:], *({k: float(v[i]) for k, v in metrics[part].items()} for part in Row._fields[-2:]))
        for i, row in enumerate(zip(*columns))
    ]
    state = State(
        int(parts["iteration"]),
        parts["lam"],
        Moments(parts["mean"], parts["square"]),
        parts["least"],
        parts["chosen"],
    )
    return state, rows, [Step(*map(float, step)) for step in parts["steps"]]
