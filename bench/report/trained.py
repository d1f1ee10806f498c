"""Bias where a training run ended, beside bias at the task's `init`: another number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench.record import Record
from bench.report.frame import Frame
from bench.report.table import Table

_FIGURES = {"exact_bias": "‖h − dF‖/‖dF‖", "exact_cosine": "cos(h, dF)", "exact_absolute": "‖h − dF‖"}
_KEYS = ["problem", "method", "options", "T", "framework", "device", "dtype", "seed"]


def table(rows: Frame, records: list[Record]) -> Table:
    """A line for each cell whose λ is from a run; a dash where the same cell at `init` is missing."""
    runs = {r.key[-8:]: _run(r) for r in records if r.cell.kind == "training"}
    return Table(
        "trained",
        "An estimate at λ of a training run and, of the same estimate, at λ = init; each against dF in float64 at its "
        "own λ. A run is named by the last characters of its key. Two records a row, nothing is averaged.",
        pd.DataFrame(list(_lines(rows, runs))),
    )


def _run(r: Record) -> str:
    K = "" if r.cell.truncation is None else f" K = {r.cell.truncation}"
    return f"{r.cell.method}{K}, {r.cell.backend}"


def _lines(rows: Frame, runs: dict[str, str]) -> Iterator[dict[str, Any]]:
    if rows.empty:
        return
    start = rows[(rows.lam == "init") & (rows.status == "ok")].drop_duplicates(_KEYS).set_index(_KEYS)
    there = rows[rows.run != ""].sort_values(["problem", "lam", "method", "K", "framework"])
    for row in there.to_dict("records"):
        at = tuple(row[key] for key in _KEYS)
        first = start.loc[at] if at in start.index else {}
        marks = [] if row["certified"] else ["uncertified"]
        marks += ["stale"] if row["stale"] or (len(first) and first["stale"]) else []
        yield {
            "problem": row["problem"],
            "λ": row["lam"],
            "trained by": runs.get(row["run"], ""),
            **{key: row[key] for key in _KEYS[1:]},
            **{f"{name} at init": first.get(column) for column, name in _FIGURES.items()},
            **{f"{name} there": row.get(column) for column, name in _FIGURES.items()},
            "status": row["status"],
            "marks": ", ".join(marks),
            "record": row["record"],
        }
