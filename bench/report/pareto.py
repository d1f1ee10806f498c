"""Which K, at what cost, for which loss of accuracy: accuracy against time and against memory, Pareto front marked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from bench import paper
from bench.record import Record, Result
from bench.report import runs, style
from bench.report.figures import Picture
from bench.report.frame import series
from bench.report.labels import label
from bench.report.runs import Family, Line, by_seed, grouped
from bench.report.table import Table, digits
from bench.stats import Interval, comparable, interval, paired

STEM = "which-K"
CLOSE = 0.5  # points: comparable
ITEMSIZE = {"float32": 4, "float64": 8}
ROUNDING = 1e-9
LAW = ("krmd", "rmd")  # whose law is K iterates, where these are stashed


class Point(NamedTuple):
    """A line of a family in one framework; NaN for what is not known."""

    line: Line
    framework: str
    accuracy: Interval  # per cent, over seeds
    seconds: float
    memory: float  # bytes


def figures(records: list[Record]) -> list[Picture]:
    """The first figure of a report; none without runs that have an accuracy."""
    found = [(f, points(f, records)) for f in runs.drawn(records)]
    found = [(f, ps) for f, ps in found if ps]
    if not found:
        return []
    with mpl.rc_context(style.RC):
        return [_picture(found, records)]


def points(family: Family, records: list[Record]) -> list[Point]:
    """All lines of a family, framework by framework."""
    made, bytes_of, seconds_of = [], memory(family, records), seconds(family, records)
    for line, of in family.lines.items():
        for framework, mine in sorted(grouped(of, lambda r: r.cell.backend).items()):
            values = [x for r in mine if np.isfinite(x := runs.accuracy(r))]
            if values:
                key = line, framework
                made.append(Point(*key, interval(values), seconds_of.get(key, np.nan), bytes_of.get(key, np.nan)))
    return made


def table(records: list[Record], stale: frozenset[str] = frozenset()) -> Table:
    """The first figure in numbers."""
    rows = [row for family in runs.families(records) for row in _rows(family, records, stale)]
    return Table(
        STEM,
        "Which K, at what cost, for which loss of accuracy: held-out accuracy at the iteration that validation data "
        "select, mean over seeds with its 95 % interval, and its difference to that of the exact hypergradient of the "
        f"learned problem, paired by seed. Comparable: that interval lies within ± {CLOSE} points; not shown: it "
        "reaches both in and out; no: it lies wholly outside; –: fewer than three common seeds. One h: the median "
        "seconds of a hypergradient timed alone on the machine, or those along the runs, beside which other cells may "
        "have run. Memory: the framework's plan, or K iterates by the law.",
        pd.DataFrame(rows),
    )


def _rows(family: Family, records: list[Record], stale: frozenset[str]) -> Iterator[dict[str, Any]]:
    alone, plan = enough(family, timed(family, records)), enough(family, planned(family, records))
    for p in points(family, records):
        of = [r for r in family.lines[p.line] if r.cell.backend == p.framework]
        exact = [] if family.exact is None else family.lines[family.exact]
        own, base = (by_seed(rs, runs.accuracy) for rs in (of, [r for r in exact if r.cell.backend == p.framework]))
        shared = sorted(own.keys() & base.keys()) if p.line != family.exact else []
        less = paired([own[s] for s in shared], [base[s] for s in shared])
        every = [*of, *_single(family, p, records)]
        close = comparable([own[s] for s in shared], [base[s] for s in shared], CLOSE) if less.decided else None
        yield {
            "problem": family.name,
            "estimator": p.line.label(family.T),
            "framework": p.framework,
            "seeds": p.accuracy.n,
            "held accuracy (%)": _interval(p.accuracy, ""),
            "minus exact (points)": _interval(less, "+", p.accuracy.n) if shared else "",
            "comparable": "" if close is None else "yes" if close else "not shown" if _open(less) else "no",
            "upper level": ", ".join(sorted({f"{runs.pair_of(r.cell)}, {r.cell.settings['iterations']}" for r in of})),
            "one h (ms)": 1e3 * p.seconds,
            "timed": "" if np.isnan(p.seconds) else "alone" if alone else "along runs",
            "memory (MiB)": p.memory / 2**20,
            "memory by": "" if np.isnan(p.memory) else "plan" if plan else "law",
            "machine": _machine(family, records).partition(" ")[0],
            "marks": runs.marks(every, stale),
            "record": digits(r.key for r in every),
        }


def _single(family: Family, p: Point, records: list[Record]) -> list[Record]:
    """The hypergradients that a point's time and memory may be of."""
    wanted = {(r.cell.backend, _estimate(r)) for r in family.lines[p.line] if r.cell.backend == p.framework}
    return [r for r in records if r.result is not None and (r.cell.backend, _estimate(r)) in wanted]


def _open(less: Interval) -> bool:
    """Does the interval reach into what is comparable?"""
    return less.low <= CLOSE and less.high >= -CLOSE


def _interval(i: Interval, sign: str, seeds: int | None = None) -> str:
    """With n where it is too small for an interval, or not the row's number of seeds."""
    n = "" if i.decided and seeds in (None, i.n) else f" (n = {i.n})"
    return i.text(sign=sign) + n


def seconds(family: Family, records: list[Record]) -> dict[tuple[Line, str], float]:
    """Of one h: timed alone, where the store has hypergradients of this problem; else the runs' own medians."""
    alone = timed(family, records)
    if enough(family, alone):
        return alone
    lane = most_timed(family)
    found: dict[tuple[Line, str], float] = {}
    for line, of in family.lines.items():
        for framework, mine in grouped(of, lambda r: r.cell.backend).items():
            own = [s for r in mine if runs.machine(r) == lane and np.isfinite(s := runs.seconds(r))]
            if own:
                found[line, framework] = float(np.median(own))
    return found


def most_timed(family: Family) -> str:
    """The machine that the times of a family are read from."""
    of = runs.one_machine(family.records)
    return runs.machine(of[0]) if of else ""


def memory(family: Family, records: list[Record]) -> dict[tuple[Line, str], float]:
    """Planned bytes, where the store has a hypergradient of this problem, estimator, K and framework; else the law of
    K-RMD's and RMD's iterates, K·M·itemsize, where M is known.  One panel has one of the two."""
    plans, laws = planned(family, records), lawful(family, records)
    return plans if enough(family, plans) else laws


def enough(family: Family, found: Mapping[tuple[Line, str], float]) -> bool:
    """Is there something to compare, or all that there is to show?"""
    return len({line for line, _ in found}) >= min(2, len(family.lines))


def planned(family: Family, records: list[Record]) -> dict[tuple[Line, str], float]:
    """The least plan among points of λ, with the runs' own stash."""
    return _least(family, records, lambda result: result.memory.plan)


def timed(family: Family, records: list[Record]) -> dict[tuple[Line, str], float]:
    """The least median, likewise, on the machine of most of them."""
    return _least(family, runs.one_machine(_timed(family, records)), lambda result: result.time and result.time.median)


def _timed(family: Family, records: list[Record]) -> list[Record]:
    mine = [r for r in records if r.result is not None and r.result.time is not None and r.cell.dtype == family.dtype]
    return [r for r in mine if runs.family_of(r.cell) == family.name]


def _least(
    family: Family, records: list[Record], figure: Callable[[Result], float | None]
) -> dict[tuple[Line, str], float]:
    wanted = {(r.cell.backend, _estimate(r)): line for line, of in family.lines.items() for r in of}
    found: dict[tuple[Line, str], list[float]] = {}
    for r in records:
        line = wanted.get((r.cell.backend, _estimate(r)))
        if line is not None and r.status == "ok" and r.result is not None and r.cell.dtype == family.dtype:
            value = figure(r.result)
            if value is not None:
                found.setdefault((line, r.cell.backend), []).append(float(value))
    return {key: min(values) for key, values in found.items()}


def _estimate(r: Record) -> tuple:
    c = r.cell
    return runs.family_of(c), c.task_options.get("interaction"), c.horizon, series(c), c.truncation, c.device


def lawful(family: Family, records: list[Record]) -> dict[tuple[Line, str], float]:
    M = entries(family, records)
    if M is None:
        return {}
    item = ITEMSIZE[family.dtype]
    shown = [line for line, of in family.lines.items() if line.method in LAW and all(map(_keeps_iterates, of))]
    return {
        (line, name): float(line.pulled * M * item)
        for line in shown
        for name in {r.cell.backend for r in family.lines[line]}
    }


def _keeps_iterates(r: Record) -> bool:
    return r.cell.method_options.get("stash", "iterates") == "iterates"


def entries(family: Family, records: list[Record]) -> int | None:
    """M, from a hypergradient record of the problem, or from the paper's settings (never a recalled one)."""
    for r in records:
        if r.result is not None and runs.family_of(r.cell) == family.name and not runs.line_of(r.cell).baseline:
            return r.result.sizes.get("M")
    cell = family.records[0].cell
    if cell.task_options.get("dataset", "mnist") != "mnist":
        return None
    for n in paper.numbers():
        if n.problem == cell.task and n.row == "M" and n.kind == "settings" and n.tag != "recalled":
            return int(n.value) if isinstance(n.value, float) else None
    return None


def front(costs: Mapping[Line, float], gains: Mapping[Line, float]) -> list[Line]:
    """Those that nothing cheaper or as cheap beats, from the cheapest on."""
    known = [line for line in costs if np.isfinite(costs[line]) and np.isfinite(gains[line])]
    order = sorted(known, key=lambda line: (costs[line], -gains[line], line.order))
    best, found = -np.inf, []
    for line in order:
        if gains[line] > best + ROUNDING:
            best = gains[line]
            found.append(line)
    return found


# drawing


def _picture(found: list[tuple[Family, list[Point]]], records: list[Record]) -> Picture:
    figure = Figure(figsize=(11.0, 0.9 + 3.7 * len(found)))
    rows: Any = figure.subplots(len(found), 2, squeeze=False, sharey="row")
    words, named = [], {}
    for (left, right), (family, ps) in zip(rows, found):
        alone = enough(family, timed(family, records))
        named[left] = _panel(left, family, ps, {(p.line, p.framework): p.seconds for p in ps}, joined=alone)
        left.set_xlabel(f"time of one h (s, median{', alone on the machine' if alone else ''})")
        left.set_ylabel("accuracy on held-out data (%)")
        left.set_title(_title(family, records), fontsize=8.5, loc="left")
        known = {(p.line, p.framework): p.memory for p in ps}
        is_plan = enough(family, planned(family, records))
        if np.isfinite(list(known.values())).any():
            named[right] = _panel(right, family, ps, {key: x / 2**20 for key, x in known.items()}, log=True)
            what = "planned memory" if is_plan else "memory by the law of iterates, K · M · itemsize"
            right.set_xlabel(f"{what} (MiB)")
            right.set_ylabel("accuracy on held-out data (%)")
            words.append(f"{family.name}: {what}")
        else:
            right.axis("off")
            reason = "memory is not known:\nthe store holds no hypergradient record of this problem"
            right.text(0.5, 0.5, reason, transform=right.transAxes, ha="center", va="center", color="#555555")
    methods = sorted({p.line.method for _, ps in found for p in ps}, key=lambda m: Line(m, None, 1, False).order)
    _legend(figure, methods, sorted({p.framework for _, ps in found for p in ps}))
    figure.suptitle("Which K, at what cost, for which loss of accuracy?", fontsize=11)
    figure.draw_without_rendering()
    for ax, of in named.items():
        label(ax, of)
    return Picture(
        STEM,
        "Which K, at what cost, for which loss of accuracy: held-out accuracy at the iteration that validation data "
        "select, against the time of one hypergradient (left) and memory (right). Bars are 95 % intervals over seeds "
        "(none below three seeds; cut at the frame). The line is the exact hypergradient's accuracy, grey what is "
        f"within {CLOSE} points of it. Ringed and joined: a framework's Pareto front by means, over all that were run; "
        "a point with n has fewer seeds than others, and the table pairs them. Times are of one machine a problem; "
        "where they are not said to be alone on it, other cells may have run, and no front is drawn."
        + "".join(f" {w}." for w in words),
        figure,
    )


def _title(family: Family, records: list[Record]) -> str:
    by_framework = [grouped(of, lambda r: r.cell.backend) for of in family.lines.values()]
    ns = sorted({len({r.cell.seed for r in of}) for one in by_framework for of in one.values()})
    seeds = f"{ns[0]}" if len(ns) == 1 else f"{ns[0]}–{ns[-1]}"
    settings = sorted({runs.pair_of(r.cell) for r in family.records})
    upper = settings[0] if len(settings) == 1 else f"{len(settings)} upper rates"
    plural = "" if ns == [1] else "s"
    where = f"times of {_machine(family, records)}"
    return f"{family.name}\nT = {family.T}, {family.dtype}, {upper}, {seeds} seed{plural}, {where}"


def _machine(family: Family, records: list[Record]) -> str:
    """Fingerprint and device that a family's times are of."""
    alone = runs.one_machine(_timed(family, records)) if enough(family, timed(family, records)) else []
    return runs.machine(alone[0]) if alone else most_timed(family)


def _panel(
    ax: Axes,
    family: Family,
    ps: list[Point],
    cost: Mapping[tuple[Line, str], float],
    log: bool = False,
    joined: bool = True,
) -> list[tuple[float, float, str]]:
    """Draw; return where a name is wanted."""
    shown = [p for p in ps if np.isfinite(cost[p.line, p.framework])]
    exact = [p.accuracy.middle for p in ps if p.line == family.exact]
    if exact:
        middle = float(np.mean(exact))
        ax.axhspan(middle - CLOSE, middle + CLOSE, color="#EEEEEE", zorder=0)
        ax.axhline(middle, color="#888888", linewidth=0.8, zorder=1)
    costs_shown = [cost[p.line, p.framework] for p in shown]
    log = log and max(costs_shown, default=0) > 3 * min(costs_shown, default=0)  # else one tick would be all
    if log:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    for name, of in _by_framework(shown).items():
        costs = {p.line: cost[p.line, name] for p in of}
        gains = {p.line: p.accuracy.middle for p in of}
        best = front(costs, gains) if joined else []
        looks = {"color": "#333333", "linewidth": 1.0, "linestyle": style.framework(name, "")["linestyle"]}
        ax.plot([costs[line] for line in best], [gains[line] for line in best], **looks, zorder=2)
        ring: dict[str, Any] = {"marker": "o", "markersize": 13, "markerfacecolor": "none", "linestyle": "none"}
        ax.plot([costs[line] for line in best], [gains[line] for line in best], **ring, color="#333333", zorder=2)
        for p in of:
            _point(ax, p, costs[p.line])
    ax.margins(0.12, 0.15)
    means = [p.accuracy.middle for p in ps]
    pad = max(2 * CLOSE, 0.2 * (max(means) - min(means)))
    ax.set_ylim(min(means) - pad, max(means) + pad)  # one wide interval must not flatten the others
    if not log:
        ax.set_xlim(0, 1.08 * max(costs_shown, default=0) or 1)
    most = max((p.accuracy.n for p in ps), default=0)
    names = {p: p.line.label(family.T) + (f" (n = {p.accuracy.n})" if p.accuracy.n < most else "") for p in shown}
    return [(cost[p.line, p.framework], p.accuracy.middle, names[p]) for p in shown]


def _by_framework(ps: Iterable[Point]) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    for p in sorted(ps, key=lambda p: (p.framework, p.line.order)):
        found.setdefault(p.framework, []).append(p)
    return found


def _point(ax: Axes, p: Point, x: float) -> None:
    looks: Any = style.method(p.line.method)
    looks = looks | style.framework(p.framework, looks["color"]) | {"linestyle": "none"}
    ax.plot([x], [p.accuracy.middle], **looks, zorder=3)
    if p.accuracy.decided:
        ax.vlines([x], p.accuracy.low, p.accuracy.high, color=looks["color"], linewidth=1.0, zorder=2)


def _legend(figure: Figure, methods: list[str], frameworks: list[str]) -> None:
    handles: list[Any] = []
    for name in methods:
        looks: Any = style.method(name) | {"linestyle": "none"}
        handles.append(Line2D([], [], label=name, **looks))
    for name in frameworks:
        looks = {"color": "#333333", "marker": "o"} | style.framework(name, "#333333")
        handles.append(Line2D([], [], label=f"{name}, its Pareto front", **looks))
    ring: dict[str, Any] = {"marker": "o", "markersize": 11, "markerfacecolor": "none", "linestyle": "none"}
    handles.append(Line2D([], [], label="on the front", color="#333333", **ring))
    handles.append(Patch(color="#EEEEEE", label=f"within {CLOSE} points of the exact hypergradient"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
