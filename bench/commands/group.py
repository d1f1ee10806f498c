"""What the commands share: the group they are in, the console, and folders of records as they read them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import click
from rich.console import Console

from bench import stamp
from bench.errors import UserError
from bench.record import Record
from bench.store import Store

console = Console(highlight=False, soft_wrap=True)
NO_RECORDS = "{!r} holds no records; expected a folder that `python -m bench run` has written"


class Group(click.Group):
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is None and not ctx.resilient_parsing:
            raise UserError(f"unknown command {cmd_name!r}; allowed are {', '.join(self.list_commands(ctx))}")
        return found


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(stamp.VERSION, prog_name="hypergrad-bench")
def cli() -> None:
    """Benchmark and cross-check of hypergradient estimators, in PyTorch and JAX.

    Example: python -m bench run quick && python -m bench report results/runs/quick
    """


def records_of(folder: Path) -> list[Record]:
    """The records of a folder, which must hold some."""
    records = loaded(folder)
    if not records:
        raise UserError(NO_RECORDS.format(str(folder)))
    return records


def loaded(folder: Path) -> list[Record]:
    """The records of a folder; bad files are set aside with a warning."""
    records, complaints = Store.existing(folder).load()
    for line in complaints:
        console.print(f"warning: {line}", markup=False)
    return records


def print_statuses(records: list[Record]) -> None:
    counts = Counter(r.status for r in records)
    console.print("records: " + (", ".join(f"{n} {status}" for status, n in sorted(counts.items())) or "none"))
    reasons = Counter((r.status, r.reason) for r in records if r.status != "ok")
    for (status, reason), n in sorted(reasons.items()):
        console.print(f"  {n} × {status}: {reason}", markup=False)


def write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        temporary.write_text(text)
        os.replace(temporary, file)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}") from error
