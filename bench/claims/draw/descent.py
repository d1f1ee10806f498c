"""⟨h, dF⟩/‖dF‖² at sampled λ and along runs: positive where BBᵀ and H commute, negative on the counterexample."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from bench.claims.descent import C2, LEFT_OUT, commuting, premises, ratios
from bench.claims.draw.lines import LOOKS, but, one_framework, over_K, panels
from bench.claims.query import K_of, numbers, problem
from bench.record import Record
from bench.report.figures import Picture
from bench.report.runs import grouped, training_of

RUN_K = 1
MARKERS = "os^DvPX*p<>h"
NEAR_ZERO = 1e-5  # linear below, logarithmic above


def draw(records: list[Record]) -> Picture | None:
    chosen, name = one_framework(records, C2.wants)
    every = ratios(chosen, premises)
    if not every:
        return None
    good = {problem(r.cell) for r, _ in ratios(chosen, commuting)}
    runs = {r.key: r for r, _ in every if r.training is not None and K_of(r) == RUN_K}
    figure, axes = panels(2, 5.2, 4.2)
    _samples(axes[0], [(r, x) for r, x in every if r.sample is not None], good)
    _runs(axes[1], list(runs.values()), good)
    for ax in axes:
        ax.axhline(0, color="#000000", linewidth=0.9)
        ax.set_yscale("symlog", linthresh=NEAR_ZERO)
        ax.set_ylim(None, 3)
        ax.set_ylabel("⟨h, dF⟩ / ‖dF‖² (relative, symmetric log)")
        if ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False, fontsize=6.5, loc="lower right")
    figure.suptitle(f"Is h a direction of descent?  K-RMD, ∇_λ f = 0, rank M, T large: float64, {name}", fontsize=9)
    return Picture(
        C2.figure,
        "⟨h, dF⟩/‖dF‖² of K-RMD, left the range over sampled λ against K, right along upper iterations at K = 1, "
        f"float64, {name}. Below the black line h points away from dF: C2 as restated fails there. Hollow: BBᵀ does "
        "not commute with ∇²g; filled: it does (C2′).",
        figure,
    )


def _name(r: Record) -> str:
    options = ", ".join(
        f"{'κ' if k == 'kappa' else k} = {v:g}" if isinstance(v, float) else f"{v}"
        for k, v in r.cell.task_options.items()
    )
    return f"{r.cell.task}{f' ({options})' if options else ''}, T = {r.cell.horizon}"


def _looks(i: int, filled: bool) -> dict[str, Any]:
    looks = LOOKS[i % len(LOOKS)]
    looks = but(looks, marker=MARKERS[i % len(MARKERS)])
    return looks | {"markerfacecolor": looks["color"] if filled else "none", "markersize": 5}


def _samples(ax: Axes, found: list[tuple[Record, np.ndarray]], good: set) -> None:
    of = grouped([r for r, _ in found], lambda r: problem(r.cell))
    values = {r.key: x for r, x in found}
    for i, (key, rs) in enumerate(of.items()):
        by_K = grouped(rs, K_of)
        Ks = sorted(by_K)
        x = [np.concatenate([values[r.key] for r in by_K[K]]) for K in Ks]
        shift = np.array(Ks) * (1 + 0.05 * (i - len(of) / 2))
        looks = _looks(i, key in good)
        low, middle, high = ([f(v) for v in x] for f in (np.min, np.median, np.max))
        ax.vlines(shift, low, high, color=looks["color"], linewidth=1.0)
        ax.plot(shift, middle, **but(looks, linestyle="none"), label=_name(rs[0]))
        ax.plot(shift, low, color=looks["color"], linestyle="none", marker="_", markersize=7)
    over_K(ax, [K_of(r) for r, _ in found])
    ax.set_title("at sampled λ: median and range")


def _runs(ax: Axes, runs: list[Record], good: set) -> None:
    for i, r in enumerate(runs):
        t, looks = training_of(r), _looks(i, problem(r.cell) in good)
        norm, ratio = np.array(t.exact_norm), np.array([numbers(row) for row in t.descent])
        ratio[norm < LEFT_OUT * norm[:, :1]] = np.nan
        for n, row in enumerate(ratio):
            label = f"{_name(r)}, λ_0 {r.cell.lam}" if n == 0 else None
            every = max(len(row) // 8, 1)
            ax.plot(t.iterations, row, **looks, linewidth=1.0, markevery=every, label=label)
    ax.set_xlabel("upper iteration τ")
    ax.set_title(f"along runs, K = {RUN_K}")
    if not runs:
        ax.text(0.5, 0.5, "no runs", transform=ax.transAxes, ha="center")
