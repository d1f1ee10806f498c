"""`run`: compute the cells of a sweep that have no record yet."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench import environment, naming, rehearsal
from bench.cell import Cell
from bench.commands.group import cli, console, print_statuses
from bench.errors import UserError
from bench.executor import Executor
from bench.record import Record
from bench.store import Store, done, read_record
from bench.sweep import Expanded, expand, narrow, presets, read


@cli.command()
@click.argument("preset", required=False)
@click.option("--only", multiple=True, metavar="KEY=VALUE", help="Keep cells with this value; commas give several.")
@click.option("--backend", "backend_names", multiple=True, metavar="B", help="jax, torch, torch:compiled.")
@click.option("--device", multiple=True, metavar="D", help="cpu, cuda, cuda:<number>.")
@click.option("--method", "methods", multiple=True, metavar="FILE.py:CLASS", help="Add your own method to the sweep.")
@click.option("--cell", "cell_file", type=Path, help="Run the one cell of this record file again.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Untimed cells at once, at most one a framework and device; timed ones run alone.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="Threads of each process.  [default: 1; with --cell those of its record]",
)
@click.option("--timeout", type=click.FloatRange(1), default=1800, show_default=True, help="Seconds a cell may take.")
@click.option("--memory-limit", type=click.FloatRange(0.5), metavar="GIB", help="Address space of each process.")
@click.option("--out", type=Path, help="Folder of the records.  [default: results/runs/<preset>]")
@click.option("--fresh", is_flag=True, help="Compute every cell again.")
@click.option("--keep-stale", is_flag=True, help="Keep records whose code has changed; tables mark them.")
@click.option("--dry-run", is_flag=True, help="Only say how many cells, how long, how much memory, which data.")
def run(
    preset: str | None,
    only: tuple[str, ...],
    backend_names: tuple[str, ...],
    device: tuple[str, ...],
    methods: tuple[str, ...],
    cell_file: Path | None,
    workers: int,
    threads: int | None,
    timeout: float,
    memory_limit: float | None,
    out: Path | None,
    fresh: bool,
    keep_stale: bool,
    dry_run: bool,
) -> int:
    """Compute the cells of PRESET or FILE.toml that have no record yet.

    Example: python -m bench run quick --only method=krmd,rmd --backend jax --dry-run
    """
    if cell_file is not None:
        if preset:
            raise UserError("give either a preset or --cell, not both")
        again = read_record(cell_file)
        expanded = Expanded("cell", f"One cell: {again.key}", (again.cell,), 0)
        threads = threads or environment.threads(again.environment)  # or its times would be of another machine
        fresh = True
    elif preset is None:
        raise UserError(f"which sweep? allowed are {', '.join(presets())}, or a FILE.toml")
    else:
        expanded = expand(*read(preset))
    whole = expanded
    expanded = narrow(expanded, list(only), list(backend_names), list(device), list(methods))
    store = Store(out or Path("results/runs") / expanded.name)
    if dry_run:
        cells, complaints = _missing(expanded, store, fresh, keep_stale, set_aside=False)
        for line in [*(f"warning: {c}" for c in complaints), *rehearsal.lines(expanded, cells)]:
            console.print(line, markup=False)
        return 0
    store.create()
    with store.locked():
        store.write_sweep(_asked(store, whole, expanded) if cell_file is None else _repeated(store, expanded))
        return _run(expanded, store, workers, threads or 1, timeout, memory_limit, fresh, keep_stale)


def _repeated(store: Store, one: Expanded) -> Expanded:
    """The sweep of a store in which a cell is run again: its own, or all cells that were run so."""
    before = store.sweep()
    if before is None:
        return one
    if before.name != one.name:
        return before
    cells = tuple(dict.fromkeys((*before.cells, *one.cells)))
    return one if len(cells) == 1 else replace(one, title=f"{len(cells)} cells, run one by one", cells=cells)


def _missing(
    expanded: Expanded, store: Store, fresh: bool, keep_stale: bool, set_aside: bool = True
) -> tuple[list[Cell], list[str]]:
    """The cells to compute, and what the store had to say."""
    if not store.records_folder.is_dir():
        return list(expanded.cells), []
    records, complaints = store.load(set_aside)
    return expanded.without(set() if fresh else done(records, keep_stale)), complaints


def _asked(store: Store, whole: Expanded, narrowed: Expanded) -> Expanded:
    """What `status` counts: what is asked for now, and what was before and is still of this sweep."""
    before = store.sweep()
    earlier = () if before is None or before.name != whole.name else before.cells
    wanted = {*earlier, *narrowed.cells}
    devices = sorted({c.device for c in wanted})
    elsewhere = [c.model_copy(update={"device": d}) for d in devices for c in whole.cells]
    of_sweep = [c for c in dict.fromkeys((*whole.cells, *elsewhere)) if c in wanted]
    guests = [c for c in narrowed.cells if c not in of_sweep]
    return replace(whole, cells=(*of_sweep, *guests))


def _run(
    expanded: Expanded,
    store: Store,
    workers: int,
    threads: int,
    timeout: float,
    memory_limit: float | None,
    fresh: bool,
    keep_stale: bool,
) -> int:
    cells, complaints = _missing(expanded, store, fresh, keep_stale)
    for line in complaints:
        console.print(f"warning: {line}", markup=False)
    left_out = f" ({expanded.left_out} left out: K > T)" if expanded.left_out else ""
    console.print(
        f"{expanded.title}\n{len(expanded.cells)} cells{left_out}, {len(cells)} to compute → {store.folder}",
        markup=False,
    )
    if fresh:  # what a killed run had done is not fresh either
        for cell in cells:
            (store.folder / "cache" / f"{cell.key}.npz").unlink(missing_ok=True)
    if cells:
        limit = int(memory_limit * 2**30) if memory_limit else None
        began = time.perf_counter()
        try:
            with Executor(store.folder / "cache", workers, timeout, threads, limit) as executor:
                _compute(executor, cells, store)
        except KeyboardInterrupt:
            on = "begins anew; the other cells have the records that they had" if fresh else "goes on from there"
            raise KeyboardInterrupt(f"every finished cell is kept, and the same command {on}") from None
        console.print(f"{len(cells)} cells in {time.perf_counter() - began:.0f} s")
    else:
        console.print("nothing to compute: every cell has its record")
    records = _of_sweep(store, expanded)
    print_statuses(records)
    bad = [r for r in records if r.status in ("error", "timeout", "oom")]
    nothing = all(r.status == "unavailable" for r in records)
    return 1 if bad or nothing or len(records) < len(expanded.cells) else 0


def _compute(executor: Executor, cells: list[Cell], store: Store) -> None:
    """Each record is stored as it is done; a line every so often, or a bar on a terminal."""
    with _progress() as progress:
        bar = progress.add_task("cells", total=len(cells), last="")
        for number, record in enumerate(executor.run(cells), 1):
            store.write(record)
            progress.update(bar, advance=1, last=f"{record.status:<11} {_label(record.cell)}")
            if not console.is_terminal and (number % 20 == 0 or record.status != "ok"):
                note = f" {record.reason}" if record.reason else ""
                console.print(f"[{number}/{len(cells)}] {record.status} {_label(record.cell)}{note}", markup=False)


def _of_sweep(store: Store, expanded: Expanded) -> list[Record]:
    wanted = {c.key for c in expanded.cells}
    return [r for r in store.load()[0] if r.key in wanted]


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[last]}"),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _label(cell: Cell) -> str:
    options = " ".join(f"{k}={v}" for k, v in cell.method_options.items())
    at = "" if cell.lam == "init" else f" λ = {naming.short(cell.lam)}"
    return f"{cell.task} {cell.method} {options} {cell.backend} {cell.dtype} T={cell.horizon}{at}".replace("  ", " ")
