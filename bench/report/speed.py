"""Ours against the native idiom and the floors, from calibration records: ratios round by round."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.naming import short
from bench.record import Record
from bench.report.frame import Frame, problem
from bench.report.runs import marks
from bench.report.table import Table
from bench.stats import interval

STEPS, PULL_BACKS, BOTH = "floor: steps", "floor: pull-backs", "floor: both"


def table(records: list[Record], stale: frozenset[str] = frozenset()) -> Table:
    """One line a calibration cell: the better of our stashes, native/ours and ours/floor."""
    rows = [_row(r) | {"marks": calibrated_marks([r], stale), "record": r.key} for r in records if r.calibration]
    return Table(
        "speed",
        "Our estimator, the better of its two stashes, beside the native idiom of the framework and the floors, called "
        "in turn in one process. native/ours above 1: ours is faster; native/native is the native idiom against "
        "itself: its distance from 1 is the measurement's error. The floor is T·step + K·vjp, from one scan of T steps "
        "and one of K pull-backs, in which a compiler leaves out Φ's value; where pull-backs are kept it is (T−K)·step "
        "+ K·(step and its vjp), from a scan of K steps that are pulled back at once; cg and fmd have none. Ratios are "
        "medians over rounds with 95 % intervals (below ten rounds: the range); the unit of replication is the round.",
        in_order(rows),
    )


def in_order(rows: list[dict]) -> Frame:
    """By problem, framework, method, K and, where there is one, seed."""
    order = [c for c in ("problem", "framework", "method", "K", "seed") if rows and c in rows[0]]
    return pd.DataFrame(rows).sort_values(order, ignore_index=True, kind="stable") if rows else pd.DataFrame(rows)


def calibrated_marks(records: list[Record], stale: frozenset[str]) -> str:
    """Stale, or timed under foreign load."""
    flags = sorted({flag for r in records if r.calibration for flag in r.calibration.flags})
    return ", ".join(filter(None, [marks(records, stale), *flags]))


def seconds_of(r: Record) -> dict[str, np.ndarray]:
    """Contestant → its seconds, round by round."""
    assert r.calibration is not None
    return {name: np.array(values) for name, values in r.calibration.seconds.items()}


def stashes(r: Record, seconds: dict[str, np.ndarray]) -> list[str]:
    """Our own contestants."""
    return [name for name in seconds if name.partition(" ")[0] == r.cell.method]


def control(r: Record) -> str:
    """The native idiom's second call in each round."""
    return f"native-{r.cell.method} again"


def names(r: Record) -> dict:
    """The columns that say which estimator on which problem."""
    return {
        "problem": problem(r.cell),
        "framework": r.cell.backend,
        "device": r.cell.device,
        "dtype": r.cell.dtype,
        "method": " ".join([r.cell.method, *(str(v) for k, v in r.cell.method_options.items() if k == "linearise")]),
        "K": np.nan if r.cell.truncation is None else r.cell.truncation,
        "T": r.cell.horizon,
        "λ": short(r.cell.lam),
    }


def _row(r: Record) -> dict:
    seconds = seconds_of(r)
    best = min(stashes(r, seconds), key=lambda name: float(np.median(seconds[name])))
    ours = seconds[best]
    native = seconds.get(f"native-{r.cell.method}")
    floor = seconds[STEPS] + seconds[PULL_BACKS] if PULL_BACKS in seconds else None
    return names(r) | {
        "seed": r.cell.seed,
        "ours (ms)": 1e3 * float(np.median(ours)),
        "stash": best.partition(" ")[2],
        "native (ms)": np.nan if native is None else 1e3 * float(np.median(native)),
        "native/ours": _ratio(native, ours),
        "native/native": _ratio(native, seconds.get(control(r))),
        "iterates/floor": _ratio(seconds.get(f"{r.cell.method} iterates"), floor),
        "residuals/floor": _ratio(seconds.get(f"{r.cell.method} residuals"), _residuals_floor(r, seconds)),
        "ours/floor": _ratio(ours, floor),
        "one step (ms)": 1e3 * float(np.median(seconds["one step"])),
        "one vjp (ms)": 1e3 * float(np.median(seconds["one vjp"])),
        "rounds": len(ours),
        "machine": r.environment.get("fingerprint", ""),
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
    return interval(a / b, np.median).text()
