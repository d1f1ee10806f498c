"""What claims ask of a record: its problem, its options with the tasks' defaults, its floors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from bench.cell import Cell, Kind
from bench.record import Record, Sample

# The tasks' own defaults, where a claim depends on them: claims import no task.  A test holds this table to the tasks.
DEFAULTS: dict[str, dict[str, Any]] = {
    "quadratic": {"rate": 0.1},
    "scalar": {"direct": 1.0, "rate": 0.1},
    "spectrum": {"kappa": 10.0, "coupling": "dense", "start": "fixed", "direct": 0.0, "rate": 1.0},
    "counterexample": {"kappa": 100.0, "correlation": 0.9, "rate": 1.0},
    "logistic": {"start": "zero"},
    "doublewell": {"rate": 1.0},
}


def option(cell: Cell, name: str) -> Any:
    """An option of the cell's task, given or default; None where the task has none of that name."""
    return cell.task_options.get(name, DEFAULTS.get(cell.task, {}).get(name))


def without_direct_term(cell: Cell) -> bool:
    """Is ∇_λ f = 0?  Only of the tasks in the table is it known."""
    return cell.task in DEFAULTS and not option(cell, "direct")


def problem(cell: Cell) -> tuple[str, str, int, int]:
    """Data, T and Φ: what a sample and a run of upper iterations share."""
    return cell.task, json.dumps(cell.task_options, sort_keys=True), cell.horizon, cell.seed


def is_kind(kind: Kind, *methods: str, task: str | None = None) -> Callable[[Record], bool]:
    """Float64 records of a kind, of these methods and of a task; K is a number from 1 in all of them.  What has been
    trained on real data is not theory's."""

    def wanted(r: Record) -> bool:
        c = r.cell
        right = c.kind == kind and c.dtype == "float64" and (task is None or c.task == task)
        right = right and not (r.training is not None and r.training.held)
        return right and c.method in methods and (c.truncation or 0) >= 1

    return wanted


def sample_of(r: Record) -> Sample:
    assert r.sample is not None
    return r.sample


def K_of(r: Record) -> int:
    assert r.cell.truncation is not None
    return r.cell.truncation


def numbers(values: Iterable[Any]) -> np.ndarray:
    """A list with None as NaN."""
    return np.array([np.nan if v is None else v for v in values], float)


def keys(records: Iterable[Record]) -> tuple[str, ...]:
    return tuple(sorted(r.key for r in records))


def listed(values: Iterable[Any]) -> str:
    """`1, 2, 5`."""
    return ", ".join(str(v) for v in values)
