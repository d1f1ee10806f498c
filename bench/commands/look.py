"""`status`, `report`, `claims` and `compare`: what folders of records hold."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from bench import environment, stamp
from bench.account import account
from bench.commands.group import NO_RECORDS, cli, console, loaded, print_statuses, records_of
from bench.compare import compare
from bench.errors import UserError
from bench.record import Record
from bench.stats import MANY
from bench.store import Store, done, is_stale
from bench.underway import underway

NAMED = 20  # records that only one store has


@cli.command()
@click.argument("folder", type=Path)
def status(folder: Path) -> int:
    """What a folder of records holds, what is missing or stale, and where its time went.

    Example: python -m bench status results/runs/quick
    """
    store = Store.existing(folder)
    expanded = store.sweep()
    records = records_of(folder) if expanded is None else loaded(folder)  # a first cell may still be under way
    print_statuses(records)
    if expanded is not None:
        missing = expanded.without({r.key for r in records})
        console.print(f"sweep {expanded.name}: {len(expanded.cells)} cells, {len(missing)} missing")
        for run in underway(expanded.without(done(records)), store.folder / "cache"):
            left = "" if run.left is None else f", about {run.left:.0f} s left"
            console.print(f"  under way: iteration {run.done} of {run.of}{left}: {run.cell.key}", markup=False)
    stale = [r for r in records if is_stale(r)]
    console.print(f"stale: {len(stale)}" + (" (the next run computes them again), because of" if stale else ""))
    because = Counter(file for r in stale for file in stamp.changed(r.code, r.cell))
    for file, n in because.most_common():
        console.print(f"  {n} × {file} has changed", markup=False)
    for machine in sorted({environment.told(r.environment) for r in records}):
        console.print(f"machine: {machine}", markup=False)
    if records:
        _print_account(records)
    return 0


def _print_account(records: list[Record]) -> None:
    spent = account(records)
    for title, parts in (("measured", spent.measured), ("harness", spent.harness)):
        console.print(f"{title}: {sum(parts.values()):.0f} s")
        for name, seconds in sorted(parts.items(), key=lambda part: -part[1]):
            console.print(f"  {name:<10} {seconds:7.1f} s")
    if spent.failed:
        console.print(f"failed: {spent.failed:.0f} s")
    warm = "no warm cell" if spent.warm_cell is None else f"{1e3 * spent.warm_cell:.0f} ms a warm cell (median)"
    console.print(f"harness share: {100 * spent.share:.0f} % of all seconds; {warm}")


@cli.command()
@click.argument("folder", type=Path)
def report(folder: Path) -> int:
    """Figures, tables and one page from the records of a folder.

    A sweep may still run: training runs under way are drawn as far as they are.

    Example: python -m bench report results/runs/quick
    """
    from bench import report as pages

    store = Store.existing(folder)
    expanded, records = store.sweep(), loaded(folder)
    running = underway(expanded.without(done(records)), store.folder / "cache") if expanded else []
    if not records and not running:
        raise UserError(NO_RECORDS.format(str(folder)))
    stale = frozenset(r.key for r in records if is_stale(r))
    written = pages.write(records, folder, expanded.title if expanded else folder.name, stale, running)
    console.print(f"{len(written)} files from {len(records)} records → {folder / 'report.html'}", markup=False)
    return 0


@cli.command()
@click.argument("folders", nargs=-1, required=True, type=Path, metavar="DIR...")
def claims(folders: tuple[Path, ...]) -> int:
    """Judge the paper's claims from the records of DIR, and of further folders; write claims.html into the first.

    Exit code 0 whatever the verdicts are, 1 when one could not be formed.

    Example: python -m bench claims results/runs/theory results/speed
    """
    from bench.claims import page

    records = {r.key: r for folder in reversed(folders) for r in records_of(folder)}
    chosen = [records[key] for key in sorted(records)]
    expanded = Store.existing(folders[0]).sweep()
    title = expanded.title if expanded and len(folders) == 1 else "the paper's statements, judged from records"
    judged, files = page.write(chosen, folders[0], title)
    for j in judged:
        console.print(f"{j.claim.id:<5} {j.verdict:<13} {j.reason}", markup=False)
    stale = sum(is_stale(r) for r in chosen)
    if stale:
        console.print(f"warning: {stale} of {len(chosen)} records are stale: their code has changed since")
    console.print(f"{page.counts(judged)}; {len(files)} files → {folders[0] / 'claims.html'}", markup=False)
    return 1 if any(j.failed for j in judged) else 0


@cli.command("compare")
@click.argument("a", type=Path)
@click.argument("b", type=Path)
@click.option("--tolerance", type=click.FloatRange(0), default=0.0, help="Relative difference that a figure may have.")
@click.option("--common", is_flag=True, help="Of the cells that both folders have; others are counted alone.")
def compare_stores(a: Path, b: Path, tolerance: float, common: bool) -> int:
    """Hold the records of folder B against those of A.

    Exit code 1 when a figure, a count or a plan differs, or when only one of them has a cell.

    Where all of A is of one device and all of B of another, cells are matched whatever their device.

    Example: python -m bench compare results/quick results/runs/quick --tolerance 1e-9
    """
    found = compare(records_of(a), records_of(b), tolerance)
    for d in found.differences:
        console.print(f"DIFFERS  {d.key}  {d.what}: {d.a} | {d.b}", markup=False)
    if found.devices:
        console.print("matched whatever the device: A {}, B {}; plans are not compared".format(*found.devices))
    for name, keys in () if common else ((a, found.only_a), (b, found.only_b)):
        for key in keys[:NAMED]:
            console.print(f"ONLY IN {name}  {key}", markup=False)
        if len(keys) > NAMED:
            console.print(f"ONLY IN {name}  and {len(keys) - NAMED} more", markup=False)
    width = max(map(len, found.times), default=0)
    for lane, ratio in found.times.items():
        shown = "" if not ratio.decided else " (95 %)" if ratio.n >= MANY else " (least to most)"
        console.print(f"time B/A  {lane:<{width}} {ratio.text()}{shown} over {ratio.n} cells", markup=False)
    cells = len({d.key for d in found.differences})
    console.print(
        f"{found.equal} cells equal, {cells} differ, {len(found.only_a)} only in A, {len(found.only_b)} only in B"
    )
    return 0 if found.same or (common and found.equal and not found.differences) else 1
