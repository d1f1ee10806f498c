"""The figures, from the rows of `frame`.  Each says problem, size, T or K, dtype, device."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.record import Record
from bench.report import budget, style
from bench.report.frame import Frame

ROUNDING = 1e-6  # a bias below this is drawn on the lowest line: in float32 it is nothing but rounding
OURS = ("rmd", "krmd", "fmd", "cg", "neumann")


@dataclass(frozen=True)
class Picture:
    """A drawn figure, its file stem and its caption."""

    stem: str
    caption: str
    figure: Figure


def every(rows: Frame, records: list[Record]) -> list[Picture]:
    """All figures that these records can fill."""
    with mpl.rc_context(style.RC):
        return [*_landscape(records), *_per_problem(rows), *(Picture(*p) for p in budget.drawn(rows))]


def write(pictures: list[Picture], folder: Path) -> list[Path]:
    """PNG and SVG of every figure, without dates or versions inside."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("*.png"), *folder.glob("*.svg")]:
        old.unlink()
    files = []
    with mpl.rc_context(style.RC):
        for picture in pictures:
            png, svg = folder / f"{picture.stem}.png", folder / f"{picture.stem}.svg"
            FigureCanvasAgg(picture.figure).print_png(png, metadata={"Software": None})
            FigureCanvasSVG(picture.figure).print_svg(svg, metadata={"Date": None, "Creator": None})
            files += [png, svg]
    return files


def _per_problem(rows: Frame) -> Iterator[Picture]:
    if rows.empty or "exact_bias" not in rows:
        return
    ok = rows[rows.status == "ok"]
    for (problem, lam), group in ok.groupby(["problem", "lam"], sort=True):
        stem = re.sub(r"[^A-Za-z0-9]+", "-", f"{problem}-{lam}").strip("-")
        for device, lane in group.groupby("device", sort=True):
            named = stem if group.device.nunique() == 1 else f"{stem}-{device}".replace(":", "-")
            yield from _quality(lane, f"{problem}, λ = {lam}", named)
        for (machine, device), lane in group[group.median_s.notna()].groupby(["machine", "device"], sort=True):
            yield from _cost(lane, f"{problem}, λ = {lam}", f"{stem}-{device}-{machine}".replace(":", "-"), "time")
        for device, lane in group[group.plan_bytes.notna()].groupby("device", sort=True):
            yield from _cost(lane, f"{problem}, λ = {lam}", f"{stem}-{device}".replace(":", "-"), "memory")


def _facts(rows: Frame) -> str:
    one = rows.iloc[0]
    seeds = sorted(rows.seed.unique())
    over = f"seed {seeds[0]}" if len(seeds) == 1 else f"median of {len(seeds)} seeds"
    return f"M = {int(one.M)}, N = {int(one.N)}, {one['dtype']}, {one.device}, {over}"


# quality against K


def _quality(group: Frame, problem: str, stem: str) -> Iterator[Picture]:
    with_K = group[group.K.notna()]
    if with_K.empty:
        return
    T = with_K.groupby("T").K.nunique().idxmax()
    dtype = "float64" if (with_K[with_K["T"] == T].dtype == "float64").any() else "float32"
    chosen = group[(group["T"] == T) & (group.dtype == dtype) & group.method.map(lambda m: m in OURS or ":" in m)]
    # A stash, or where Neumann linearises, changes cost and not h: one line a method.
    chosen = chosen[~chosen.series.str.endswith(("residuals", "once"))]
    if chosen[chosen.K > 0].K.nunique() < 2:
        return
    real = chosen.exact_bias[chosen.exact_bias > ROUNDING]
    floor = 10.0 ** (np.floor(np.log10(real.min())) - 1) if len(real) else ROUNDING
    figure = Figure(figsize=(10.5, 3.9))
    panels: Any = figure.subplots(1, 3)
    for ax, (column, label) in zip(
        panels,
        (
            ("exact_bias", "bias ‖h − dF‖ / ‖dF‖ (relative)"),
            ("exact_cosine", "cosine of h and dF"),
            ("exact_descent", "descent ⟨h, dF⟩ / ‖dF‖² (relative)"),
        ),
    ):
        drawn = chosen.assign(exact_bias=chosen.exact_bias.clip(lower=floor))
        _lines(ax, drawn, "K", column)
        _K_axis(ax, chosen)
        ax.set_ylabel(label)
        if column == "exact_bias":
            ax.set_yscale("log")
            ax.axhline(floor, color="#999999", linewidth=0.8, zorder=0)
            note = {
                "xy": (0.5, floor),
                "ha": "center",
                "xycoords": ("axes fraction", "data"),
                "textcoords": "offset points",
            }
            ax.annotate("exact to rounding", xytext=(0, 3), fontsize=7, color="#666666", **note)
        else:
            ax.axhline(1.0, color="#999999", linewidth=0.8, zorder=0)
    style.title(figure, f"{problem}: T = {T}, {_facts(chosen)}")
    _legend(figure, chosen, columns=7)
    yield Picture(
        f"bias-{stem}",
        f"Bias, cosine and descent against K: {problem}, T = {T}, {_facts(chosen)}. Estimators without K are level "
        f"lines; a bias below {ROUNDING:g} is drawn on the lowest line.",
        figure,
    )


def _K_axis(ax: Axes, rows: Frame) -> None:
    ax.set_xscale("log")
    ticks = [1, 5, 10, 25, 50, 100, 250, 500]
    high = max(rows.K.max(), rows["T"].max())
    low = _least_K(rows)
    ax.set_xticks([t for t in ticks if low <= t <= high], minor=False)
    ax.set_xticks([], minor=True)
    ax.xaxis.set_major_formatter("{x:.0f}")
    ax.set_xlabel("K (pull-backs of Φ)")


def _lines(ax: Axes, rows: Frame, x: str, y: str, spread: bool = False) -> None:
    """A line a method and framework."""
    placed = _level(rows) if x == "K" else rows
    placed = placed[placed[x] > 0]
    for series in _order(placed.series):
        for name, part in placed[placed.series == series].groupby("framework", sort=True):
            middle = part.groupby(x)[y].median().dropna()
            if middle.empty:
                continue
            looks = style.method(series)
            ax.plot(middle.index, middle.to_numpy(), **looks, **style.framework(str(name), looks["color"]))
            if spread:
                low, high = (part.groupby(x)[c].median().loc[middle.index] for c in ("low_s", "high_s"))
                scale = float(middle.iloc[0] / part.groupby(x)["median_s"].median().loc[middle.index[0]])
                ax.vlines(middle.index, low * scale, high * scale, color=looks["color"], linewidth=1.0)


def _level(rows: Frame) -> Frame:
    """A method without K stands at the least K and at T: a level line."""
    with_K = rows.groupby("series").K.transform("count") > 0
    ends = _least_K(rows), rows["T"].max()
    return pd.concat([rows[with_K], *(rows[~with_K].assign(K=float(end)) for end in ends)])


def _least_K(rows: Frame) -> float:
    return float(rows.K[rows.K > 0].min())


def _order(series: Any) -> list[str]:
    known = list(OURS)
    rank = {
        s: (s.startswith("native-"), known.index(b) if b in known else 99, s)
        for s in set(series)
        for b in [s.removeprefix("native-").split(" ")[0]]
    }
    return sorted(rank, key=lambda s: rank[s])


def _legend(figure: Figure, rows: Frame, columns: int) -> None:
    handles = []
    for series in _order(rows.series):
        single = rows[rows.series == series].K.isna().all()
        looks: dict[str, Any] = style.method(series) | {"linewidth": 1.3}
        handles.append(Line2D([], [], label=f"{series} (no K)" if single else series, **looks))
    for name in sorted(rows.framework.unique()):
        handles.append(Line2D([], [], color="#444444", marker="o", **style.framework(name, "#444444"), label=name))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)


# time and memory against K and T

_AXES = {
    "time": ("median_s", 1e3, "median wall time (ms)", "Time"),
    "memory": ("plan_bytes", 1 / 2**20, "planned memory (MiB)", "Memory"),
}


def _cost(group: Frame, problem: str, stem: str, what: str) -> Iterator[Picture]:
    column, scale, label, title = _AXES[what]
    for dtype, rows in group.groupby("dtype", sort=True):
        rows = rows.assign(shown=rows[column] * scale)
        if what == "memory":
            rows = rows[~rows.method.str.startswith("native-")]
        with_K = rows[rows.K.notna()]
        over_T = _swept_T(rows)
        if with_K.K.nunique() < 2:
            continue
        T = with_K.groupby("T").K.nunique().idxmax()
        at_T = rows[rows["T"] == T]
        figure = Figure(figsize=(10.5 if over_T else 6.5, 4.4))
        panels: list[Any] = list(np.atleast_1d(figure.subplots(1, 2 if over_T else 1)))
        _lines(panels[0], at_T, "K", "shown", spread=what == "time")
        _K_axis(panels[0], at_T)
        panels[0].set_title(f"against K at T = {T}")
        if what == "memory":
            _law(panels[0], at_T, scale)
        if over_T:
            for _, part in over_T:
                _lines(panels[1], part, "T", "shown")
            _name_ends(panels[1], over_T)
            panels[1].set_xscale("log")
            ticks = sorted({int(t) for _, part in over_T for t in part["T"]})
            panels[1].set_xticks(ticks)
            panels[1].set_xticks([], minor=True)
            panels[1].set_xlim(ticks[0] / 1.1, ticks[-1] * 1.5)
            panels[1].xaxis.set_major_formatter("{x:.0f}")
            panels[1].set_xlabel("T (lower steps)")
            panels[1].set_title("against T at fixed K")
        for ax in panels:
            ax.set_yscale("log")
            ax.set_ylabel(label)
        lane = f", machine {rows.machine.iloc[0]}" if what == "time" else ""
        style.title(figure, f"{problem}: {_facts(at_T)}{lane}")
        _legend(figure, at_T, columns=6 if over_T else 4)
        extra = (
            "Vertical bars are quartiles of the timed calls."
            if what == "time"
            else "Dotted: the law of K-RMD's iterates."
        )
        yield Picture(
            f"{what}-{stem}-{dtype}",
            f"{title} of one hypergradient: {problem}, T = {T}, {_facts(at_T)}{lane}. {extra} "
            "Estimators without K are level lines.",
            figure,
        )


def _swept_T(rows: Frame) -> list[tuple[int | None, Frame]]:
    """For each K the rows whose T is swept: at least three values of T."""
    found: list[tuple[int | None, Frame]] = []
    for _, part in rows.groupby("series", sort=True):
        if part.K.isna().all():
            groups: list[tuple[Any, Frame]] = [(None, part)]
        else:
            groups = list(part.groupby("K", sort=True))
        found += [(None if K is None else int(K), g) for K, g in groups if g["T"].nunique() >= 3]
    return found


def _name_ends(ax: Axes, parts: list[tuple[int | None, Frame]]) -> None:
    """K at the right end of the lines; lines that end together share one text."""
    last = max(part["T"].max() for _, part in parts)
    ends = sorted((v, "no K" if K is None else f"{K}") for K, part in parts for v in part[part["T"] == last].shown)
    clusters: list[tuple[list[float], list[str]]] = []
    for value, text in ends:
        if clusters and value / clusters[-1][0][-1] < 1.35:
            clusters[-1][0].append(value)
            clusters[-1][1].append(text)
        else:
            clusters.append(([value], [text]))
    for values, texts in clusters:
        Ks = sorted({t for t in texts if t != "no K"}, key=int)
        words = ([f"K = {', '.join(Ks)}"] if Ks else []) + (["no K"] if "no K" in texts else [])
        at = (last, float(np.sqrt(values[0] * values[-1])))
        ax.annotate("; ".join(words), at, xytext=(8, 0), textcoords="offset points", va="center", fontsize=7)


def _law(ax: Axes, rows: Frame, scale: float) -> None:
    law = rows[(rows.series.str.startswith("krmd")) & ~rows.series.str.endswith("residuals")]
    if law.empty:
        return
    line = law.groupby("K").law_bytes.median() * scale
    ax.plot(line.index, line.to_numpy(), color="#0072B2", linestyle=(0, (1, 1.5)), linewidth=1.0)


# the toy


def _landscape(records: list[Record]) -> Iterator[Picture]:
    chosen = [r for r in records if r.landscape is not None and r.status == "ok"]
    if not chosen:
        return
    name = "jax" if any(r.cell.backend == "jax" for r in chosen) else chosen[0].cell.backend
    chosen = sorted((r for r in chosen if r.cell.backend == name), key=lambda r: r.cell.truncation or 0)
    wanted = [r for r in chosen if r.cell.truncation in (1, 5, 25)] or chosen[:3]
    figure = Figure(figsize=(13, 5.6), layout="compressed")
    panels: Any = figure.subplots(2, len(wanted) + 1, squeeze=False)
    first = wanted[0].landscape
    assert first is not None
    axis = np.array(first.axis)
    _map(figure, panels[0][0], axis, first.value, "F(λ)", "upper objective F", "viridis")
    marks = pd.DataFrame([{"K": r.cell.truncation, **_figures(r)} for r in chosen])
    marks = marks[marks.largest_angle_deg > 0]
    ax = panels[1][0]
    ax.plot(marks.K, marks.largest_angle_deg, "o-", color="#0072B2", label="largest angle (°)")
    ax.plot(marks.K, 100 * marks.median_norm_ratio, "s--", color="#D55E00", label="median ‖h‖/‖dF‖ (%)")
    ax.set_xscale("log")
    ax.set_xticks([int(k) for k in marks.K])
    ax.set_xticks([], minor=True)
    ax.xaxis.set_major_formatter("{x:.0f}")
    ax.set_xlabel("K (pull-backs of Φ)")
    ax.set_ylabel("degrees; per cent")
    ax.set_title("over the whole grid")
    ax.set_ylim(0, 135)
    ax.legend(frameon=False, fontsize=7, loc="upper left")
    for column, r in enumerate(wanted, 1):
        land = r.landscape
        assert land is not None
        K = r.cell.truncation
        _map(figure, panels[0][column], axis, land.angle_deg, "angle (°)", f"angle of h and dF, K = {K}", "magma")
        _map(figure, panels[1][column], axis, land.norm_ratio, "‖h‖/‖dF‖", f"norm of h over dF, K = {K}", "cividis")
    cell = wanted[0].cell
    facts = (
        f"toy ({cell.task}): T = {cell.horizon}, M = N = 2, {cell.dtype}, {cell.device}, {name}, {first.points} points"
    )
    figure.suptitle(facts, fontsize=9)
    yield Picture(
        "toy-landscape", f"Landscape of the {facts}; h is K-RMD's estimate, dF the exact hypergradient.", figure
    )


def _figures(r: Record) -> dict[str, float]:
    assert r.landscape is not None
    return {"largest_angle_deg": r.landscape.largest_angle_deg, "median_norm_ratio": r.landscape.median_norm_ratio}


def _map(figure: Figure, ax: Axes, axis: np.ndarray, table: list, unit: str, title: str, colours: str) -> None:
    drawn = ax.contourf(axis, axis, np.array(table).T, levels=12, cmap=colours)
    ax.set_xlabel("λ₁")
    ax.set_ylabel("λ₂")
    ax.set_title(title)
    ax.grid(False)
    ax.set_aspect("equal")
    figure.colorbar(drawn, ax=ax, label=unit, shrink=0.85)
