"""`methods`, `tasks` and `data`: what there is by name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click

from backends.hypergradient import METHODS
from bench.commands.group import Group, cli, console
from bench.errors import UserError
from tasks import TASKS
from tasks import data as datasets


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


@cli.group(cls=Group)
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
