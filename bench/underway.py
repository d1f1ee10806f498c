"""Training runs that have begun and are not done, from what they leave beside the records."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench import arrays, stamp
from bench.cell import Cell


class Underway(NamedTuple):
    """Upper iterations done and asked for; `left` is seconds, without dF and metrics, None before it can be told.

    cell    the run's
    value   F(λ_τ), τ = 0, 1, …; of several starts none, here and below
    norm    ‖h‖ likewise
    """

    cell: Cell
    done: int
    of: int
    left: float | None
    value: np.ndarray
    norm: np.ndarray


def underway(cells: Iterable[Cell], cache: Path) -> list[Underway]:
    """Those of a sweep's training cells that have a checkpoint."""
    found = []
    for cell in cells:
        iterations = cell.settings.get("iterations")
        parts = arrays.read(cache / f"{cell.key}.npz") if cell.kind == "training" else None
        # Another code's is not taken up by the next run.
        if parts is not None and isinstance(iterations, int) and str(parts["stamp"]) == stamp.stamp(cell):
            done, steps = int(parts["iteration"]), parts["steps"].reshape(-1, 3)
            left = (iterations - done) * float(np.median(steps[:, 2])) if len(steps) else None
            found.append(Underway(cell, done, iterations, left, steps[:, 0], steps[:, 1]))
    return found
