"""The kinds of cell beside `hypergradient`: what each measures, as the fields of its record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench import calibration, landscape
from bench.cell import Cell

KINDS: dict[str, Callable[[Any, Any, Any, Cell], dict[str, Any]]] = {
    "landscape": landscape.measure,
    "calibration": calibration.measure,
}
"""kind → (backend, task, method, cell) → the fields of the record."""
