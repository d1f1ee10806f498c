"""How time and memory grow with M, N, T, K and the number of examples: log–log, fitted exponents beside the law's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bench.report import style
from bench.report.figures import Picture
from bench.report.frame import Frame
from bench.report.table import Table, digits

FACTOR, VALUES = 30, 6  # an axis must span this much, at this many values
AXES = {"T": "T (lower steps)", "K": "K (pull-backs of Φ)", "M": "M (entries of w)", "N": "N (entries of λ)"}
AXES["train"] = "training examples in a step"
SIZES = ("M", "train")  # change what a call costs, and not how many there are
COLUMNS = {"calls": "work", "time": "median_s", "law": "law_bytes", "plan": "plan_bytes"}
WHAT = {"time": ("median_s", 1e3, "median wall time (ms)"), "plan": ("plan_bytes", 1 / 2**20, "planned memory (MiB)")}


def tables(rows: Frame) -> list[Table]:
    """One line an axis, method and framework: exponents by least squares on logarithms, ± a standard error."""
    lines = []
    for axis, fixed, series, framework, part in _sweeps(rows):
        one = part.iloc[0]
        line: dict[str, Any] = {"axis": axis, "at": fixed, "λ": one.lam, "method": series, "framework": framework}
        line |= {"device": one.device, "seed": one.seed}
        line |= {"from": part[axis].min(), "to": part[axis].max()}
        for name, column in COLUMNS.items():
            none = name == "calls" and axis in SIZES
            line[f"{name} exponent"] = "" if none else _exponent(part[axis], part[column])
        line |= {"machine": one.machine, "marks": _marks(part), "record": digits(part.record)}
        lines.append(line)
    caption = (
        "Exponents p of time and planned memory ~ axisᵖ, by least squares on logarithms over the whole range, ± one "
        "standard error; beside them the exponents of the counted calls of Φ and ∇g (calls, linearisations, pull-backs "
        "and push-forwards; none over M and the examples, which change what a call costs and not how many there are) "
        "and of the memory law over the same points. A constant part (dispatch, the workspace of a step) lowers the "
        "fitted exponent below the law's. The unit of replication is a point of the axis: one record."
    )
    return [Table("scaling", caption, pd.DataFrame(lines))]


def figures(rows: Frame) -> list[Picture]:
    """One figure an axis: time and planned memory, both axes logarithmic."""
    swept: dict[tuple[str, str], dict[tuple, list]] = {}
    for axis, fixed, series, framework, part in _sweeps(rows):
        where = tuple(part.iloc[0][["lam", "device", "machine", "seed"]])
        swept.setdefault((axis, fixed), {}).setdefault(where, []).append((series, framework, part))
    with mpl.rc_context(style.RC):
        return [
            _picture(axis, fixed, lines, ", ".join(map(str, where)) if len(of) > 1 else "")
            for (axis, fixed), of in swept.items()
            for where, lines in of.items()
        ]


def _sweeps(rows: Frame) -> Iterator[tuple[str, str, str, str, Frame]]:
    """(axis, what was held, series, framework, rows): one axis over a factor of FACTOR, all else fixed."""
    if rows.empty or "median_s" not in rows:
        return
    ok = rows[(rows.status == "ok") & rows.median_s.notna()]
    if ok.empty:
        return
    ok = ok.assign(
        task=ok.problem.str.partition(" ")[0],
        train=[float(m[1]) if (m := re.search(r"train=(\d+)", p)) else np.nan for p in ok.problem],
    )
    keys = ["task", "series", "framework", "device", "dtype", "machine", "seed", "lam"]
    for axis in AXES:
        for key, part in ok.groupby([*keys, *(a for a in AXES if a != axis)], sort=True, dropna=False):
            # Every example has its own λ unless they are grouped: then the batch moves N, and the axis is N.
            part = part.drop_duplicates(axis).sort_values(axis)
            if part[axis].nunique() >= VALUES and part[axis].max() >= FACTOR * part[axis].min():
                held = dict(zip(keys + [a for a in AXES if a != axis], key))
                fixed = ", ".join(f"{a} = {held[a]:g}" for a in AXES if a != axis and held[a] == held[a])
                yield axis, f"{held['task']}: {fixed}, {held['dtype']}", held["series"], held["framework"], part


def _marks(part: Frame) -> str:
    """Of the points that a line is fitted through."""
    marked = int((part["flags"] != "").sum())  # DataFrame.flags is another thing
    return ", ".join([f"{marked} of {len(part)} times are marked"] * bool(marked) + ["stale"] * bool(part.stale.any()))


def _exponent(x: Any, y: Any) -> str:
    a, b = np.log(x.to_numpy(float)), np.log(y.to_numpy(float))
    if not np.isfinite(b).all():
        return ""
    (slope, _), covariance = np.polyfit(a, b, 1, cov=True) if np.ptp(b) > 0 else ((0.0, 0.0), np.zeros((2, 2)))
    return f"{slope:.2f} ± {np.sqrt(covariance[0, 0]):.2f}"


def _picture(axis: str, fixed: str, lines: list, where: str) -> Picture:
    """`where` tells figures of one axis apart: λ, device, machine and seed."""
    figure = Figure(figsize=(10.5, 4.6))
    panels: Any = figure.subplots(1, 2)
    for ax, (column, scale, label) in zip(panels, WHAT.values()):
        for series, framework, part in lines:
            looks: Any = style.method(series)
            looks = looks | style.framework(framework, looks["color"])
            ax.plot(part[axis], scale * part[column], **looks)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel(AXES[axis])
        ax.set_ylabel(label)
    style.legend(figure, sorted({s for s, _, _ in lines}), sorted({f for _, f, _ in lines}), columns=6)
    one = lines[0][2].iloc[0]
    style.title(figure, f"{fixed}, {where or f'{one.device}, machine {one.machine}'}")
    stem = re.sub(r"[^A-Za-z0-9]+", "-", f"scaling-{axis}-{fixed} {where}").strip("-").lower()
    return Picture(stem, f"Time and planned memory of one hypergradient against {AXES[axis]}: {fixed}.", figure)
