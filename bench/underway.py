"""Training runs that have begun and are not done, from what they leave beside the records."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench import arrays, stamp
from bench.cell import Cell


class Underway(NamedTuple):
    """Upper iterations done and asked for; `left` is seconds, without dF and metrics, None before it can be told."""

    key: str
    done: int
    of: int
    left: float | None


def underway(cells: Iterable[Cell], cache: Path) -> list[Underway]:
    """Those of a sweep's training cells that have a checkpoint."""
    found = []
    for cell in cells:
        iterations = cell.settings.get("iterations")
        parts = arrays.read(cache / f"{cell.key}.npz") if cell.kind == "training" else None
        # Another code's is not taken up by the next run.
        if parts is not None and isinstance(iterations, int) and str(parts["stamp"]) == stamp.stamp(cell):
            done, steps = int(parts["iteration"]), parts["steps"]
            left = (iterations - done) * float(np.median(steps[:, 2])) if len(steps) else None
            found.append(Underway(cell.key, done, iterations, left))
    return found
