"""What few steps are worth on real tasks: differences to the exact hypergradient, with the margins of the verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from bench.claims.draw.lines import GUIDE, over_K, panels
from bench.claims.protocol import PAIR
from bench.claims.training import (
    ACCURACY,
    C11,
    C12,
    C13,
    C14,
    LOSS,
    METRICS,
    POINTS,
    QUARTER,
    C15b,
    Compared,
    compared,
    few_steps,
    horizons,
    times,
)
from bench.record import Record
from bench.report import runs, style
from bench.report.figures import Picture
from bench.report.runs import TASKS, Line, grouped
from bench.stats import Interval

KRMD = "#0072B2"
BAND = "#EEEEEE"


def _by_framework(records: list[Record]) -> dict[str, list[Record]]:
    found = grouped(records, lambda r: r.cell.backend)
    return {name: found[name] for name in PAIR if name in found}


def _looks(framework: str, colour: str = KRMD) -> dict[str, Any]:
    return {"color": colour, "marker": "o"} | style.framework(framework, colour)


def _bars(ax: Axes, x: Sequence[float], found: Sequence[Interval], framework: str, label: str) -> None:
    """Means joined, with their intervals; no bar below three seeds."""
    looks = _looks(framework)
    ax.plot(x, [i.middle for i in found], **looks, label=label)
    for at, i in zip(x, found):
        if i.decided:
            ax.vlines([at], i.low, i.high, color=looks["color"], linewidth=1.2, linestyle=looks["linestyle"])


def _margin(ax: Axes, margin: float) -> None:
    ax.axhspan(-margin, margin, color=BAND, zorder=0)
    ax.axhline(0, **GUIDE)


def _words(of: Sequence[Compared]) -> str:
    """`jax, 5 seeds`."""
    ns = sorted({c.difference.n for c in of})
    return f"{'–'.join(str(n) for n in {ns[0]: 0, ns[-1]: 0})} seed{'s' if ns != [1] else ''}"


def _largest(every: list[Compared]) -> str:
    """The problem with most seeds, then most K."""
    by: dict[str, list[Compared]] = {}
    for c in every:
        by.setdefault(c.family.name, []).append(c)
    return max(sorted(by), key=lambda name: (max(c.difference.n for c in by[name]), len(by[name])))


def draw_cleaning(records: list[Record]) -> Picture | None:
    found = {
        name: compared(of, ("hypercleaning",), METRICS)
        for name, of in _by_framework([r for r in records if C11.wants(r)]).items()
    }
    every = [c for cs in found.values() for c in cs]
    if not every:
        return None
    name = _largest(every)
    figure, axes = panels(len(METRICS), 3.1, 3.8)
    for ax, metric in zip(axes, METRICS):
        for framework, cs in found.items():
            of = [c for c in cs if c.family.name == name and c.metric is metric]
            if of:
                words = f"{framework}, {_words(of)}"
                _bars(ax, [c.line.pulled for c in of], [c.difference for c in of], framework, words)
                over_K(ax, [c.line.pulled for c in of])
                _margin(ax, of[0].margin)
        ax.set_title(metric.name)
        ax.set_ylabel(f"difference to K = T ({'points' if metric.unit == 'points' else 'nats'})")
    axes[0].legend(frameon=False, fontsize=7)
    mine = [c for c in every if c.family.name == name]
    return _picture(
        figure,
        C11.figure,
        f"{name}: {_upper(mine)}, float32",
        f"K-RMD minus the exact hypergradient, paired by seed, at the selected iteration. Shaded: ± {POINTS} points, "
        f"and ± {LOSS:.0%} of the validation loss. Bars are 95 % intervals over seeds; none below three seeds.",
    )


def _upper(found: Sequence[Compared]) -> str:
    """`T = 100, adam 0.3`: of the lines that are compared with the exact one, and of that."""
    lines = [c.family.lines[line] for c in found for line in (c.line, c.family.exact) if line is not None]
    return ", ".join([*sorted({f"T = {c.family.T}" for c in found}), *_pairs(r for of in lines for r in of)])


def _pairs(records: Iterable[Record]) -> list[str]:
    return sorted({runs.pair_of(r.cell) for r in records})


def _picture(figure: Any, stem: str, facts: str, caption: str) -> Picture:
    figure.suptitle(facts, fontsize=9)
    return Picture(stem, f"{facts}. {caption}", figure)


def draw_interaction(records: list[Record]) -> Picture | None:
    return _accuracy_and_time([r for r in records if C12.wants(r)], "task_interaction", C12.figure)


def draw_fewshot(records: list[Record]) -> Picture | None:
    return _accuracy_and_time([r for r in records if C13.wants(r)], "fewshot", C13.figure)


def _accuracy_and_time(records: list[Record], task: str, stem: str) -> Picture | None:
    found = {name: compared(of, (task,), (ACCURACY,)) for name, of in _by_framework(records).items()}
    every = [c for cs in found.values() for c in cs]
    names = sorted({c.family.name for c in every})
    if not names:
        return None
    figure, axes = panels(2 * len(names), 3.6, 4.0)
    for i, name in enumerate(names):
        gain, cost = axes[2 * i], axes[2 * i + 1]
        mine = [c for c in every if c.family.name == name]
        for framework, cs in found.items():
            of = [c for c in cs if c.family.name == name]
            if not of:
                continue
            K = [c.line.pulled for c in of]
            _bars(gain, K, [c.difference for c in of], framework, f"{framework}, {_words(of)}")
            timed = [(c.line.pulled, t) for c in of if (t := times(c.family, c.line)) is not None]
            _bars(cost, [k for k, _ in timed], [t for _, t in timed], framework, framework)
            over_K(gain, K)
            over_K(cost, K)
        _margin(gain, POINTS)
        cost.axhline(1, **GUIDE)
        cost.set_ylim(0, None)
        gain.set_ylabel("accuracy minus that of K = T (points)")
        cost.set_ylabel("time an upper iteration / that of K = T")
        title = f"{fill(name, 34)}\n{fill(_upper(mine), 34)}"
        gain.set_title(title, fontsize=8)
        cost.set_title(title, fontsize=8)
        gain.legend(frameon=False, fontsize=7)
    return _picture(
        figure,
        stem,
        f"{task}, float32",
        f"K-RMD against the exact hypergradient, paired by seed: held-out accuracy (shaded: ± {POINTS} points) and "
        "time an upper iteration, on one machine that other cells may have shared. Bars are 95 % intervals over seeds; "
        "none below three seeds.",
    )


def draw_horizons(records: list[Record]) -> Picture | None:
    found = {name: horizons(of) for name, of in _by_framework([r for r in records if C14.wants(r)]).items()}
    every = [(name, c, short) for name, pairs in found.items() for c, short in pairs]
    if not every:
        return None
    titles = list(dict.fromkeys(_of(c, s) for _, c, s in every))
    # One problem is named above, several at their rows.
    alone = len(titles) == 1
    own = {title: "" if alone else f"{fill(title, 34)}\n" for title in titles}
    figure, (ax,) = panels(1, 6.5, 1.8 + (0.5 if alone else 0.9) * len(every))
    rows = [
        (f"{own[_of(c, s)]}{name}: K = {c.line.K} of T = {c.line.T}\nminus T = {s.T}, exact", name, c)
        for name, c, s in every
    ]
    _forest(ax, rows)
    ax.axvline(0, **GUIDE)
    ax.set_xlabel("difference of held-out accuracy (points)")
    return _picture(
        figure,
        C14.figure,
        f"{titles[0] if alone else 'fewshot'}, float32",
        "A long forward pass with a short backward pass minus a short horizon with its exact hypergradient, paired by "
        "seed; right of 0 the long one is better. Bars are 95 % intervals over seeds; none below three seeds.",
    )


def _of(c: Compared, short: Line) -> str:
    """The problem, and the settings of its two lines."""
    pairs = _pairs(r for line in (c.line, short) for r in c.family.lines[line])
    return f"{c.family.name}: {', '.join(pairs)}"


def draw_comparable(records: list[Record]) -> Picture | None:
    found = {name: few_steps(of) for name, of in _by_framework([r for r in records if C15b.wants(r)]).items()}
    every = [(name, c) for name, cs in found.items() for c in cs]
    if not every:
        return None
    every.sort(
        key=lambda p: (TASKS.index(p[1].family.name.partition(" ")[0]), p[1].family.name, p[1].line.pulled, p[0])
    )
    figure, (ax,) = panels(1, 8.5, 1.6 + 0.3 * len(every))
    ax.axvspan(-POINTS, POINTS, color=BAND, zorder=0)
    ax.axvline(0, **GUIDE)
    _forest(ax, [(f"{c.family.name}: K = {c.line.K}, {name}", name, c) for name, c in every])
    ax.set_xlabel("held-out accuracy minus that of the exact hypergradient (points)")
    return _picture(
        figure,
        C15b.figure,
        f"Few steps, K ≤ T/{QUARTER}, against the exact hypergradient, float32",
        f"Paired by seed, at the selected iteration. Shaded: comparable, within ± {POINTS} points. Bars are 95 % "
        "intervals over seeds; where there is none, fewer than three seeds.",
    )


def _forest(ax: Axes, rows: Sequence[tuple[str, str, Compared]]) -> None:
    """A line a comparison, its words at the left."""
    y = np.arange(len(rows))[::-1]
    for at, (_, framework, c) in zip(y, rows):
        d, looks = c.difference, _looks(framework)
        if d.decided:
            ax.hlines([at], d.low, d.high, color=looks["color"], linewidth=1.3, linestyle=looks["linestyle"])
        ax.plot([d.middle], [at], **{**looks, "linestyle": "none"})
        ax.annotate(f"n = {d.n}", (1.0, at), xycoords=("axes fraction", "data"), fontsize=7, va="center", ha="right")
    ax.set_yticks(y, [words for words, *_ in rows], fontsize=7.5)
    ax.set_ylim(-0.7, len(rows) - 0.3)
    ax.margins(x=0.12)
