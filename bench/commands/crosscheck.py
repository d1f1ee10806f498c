"""`crosscheck`: PyTorch against JAX, row by row."""

from __future__ import annotations

import json
from pathlib import Path

import click

import backends
from bench import crosscheck as cross
from bench.commands.group import cli, console, write
from bench.errors import UserError
from bench.sweep import Expanded, narrow


@cli.command()
@click.option("--json", "json_file", type=Path, help="Write all rows as JSON.")
@click.option("--junit", "junit_file", type=Path, help="Write all rows as JUnit XML.")
@click.option("--only", multiple=True, metavar="KEY=VALUE", help="Rows with this value only, as in `run`.")
def crosscheck(json_file: Path | None, junit_file: Path | None, only: tuple[str, ...]) -> int:
    """Hold PyTorch against JAX in float64, for every (method, problem, T, K) of the quick sizes.

    Example: python -m bench crosscheck --junit crosscheck.xml
    """
    cells = cross.grid()
    if only:
        cells = list(narrow(Expanded("crosscheck", "", tuple(cells), 0), list(only), [], [], []).cells)
    missing = [reason for name in cross.PAIR if (reason := backends.unavailable(name))]
    if missing:
        raise UserError("crosscheck needs both frameworks: " + "; ".join(missing))
    done: list[cross.Row] = []
    for row in cross.rows(cells):
        done.append(row)
        figure = "no value" if row.difference is None else f"{row.difference:.1e}"
        verdict = "ok" if row.agrees else "DIFFERS"
        console.print(
            f"{verdict:<8}{figure:>9}  {row.name}" + (f"  at: {row.located}" if row.located else ""), markup=False
        )
    for file, text in (
        (json_file, json.dumps(cross.as_json(done, len(cells)), indent=1)),
        (junit_file, cross.as_junit(done, len(cells))),
    ):
        if file is not None:
            write(file, text)
    agreeing = [r for r in done if r.agrees]
    worst = max((r.difference for r in done if r.difference is not None), default=float("nan"))
    console.print(f"{len(agreeing)} of {len(cells)} agree to {cross.BOUND:.0e}, worst {worst:.1e}")
    return 0 if len(agreeing) == len(cells) else 1
