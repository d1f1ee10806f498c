"""The commands.  Each has an example in its help; the work is done elsewhere."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import backends
from backends.hypergradient import METHODS
from bench import crosscheck as cross
from bench import environment, golden, naming, rehearsal, stamp
from bench.account import account
from bench.cell import Cell
from bench.compare import compare
from bench.errors import UserError
from bench.executor import Executor
from bench.record import Record
from bench.stats import MANY
from bench.store import Store, is_stale, read_record
from bench.sweep import Expanded, expand, narrow, presets, read
from bench.underway import underway
from tasks import TASKS
from tasks import data as datasets

NAMED = 20  # records that only one store has
console = Console(highlight=False, soft_wrap=True)
NO_RECORDS = "{!r} holds no records; expected a folder that `python -m bench run` has written"


class _Group(click.Group):
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is None and not ctx.resilient_parsing:
            raise UserError(f"unknown command {cmd_name!r}; allowed are {', '.join(self.list_commands(ctx))}")
        return found


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(stamp.VERSION, prog_name="hypergrad-bench")
def cli() -> None:
    """Benchmark and cross-check of hypergradient estimators, in PyTorch and JAX.

    Example: python -m bench run quick && python -m bench report results/runs/quick
    """


# run


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
        if cell_file is None or store.sweep() is None:  # one cell again leaves a store's sweep as it is
            store.write_sweep(_asked(store, whole, expanded))
        return _run(expanded, store, workers, threads or 1, timeout, memory_limit, fresh, keep_stale)


def _missing(
    expanded: Expanded, store: Store, fresh: bool, keep_stale: bool, set_aside: bool = True
) -> tuple[list[Cell], list[str]]:
    """The cells to compute, and what the store had to say."""
    if not store.records_folder.is_dir():
        return list(expanded.cells), []
    records, complaints = store.load(set_aside)
    return _without(expanded, set() if fresh else _done(records, keep_stale)), complaints


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
            again = "the same command without --fresh or --cell" if fresh else "the same command"
            raise KeyboardInterrupt(f"every finished cell is kept, and {again} goes on from there") from None
        console.print(f"{len(cells)} cells in {time.perf_counter() - began:.0f} s")
    else:
        console.print("nothing to compute: every cell has its record")
    records = _of_sweep(store, expanded)
    _print_statuses(records)
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


def _print_statuses(records: list[Record]) -> None:
    counts = Counter(r.status for r in records)
    console.print("records: " + (", ".join(f"{n} {status}" for status, n in sorted(counts.items())) or "none"))
    reasons = Counter((r.status, r.reason) for r in records if r.status != "ok")
    for (status, reason), n in sorted(reasons.items()):
        console.print(f"  {n} × {status}: {reason}", markup=False)


# status, report


@cli.command()
@click.argument("folder", type=Path)
def status(folder: Path) -> int:
    """What a folder of records holds, what is missing or stale, and where its time went.

    Example: python -m bench status results/runs/quick
    """
    store = Store.existing(folder)
    expanded = store.sweep()
    records = _records(folder) if expanded is None else _loaded(folder)  # a first cell may still be under way
    _print_statuses(records)
    if expanded is not None:
        missing = _without(expanded, {r.key for r in records})
        console.print(f"sweep {expanded.name}: {len(expanded.cells)} cells, {len(missing)} missing")
        for run in underway(_without(expanded, _done(records)), store.folder / "cache"):
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


def _done(records: list[Record], keep_stale: bool = False) -> set[str]:
    """What the next run does not compute again."""
    return {r.key for r in records if r.final and (keep_stale or not is_stale(r))}


def _without(expanded: Expanded, keys: set[str]) -> list[Cell]:
    return [c for c in expanded.cells if c.key not in keys]


def _print_account(records: list[Record]) -> None:
    spent = account(records)
    for title, parts in (("measured", spent.measured), ("harness", spent.harness)):
        console.print(f"{title}: {sum(parts.values()):.0f} s")
        for name, seconds in sorted(parts.items(), key=lambda part: -part[1]):
            console.print(f"  {name:<10} {seconds:7.1f} s")
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
    expanded, records = store.sweep(), _loaded(folder)
    running = underway(_without(expanded, _done(records)), store.folder / "cache") if expanded else []
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

    records = {r.key: r for folder in reversed(folders) for r in _records(folder)}
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


@cli.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def readme(file: Path) -> int:
    """Put the committed tables into a document, between its `<!-- table: PATH -->` and `<!-- end -->`.

    Example: python -m bench readme README.md
    """
    from bench.report.readme import fill

    _write(file, fill(file.read_text(), file.parent))
    return 0


@cli.command("targets")
@click.argument("folder", type=Path)
def reached(folder: Path) -> int:
    """What was to be reached beside what the stores under a folder give; writes targets.md there.

    Example: python -m bench targets results
    """
    from bench.report import table, targets

    stores = {path.parent.name: _records(path.parent) for path in sorted(folder.glob("*/records"))}
    if not stores:
        raise UserError(f"{str(folder)!r} holds no stores; expected folders such as quick and speed, with records")
    peers = targets.read_peers(folder)
    made = targets.table(stores, peers, targets.stale_keys(stores, peers))
    _write(folder / "targets.md", f"{made.caption}\n\n{table.markdown(made.rows)}\n")
    console.print(f"{len(made.rows)} rows → {folder / 'targets.md'}", markup=False)
    return 0


@cli.command("compare")
@click.argument("a", type=Path)
@click.argument("b", type=Path)
@click.option("--tolerance", type=click.FloatRange(0), default=0.0, help="Relative difference that a figure may have.")
def compare_stores(a: Path, b: Path, tolerance: float) -> int:
    """Hold the records of folder B against those of A; exit code 1 when a figure, a count or a plan differs.

    Where all of A is of one device and all of B of another, cells are matched whatever their device.

    Example: python -m bench compare results/quick results/runs/quick --tolerance 1e-9
    """
    found = compare(_records(a), _records(b), tolerance)
    for d in found.differences:
        console.print(f"DIFFERS  {d.key}  {d.what}: {d.a} | {d.b}", markup=False)
    if found.devices:
        console.print("matched whatever the device: A {}, B {}; plans are not compared".format(*found.devices))
    for name, keys in ((a, found.only_a), (b, found.only_b)):
        for key in keys[:NAMED]:
            console.print(f"ONLY IN {name}  {key}", markup=False)
        if len(keys) > NAMED:
            console.print(f"ONLY IN {name}  and {len(keys) - NAMED} more", markup=False)
    width = max(map(len, found.times), default=0)
    for lane, ratio in found.times.items():
        shown = "95 %" if ratio.n >= MANY else "from least to most"
        console.print(f"time B/A  {lane:<{width}} {ratio.text()} ({shown}) over {ratio.n} cells", markup=False)
    cells = len({d.key for d in found.differences})
    console.print(
        f"{found.equal} cells equal, {cells} differ, {len(found.only_a)} only in A, {len(found.only_b)} only in B"
    )
    return 0 if found.same else 1


@cli.command("golden")
@click.argument("folder", type=Path)
@click.option("--backend", type=click.Choice(cross.PAIR), default="jax", show_default=True)
def golden_vectors(folder: Path, backend: str) -> int:
    """Write the golden vectors: λ, data and every estimate of small problems, to check any library against.

    Example: python -m bench golden results/golden
    """
    try:
        files = golden.write(folder, backend)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error
    for file in files:
        console.print(str(file), markup=False)
    return 0


def _records(folder: Path) -> list[Record]:
    """The records of a folder, which must hold some."""
    records = _loaded(folder)
    if not records:
        raise UserError(NO_RECORDS.format(str(folder)))
    return records


def _loaded(folder: Path) -> list[Record]:
    """The records of a folder; bad files are set aside with a warning."""
    records, complaints = Store.existing(folder).load()
    for line in complaints:
        console.print(f"warning: {line}", markup=False)
    return records


# crosscheck


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
            _write(file, text)
    agreeing = [r for r in done if r.agrees]
    worst = max((r.difference for r in done if r.difference is not None), default=float("nan"))
    console.print(f"{len(agreeing)} of {len(cells)} agree to {cross.BOUND:.0e}, worst {worst:.1e}")
    return 0 if len(agreeing) == len(cells) else 1


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        temporary.write_text(text)
        os.replace(temporary, file)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}") from error


# methods, tasks, data


@cli.command()
def methods() -> int:
    """The estimators and their options.

    Example: python -m bench methods
    """
    for name, cls in METHODS.items():
        _print_entry(name, cls)
    return 0


@cli.command()
def tasks() -> int:
    """The tasks, their options, and the named points of λ.

    Example: python -m bench tasks
    """
    for name, cls in TASKS.items():
        _print_entry(name, cls)
        # TASKS holds classes under the type of what they are called as
        console.print(f"    points: {', '.join(cls.points)}", markup=False)  # pyright: ignore[reportFunctionMemberAccess] - of a class
    return 0


def _print_entry(name: str, cls: Any) -> None:
    given = {f.name: f.default for f in fields(cls)}
    options = ", ".join(
        n if isinstance(d, type) or repr(d).startswith("<dataclasses") else f"{n}={d!r}" for n, d in given.items()
    )
    console.print(f"{name:<15} {(cls.__doc__ or '').strip().splitlines()[0]}", markup=False)
    console.print(f"    options: {options or 'none'}", markup=False)


@cli.group(cls=_Group)
def data() -> None:
    """The data sets: what is here, from where, under which terms.

    Example: python -m bench data list
    """


@data.command("list")
def data_list() -> int:
    """Every file, where it was found, and its terms of use.

    Example: python -m bench data list
    """
    for row in datasets.listing():
        console.print(
            f"{row['name']:<10} {row['source']:<22} {row['file']}  {row['bytes']} bytes  {row['where']}", markup=False
        )
    for name, dataset in datasets.DATASETS.items():
        console.print(f"{name}: {dataset.terms}", markup=False)
    return 0


@data.command("fetch")
@click.argument("names", nargs=-1)
def data_fetch(names: tuple[str, ...]) -> int:
    """Download what is missing of the data sets NAMES (default: all).

    Example: python -m bench data fetch mnist
    """
    for path in datasets.fetch(_dataset_names(names)):
        console.print(str(path), markup=False)
    return 0


@data.command("verify")
@click.argument("names", nargs=-1)
def data_verify(names: tuple[str, ...]) -> int:
    """Check every file that is here against its SHA-256.

    Example: python -m bench data verify mnist
    """
    results = datasets.verify(_dataset_names(names))
    for file, verdict in results:
        console.print(f"{verdict:<10} {file}", markup=False)
    return 0 if all(verdict == "ok" for _, verdict in results) else 1


def _dataset_names(names: tuple[str, ...]) -> list[str]:
    for name in names:
        if name not in datasets.DATASETS:
            raise UserError(f"unknown data set {name!r}; allowed are {', '.join(datasets.DATASETS)}")
    return list(names or datasets.DATASETS)
