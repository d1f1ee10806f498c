"""Training on real tasks along upper iterations and time, for each K: ‖dF‖, bias, losses, accuracy, F1."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from textwrap import fill
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.record import Record
from bench.report import runs, style
from bench.report.figures import Picture
from bench.report.runs import Family, Line, grouped, training_of

SHOWN = ("krmd", "rmd")  # the other estimators stand in the tables and in the first figure
PERCENT = 100.0
WILD = 3.0  # above it what is relative to a vanishing ‖dF‖ is drawn on an axis that is linear to 1, logarithmic beyond


class Panel(NamedTuple):
    """What is drawn of a run at its recorded iterations."""

    title: str
    label: str
    values: Callable[[Record], np.ndarray]
    time: bool = False  # against time, not iterations
    log: bool = False
    relative: bool = False  # to ‖dF‖


def _held(name: str, scale: float = 1.0) -> Callable[[Record], np.ndarray]:
    def values(r: Record) -> np.ndarray:
        t = training_of(r)
        return scale * runs.column(t.held.get(name, [None] * len(t.iterations)))

    return values


def _loss(r: Record) -> np.ndarray:
    return np.array(runs.losses(r))


LOSS, ACCURACY = "validation loss", "accuracy on held-out data (%)"
PANELS = (
    Panel("exact hypergradient", "‖dF‖", lambda r: np.array(training_of(r).exact_norm[0]), log=True),
    Panel("validation loss", LOSS, _loss),
    Panel("held-out accuracy", ACCURACY, _held("accuracy", PERCENT)),
    Panel("F1 of the marked examples", "F1", _held("f1")),
    Panel(
        "bias along the run", "‖h − dF‖ / ‖dF‖ (relative)", lambda r: runs.column(training_of(r).bias[0]), relative=True
    ),
    Panel("validation loss against time", LOSS, _loss, time=True),
    Panel("held-out accuracy against time", ACCURACY, _held("accuracy", PERCENT), time=True),
)


def figures(records: list[Record]) -> list[Picture]:
    """One figure a problem and framework."""
    with mpl.rc_context(style.RC):
        return [p for family in runs.drawn(records) for p in _figures(family)]


def _figures(family: Family) -> Iterator[Picture]:
    lines = {line: of for line, of in family.lines.items() if line.method in SHOWN}
    frameworks = sorted({r.cell.backend for of in lines.values() for r in of})
    for name in frameworks:
        mine = {line: [r for r in of if r.cell.backend == name] for line, of in lines.items()}
        mine = {line: of for line, of in mine.items() if of}
        # K = T and RMD are one line where λ does not set the start; K = T is kept.
        kept = {(line.T, line.baseline) for line in mine if line.method == "krmd" and line.exact}
        mine = {k: v for k, v in mine.items() if k.method != "rmd" or (k.T, k.baseline) not in kept}
        # Eight looks are told apart.
        shown = dict(list(mine.items())[: len(style.LOOKS)])
        yield _picture(family, name, shown, len(mine) - len(shown))


def _picture(family: Family, framework: str, lines: dict[Line, list[Record]], left_out: int) -> Picture:
    looks = dict(zip(lines, style.LOOKS))
    panels = [p for p in PANELS if any(np.isfinite(p.values(r)).any() for of in lines.values() for r in of)]
    timed = {line: runs.one_machine(of) for line, of in lines.items()}
    panels = [p for p in panels if not p.time or any(np.isfinite(runs.seconds(r)) for of in timed.values() for r in of)]
    columns = (len(panels) + 1) // 2
    figure = Figure(figsize=(3.4 * columns, 6.6))
    axes: Any = figure.subplots(2, columns, squeeze=False)
    for ax, panel in zip(axes.ravel(), panels):
        levels = _levels(panel, lines) if panel.label in (LOSS, ACCURACY) else None
        later = [y for line, of in lines.items() for y in _line(ax, panel, of, looks[line], levels)]
        _name(ax, panel)
        _from_the_second(ax, panel, later)
    for ax in axes.ravel()[len(panels) :]:
        ax.axis("off")
    handles = [Line2D([], [], **looks[line], label=_label(line, of, family.T)) for line, of in lines.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    facts = _facts(family, framework, [r for of in lines.values() for r in of])
    figure.suptitle(fill(facts, 38 * columns), fontsize=9)
    stem = re.sub(r"[^A-Za-z0-9]+", "-", f"training-{family.name}-{framework}").strip("-")
    return Picture(
        stem,
        f"Training along upper iterations: {facts}. Means over seeds, shaded from the least to the largest; in the "
        "panels of loss and accuracy, where the start may be out of view, each seed is shaded less its own level (the "
        "mean over lines of its last value; seeds that all lines have), around the mean, so that draws of unequal "
        "difficulty do not hide where lines part. dF by native autodiff in float64. The bias is read at the run's own "
        "λ, which starts at λ_0. Time is iterations times the median seconds of one h, on a machine that may have run "
        "other cells." + (f" Lines run beyond these {len(lines)} and not drawn: {left_out}." if left_out else ""),
        figure,
    )


def _name(ax: Axes, panel: Panel) -> None:
    ax.set_title(panel.title)
    ax.set_ylabel(panel.label)
    ax.set_xlabel("time in h (s)" if panel.time else "upper iteration τ")
    if panel.log:
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        if high < 20 * low:
            ax.yaxis.set_minor_formatter("{x:g}")
            ax.tick_params(axis="y", which="minor", labelsize=7)
    if panel.relative and (top := ax.get_ylim()[1]) > WILD:
        ax.set_yscale("symlog", linthresh=1.0, linscale=2.0)
        ax.set_ylim(-0.1, top)
        ax.set_yticks([0, 0.5, 1, *10.0 ** np.arange(1, np.floor(np.log10(top)) + 1)])
        ax.set_yticks([], minor=True)
        ax.yaxis.set_major_formatter("{x:g}")
    if panel.time:
        ax.set_xlim(0, None)


def _from_the_second(ax: Axes, panel: Panel, later: list[float]) -> None:
    """Where lines part is seen only if the start, the same for all, does not set the scale."""
    if panel.label in (LOSS, ACCURACY) and later:
        room = 0.06 * max(max(later) - min(later), 1e-3)
        ax.set_ylim(min(later) - room, max(later) + room)


def _levels(panel: Panel, lines: dict[Line, list[Record]]) -> dict[int, float]:
    """By seed the mean over lines of the last value: of the seeds that all lines have, but for lines of one seed."""
    last = [runs.by_seed(of, lambda r: float(panel.values(r)[-1])) for of in lines.values() if len(of) > 1]
    seeds = set.intersection(*map(set, last)) if last else set()
    return {seed: float(np.mean([values[seed] for values in last])) for seed in sorted(seeds)}


def _line(
    ax: Axes, panel: Panel, of: list[Record], looks: dict[str, Any], levels: dict[int, float] | None
) -> list[float]:
    """The mean over seeds, shaded by their spread, less their levels if there are any; what is to be in view: the mean
    from the second value on, and the spread at the end.  Seeds that recorded other iterations than most are left out.
    """
    by = grouped(runs.one_machine(of) if panel.time else of, lambda r: tuple(training_of(r).iterations))
    tau, same = max(by.items(), key=lambda pair: (len(pair[1]), len(pair[0])))
    values = np.array([panel.values(r) for r in same])
    seen = np.isfinite(values).all(axis=0)
    x = np.array(tau, float)
    if panel.time:
        s = np.array([runs.seconds(r) for r in same])
        if not np.isfinite(s).any():
            return []
        x = x * np.nanmedian(s)
    if panel.log:
        seen &= (values > 0).all(axis=0)
    if not seen.any():
        return []
    every, middle = max(int(seen.sum()) // 8, 1), values.mean(axis=0)[seen]
    ax.plot(x[seen], middle, **looks, linewidth=1.3, markersize=4, markevery=every)
    spread = values[:, seen]
    if levels is not None:
        # A seed that is hard for one K is hard for all.
        spread = np.array([v[seen] - levels[r.cell.seed] for v, r in zip(values, same) if r.cell.seed in levels])
        spread = spread - spread.mean(axis=0) + middle if len(spread) else spread
    later = middle[1:].tolist()
    if len(spread) > 1:
        low, high = spread.min(axis=0), spread.max(axis=0)
        ax.fill_between(x[seen], low, high, color=looks["color"], alpha=0.15, linewidth=0)
        later += [low[-1], high[-1]]
    return later


def _label(line: Line, of: list[Record], T: int) -> str:
    settings = {runs.pair_of(r.cell) for r in of}
    return f"{line.label(T)} ({', '.join(sorted(settings))}; {len(of)} seed{'s' if len(of) > 1 else ''})"


def _facts(family: Family, framework: str, of: list[Record]) -> str:
    iterations = sorted({int(r.cell.settings["iterations"] or 0) for r in of})
    devices = ", ".join(sorted({r.cell.device for r in of}))
    return (
        f"{family.name}: T = {family.T}, {' / '.join(map(str, iterations))} upper iterations, {family.dtype}, "
        f"{devices}, {framework}"
    )
