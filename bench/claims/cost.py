"""C9, C15a: what K-RMD costs.  Counts and bytes are laws; times are of one machine."""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np

from bench.claims.convergence import fitted
from bench.claims.protocol import Claim, Finding, Statistic
from bench.claims.query import K_of, keys
from bench.record import Calibration, Record, Result
from bench.report.runs import grouped
from bench.stats import Interval, interval

ITERATE = 1024  # bytes: below it the framework's own bookkeeping outweighs an iterate
FROM_K = 5  # below it a plan still holds the workspace of single steps, and compilers unroll
SLOPE, FLAT = 0.10, 0.01
STRAIGHT = 0.98  # R² of a line through the times
FEW = 3
ITEMSIZE = {"float32": 4, "float64": 8}
SHARE = 20  # few steps: K ≤ T/20
DISPATCH = 1e-4  # seconds: a forward pass below it is the call, not the arithmetic
HALF, ABOUT = 0.5, 0.1  # "half" is at most .55


# C9


def _ours(r: Record) -> bool:
    c = r.cell
    iterates = c.method == "krmd" and c.method_options.get("stash", "iterates") == "iterates"
    return c.kind == "hypergradient" and iterates and c.timed and (c.truncation or 0) >= 1


def result_of(r: Record) -> Result:
    assert r.result is not None
    return r.result


def lane(r: Record) -> tuple[Hashable, ...]:
    """What does not change while K and T do; times of two machines are never in one."""
    c = r.cell
    options = json.dumps(c.task_options, sort_keys=True)
    return c.backend, c.task, options, c.lam, c.dtype, c.device, c.seed, str(r.environment.get("fingerprint", ""))


def most_K(records: list[Record]) -> list[Record]:
    """The records of the T at which most K were run, by K."""
    of = grouped(records, lambda r: r.cell.horizon)
    return sorted(max(of.values(), key=lambda rs: len({K_of(r) for r in rs})), key=K_of) if of else []


def bytes_per_K(records: list[Record]) -> Interval | None:
    """Slope of the planned bytes in K over M·itemsize, at one T, 5 ≤ K < T."""
    at = [r for r in most_K(_planned(records)) if FROM_K <= K_of(r) < r.cell.horizon]
    if len({K_of(r) for r in at}) < FEW:
        return None
    iterate = result_of(at[0]).sizes["M"] * ITEMSIZE[at[0].cell.dtype]
    plans = np.array([float(result_of(r).memory.plan or 0) for r in at])
    return fitted(np.array([K_of(r) for r in at], float), plans / iterate)


def change_in_T(records: list[Record]) -> float | None:
    """The largest relative change of the planned bytes over T at one K < T."""
    found = []
    for of in grouped([r for r in _planned(records) if K_of(r) < r.cell.horizon], K_of).values():
        plans = np.array([float(result_of(r).memory.plan or 0) for r in of])
        if len({r.cell.horizon for r in of}) >= FEW:
            found.append(float(np.ptp(plans) / plans.min()))
    return max(found, default=None)


def seconds_per_K(records: list[Record]) -> tuple[Interval, float] | None:
    """Slope of the median time in K, and R² of the line, at one T."""
    at = most_K([r for r in records if result_of(r).time is not None])
    times = [t.median for r in at if (t := result_of(r).time) is not None]
    if len({K_of(r) for r in at}) < FEW:
        return None
    K, t = np.array([K_of(r) for r in at], float), np.array(times)
    return fitted(K, t), float(np.corrcoef(K, t)[0, 1] ** 2)


def undisturbed(r: Record) -> bool:
    """Was nothing else running while it was timed?"""
    timed = r.calibration or (r.result and r.result.time)
    return timed is not None and "foreign load" not in timed.flags


def _planned(records: list[Record]) -> list[Record]:
    return [r for r in records if result_of(r).memory.plan is not None]


def miscounted(r: Record) -> bool:
    """K linearisations and K pull-backs of Φ, T calls?"""
    counts = result_of(r).counts
    expected = {"call": r.cell.horizon, "linearise": K_of(r), "pull": K_of(r)}
    return counts is not None and {k: n for k, n in counts.get("step", {}).items() if n} != expected


def large(records: list[Record]) -> list[list[Record]]:
    """The lanes whose iterates are large enough for the law to be seen."""
    big = [r for r in records if result_of(r).sizes["M"] * ITEMSIZE[r.cell.dtype] >= ITERATE]
    return list(grouped(big, lane).values())


def _laws(records: list[Record]) -> Finding:
    used, wrong = keys(records), [r for r in records if miscounted(r)]
    if wrong:
        r = wrong[0]
        counted = (result_of(r).counts or {}).get("step")
        return Finding("refuted", f"T = {r.cell.horizon}, K = {K_of(r)}: counted {counted}", None, used)
    lanes = large(records)
    slopes = [s for of in lanes if (s := bytes_per_K(of)) is not None]
    changes = [c for of in lanes if (c := change_in_T(of)) is not None]
    alone = [t for of in lanes if (t := seconds_per_K([r for r in of if undisturbed(r)])) is not None]
    times = alone or [t for of in lanes if (t := seconds_per_K(of)) is not None]
    if not (slopes and changes and times):
        lacks = [name for name, of in (("K", slopes), ("T", changes), ("time", times)) if not of]
        return Finding("inconclusive", f"fewer than three values to see the law of {', '.join(lacks)}", None, used)
    slope, change = max(slopes, key=lambda s: abs(s.middle - 1)), max(changes)
    time, straight = min(times, key=lambda t: t[1])
    told = (
        f"counts as the law; planned bytes per K {slope.middle:.3f} M·itemsize, {100 * change:.2f} % over T; time "
        f"per K {1e6 * time.middle:.3g} µs [{1e6 * time.low:.3g}, {1e6 * time.high:.3g}], R² = {straight:.3f}"
    ) + ("" if alone else " (timed under foreign load)")
    statistic = Statistic("planned bytes per K over M·itemsize", slope.middle, slope, "K")
    if abs(slope.middle - 1) > SLOPE or change > FLAT:
        return Finding("refuted", told, statistic, used)
    if not all(t.low > 0 and r2 >= STRAIGHT for t, r2 in times):
        return Finding("inconclusive", f"{told}: no line", statistic, used)
    return Finding("reproduced", told, statistic, used)


# C15a


class Half(NamedTuple):
    """Time of K-RMD over RMD's, each the better of its stashes; what the floors say; the price of a pull-back."""

    measured: Interval
    floors: float  # (T·step + K·vjp)/(T·step + T·vjp)
    vjp: float  # seconds of a pull-back over those of a step
    few: Record
    full: Record


def calibration_of(r: Record) -> Calibration:
    assert r.calibration is not None
    return r.calibration


def best(r: Record) -> Interval:
    """Median seconds of the better stash, over rounds."""
    seconds = calibration_of(r).seconds
    ours = [np.array(s) for name, s in seconds.items() if name.startswith(r.cell.method)]
    return interval(min(ours, key=lambda s: float(np.median(s))), np.median)


def floors(r: Record) -> tuple[float, float]:
    """Median seconds of T steps and of the cell's pull-backs."""
    seconds = calibration_of(r).seconds
    return float(np.median(seconds["floor: steps"])), float(np.median(seconds["floor: pull-backs"]))


def halves(records: list[Record]) -> list[Half]:
    """Every K-RMD beside the RMD of its problem and machine, undisturbed, without what is nothing but dispatch."""
    found = []
    for of in grouped(filter(undisturbed, records), lambda r: (lane(r), r.cell.horizon)).values():
        full = [r for r in of if r.cell.method == "rmd"]
        few = [r for r in of if r.cell.method == "krmd" and (r.cell.truncation or 0) >= 1]
        if full and floors(full[0])[0] >= DISPATCH:
            found += [_half(r, full[0]) for r in sorted(few, key=K_of)]
    return found


def _half(few: Record, full: Record) -> Half:
    (steps, back), a, b = floors(full), best(few), best(full)
    T = full.cell.horizon
    # Two cells share no rounds, so the interval is the widest that both allow.
    ratio = Interval(a.middle / b.middle, a.low / b.high, a.high / b.low, min(a.n, b.n))
    return Half(ratio, (steps + K_of(few) * back / T) / (steps + back), back / steps, few, full)


def _half_the_time(records: list[Record]) -> Finding:
    found = [h for h in halves(records) if K_of(h.few) * SHARE <= h.few.cell.horizon]
    if not found:
        return Finding("inconclusive", f"no calibration of RMD and of K-RMD with K ≤ T/{SHARE}", None, keys(records))
    worst = max(found, key=lambda h: h.measured.middle)
    m, K, T = worst.measured, K_of(worst.few), worst.few.cell.horizon
    told = (
        f"K = {K} of T = {T}: {m.middle:.2f} [{m.low:.2f}, {m.high:.2f}] of RMD's time, {worst.floors:.2f} by the "
        f"floors (a pull-back costs {worst.vjp:.2g} steps; at equal costs it would be {(1 + K / T) / 2:.2f})"
    )
    statistic = Statistic("time of K-RMD over time of RMD, the largest", m.middle, m, "round")
    used = keys({r.key: r for h in found for r in (h.few, h.full)}.values())
    limit = HALF * (1 + ABOUT)
    verdict = "reproduced" if m.high <= limit else "refuted" if m.low > limit else "inconclusive"
    return Finding(verdict, told, statistic, used)


C9 = Claim(
    id="C9",
    statement="K-RMD costs O(cK) time backward and O(MK) memory: counts, planned bytes and time are linear in K, bytes "
    "with slope M·itemsize and flat in T.",
    source="PAPER §1, C9",
    tag="restated",
    figure="C9-laws",
    wants=_ours,
    weigh=_laws,
)
C15a = Claim(
    id="C15a",
    statement="Few-step back-propagation needs half the computation time of the exact gradient. The T forward "
    "steps remain, so ½ is the limit for K/T → 0 if a step and a pull-back cost the same, less if a pull-back costs "
    "more.",
    source="PAPER §1, abstract",
    tag="paper",
    figure="C15a-half",
    wants=lambda r: r.cell.kind == "calibration" and r.cell.method in ("rmd", "krmd"),
    weigh=_half_the_time,
)
