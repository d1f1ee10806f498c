"""The kinds of cell beside `hypergradient`: what each measures, as the fields of its record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import baseline, calibration, landscape, sample, training
from bench.cell import Cell

KINDS: dict[str, Callable[[Any, Any, Any, Cell, Path | None], dict[str, Any]]] = {
    "landscape": landscape.measure,
    "calibration": calibration.measure,
    "sample": sample.measure,
    "training": training.measure,
    "baseline": baseline.measure,
}
"""kind → (backend, task, method, cell, folder for what survives a kill) → the fields of the record."""


@dataclass(frozen=True)
class NoSettings:
    """Of a kind that has nothing to set."""

    def check(self, task: Any, cell: Cell) -> None:
        """Nothing to refuse."""


SETTINGS: dict[str, Any] = {
    "hypergradient": NoSettings,
    "landscape": NoSettings,
    "calibration": NoSettings,
    "sample": sample.Settings,
    "training": training.Settings,
    "baseline": baseline.Settings,
}
"""kind → the class that checks `Cell.settings`, and whether a task and a cell are fit for it."""
