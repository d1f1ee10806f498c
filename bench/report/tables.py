"""The tables of hypergradient cells and of the toy."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd

from bench.report import memory
from bench.report.frame import PAIR, Frame, agreement
from bench.report.table import HEAD, Table, digits

_ORDER = ["rmd iterates", "rmd residuals", "krmd iterates", "krmd residuals", "fmd", "cg", "neumann", "neumann once"]


def every(rows: Frame, toy: Frame) -> list[Table]:
    """All tables that these records can fill."""
    made: list[Table] = []
    if not rows.empty:
        made = [
            *_summaries(rows),
            _certificates(rows),
            _bias(rows),
            _time(rows),
            *memory.tables(rows),
            _counts(rows),
            _cells(rows),
        ]
    if not toy.empty:
        made.insert(0, _toy(toy))
    if not rows.empty:
        made.append(_failures(rows))
    return [t for t in made if not t.rows.empty]


def _ok(rows: Frame) -> Frame:
    return rows[rows.status == "ok"]


def _marks(rows: Frame) -> list[str]:
    """What a reader must know before using a row."""
    marks = []
    for row in rows.to_dict("records"):
        found = [] if row["certified"] else ["uncertified"]
        flags = row.get("flags", "")
        found += [flags] if isinstance(flags, str) and flags else []
        found += ["stale"] if row["stale"] else []
        marks.append(", ".join(found))
    return marks


def _toy(toy: Frame) -> Table:
    return Table(
        "toy",
        "The toy over 201 × 201 points of λ in [−5, 5]²: K-RMD's h against dF, both by the estimators in float64. "
        "The bound is (1−γα)^K; the last figure is the distance to the closed form. One record a row, over its points.",
        toy.rename(
            columns={
                "largest_angle_deg": "largest angle (°)",
                "median_norm_ratio": "median ‖h‖/‖dF‖",
                "bias_min": "bias from",
                "bias_max": "bias to",
                "closed_form_error": "to closed form",
            }
        ).drop(columns="points"),
    )


def _summaries(rows: Frame) -> Iterator[Table]:
    """For each problem, device and machine: what an estimate is worth and what it costs, a line an estimate."""
    timed = _ok(rows)
    timed = timed[timed.median_s.notna()] if "median_s" in timed else timed.iloc[:0]
    for (problem, lam, device, machine), group in timed.groupby(["problem", "lam", "device", "machine"], sort=True):
        T = group.groupby("T").size().idxmax()
        group = group[(group["T"] == T) & (group["dtype"] == "float32")]
        lines = []
        for (series, K), part in group.groupby(["series", "K"], sort=False, dropna=False):
            line = {"method": series, "K": K, "bias": part.exact_bias.median(), "cosine": part.exact_cosine.median()}
            for name, one in part.groupby("framework", sort=True):
                line |= {f"{name} (ms)": 1e3 * one.median_s.median(), f"{name} (MiB)": one.plan_bytes.median() / 2**20}
            marks = [m for m in sorted(set(_marks(part))) if m]
            line |= {"certificate": part.certificate.max(), "marks": "; ".join(marks)}
            lines.append(line | {"record": digits(part.record)})
        if not lines:
            continue
        one = group.iloc[0]
        named = f"{problem}-{lam}-{device}" + (f"-{machine}" if timed.machine.nunique() > 1 else "")
        stem = re.sub(r"[^A-Za-z0-9]+", "-", named).strip("-")
        order = [s for s in _ORDER if s in set(group.series)] + sorted(set(group.series) - set(_ORDER))
        shown = pd.DataFrame(lines)
        shown = shown.assign(rank=[order.index(s) for s in shown.method]).sort_values(["rank", "K"], kind="stable")
        yield Table(
            f"summary-{stem}",
            f"{problem}, λ = {lam}, T = {T}, M = {int(one.M)}, N = {int(one.N)}, float32, {device}, machine {machine}: "
            "bias and cosine against dF, median time and planned memory of one hypergradient, and the relative "
            "difference of the frameworks in float64. Medians over seeds, the unit of replication. Each estimate was "
            "timed by itself, so a few per cent between two are none: `results/speed` has ours and "
            "the native idiom in turn.",
            shown.drop(columns="rank"),
        )


def _certificates(rows: Frame) -> Table:
    keys = ["problem", "lam", "method", "options", "T", "device", "seed"]
    rows = rows[rows.framework.isin(PAIR)]
    pairs = rows[rows["dtype"] == "float64"].groupby(keys, dropna=False).record.agg(digits).rename("record")
    one = rows.drop_duplicates(keys)[[*keys, "certificate", "certified", "uncertified_because"]]
    one = one.rename(columns={"certificate": "relative difference", "uncertified_because": "reason"})
    stale = rows[rows["dtype"] == "float64"].groupby(keys, dropna=False).stale.any().rename("marks")
    one = one.join(stale.map({True: "stale", False: ""}), on=keys).join(pairs, on=keys)
    one = one.fillna({"marks": "", "record": ""})
    agree, both, alone, _ = agreement(rows)
    more = f" {alone} more are not in float64 of both." if alone else ""
    return Table(
        "certificates",
        f"PyTorch against JAX in float64, at each cell's own sizes: {agree} of {both} estimates agree to 1e-10.{more} "
        "One pair of records a row.",
        one,
    )


def _bias(rows: Frame) -> Table:
    ok = _ok(rows)
    if ok.empty:
        return Table("bias", "", ok)
    columns = {
        "exact_bias": "‖h − dF‖/‖dF‖",
        "exact_cosine": "cos(h, dF)",
        "exact_descent": "⟨h, dF⟩/‖dF‖²",
        "implicit_bias": "bias to implicit at w*",
        "implicit_wT_bias": "bias to implicit at w_T",
    }
    shown = ok[[*HEAD, "seed", *columns, "record"]].rename(columns=columns)
    shown.insert(len(HEAD) + 1, "marks", _marks(ok.assign(flags="")))
    return Table(
        "bias",
        "The estimate h against the exact finite-T hypergradient dF (native autodiff, float64) and the implicit one at "
        "the lower optimum w* and at w_T, where the lower problem is strongly convex. One record a row.",
        shown,
    )


def _time(rows: Frame) -> Table:
    timed = _ok(rows)
    timed = timed[timed.median_s.notna()] if "median_s" in timed else timed.iloc[:0]
    if timed.empty:
        return Table("time", "", timed)
    shown = timed[HEAD].assign(
        **{
            "lane": timed.lane,
            "median (ms)": 1e3 * timed.median_s,
            "× floor": timed.median_s / timed.floor_s,
            "IQR/median": timed.iqr_ratio,
            "calls": timed.calls,
            "first call (s)": timed.first_call_s,
            "machine": timed.machine,
            "marks": _marks(timed),
            "record": timed.record,
        }
    )
    return Table(
        "time",
        "Wall time of one hypergradient: warm, synchronised, alone on the machine. Apart from it the first call, which "
        "compiles, without the start of the process and what its framework has compiled before. Times of "
        "different machines are not comparable. The floor is T steps and K pull-backs as the calibration cells of the "
        "same store timed them (T steps for cg and fmd), without f and the pull-back of `embed`, which are most of "
        "few-shot's time. One record a row; median and IQR are over its calls.",
        shown,
    )


def _counts(rows: Frame) -> Table:
    ok = _ok(rows)
    if ok.empty or "counted" not in ok:
        return Table("counts", "", ok.iloc[:0])
    ok = ok[ok.counted != ""].drop_duplicates(["problem", "method", "options", "T", "framework"])
    shown = ok[["problem", "method", "options", "T", "framework", "counted", "by_formula", "record"]]
    equal = [row.counted == row.by_formula if row.by_formula else None for row in ok.itertuples()]
    shown.insert(shown.columns.get_loc("record"), "equal", pd.Series(equal, ok.index, dtype=object))
    shown.insert(shown.columns.get_loc("record"), "marks", ok.stale.map({True: "stale", False: ""}))
    return Table(
        "counts",
        "Oracle calls of one hypergradient, counted by an instrumented backend, and the method's own formula, if any. "
        "They depend on neither seed nor precision: one record a row.",
        shown.rename(columns={"by_formula": "by formula"}),
    )


def _cells(rows: Frame) -> Table:
    columns = [*HEAD, "device", "seed", "M", "N", "P", "lower", "value", "norm", "exact_bias", "plan_bytes"]
    columns += [c for c in rows.columns if c.startswith(("metric_", "stat_"))]
    shown = rows[[c for c in columns if c in rows.columns]].assign(
        certificate=rows.certificate, status=rows.status, stale=rows.stale, record=rows.record
    )
    return Table("cells", _CELLS, shown)


_CELLS = (
    "Every cell with its certificate (relative difference of the frameworks in float64). One record a row; its time is "
    "in `time`, where that was measured."
)


def _failures(rows: Frame) -> Table:
    bad = rows[rows.status != "ok"]
    return Table(
        "failures",
        "What did not end as `ok`, and why. Only `ok` is ranked or drawn.",
        bad[[*HEAD, "device", "seed", "status", "reason", "record"]],
    )
