"""Ours beside the paper's, from records: the numbers of every problem that was run at the paper's sizes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from bench import paper
from bench.paper import Number
from bench.record import Record
from bench.report import runs
from bench.report.runs import Line
from bench.report.table import Table, digits

MISSING = "not measured yet"
RECALLED = "as recalled, not checked against the PDF"

# The tasks' defaults, T with them: a record at other sizes, or on a stand-in, is not of the paper's problem.
PAPER: dict[str, dict[str, Any]] = {
    "quadratic": {"rate": 0.1, "horizon": 100},
    "hypercleaning": {
        "dataset": "mnist",
        "train": 5000,
        "validation": 5000,
        "test": 10000,
        "noise": 0.5,
        "groups": 0,
        "rate": 1.0,
        "horizon": 100,
    },
    "task_interaction": {"dataset": "cifar10", "train_each": 0, "interaction": True, "horizon": 100},
    "fewshot": {"dataset": "omniglot", "ways": 5, "shots": 1, "filters": 64, "blocks": 4, "horizon": 50},
}
# What the paper leaves open, as far as is known: any value is its problem.
OPEN: dict[str, tuple[str, ...]] = {
    "task_interaction": ("features", "validation_each", "test_each", "components", "start", "rho", "rate"),
    "fewshot": (
        "queries",
        "episodes",
        "rate",
        "statistics",
        "rotations",
        "inside",
        "steps",
        "validation_episodes",
        "test_episodes",
    ),
}
# What stands in where no record has the paper's size; its row says so.
STANDS_IN: dict[str, dict[str, Any]] = {"fewshot": {"filters": 32}}
AFTER = "ours after (upper iterations)"
MANY = 10_000  # upper iterations: a run of fewer stands beside the paper's 5k, of more beside its 15k
_LANDSCAPE = {
    "largest angle": "largest_angle_deg",
    "median ‖h‖/‖dF‖": "median_norm_ratio",
    "bias from": "bias_min",
    "bias to": "bias_max",
    "bound": "bound",
}
_POINT = {"hypercleaning_informed": "informed", "hypercleaning_init": "init"}
_RUN: dict[str, Callable[[Record], float]] = {
    "test accuracy": runs.accuracy,
    "accuracy": runs.accuracy,
    "validation accuracy": runs.validation_accuracy,
    "validation loss": runs.loss,
    "F1": runs.f1,
    "time": runs.seconds,
}
_STATISTIC = {"bias from": np.min, "bias to": np.max}


def table(records: list[Record], stale: frozenset[str] = frozenset()) -> Table:
    """One line a number of the paper, for every problem that has a record."""
    near = [r for r in records if _of_sizes(r, PAPER.get(r.cell.task, {}) | STANDS_IN.get(r.cell.task, {}))]
    records = [r for r in records if _of_sizes(r, PAPER.get(r.cell.task, {}))]
    present = {r.cell.task for r in records}
    rows = [_row(n, records, near, stale) for n in paper.numbers() if n.kind == "results" and n.problem in present]
    if not any(row[AFTER] for row in rows):
        rows = [{k: v for k, v in row.items() if k != AFTER} for row in rows]
    features = " On CIFAR our features are k-means patches, the paper's those of a trained network."
    if "task_interaction" not in present:
        features = ""
    dagger = f" † {RECALLED}." if any(row["tag"] == "recalled" for row in rows) else ""
    return Table(
        "paper",
        "What is known of Shaban et al. 2019 beside what the records give. The tag says how well a number is known; "
        "*computed* ones were computed for this project and say nothing of what the paper prints. Ours is the median "
        "over records, for the ends of a range the least and the largest, and of training the mean over seeds in one "
        "framework. Where no record has the paper's size, marks say what stands in, and nothing is subtracted."
        f"{features}{dagger}",
        pd.DataFrame(rows),
    )


def _of_sizes(r: Record, sizes: dict[str, Any]) -> bool:
    given = {**r.cell.task_options, "horizon": r.cell.horizon}
    given = {name: value for name, value in given.items() if name not in OPEN.get(r.cell.task, ())}
    if r.cell.task == "fewshot" and runs.line_of(r.cell).exact:  # a short horizon has a row of its own
        given["horizon"] = max(r.cell.horizon, sizes["horizon"])
    return bool(sizes) and all(sizes.get(name) == value for name, value in given.items())


def _row(n: Number, records: list[Record], near: list[Record], stale: frozenset[str]) -> dict[str, Any]:
    exactly = dict(_measured(n, records))
    found = exactly or dict(_measured(n, near))
    of = [r for r in (records if exactly else near) if r.key in found]
    instead = [f"{k} = {v}, not {PAPER[n.problem][k]}" for k, v in STANDS_IN.get(n.problem, {}).items() if not exactly]
    trained = [r for r in of if r.training is not None]
    usual = np.mean if trained else np.median
    ours = float(_STATISTIC.get(n.column, usual)(list(found.values()))) if found else None
    # A choice of the last iteration says only that it takes as many.
    until = n.column == "upper iterations" and n.problem == "task_interaction"
    least = until and any(runs.training_of(r).iterations[-1] == found[r.key] for r in trained)
    apart = np.nan if ours is None or least or not exactly or not isinstance(n.value, float) else ours - n.value
    return {
        "table": n.table,
        "row": n.row,
        "quantity": n.column,
        "unit": n.unit,
        "paper": _printed(n),
        "tag": n.tag,
        "ours": MISSING if ours is None else f"≥ {ours:g}" if least else ours,
        "ours − paper": apart,
        AFTER: ", ".join(map(str, sorted({int(r.cell.settings["iterations"] or 0) for r in trained}))),
        "framework": ", ".join(sorted({r.cell.backend for r in of})),
        "records": len(found),
        "marks": ", ".join(filter(None, [*(instead if found else []), runs.marks(of, stale)])),
        "source": n.source,
        "record": digits(found),
    }


def _measured(n: Number, records: list[Record]) -> Iterable[tuple[str, float]]:
    """The figures of the records that are of this number, by key."""
    if n.table in runs.TASKS:
        yield from _trained(n, records)
        return
    for r in records:
        ours = r.cell.task == n.problem and r.cell.method == "krmd" and r.status == "ok"
        if not ours or n.row != f"K = {r.cell.truncation}":
            continue
        if n.table == "toy" and r.landscape is not None:
            yield r.key, getattr(r.landscape, _LANDSCAPE[n.column])
        elif n.table in _POINT and r.cell.lam == _POINT[n.table] and r.result and r.result.exact.relative is not None:
            yield r.key, r.result.exact.relative


def _trained(n: Number, records: list[Record]) -> Iterable[tuple[str, float]]:
    """Of the chosen float32 runs from the usual λ_0, at their selected iteration: those of the framework that has most,
    times of one machine."""
    mine = [r for r in records if r.cell.task == n.problem and runs.is_run(r) and _long_enough(n, r)]
    found = [
        r
        for family in runs.families([r for r in mine if r.cell.lam == "init"], ("float32",))
        for line, of in family.lines.items()
        if _is_row(n, line)
        for r in of
    ]
    of_one = max(runs.grouped(found, lambda r: r.cell.backend).values(), key=len, default=[])
    for r in runs.one_machine(of_one) if n.column == "time" else of_one:
        if np.isfinite(x := _value(n, r)):
            yield r.key, x


def _long_enough(n: Number, r: Record) -> bool:
    """Of few-shot's two numbers of upper iterations, is it the one of the row?"""
    iterations = n.row.partition(", ")[2]
    return not iterations or (iterations == "15k") == (int(r.cell.settings["iterations"] or 0) >= MANY)


def _is_row(n: Number, line: Line) -> bool:
    """`K = 5`, `5-RMD`, `RMD (100)`; `1-RMD, 15k`; `short horizon, 15k`."""
    row = n.row.partition(", ")[0]
    T = PAPER[n.problem]["horizon"]
    if row == "short horizon":
        return line.exact and line.T < T
    K = re.search(r"\d+", row)
    return line.method in ("krmd", "rmd") and line.T == T and K is not None and line.pulled == int(K[0])


def _value(n: Number, r: Record) -> float:
    if n.column != "upper iterations":
        return _RUN[n.column](r)
    # Of task interaction those until the choice, of few-shot all.
    until = runs.training_of(r).selected[0] if n.problem == "task_interaction" else r.cell.settings["iterations"]
    return float(until or 0)


def _printed(n: Number) -> str:
    text = f"{n.value:g}" if isinstance(n.value, float) else str(n.value)
    return text + (f" ± {n.spread:g}" if n.spread is not None else "") + ("†" if n.tag == "recalled" else "")
