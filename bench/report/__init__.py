"""Figures, tables and one page from records alone.  The same records give the same bytes.

frame      records as one pandas table
tables     what a reader looks up: cells, certificates, counts, memory, the toy, failures
speed      ours against native idioms and floors
reference  ours beside the paper's numbers
runs       training on real tasks: what a run is, what is compared with what
training   its tables: runs, the upper rate, baselines, both frameworks' trajectories
pareto     which K, at what cost, for which loss of accuracy: the first figure
trained    bias where a run ended beside bias at `init`
live       training runs under way, as far as they are
curves     along upper iterations and time, for each K
interaction  the learned interaction of classes: its worth, its groups, its map
figures    what a reader looks at
budget     K-RMD, Neumann and CG at equal calls, bytes and time
labels     names beside points that do not cover each other
style      colours, markers and line styles that also work in black and white
targets    what was to be reached beside what all committed stores give
page       one HTML file that opens from disk without a network
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.errors import UserError
from bench.record import Record
from bench.report import (
    curves,
    figures,
    interaction,
    live,
    native,
    page,
    pareto,
    reference,
    scaling,
    speed,
    spent,
    table,
    tables,
    trained,
    training,
)
from bench.report.frame import frame, landscapes
from bench.underway import Underway


def tables_of(records: list[Record], stale: frozenset[str] = frozenset()) -> list[table.Table]:
    """All tables that these records can fill."""
    rows = frame(records, stale)
    made = [
        pareto.table(records, stale),
        speed.table(records, stale),
        native.table(records, stale),
        reference.table(records, stale),
        *training.tables(records, stale),
        interaction.table(records, stale),
        trained.table(rows, records),
        *scaling.tables(rows),
        *tables.every(rows, landscapes(records, stale)),
        spent.table(records),
    ]
    return [part for t in made if not t.rows.empty for part in table.by_machine(t)]


def figures_of(records: list[Record]) -> list[figures.Picture]:
    """All figures that these records can fill."""
    rows = frame(records)
    return [
        *pareto.figures(records),
        *curves.figures(records),
        *interaction.figures(records),
        *figures.every(rows, records),
        *scaling.figures(rows),
    ]


def write(
    records: list[Record], folder: Path, title: str, stale: frozenset[str], running: Sequence[Underway] = ()
) -> list[Path]:
    """Write `figures/`, `tables/` and `report.html` under a folder of records; return the files."""
    made_tables, made_figures = tables_of(records, stale), [*live.figures(running), *figures_of(records)]
    try:
        files = [*table.write(made_tables, folder / "tables"), *figures.write(made_figures, folder / "figures")]
        html = folder / "report.html"
        html.write_text(page.render(title, folder, records, frame(records, stale), made_tables, made_figures))
    except OSError as error:
        raise UserError(f"the report cannot be written under {folder}: {error.strerror or error}") from error
    return [*files, html]
