"""Training runs under way, as far as they are: a figure that the finished store does not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.report import style
from bench.report.figures import Picture
from bench.report.frame import problem
from bench.report.runs import line_of, pair_of
from bench.report.table import DIGITS
from bench.underway import Underway

SHOWN = len(style.LOOKS)  # more lines are not told apart


def figures(running: Sequence[Underway]) -> list[Picture]:
    """F(λ_τ) and ‖h‖ at every upper iteration so far; nothing where nothing runs."""
    drawn = [run for run in running if len(run.value)][:SHOWN]
    if not drawn:
        return []
    with mpl.rc_context(style.RC):
        figure = Figure(figsize=(7.4, 3.4 + 0.2 * len(drawn)))
        axes: Any = figure.subplots(1, 2)
        for ax, name, title in zip(axes, ("value", "norm"), ("F(λ)", "‖h‖")):
            for run, looks in zip(drawn, style.LOOKS):
                y = getattr(run, name)
                ax.plot(y, **looks, linewidth=1.3, markersize=4, markevery=max(len(y) // 8, 1), label=_label(run))
            ax.set_title(title)
            ax.set_ylabel(title)
            ax.set_xlabel("upper iteration τ")
            ax.set_xlim(0, max(run.of for run in drawn))
        axes[1].set_yscale("log")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=1, frameon=False)
    left_out = len(running) - len(drawn)
    caption = (
        "Training runs that had begun and not ended when this report was made, with the last digits of their keys: "
        + "; ".join(map(_label, drawn))
        + (f"; and {left_out} more, not drawn." if left_out else ".")
    )
    return [Picture("under-way", caption, figure)]


def _label(run: Underway) -> str:
    cell = run.cell
    what = f"{problem(cell)}, {line_of(cell).label(cell.horizon)}, {pair_of(cell)}, {cell.backend}, seed {cell.seed}"
    return f"{what}: {run.done} of {run.of} ({cell.key[-DIGITS:]})"
