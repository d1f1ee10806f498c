"""Memory three ways in one place: the law, the framework's plan, the resident set; and their slopes in K and T."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench.report.frame import Frame
from bench.report.table import HEAD, Table, digits

OFF = 0.10  # plan against law: beyond this the row is marked
LAST = ("marks", "record")
WAYS = {"law": "law_bytes", "plan": "plan_bytes", "resident": "resident_bytes"}


def tables(rows: Frame) -> list[Table]:
    """`memory`, a line a cell, and `memory-slopes`, a line a method."""
    ok = rows[rows.status == "ok"]
    ok = ok[ok.plan_bytes.notna()] if "plan_bytes" in ok else ok.iloc[:0]
    if ok.empty:
        return []
    slopes = pd.DataFrame(list(_slopes(ok)))
    order = [c for c in slopes.columns if c not in LAST] + [c for c in LAST if c in slopes]
    return [_cells(ok), Table("memory-slopes", _SLOPES, slopes[order])]


def _cells(ok: Frame) -> Table:
    excess = ok.plan_bytes / ok.law_bytes - 1
    shown = ok[HEAD].assign(
        **{
            "M": ok.M,
            "N": ok.N,
            "law (KiB)": ok.law_bytes / 1024,
            "plan (KiB)": ok.plan_bytes / 1024,
            "plan/law": ok.plan_bytes / ok.law_bytes,
            "resident (KiB)": ok.resident_bytes / 1024,
            "resident/plan": ok.resident_bytes / ok.plan_bytes,
            "marks": [_marks(abs(e) > OFF, stale) for e, stale in zip(excess, ok.stale)],
            "machine": ok.machine,
            "record": ok.record,
        }
    )
    return Table(
        "memory",
        "Memory of one hypergradient three ways: the law (what the method must keep across steps), the framework's "
        "plan (JAX: temporary bytes of the compiled call; torch: peak of live storages, on a GPU of its allocator), "
        "and how far the process's resident set rose in one call that took its memory anew; on a GPU, where the arrays "
        "are not in it, none. A plan also holds the workspace of one step, which the law leaves out; the resident set "
        "also what a framework takes beside arrays, and holes between an allocator's blocks. One record a row.",
        shown,
    )


def _marks(differ: bool, stale: bool) -> str:
    return ", ".join((["plan and law differ"] if differ else []) + (["stale"] if stale else []))


_SLOPES = (
    "Slopes of memory by least squares, in units of M·itemsize, over K at fixed T and over T at fixed K. The workspace "
    "of a step is in the intercept, so law and plan must agree here: a line is marked where their slopes differ by "
    "more than 10 % of M·itemsize. Misfit: the largest residual of the plan over its mean. Resident: the slope of what "
    "one call took from the system, in whole pages and with holes between blocks. One fit a row: a point is a record."
)


def _slopes(ok: Frame) -> Iterator[dict[str, Any]]:
    held = ["problem", "lam", "series", "framework", "device", "dtype", "seed", "machine"]
    for axis, other in (("K", "T"), ("T", "K")):
        for key, part in ok.groupby([*held, other], sort=True, dropna=False):
            part = part.sort_values(axis)
            if part[axis].nunique() < 3:
                continue
            unit = part.M.iloc[0] * (8 if part["dtype"].iloc[0] == "float64" else 4)
            line: dict[str, Any] = dict(zip([*held, other], key)) | {"over": axis, "cells": len(part)}
            known = {name: column for name, column in WAYS.items() if np.isfinite(part[column]).all()}
            fits = {name: fitted(part[axis], part[column]) for name, column in known.items()}
            slopes = {name: float(fits[name].slope / unit) if name in fits else np.nan for name in WAYS}
            line |= {f"{name} slope (M·itemsize)": slope for name, slope in slopes.items()}
            plan = fits["plan"]
            line["plan at 0 (KiB)"] = float(plan.at_0 / 1024)
            line["misfit"] = float(plan.misfit / Fraction(part.plan_bytes.mean() or 1))
            line["marks"] = _marks(abs(slopes["plan"] - slopes["law"]) > OFF, part.stale.any())
            yield line | {"record": digits(part.record)}


class Line(NamedTuple):
    """y ≈ slope·x + at_0 by least squares; misfit: the largest |residual|."""

    slope: Fraction
    at_0: Fraction
    misfit: Fraction


def fitted(x: Any, y: Any) -> Line:
    """Through whole numbers, so that the result is exact: what is flat has the slope 0, whatever library adds it up."""
    xs, ys = [Fraction(value) for value in x], [Fraction(value) for value in y]
    zero = Fraction(0)
    middle = sum(xs, zero) / len(xs)
    products, squares = (sum(((a - middle) * b for a, b in zip(xs, other)), zero) for other in (ys, xs))
    slope = products / squares
    at_0 = sum(ys, zero) / len(ys) - slope * middle
    return Line(slope, at_0, max(abs(b - slope * a - at_0) for a, b in zip(xs, ys)))
