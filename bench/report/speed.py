"""Ours against the native idiom and the floors, from calibration records: ratios round by round."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.record import Record
from bench.report.frame import Frame, problem
from bench.report.table import Table
from bench.stats import interval

STEPS, PULL_BACKS, BOTH = "floor: steps", "floor: pull-backs", "floor: both"


def table(records: list[Record]) -> Table:
    """One line a calibration cell: the better of our stashes, native/ours and ours/floor."""
    rows = [_row(r) for r in records if r.calibration is not None]
    return Table(
        "speed",
        "Our estimator, the better of its two stashes, beside the native idiom of the framework and the floors, called "
        "in turn in one process. native/ours above 1: ours is faster. The floor is T·step + K·vjp, from one scan of T "
        "steps and one of K pull-backs, in which a compiler leaves out Φ's value; where pull-backs are kept it is "
        "(T−K)·step + K·(step and its vjp), from a scan of K steps that are pulled back at once; cg and fmd have "
        "none. Ratios are medians over rounds with 95 % intervals; the unit of replication is the round.",
        rows_of(rows),
    )


def rows_of(rows: list[dict]) -> Frame:
    """In the order of problem, framework, method, K."""
    if not rows:
        return pd.DataFrame(rows)
    return pd.DataFrame(rows).sort_values(["problem", "framework", "method", "K"], ignore_index=True, kind="stable")


def _row(r: Record) -> dict:
    assert r.calibration is not None
    seconds = {name: np.array(values) for name, values in r.calibration.seconds.items()}
    stashes = {n: s for n, s in seconds.items() if n.partition(" ")[0] == r.cell.method}
    best = min(stashes, key=lambda n: float(np.median(stashes[n])))
    ours = stashes[best]
    native = seconds.get(f"native-{r.cell.method}")
    floor = seconds[STEPS] + seconds[PULL_BACKS] if PULL_BACKS in seconds else None
    return {
        "problem": problem(r.cell),
        "framework": r.cell.backend,
        "device": r.cell.device,
        "dtype": r.cell.dtype,
        "method": " ".join([r.cell.method, *(str(v) for k, v in r.cell.method_options.items() if k == "linearise")]),
        "K": np.nan if r.cell.truncation is None else r.cell.truncation,
        "T": r.cell.horizon,
        "ours (ms)": 1e3 * float(np.median(ours)),
        "stash": best.partition(" ")[2],
        "native (ms)": np.nan if native is None else 1e3 * float(np.median(native)),
        "native/ours": _ratio(native, ours),
        "iterates/floor": _ratio(seconds.get(f"{r.cell.method} iterates"), floor),
        "residuals/floor": _ratio(seconds.get(f"{r.cell.method} residuals"), _residuals_floor(r, seconds)),
        "ours/floor": _ratio(ours, floor),
        "one step (ms)": 1e3 * float(np.median(seconds["one step"])),
        "one vjp (ms)": 1e3 * float(np.median(seconds["one vjp"])),
        "rounds": len(ours),
        "machine": r.environment.get("fingerprint", ""),
        "record": r.key,
    }


def _residuals_floor(r: Record, seconds: dict[str, np.ndarray]) -> np.ndarray | None:
    """(T−K)·step + K·(step and vjp): with the pull-backs kept the last K steps are taken once, their values used."""
    if BOTH not in seconds:
        return None
    T = r.cell.horizon
    K = T if r.cell.truncation is None else r.cell.truncation
    return seconds[STEPS] * (T - K) / T + seconds[BOTH]


def _ratio(a: np.ndarray | None, b: np.ndarray | None) -> str:
    if a is None or b is None:
        return ""
    found = interval(a / b, np.median)
    return f"{found.middle:.2f} [{found.low:.2f}, {found.high:.2f}]"
