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
from bench.report.table import Table

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


def table(records: list[Record]) -> Table:
    """One line a number of the paper, for every problem that has a record."""
    records = [r for r in records if _of_the_paper(r)]
    present = {r.cell.task for r in records}
    rows = [_row(n, records) for n in paper.numbers() if n.kind == "results" and n.problem in present]
    if not any(row["ours after (upper iterations)"] for row in rows):
        rows = [{k: v for k, v in row.items() if k != "ours after (upper iterations)"} for row in rows]
    dagger = f" † {RECALLED}." if any(row["tag"] == "recalled" for row in rows) else ""
    return Table(
        "paper",
        "What is known of Shaban et al. 2019 beside what the records give. The tag says how well a number is known; "
        "*computed* ones were computed for this project and say nothing of what the paper prints. Ours is the median "
        f"over records, for the ends of a range the least and the largest.{dagger}",
        pd.DataFrame(rows),
    )


def _of_the_paper(r: Record) -> bool:
    sizes = PAPER.get(r.cell.task, {})
    given = {**r.cell.task_options, "horizon": r.cell.horizon}
    given = {name: value for name, value in given.items() if name not in OPEN.get(r.cell.task, ())}
    if r.cell.task == "fewshot" and runs.line_of(r.cell).exact:  # a short horizon has a row of its own
        given["horizon"] = max(r.cell.horizon, sizes["horizon"])
    return bool(sizes) and all(sizes.get(name) == value for name, value in given.items())


def _row(n: Number, records: list[Record]) -> dict[str, Any]:
    of, found = {r.key: r for r in records}, dict(_measured(n, records))
    ours = float(_STATISTIC.get(n.column, np.median)(list(found.values()))) if found else MISSING
    after = sorted({int(of[key].cell.settings["iterations"] or 0) for key in found if of[key].training is not None})
    return {
        "table": n.table,
        "row": n.row,
        "quantity": n.column,
        "unit": n.unit,
        "paper": _printed(n),
        "tag": n.tag,
        "ours": ours,
        "ours − paper": ours - n.value if isinstance(ours, float) and isinstance(n.value, float) else np.nan,
        "ours after (upper iterations)": ", ".join(map(str, after)),
        "records": len(found),
        "source": n.source,
    }


def _measured(n: Number, records: list[Record]) -> Iterable[tuple[str, float]]:
    """The figures of the records that are of this number, by key."""
    if n.table in runs.TASKS:
        yield from _trained(n, records)
        return
    for r in records:
        if r.cell.method != "krmd" or r.status != "ok" or n.row != f"K = {r.cell.truncation}":
            continue
        if n.table == "toy" and r.landscape is not None:
            yield r.key, getattr(r.landscape, _LANDSCAPE[n.column])
        elif n.table in _POINT and r.cell.lam == _POINT[n.table] and r.result and r.result.exact.relative is not None:
            yield r.key, r.result.exact.relative


def _trained(n: Number, records: list[Record]) -> Iterable[tuple[str, float]]:
    """Of the chosen float32 runs, at their selected iteration; times are of whatever machine ran them."""
    mine = [r for r in records if r.cell.task == n.problem and runs.is_run(r) and _long_enough(n, r)]
    for family in runs.families(mine, ("float32",)):
        for line, of in family.lines.items():
            for r in of:
                if _is_row(n, line) and np.isfinite(x := _value(n, r)):
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
