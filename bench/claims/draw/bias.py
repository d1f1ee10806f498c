"""‖e_K‖/‖dF‖ against K with the bound of C1, problem by problem."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.claims.bias import C1, bound
from bench.claims.draw.lines import LOOKS, one_framework, over_K, panels
from bench.claims.query import K_of, listed, option, problem, sample_of
from bench.record import Record
from bench.report.figures import Picture
from bench.report.runs import grouped

NOTHING = 1e-17  # a bias of 0 is drawn here
MOST = 5  # lines a panel
TASKS = ("scalar", "spectrum", "logistic", "doublewell")


def draw(records: list[Record]) -> Picture | None:
    chosen, name = one_framework(records, C1.wants)
    drawn = {task: lines for task in TASKS if (lines := _lines([r for r in chosen if r.cell.task == task]))}
    if not drawn:
        return None
    figure, axes = panels(len(drawn), 3.9, 4.4)
    for ax, (task, lines) in zip(axes, drawn.items()):
        for looks, rs in zip(LOOKS, lines):
            _line(ax, rs, looks)
        ax.axhline(NOTHING, color="#999999", linewidth=0.8, zorder=0)
        ax.set_yscale("log")
        ax.set_ylim(NOTHING / 3, None)
        ax.set_ylabel("‖dF − h‖ / ‖dF‖ (relative)")
        over_K(ax, [K_of(r) for rs in lines for r in rs])
        ax.set_title(f"{task}, T = {listed(sorted({rs[0].cell.horizon for rs in lines}))}")
        ax.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(0, 0.4))
    figure.suptitle(f"Bias of K-RMD (marks) and the bound C1 (thin lines): float64, {name}, median over λ", fontsize=9)
    return Picture(
        C1.figure,
        f"Bias of K-RMD against K, relative to ‖dF‖, median over λ, with the bound of C1 as a thin line of the same "
        f"colour; float64, {name}. A bias of 0 (K = T where w_0 does not depend on λ) is drawn on the lowest line. The "
        "double well is strongly convex on its tail alone, and has the local bound.",
        figure,
    )


def _lines(records: list[Record]) -> list[list[Record]]:
    """The problems of one task that have three K or more, generic couplings first."""
    of = grouped(records, lambda r: problem(r.cell))
    lines = [sorted(rs, key=K_of) for rs in of.values() if len({K_of(r) for r in rs}) > 2]
    return sorted(lines, key=lambda rs: option(rs[0].cell, "coupling") != "dense")[:MOST]


def _line(ax: Any, rs: list[Record], looks: dict[str, Any]) -> None:
    first = sample_of(rs[0])
    kappa = f"κ = {first.beta / first.alpha:.3g}" if first.alpha > 0 else "α ≤ 0"
    told = {k: v for k, v in rs[0].cell.task_options.items() if k in ("coupling", "start", "direct") and v}
    words = ", ".join([f"T = {first.horizon}", kappa, f"γ = {first.gamma:.2g}", *(f"{v}" for v in told.values())])
    K = [K_of(r) for r in rs]
    error = [np.median(np.array(sample_of(r).exact_error) / np.array(sample_of(r).exact_norm)) for r in rs]
    limit = [_middle(bound(r) / np.array(sample_of(r).exact_norm)) for r in rs]
    ax.plot(K, np.maximum(error, NOTHING), **{**looks, "linestyle": "none"}, markersize=4.5, label=words)
    ax.plot(K, np.maximum(limit, NOTHING), color=looks["color"], linestyle=looks["linestyle"], linewidth=0.9)


def _middle(x: np.ndarray) -> float:
    good = x[~np.isnan(x)]
    return float(np.median(good)) if len(good) else np.nan
