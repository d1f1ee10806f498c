"""K-RMD, Neumann and CG at equal budgets: bias against counted calls, planned bytes and time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from bench.report import style
from bench.report.frame import Frame

METHODS = ("krmd iterates", "neumann", "cg")
ROUNDING = 1e-16  # a bias below it is drawn on it
BUDGETS = {
    "work": ("calls, linearisations, pull-backs of Φ and ∇g (number)", "equal calls"),
    "plan_bytes": ("planned memory (MiB)", "equal memory"),
    "median_s": ("median wall time (ms)", "equal time"),
}
SCALE = {"work": 1.0, "plan_bytes": 1 / 2**20, "median_s": 1e3}


def drawn(rows: Frame) -> Iterator[tuple[str, str, Figure]]:
    """(stem, caption, figure) of every problem and machine where two methods have bias, time and plan."""
    if rows.empty or "exact_bias" not in rows:
        return
    ok = rows[(rows.status == "ok") & rows.series.isin(METHODS) & (rows.K > 0)]
    ok = ok[ok.median_s.notna() & ok.exact_bias.notna()] if "median_s" in ok else ok.iloc[:0]
    keys = ["problem", "lam", "dtype", "device", "machine"]
    for (problem, lam, dtype, device, machine), group in ok.groupby(keys, sort=True):
        T = group.groupby("T").K.nunique().idxmax()
        at = group[(group["T"] == T) & (group["T"] > group.K)]
        if at.series.nunique() < 2 or at.groupby("series").K.nunique().max() < 2:
            continue
        one = at.iloc[0]
        facts = f"T = {T}, M = {int(one.M)}, N = {int(one.N)}, {dtype}, {device}"
        stem = re.sub(r"[^A-Za-z0-9]+", "-", f"{problem}-{lam}-{device}-{machine}-{dtype}").strip("-")
        yield (
            f"budget-{stem}",
            f"Bias of K-RMD, Neumann and CG at equal counted calls, equal planned memory and equal time: {problem}, "
            f"λ = {lam}, {facts}, machine {machine}. The number at a mark is K.",
            _figure(at, f"{problem}, λ = {lam}: {facts}"),
        )


def _figure(rows: Frame, title: str) -> Figure:
    figure = Figure(figsize=(11.5, 4.3))
    panels: Any = figure.subplots(1, len(BUDGETS), sharey=True)
    for ax, (column, (label, heading)) in zip(panels, BUDGETS.items()):
        _panel(ax, rows.assign(x=rows[column] * SCALE[column]))
        ax.set_xlabel(label)
        ax.set_title(heading)
    panels[0].set_ylabel("bias ‖h − dF‖ / ‖dF‖ (relative)")
    found = dict(zip(*reversed(panels[0].get_legend_handles_labels())))
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=6, frameon=False)
    style.title(figure, title)
    return figure


def _panel(ax: Axes, rows: Frame) -> None:
    for method in METHODS:
        for name, part in rows[rows.series == method].groupby("framework", sort=True):
            middle = part.groupby("K")[["x", "exact_bias"]].median().dropna()
            looks = style.method(method)
            y = middle.exact_bias.clip(lower=ROUNDING)
            ax.plot(middle.x, y, **looks, **style.framework(str(name), looks["color"]), label=f"{method}, {name}")
            for K, x, b in zip(middle.index, middle.x, y):
                ax.annotate(f"{K:.0f}", (x, b), xytext=(3, 4), textcoords="offset points", fontsize=6)
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis in (ax.xaxis, ax.yaxis):
        low, high = axis.get_view_interval()
        if high / low < 100:  # under two decades powers of ten are too few
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
