"""Records as one pandas table: a row a cell, a column a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bench import naming
from bench.cell import Cell
from bench.record import Bias, Record, Sketch, Time

Frame = Any
"""A pandas DataFrame: its published types do not survive its own indexing."""

BOUND = 1e-10  # relative difference of the frameworks in float64 that a certificate allows
PAIR = ("torch", "jax")
SPREAD = 0.2  # interquartile range over median: beyond this a time is marked


def frame(records: list[Record], stale: frozenset[str] = frozenset()) -> Frame:
    """One row for every hypergradient cell, in the order of the keys."""
    certified, floors = certificates(records), _floors(records)
    chosen = [r for r in records if r.cell.kind == "hypergradient"]
    return pd.DataFrame([_row(r, certified, r.key in stale) | {"floor_s": _floor(r, floors)} for r in chosen])


def _floors(records: list[Record]) -> dict[tuple, tuple[float, float]]:
    """(problem, framework, device, dtype, machine) → median seconds of a step and of a vjp inside a scan, from RMD's
    calibration cells."""
    found = {}
    for r in records:
        if r.calibration is not None and r.cell.method == "rmd":
            medians = {name: float(np.median(values)) for name, values in r.calibration.seconds.items()}
            T = r.cell.horizon
            found[_lane(r)] = medians["floor: steps"] / T, medians["floor: pull-backs"] / T
    return found


def _lane(r: Record) -> tuple:
    return problem(r.cell), r.cell.backend, r.cell.device, r.cell.dtype, r.environment.get("fingerprint")


def _floor(r: Record, floors: Mapping[tuple, tuple[float, float]]) -> float:
    """T·step + K·vjp; no vjp of Φ in cg and fmd.  A method of somebody else's has none."""
    T, K = r.cell.horizon, r.cell.truncation
    pull_backs = {"rmd": T, "krmd": K, "neumann": K, "cg": 0, "fmd": 0}.get(r.cell.method.removeprefix("native-"))
    if _lane(r) not in floors or pull_backs is None:
        return np.nan
    step, vjp = floors[_lane(r)]
    return T * step + pull_backs * vjp


def landscapes(records: list[Record], stale: frozenset[str] = frozenset()) -> Frame:
    """One row for every toy landscape: K, angle, norm ratio, bias."""
    rows = []
    for r in records:
        if r.landscape is not None:
            figures = r.landscape.model_dump(exclude={"axis", "value", "angle_deg", "norm_ratio"})
            marks = "stale" if r.key in stale else ""
            rows.append(
                {"K": r.cell.truncation, "framework": r.cell.backend, **figures, "marks": marks, "record": r.key}
            )
    return pd.DataFrame(rows).sort_values(["K", "framework"], ignore_index=True) if rows else pd.DataFrame(rows)


def certificates(records: list[Record]) -> dict[str, tuple[float | None, str]]:
    """For every estimate: the relative difference of torch and JAX in float64, or why there is none."""
    twins: dict[str, dict[str, Record]] = {}
    for r in records:
        if r.cell.kind == "hypergradient" and r.cell.dtype == "float64" and r.cell.backend in PAIR:
            twins.setdefault(_estimate(r.cell), {})[r.cell.backend] = r
    return {key: _difference(pair) for key, pair in twins.items()}


def agreement(rows: Frame) -> tuple[int, int, int, float]:
    """Of the estimates in `frame`'s rows: how many the frameworks agree on, how many both have in float64, how many
    they do not; the largest difference of those that agree, NaN where none does."""
    one = rows[rows.framework.isin(PAIR)]
    one = one.drop_duplicates(["problem", "lam", "method", "options", "T", "device", "seed"])
    agree, both = one[one.certified], int(one.certificate.notna().sum())
    return len(agree), both, len(one) - both, float(agree.certificate.max())


def _estimate(cell: Cell) -> str:
    """What a certificate is about: the cell whatever its framework, precision and clock."""
    return repr(sorted(cell.model_dump(exclude={"backend", "dtype", "timed"}).items()))


def _difference(pair: Mapping[str, Record]) -> tuple[float | None, str]:
    sketches: list[Sketch] = []
    for name in PAIR:
        if name not in pair:
            return None, f"no float64 record of {name}"
        result = pair[name].result
        if pair[name].status != "ok" or result is None:
            return None, f"{name}: {pair[name].status}"
        sketches.append(result.sketch)
    a, b = (np.asarray(s.values) for s in sketches)
    scale = max(np.linalg.norm(b), np.linalg.norm(a))
    return (float(np.linalg.norm(a - b) / scale) if scale > 0 else 0.0), ""


def _row(r: Record, certified: Mapping[str, tuple[float | None, str]], stale: bool) -> dict[str, Any]:
    cell, result = r.cell, r.result
    difference, reason = None, f"certificates are of {' and '.join(PAIR)}"
    if cell.backend in PAIR:  # another lane's numbers are its own
        difference, reason = certified.get(_estimate(cell), (None, "no float64 records"))
    row: dict[str, Any] = {
        "problem": problem(cell),
        "lam": ("run " if naming.run_of(cell.lam) else "") + naming.short(cell.lam),
        "run": naming.run_of(cell.lam),
        "method": cell.method,
        "series": series(cell),
        "options": ", ".join(f"{k}={v}" for k, v in cell.method_options.items()),
        "K": np.nan if cell.truncation is None else cell.truncation,
        "T": cell.horizon,
        "framework": cell.backend,
        "device": cell.device,
        "dtype": cell.dtype,
        "seed": cell.seed,
        "timed": cell.timed,
        "status": r.status,
        "reason": r.reason,
        "certificate": difference,
        "certified": difference is not None and difference <= BOUND,
        "uncertified_because": reason or ("" if difference is None or difference <= BOUND else "the frameworks differ"),
        "machine": r.environment.get("fingerprint", ""),
        "stale": stale,
        "record": r.key,
    }
    if result is None:
        return row
    time, memory = result.time, result.memory
    return row | {
        **result.sizes,
        "value": _number(result.value),
        "norm": _number(result.norm),
        **_bias("exact", result.exact),
        **_bias("implicit", result.implicit),
        **_bias("implicit_wT", result.implicit_wT),
        "estimand": result.estimand,
        "median_s": time.median if time else np.nan,
        "low_s": float(np.quantile(time.values, 0.25)) if time else np.nan,
        "high_s": float(np.quantile(time.values, 0.75)) if time else np.nan,
        "calls": len(time.values) if time else 0,
        "iqr_ratio": time.iqr_ratio if time else np.nan,
        "first_call_s": (time.compile or 0.0) + time.warmup if time else np.nan,
        "lane": time.lane if time else "",
        "flags": ", ".join([*time.flags, *_spread(cell, time)]) if time else "",
        "law_bytes": _number(memory.law),
        "plan_bytes": _number(memory.plan),
        "resident_bytes": _number(memory.resident if cell.device == "cpu" else None),  # a GPU's arrays are not in it
        "work": work(result.counts),
        "counted": calls(result.counts),
        "by_formula": calls(result.cost),
        **{f"metric_{name}": v for name, v in result.metrics.items()},
        **{f"stat_{name}": v for name, v in result.stats.items()},
    }


def _spread(cell: Cell, time: Time) -> list[str]:
    """The mark of calls whose times lie far apart."""
    far = time.iqr_ratio > SPREAD
    return [f"{cell.backend}: IQR {100 * time.iqr_ratio:.0f} % of the median"] if far else []


def _bias(name: str, b: Bias) -> dict[str, Any]:
    return {
        f"{name}_bias": _number(b.relative),
        f"{name}_absolute": _number(b.absolute),
        f"{name}_cosine": _number(b.cosine),
        f"{name}_descent": _number(b.descent),
        f"{name}_reason": b.reason,
    }


def _number(x: float | None) -> float:
    return math.nan if x is None else float(x)


def problem(cell: Cell) -> str:
    """The task with the options that were given, as in `hypercleaning (dataset=digits, train=200)`."""
    options = ", ".join(f"{k}={v}" for k, v in cell.task_options.items())
    return f"{cell.task} ({options})" if options else cell.task


def series(cell: Cell) -> str:
    """The method and the options that make a line of its own: all but K and chunk.  K-RMD's stash is always named."""
    if cell.method in ("rmd", "krmd"):
        return f"{cell.method} {cell.method_options.get('stash', 'iterates')}"
    rest = [str(v) for k, v in cell.method_options.items() if k not in ("truncation", "chunk")]
    return " ".join([cell.method, *rest])


def work(counts: dict[str, dict[str, int]] | None) -> float:
    """Calls, linearisations, pull-backs and push-forwards of Φ and ∇g; f and `embed` are called alike by all."""
    if counts is None:
        return np.nan
    return float(sum(n for f in ("step", "inner") for n in counts.get(f, {}).values()))


def calls(counts: dict[str, dict[str, int]] | None) -> str:
    """`step: call 95, linearise 5, pull 5; …`."""
    if counts is None:
        return ""
    return "; ".join(
        f"{f}: " + ", ".join(f"{kind} {n}" for kind, n in sorted(kinds.items()))
        for f, kinds in sorted(counts.items())
        if kinds
    )
