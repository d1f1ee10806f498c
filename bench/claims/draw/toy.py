"""The toy: ‖dF‖ along upper iterations for each K, and where the runs end on its landscape."""

from __future__ import annotations

import numpy as np

from bench.claims.draw.lines import LOOKS, one_framework, panels
from bench.claims.toy import C10, CONVERGED, MINIMA, ends, race
from bench.record import Record
from bench.report.figures import Picture
from bench.report.runs import training_of

LEAST = 1e-16


def draw(records: list[Record]) -> Picture | None:
    chosen, name = one_framework(records, C10.wants)
    runs = race(chosen)
    land = next((r.landscape for r in chosen if r.landscape is not None), None)
    if not runs or land is None:
        return None
    figure, axes = panels(2, 5.0, 4.4)
    ax = axes[0]
    for looks, (K, r) in zip(LOOKS, runs.items()):
        norm = np.array(training_of(r).exact_norm)
        middle = np.maximum(np.median(norm / norm[:, :1], axis=0), LEAST)
        every = max(len(middle) // 10, 1)
        ax.plot(
            training_of(r).iterations, middle, **looks, linewidth=1.2, markersize=4, markevery=every, label=f"K = {K}"
        )
    first = next(iter(runs.values()))
    ax.axhline(CONVERGED, color="#999999", linewidth=0.8)
    ax.set_yscale("log")
    ax.set_xlabel("upper iteration τ")
    ax.set_ylabel("‖dF‖ / ‖dF(λ_0)‖, median over starts")
    ax.set_title(f"{len(training_of(first).seeds)} starts, η = {first.cell.settings.get('rate')}")
    ax.legend(frameon=False)
    found, ax = ends(chosen), axes[1]
    axis = np.array(land.axis)
    drawn = ax.contourf(axis, axis, np.array(land.value).T, levels=14, cmap="Greys")
    figure.colorbar(drawn, ax=ax, label="upper objective F(λ)", shrink=0.85)
    if len(found):
        ax.plot(found[:, 0], found[:, 1], "X", color="#D55E00", markeredgecolor="white", markersize=9)
    ax.set_xlabel("λ₁")
    ax.set_ylabel("λ₂")
    ax.grid(False)
    ax.set_aspect("equal")
    ax.set_title(f"{len(found)} distinct ends of the runs; the toy has {MINIMA} minima")
    figure.suptitle(
        f"Toy: T = {first.cell.horizon}, γ = 0.1, κ = 2, M = N = 2, K = {', '.join(map(str, runs))}, float64, {name}",
        fontsize=9,
    )
    return Picture(
        C10.figure,
        f"Left: ‖dF‖ along upper iterations with K-RMD, median over starts, one rate for all K; the line is where a "
        f"run counts as converged. Right: the landscape and the distinct ends of all runs (crosses). float64, {name}.",
        figure,
    )
