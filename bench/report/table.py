"""A table: a data frame with units in its column names, as CSV (all digits) and Markdown (readable digits)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.report.frame import Frame

DIGITS = 8  # at the end of a record's name, of its cell alone: `records/*DIGITS.json` finds it
HEAD = ["problem", "lam", "method", "options", "T", "framework", "dtype"]
"""The columns that say which estimate a row is about."""


@dataclass(frozen=True)
class Table:
    """A table with the sentence that says how to read it."""

    name: str
    caption: str
    rows: Frame


def digits(keys: Iterable[str]) -> str:
    """Where one number is of several records: the last digits of their names."""
    return " ".join(sorted({key[-DIGITS:] for key in keys}))


def by_machine(table: Table) -> list[Table]:
    """One table a machine: times and resident memory of two are never in one."""
    if "machine" not in table.rows or table.rows.machine.nunique() < 2:
        return [table]
    parts = table.rows.groupby("machine", sort=True)
    named = [(f"{table.name}-{machine.replace(' ', '-')}", part) for machine, part in parts]
    return [Table(name, table.caption, part.reset_index(drop=True)) for name, part in named]


def write(made: list[Table], folder: Path) -> list[Path]:
    """`<name>.csv` and `<name>.md` of every table."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("*.csv"), *folder.glob("*.md")]:
        old.unlink()
    files = []
    for table in made:
        csv, md = folder / f"{table.name}.csv", folder / f"{table.name}.md"
        csv.write_text(table.rows.to_csv(index=False))
        md.write_text(f"{table.caption}\n\n{markdown(table.rows)}\n")
        files += [csv, md]
    return files


def markdown(rows: Frame) -> str:
    """A GitHub table."""
    shown = readable(rows)
    lines = ["| " + " | ".join(shown.columns) + " |", "|" + "---|" * len(shown.columns)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in shown.to_numpy()]
    return "\n".join(lines)


def readable(rows: Frame) -> Frame:
    """Every figure as text with four significant digits; what does not exist is a dash."""
    return pd.DataFrame({name: [_text(x) for x in rows[name]] for name in rows.columns}, dtype=object)


def _text(x: object) -> str:
    if isinstance(x, (bool, np.bool_)):
        return "yes" if x else "no"
    if isinstance(x, (float, np.floating)):
        if np.isnan(x):
            return "–"
        return str(int(x)) if float(x).is_integer() and abs(x) < 1e6 else f"{x:.4g}"
    return "–" if x is None or x == "" else str(x)
