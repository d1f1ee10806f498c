"""Ours against the native idiom and the floors, from calibration records: ratios round by round."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from bench.record import Record
from bench.report.frame import Frame, problem
from bench.report.runs import grouped
from bench.report.table import Table
from bench.stats import Interval, interval

STEPS, PULL_BACKS, BOTH = "floor: steps", "floor: pull-backs", "floor: both"


def table(records: list[Record]) -> Table:
    """One line a calibration cell: the better of our stashes, native/ours and ours/floor."""
    rows = [_row(r) for r in records if r.calibration is not None]
    return Table(
        "speed",
        "Our estimator, the better of its two stashes, beside the native idiom of the framework and the floors, called "
        "in turn in one process. native/ours above 1: ours is faster; native/native is the same text against itself: "
        "what lies within it is no difference. The floor is T·step + K·vjp, from one scan of T steps and one of K "
        "pull-backs, in which a compiler leaves out Φ's value; where pull-backs are kept it is (T−K)·step + K·(step "
        "and its vjp), from a scan of K steps that are pulled back at once; cg and fmd have none. Ratios are medians "
        "over rounds with 95 % intervals; the unit of replication is the round.",
        rows_of(rows),
    )


class AgainstNative(NamedTuple):
    """Median ratios, one a seed, with Student's interval: the native idiom's time over ours, and over its own."""

    of: Record
    ours: Interval
    control: Interval


def against_native(records: list[Record]) -> list[AgainstNative]:
    """Every estimator that was held against its native idiom at three seeds or more, on one machine."""
    compared = [r for r in records if r.calibration is not None and _control(r) in r.calibration.seconds]
    found = []
    for of in grouped(compared, _but_for_its_seed).values():
        native = f"native-{of[0].cell.method}"
        rounds = [_seconds(r) for r in of]
        ours = interval([float(np.median(s[native] / s[_better(of[0], s)])) for s in rounds])
        control = interval([float(np.median(s[native] / s[_control(of[0])])) for s in rounds])
        found += [AgainstNative(of[0], ours, control)] if ours.decided else []
    return found


def over_seeds(records: list[Record]) -> Table:
    """One line for every estimator of `against_native`."""
    return Table(
        "speed-seeds",
        "The native idiom's time over ours, the better of our two stashes: median over rounds, then mean over seeds "
        "with 95 % intervals; the unit of replication is the seed (data, arrays and compilation are a seed's own). "
        "Above 1: ours is faster. native/native is the same text against itself: what lies within it is no difference.",
        rows_of(
            [
                _names(r) | {"seeds": ours.n, "native/ours": told(ours, 3), "native/native": told(control, 3)}
                for r, ours, control in against_native(records)
            ]
        ),
    )


def rows_of(rows: list[dict]) -> Frame:
    """In the order of problem, framework, method, K, seed."""
    order = [c for c in ("problem", "framework", "method", "K", "seed") if rows and c in rows[0]]
    return pd.DataFrame(rows).sort_values(order, ignore_index=True, kind="stable") if rows else pd.DataFrame(rows)


def _but_for_its_seed(r: Record) -> tuple:
    return r.cell.model_copy(update={"seed": 0}).key, r.environment.get("fingerprint", "")


def _seconds(r: Record) -> dict[str, np.ndarray]:
    assert r.calibration is not None
    return {name: np.array(values) for name, values in r.calibration.seconds.items()}


def _better(r: Record, seconds: dict[str, np.ndarray]) -> str:
    """The faster of our stashes, by its median."""
    ours = [name for name in seconds if name.partition(" ")[0] == r.cell.method]
    return min(ours, key=lambda name: float(np.median(seconds[name])))


def _control(r: Record) -> str:
    return f"native-{r.cell.method} again"


def _names(r: Record) -> dict:
    return {
        "problem": problem(r.cell),
        "framework": r.cell.backend,
        "device": r.cell.device,
        "dtype": r.cell.dtype,
        "method": " ".join([r.cell.method, *(str(v) for k, v in r.cell.method_options.items() if k == "linearise")]),
        "K": np.nan if r.cell.truncation is None else r.cell.truncation,
        "T": r.cell.horizon,
    }


def _row(r: Record) -> dict:
    seconds = _seconds(r)
    best = _better(r, seconds)
    ours = seconds[best]
    native = seconds.get(f"native-{r.cell.method}")
    floor = seconds[STEPS] + seconds[PULL_BACKS] if PULL_BACKS in seconds else None
    return _names(r) | {
        "seed": r.cell.seed,
        "ours (ms)": 1e3 * float(np.median(ours)),
        "stash": best.partition(" ")[2],
        "native (ms)": np.nan if native is None else 1e3 * float(np.median(native)),
        "native/ours": _ratio(native, ours),
        "native/native": _ratio(native, seconds.get(_control(r))),
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
    return told(found, 2)


def told(found: Interval, decimals: int) -> str:
    """`1.00 [0.98, 1.02]`."""
    middle, low, high = (f"{x:.{decimals}f}" for x in found[:3])
    return f"{middle} [{low}, {high}]"
