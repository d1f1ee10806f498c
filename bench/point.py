"""Where λ stands: a point of the task by its name, an array in a file, or λ of a training run.

    init                   a name that the task knows
    FILE.npz               its array `lam`, flat or in λ's shape
    RECORD.json@ITERATION  λ there, as a training record keeps it, of its first start: `chosen` (six digits), or the
                           number of an iteration that it keeps

Files are looked for from the working directory, then from the checkout.  λ of N > 5000 is not in a training record.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench import arrays, recordfile
from bench.cell import Cell
from bench.errors import UserError
from bench.record import Record, Training
from tasks.data import DataError

ROOT = Path(__file__).resolve().parent.parent
CHOSEN = "chosen"
KINDS = ("hypergradient",)  # the others begin at points of their task


def is_file(lam: str) -> bool:
    """Whether λ is not a point of its task by name."""
    return lam.endswith(".npz") or ".json@" in lam


def check(lam: str, points: tuple[str, ...]) -> str:
    """What is wrong with it, as far as its text shows; nothing otherwise."""
    if not is_file(lam):
        return (
            ""
            if lam in points
            else f"allowed are {', '.join(points)}, FILE.npz, RECORD.json@ITERATION, RECORD.json@{CHOSEN}"
        )
    iteration = lam.rpartition("@")[2]
    if not lam.endswith(".npz") and iteration != CHOSEN and not iteration.isdecimal():
        return f"after @ comes the number of an iteration, or {CHOSEN}"
    return ""


def hparams_of(bk: Any, task: Any, cell: Cell) -> Any:
    """λ of a cell in the backend's arrays."""
    if not is_file(cell.lam):
        return bk.asarray(task.hparams(cell.seed, cell.lam))
    vector, unravel = bk.ravel(bk.asarray(task.hparams(cell.seed, task.points[0])))
    found = _read(cell)
    if found.size != vector.shape[0]:
        raise UserError(f"lam = {cell.lam!r} has {found.size} numbers; {cell.task} needs {vector.shape[0]}")
    return unravel(bk.asarray(found))


def digest(lam: str) -> str | None:
    """Of the numbers in the file; None for a point by name, and where the file is not there."""
    if not is_file(lam):
        return None
    try:
        return hashlib.sha256(_numbers(lam)[0].tobytes()).hexdigest()
    except (UserError, DataError):
        return None


def _read(cell: Cell) -> np.ndarray:
    numbers, record = _numbers(cell.lam)
    if record is not None:
        ran = record.cell
        for name in ("task", "task_options", "seed"):
            if getattr(ran, name) != getattr(cell, name):
                raise UserError(
                    f"lam = {cell.lam!r} was trained with {name} = {getattr(ran, name)!r}; "
                    f"the cell has {getattr(cell, name)!r}"
                )
    return numbers


@cache
def _numbers(lam: str) -> tuple[np.ndarray, Record | None]:
    """λ flat in float64, and the training record that it is from."""
    path, at, iteration = (lam, "", "") if lam.endswith(".npz") else lam.rpartition("@")
    file = _file(path)
    if file is None:
        raise DataError(f"lam = {lam!r}: there is no file {path!r}")
    if not at:
        return _array(lam, file), None
    record, reason = recordfile.read(file)
    if record is None or record.training is None or record.status != "ok":
        raise UserError(f"lam = {lam!r}: {reason or 'not a training run that ended as ok'}")
    kept = _kept(record.training)
    if iteration not in kept:
        raise UserError(f"lam = {lam!r}: the record keeps λ of {', '.join(kept) or 'no iteration'}")
    return kept[iteration], record


def _file(path: str) -> Path | None:
    return next((f for f in (Path(path), ROOT / path) if f.is_file()), None)


def _array(lam: str, file: Path) -> np.ndarray:
    held = arrays.read(file)
    if held is None:
        raise UserError(f"lam = {lam!r}: the file is not a whole .npz")
    if "lam" not in held:
        raise UserError(f"lam = {lam!r}: the file has no array `lam`; it has {', '.join(held) or 'none'}")
    found = held["lam"]
    if found.dtype.kind not in "fiu" or not np.isfinite(found).all():
        raise UserError(f"lam = {lam!r}: its array is {found.dtype} or not finite; λ is finite real numbers")
    return found.astype(np.float64).ravel()


def _kept(training: Training) -> dict[str, np.ndarray]:
    """Iteration → λ of the first start; all digits where the record has them."""
    found: dict[str, Any] = {}
    if training.chosen is not None:
        found |= {CHOSEN: training.chosen, str(training.selected[0]): training.chosen}
    if training.last is not None:
        found[str(training.iterations[-1])] = training.last[0]
    if training.lam is not None:
        found |= {str(tau): lam for tau, lam in zip(training.iterations, training.lam[0])}
    return {name: np.asarray(lam, np.float64) for name, lam in found.items()}
