"""A folder of records: one JSON file a cell, written whole or not at all.

DIR/sweep.json            what was asked for: name, title and cells
DIR/records/<key>.json    one record each, as `bench.recordfile` has it
DIR/set_aside/            files that were cut, edited or written by a newer version
DIR/cache/                references, shared by cells
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from bench import recordfile, stamp
from bench.cell import Cell
from bench.errors import UserError
from bench.record import Record
from bench.sweep import Expanded


class Store:
    """Records of one sweep.  Reading never changes a good record; a bad file is moved aside and named."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records_folder = folder / "records"

    @classmethod
    def existing(cls, folder: Path) -> Store:
        """A store that must be there already."""
        if not folder.is_dir():
            raise UserError(f"there is no folder {str(folder)!r}; expected one that `python -m bench run` has written")
        if not (folder / "records").is_dir():
            raise UserError(
                f"{str(folder)!r} holds no records; expected a folder that `python -m bench run` has written"
            )
        return cls(folder)

    def create(self) -> None:
        """Make the folders; say in one line if that cannot be done."""
        try:
            self.records_folder.mkdir(parents=True, exist_ok=True)
            probe = self.records_folder / f".probe-{os.getpid()}"
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"--out {self.folder} cannot be written: {error.strerror or error}; give a folder that can"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One harness a store.  The lock dies with its process."""
        with (self.folder / ".lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another run is working on {str(self.folder)!r}; wait for it, or give another --out"
                ) from None
            except OSError as error:
                raise UserError(
                    f"{str(self.folder)!r} cannot be locked ({error.strerror or error}): two runs could spoil it; give "
                    "an --out on a file system with locks"
                ) from error
            yield

    # the sweep
    def write_sweep(self, expanded: Expanded) -> None:
        content = {
            "name": expanded.name,
            "title": expanded.title,
            "left_out": expanded.left_out,
            "cells": [c.model_dump() for c in expanded.cells],
        }
        self._replace(self.folder / "sweep.json", json.dumps(content, indent=1))

    def sweep(self) -> Expanded | None:
        """The sweep that the store was made for; None for a bare folder of records."""
        try:
            content = json.loads((self.folder / "sweep.json").read_text())
            cells = tuple(Cell.model_validate(c) for c in content["cells"])
        except (OSError, ValueError, KeyError, ValidationError):
            return None
        return Expanded(content["name"], content["title"], cells, content["left_out"])

    # records
    def write(self, record: Record) -> None:
        self._replace(self.records_folder / f"{record.key}.json", recordfile.text(record))

    def _replace(self, path: Path, text: str) -> None:
        temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}.tmp")
        with temporary.open("w") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)

    def load(self, set_aside: bool = True) -> tuple[list[Record], list[str]]:
        """All good records by key, and one line for every bad file, which is moved aside unless one only looks."""
        records, complaints = [], []
        for path in sorted(self.records_folder.glob("*.json")):
            record, reason = recordfile.read(path)
            if record is not None:
                records.append(record)
            elif reason != recordfile.GONE:  # else another reader has just set it aside
                if set_aside:
                    self._set_aside(path)
                complaints.append(f"{path.name}: {reason}; {'set aside' if set_aside else 'a run would set it aside'}")
        return records, complaints

    def _set_aside(self, path: Path) -> None:
        folder = self.folder / "set_aside"
        folder.mkdir(exist_ok=True)
        earlier = len(list(folder.glob(f"{path.stem}*")))  # of the same cell: kept
        with suppress(FileNotFoundError):  # another reader was first
            os.replace(path, folder / (f"{path.stem}.{earlier}.json" if earlier else path.name))


def is_stale(record: Record) -> bool:
    """Has the code that made it changed?"""
    return bool(stamp.changed(record.code, record.cell))


def done(records: list[Record], keep_stale: bool = False) -> set[str]:
    """The keys of those that the next run leaves alone."""
    return {r.key for r in records if r.final and (keep_stale or not is_stale(r))}


def read_record(path: Path) -> Record:
    """One record file whose cell is to be run again."""
    if not path.is_file():
        raise UserError(f"--cell {path}: there is no such record file")
    record, reason = recordfile.read(path)
    if record is None:
        raise UserError(f"--cell {path}: {reason}")
    return record
