"""Bias where a training run ended, beside bias where it began: another number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench.report.frame import Frame
from bench.report.table import Table

_FIGURES = {"exact_bias": "‖h − dF‖/‖dF‖", "exact_cosine": "cos(h, dF)", "exact_absolute": "‖h − dF‖"}


def table(rows: Frame) -> Table:
    """One line an estimate and a run: at the task's `init` and at the run's λ, of the same estimate."""
    return Table(
        "trained",
        "An estimate at λ_0 = init and at λ of a training run (in brackets the last characters of the run's key), "
        "against dF in float64 at each. Both figures are of the same problem, T, dtype and framework.",
        pd.DataFrame(list(_lines(rows))),
    )


def _lines(rows: Frame) -> Iterator[dict[str, Any]]:
    if rows.empty or "exact_bias" not in rows:
        return
    ok = rows[rows.status == "ok"]
    keys = ["problem", "method", "options", "T", "framework", "device", "dtype", "seed"]
    start = ok[ok.lam == "init"].drop_duplicates(keys).set_index(keys)
    for row in ok[ok.lam.str.contains("@")].sort_values(["problem", "lam", "method", "K"]).to_dict("records"):
        at = tuple(row[k] for k in keys)
        if at not in start.index:
            continue
        first = start.loc[at]
        yield {k: row[k] for k in keys[:-1]} | {
            "λ": row["lam"],
            **{f"{name} at init": first[column] for column, name in _FIGURES.items()},
            **{f"{name} there": row[column] for column, name in _FIGURES.items()},
            "marks": "stale" if row["stale"] or first["stale"] else "",
            "record": row["record"],
        }
