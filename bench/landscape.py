"""The toy over a grid of λ: how far K-RMD's direction and length are from dF (PAPER, the toy's table).

h and dF both come from the estimators, vmapped over the grid; the closed form is only the oracle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from backends.hypergradient import METHODS
from bench.cell import Cell
from bench.record import Landscape
from tasks.quadratic import CURVATURE, closed_form

SIDE = 201
RANGE = 5.0
DRAWN = 5  # every fifth point of the grid is kept for the figure


def grid() -> np.ndarray:
    """(201², 2) points of [−5, 5]²."""
    axis = np.linspace(-RANGE, RANGE, SIDE)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)


def measure(bk: Any, task: Any, method: Any, cell: Cell, cache: Path | None = None) -> dict[str, Any]:
    """The row of the table for one K."""
    return {"status": "ok", "landscape": over_grid(bk, task, method, cell.truncation or 0, cell.horizon, cell.seed)}


def over_grid(bk: Any, task: Any, method: Any, truncation: int, horizon: int, seed: int) -> Landscape:
    """The estimates of one K at every point of the grid, against dF and the closed form."""
    problem = task.problem(bk)
    data, xs = task.context(seed, 0, horizon)
    data, xs = bk.asarray(data), bk.asarray(xs)
    points = grid()

    def everywhere(estimator: Any) -> tuple[np.ndarray, np.ndarray]:
        def at(lam: Any) -> tuple:
            estimate = estimator(bk, problem, lam, data, xs)
            return estimate.value, estimate.grad

        value, grad = bk.to_numpy(bk.compile(bk.vmap(at))(bk.asarray(points)))
        return np.asarray(value, np.float64), np.asarray(grad, np.float64)

    (value, h), (_, dF) = everywhere(method), everywhere(METHODS["rmd"]())
    norm_h, norm_dF = np.linalg.norm(h, axis=1), np.linalg.norm(dF, axis=1)
    cosine = np.sum(h * dF, axis=1) / (norm_h * norm_dF)
    # Near 1 the arc cosine loses half the digits; the sine does not.
    sine = np.abs(h[:, 0] * dF[:, 1] - h[:, 1] * dF[:, 0]) / (norm_h * norm_dF)
    angle, ratio = np.degrees(np.arctan2(sine, cosine)), norm_h / norm_dF
    relative = np.linalg.norm(h - dF, axis=1) / norm_dF
    oracle = closed_form(points, truncation, horizon, task.rate)
    return Landscape(
        points=len(points),
        largest_angle_deg=float(angle.max()),
        median_norm_ratio=float(np.median(ratio)),
        bias_min=float(relative.min()),
        bias_max=float(relative.max()),
        bound=float((1 - task.rate * CURVATURE.min()) ** truncation),
        closed_form_error=float(np.linalg.norm(h - oracle, axis=1).max() / norm_dF.max()),
        axis=_drawn(np.linspace(-RANGE, RANGE, SIDE)),
        value=_drawn(value.reshape(SIDE, SIDE)),
        angle_deg=_drawn(angle.reshape(SIDE, SIDE)),
        norm_ratio=_drawn(ratio.reshape(SIDE, SIDE)),
    )


def _drawn(table: np.ndarray) -> list:
    return np.round(table[(slice(None, None, DRAWN),) * table.ndim], 6).tolist()
