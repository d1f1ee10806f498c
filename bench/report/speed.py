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
STEPS_ALONE = ("cg", "fmd")  # whose floor is the T steps: they pull nothing back through Φ


def table(records: list[Record], stale: frozenset[str] = frozenset()) -> Table:
    """One line a calibration cell: the better of our stashes, native/ours and ours/floor."""
    rows = [_row(r) | {"marks": calibrated_marks([r], stale), "record": r.key} for r in records if r.calibration]
    return Table(
        "speed",
        "Our estimator, the better of its two stashes, beside the native idiom of the framework and the floors, called "
        "in turn in one process. native/ours above 1: ours is faster; native/native is the native idiom against "
        "itself: its distance from 1 is the measurement's error. The floor is T·step + K·vjp, from one scan of T steps "
        "and one of K pull-backs, in which a compiler leaves out Φ's value; where pull-backs are kept it is (T−K)·step "
        "+ K·(step and its vjp), from a scan of K steps that are pulled back at once; that of cg and fmd is T·step. "
        "Ratios are medians over rounds with 95 % intervals (below ten rounds: the range); the unit of replication is "
        "the round.",
        in_order(rows),
    )


def in_order(rows: list[dict]) -> Frame:
    """By problem, framework, method, K and, where there is one, seed."""
    order = [c for c in ("problem", "framework", "method", "K", "seed") if rows and c in rows[0]]
    return pd.DataFrame(rows).sort_values(order, ignore_index=True, kind="stable") if rows else pd.DataFrame(rows)


def calibrated_marks(records: list[Record], stale: frozenset[str]) -> str:
    """Timed under foreign load, or stale."""
    flags = sorted({flag for r in records if r.calibration for flag in r.calibration.flags})
    return ", ".join(filter(None, [*flags, marks(records, stale)]))


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


def over_floor(r: Record) -> dict[str, np.ndarray]:
    """Stash → K-RMD's and RMD's time over that stash's own floor, round by round."""
    seconds = seconds_of(r)
    floors = {"iterates": _floor(seconds), "residuals": _residuals_floor(r, seconds)}
    mine = {stash: seconds.get(f"{r.cell.method} {stash}") for stash in floors}
    return {stash: s / floor for stash, floor in floors.items() if (s := mine[stash]) is not None and floor is not None}


def _row(r: Record) -> dict:
    seconds = seconds_of(r)
    best = min(stashes(r, seconds), key=lambda name: float(np.median(seconds[name])))
    ours, over = seconds[best], over_floor(r)
    native = seconds.get(f"native-{r.cell.method}")
    eager_step = r.cell.backend.endswith(":compiled")  # that lane compiles Φ for what is given a problem, and no lambda
    return names(r) | {
        "seed": r.cell.seed,
        "ours (ms)": 1e3 * float(np.median(ours)),
        "stash": best.partition(" ")[2],
        "native (ms)": np.nan if native is None else 1e3 * float(np.median(native)),
        "native/ours": _ratio(native, ours),
        "native/native": _ratio(native, seconds.get(control(r))),
        "native/iterates": _ratio(native, seconds.get(f"{r.cell.method} iterates")),
        "native/residuals": _ratio(native, seconds.get(f"{r.cell.method} residuals")),
        "iterates/floor": _told(over.get("iterates")),
        "residuals/floor": _told(over.get("residuals")),
        "ours/floor": _ratio(ours, seconds[STEPS] if r.cell.method in STEPS_ALONE else _floor(seconds)),
        "one step (ms)": np.nan if eager_step else 1e3 * float(np.median(seconds["one step"])),
        "one vjp (ms)": 1e3 * float(np.median(seconds["one vjp"])),
        "rounds": len(ours),
        "machine": r.environment.get("fingerprint", ""),
    }


def _floor(seconds: dict[str, np.ndarray]) -> np.ndarray | None:
    return seconds[STEPS] + seconds[PULL_BACKS] if PULL_BACKS in seconds else None


def _residuals_floor(r: Record, seconds: dict[str, np.ndarray]) -> np.ndarray | None:
    """(T−K)·step + K·(step and vjp): with the pull-backs kept the last K steps are taken once, their values used."""
    if BOTH not in seconds:
        return None
    T = r.cell.horizon
    K = T if r.cell.truncation is None else r.cell.truncation
    return seconds[STEPS] * (T - K) / T + seconds[BOTH]


def _ratio(a: np.ndarray | None, b: np.ndarray | None) -> str:
    return _told(None if a is None or b is None else a / b)


def _told(ratios: np.ndarray | None) -> str:
    return "" if ratios is None else interval(ratios, np.median).text()
