"""The tables: data frames with the units in their column names, as CSV (all digits) and Markdown (readable digits)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.report.frame import Frame

OFF = 0.10  # plan against law: beyond this the row is marked
_ORDER = ["rmd iterates", "rmd residuals", "krmd iterates", "krmd residuals", "fmd", "cg", "neumann"]
HEAD = ["problem", "lam", "method", "options", "T", "framework", "dtype"]


@dataclass(frozen=True)
class Table:
    """A table with the sentence that says how to read it."""

    name: str
    caption: str
    rows: Frame


def every(rows: Frame, toy: Frame) -> list[Table]:
    """All tables that these records can fill."""
    made: list[Table] = []
    if not rows.empty:
        made = [
            *_summaries(rows),
            _certificates(rows),
            _bias(rows),
            _time(rows),
            _memory(rows),
            _counts(rows),
            _cells(rows),
        ]
    if not toy.empty:
        made.insert(0, _toy(toy))
    if not rows.empty:
        made.append(_failures(rows))
    return [t for t in made if not t.rows.empty]


def write(made: list[Table], folder: Path) -> list[Path]:
    """`<name>.csv` and `<name>.md` of every table."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("*.csv"), *folder.glob("*.md")]:
        old.unlink()
    files = []
    for table in made:
        csv, md = folder / f"{table.name}.csv", folder / f"{table.name}.md"
        csv.write_text(table.rows.to_csv(index=False))
        md.write_text(f"{table.caption}\n\n{markdown(table.rows)}\n")
        files += [csv, md]
    return files


def markdown(rows: Frame) -> str:
    """A GitHub table."""
    shown = readable(rows)
    lines = ["| " + " | ".join(shown.columns) + " |", "|" + "---|" * len(shown.columns)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in shown.to_numpy()]
    return "\n".join(lines)


def readable(rows: Frame) -> Frame:
    """Every figure as text with four significant digits; what does not exist is a dash."""
    return pd.DataFrame({name: [_text(x) for x in rows[name]] for name in rows.columns}, dtype=object)


def _text(x: object) -> str:
    if isinstance(x, (bool, np.bool_)):
        return "yes" if x else "no"
    if isinstance(x, (float, np.floating)):
        if np.isnan(x):
            return "–"
        return str(int(x)) if float(x).is_integer() and abs(x) < 1e6 else f"{x:.4g}"
    return "–" if x is None or x == "" else str(x)


def _ok(rows: Frame) -> Frame:
    return rows[rows.status == "ok"]


def _marks(rows: Frame) -> list[str]:
    """What a reader must know before using a row."""
    marks = []
    for row in rows.to_dict("records"):
        found = [] if row["certified"] else ["uncertified"]
        found += ["stale"] if row["stale"] else []
        flags = row.get("flags", "")
        found += [flags] if isinstance(flags, str) and flags else []
        marks.append(", ".join(found))
    return marks


def _toy(toy: Frame) -> Table:
    return Table(
        "toy",
        "The toy over 201 × 201 points of λ in [−5, 5]²: K-RMD's h against dF, both by the estimators in float64. "
        "The bound is (1−γα)^K; the last figure is the distance to the closed form.",
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
            lines.append(line | {"certificate": part.certificate.max(), "marks": "; ".join(marks)})
        if not lines:
            continue
        one = group.iloc[0]
        stem = re.sub(r"[^A-Za-z0-9]+", "-", f"{problem}-{lam}-{device}").strip("-")
        order = [s for s in _ORDER if s in set(group.series)] + sorted(set(group.series) - set(_ORDER))
        shown = pd.DataFrame(lines)
        shown = shown.assign(rank=[order.index(s) for s in shown.method]).sort_values(["rank", "K"], kind="stable")
        yield Table(
            f"summary-{stem}",
            f"{problem}, λ = {lam}, T = {T}, M = {int(one.M)}, N = {int(one.N)}, float32, {device}, machine {machine}: "
            "bias and cosine against dF, median time and planned memory of one hypergradient, and the relative "
            "difference of the frameworks in float64.",
            shown.drop(columns="rank"),
        )


def _certificates(rows: Frame) -> Table:
    keys = ["problem", "lam", "method", "options", "T", "seed"]
    one = rows.drop_duplicates(keys)[[*keys, "certificate", "certified", "uncertified_because"]]
    one = one.rename(columns={"certificate": "relative difference", "uncertified_because": "reason"})
    agree = int(one.certified.sum())
    return Table(
        "certificates",
        f"PyTorch against JAX in float64, at each cell's own sizes: {agree} of {len(one)} estimates agree to 1e-10.",
        one,
    )


def _bias(rows: Frame) -> Table:
    ok = _ok(rows)
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
        "the lower optimum w* and at w_T, where the lower problem is strongly convex.",
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
            "IQR/median": timed.iqr_ratio,
            "calls": timed.calls,
            "compile (s)": timed.compile_s,
            "machine": timed.machine,
            "marks": _marks(timed),
            "record": timed.record,
        }
    )
    return Table(
        "time",
        "Wall time of one hypergradient: warm, synchronised, alone on the machine; compilation apart. Times of "
        "different machines are not comparable.",
        shown,
    )


def _memory(rows: Frame) -> Table:
    ok = _ok(rows)
    ok = ok[ok.plan_bytes.notna()] if "plan_bytes" in ok else ok.iloc[:0]
    if ok.empty:
        return Table("memory", "", ok)
    excess = ok.plan_bytes / ok.law_bytes - 1
    shown = ok[HEAD].assign(
        **{
            "M": ok.M,
            "N": ok.N,
            "law (KiB)": ok.law_bytes / 1024,
            "plan (KiB)": ok.plan_bytes / 1024,
            "plan/law": ok.plan_bytes / ok.law_bytes,
            "resident growth (KiB)": ok.resident_bytes / 1024,
            "marks": ["plan and law differ" if abs(e) > OFF else "" for e in excess],
            "record": ok.record,
        }
    )
    return Table(
        "memory",
        "Memory of one hypergradient three ways: the law (what the method must keep across steps), the framework's "
        "plan (JAX: temporary bytes of the compiled call; torch: peak of live storages), growth of the resident set. "
        "A plan also holds the workspace of one step, which the law leaves out.",
        shown,
    )


def _counts(rows: Frame) -> Table:
    ok = _ok(rows)
    if ok.empty or "counted" not in ok:
        return Table("counts", "", ok.iloc[:0])
    ok = ok[ok.counted != ""].drop_duplicates(["problem", "method", "options", "T", "framework"])
    shown = ok[["problem", "method", "options", "T", "framework", "counted", "by_formula"]]
    return Table(
        "counts",
        "Oracle calls of one hypergradient, counted by an instrumented backend, and the method's own formula.",
        shown.assign(equal=(ok.counted == ok.by_formula).to_numpy()).rename(columns={"by_formula": "by formula"}),
    )


def _cells(rows: Frame) -> Table:
    columns = [*HEAD, "device", "seed", "M", "N", "P", "lower", "value", "norm", "exact_bias", "median_s", "plan_bytes"]
    columns += [c for c in rows.columns if c.startswith(("metric_", "stat_"))]
    shown = rows[[c for c in columns if c in rows.columns]].assign(
        certificate=rows.certificate, status=rows.status, stale=rows.stale, record=rows.record
    )
    return Table("cells", "Every cell with its certificate (relative difference of the frameworks in float64).", shown)


def _failures(rows: Frame) -> Table:
    bad = rows[rows.status != "ok"]
    return Table(
        "failures",
        "What did not end as `ok`, and why. Only `ok` is ranked or drawn.",
        bad[[*HEAD, "device", "seed", "status", "reason", "record"]],
    )
