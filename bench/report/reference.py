"""Ours beside the paper's, from records: the numbers of every problem that was run at the paper's sizes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from bench import paper
from bench.paper import Number
from bench.record import Record
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
}
_LANDSCAPE = {
    "largest angle": "largest_angle_deg",
    "median ‖h‖/‖dF‖": "median_norm_ratio",
    "bias from": "bias_min",
    "bias to": "bias_max",
    "bound": "bound",
}
_POINT = {"hypercleaning_informed": "informed", "hypercleaning_init": "init"}
_STATISTIC = {"bias from": np.min, "bias to": np.max}


def table(records: list[Record]) -> Table:
    """One line a number of the paper, for every problem that has a record."""
    records = [r for r in records if _of_the_paper(r)]
    present = {r.cell.task for r in records}
    rows = [_row(n, records) for n in paper.numbers() if n.kind == "results" and n.problem in present]
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
    return bool(sizes) and all(sizes.get(name) == value for name, value in given.items())


def _row(n: Number, records: list[Record]) -> dict[str, Any]:
    found = dict(_measured(n, records))
    ours = float(_STATISTIC.get(n.column, np.median)(list(found.values()))) if found else MISSING
    return {
        "table": n.table,
        "row": n.row,
        "quantity": n.column,
        "unit": n.unit,
        "paper": _printed(n),
        "tag": n.tag,
        "ours": ours,
        "ours − paper": ours - n.value if isinstance(ours, float) and isinstance(n.value, float) else np.nan,
        "records": len(found),
        "source": n.source,
    }


def _measured(n: Number, records: list[Record]) -> Iterable[tuple[str, float]]:
    """The figures of the records that are of this number, by key."""
    for r in records:
        if r.cell.method != "krmd" or r.status != "ok" or n.row != f"K = {r.cell.truncation}":
            continue
        if n.table == "toy" and r.landscape is not None:
            yield r.key, getattr(r.landscape, _LANDSCAPE[n.column])
        elif n.table in _POINT and r.cell.lam == _POINT[n.table] and r.result and r.result.exact.relative is not None:
            yield r.key, r.result.exact.relative


def _printed(n: Number) -> str:
    text = f"{n.value:g}" if isinstance(n.value, float) else str(n.value)
    return text + (f" ± {n.spread:g}" if n.spread is not None else "") + ("†" if n.tag == "recalled" else "")
