"""`readme`, `targets` and `golden`: what is committed beside records."""

from __future__ import annotations

from pathlib import Path

import click

from bench import crosscheck, golden
from bench.commands.group import cli, console, records_of, write
from bench.errors import UserError


@cli.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def readme(file: Path) -> int:
    """Put the committed tables into a document, between its `<!-- table: PATH -->` and `<!-- end -->`.

    Example: python -m bench readme README.md
    """
    from bench.report.readme import fill

    text = fill(file.read_text(), file.parent)
    write(file, text)
    console.print(f"{text.count('<!-- table: ')} tables → {file}", markup=False)
    return 0


@cli.command("targets")
@click.argument("folder", type=Path)
def reached(folder: Path) -> int:
    """What was to be reached beside what the stores under a folder give; writes targets.md there.

    Example: python -m bench targets results
    """
    from bench.report import table, targets

    stores = {path.parent.name: records_of(path.parent) for path in sorted(folder.glob("*/records"))}
    if not stores:
        raise UserError(f"{str(folder)!r} holds no stores; expected folders such as quick and speed, with records")
    peers = targets.read_peers(folder)
    made = targets.table(stores, peers, targets.stale_keys(stores, peers))
    write(folder / "targets.md", f"{made.caption}\n\n{table.markdown(made.rows)}\n")
    console.print(f"{len(made.rows)} rows → {folder / 'targets.md'}", markup=False)
    return 0


@cli.command("golden")
@click.argument("folder", type=Path)
@click.option("--backend", type=click.Choice(crosscheck.PAIR), default="jax", show_default=True)
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
