"""Ours against the native idiom over seeds, from calibration records."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.record import Record
from bench.report.runs import grouped
from bench.report.speed import calibrated_marks, control, in_order, names, seconds_of, stashes
from bench.report.table import Table, digits
from bench.stats import Interval, interval


class AgainstNative(NamedTuple):
    """An estimator and its native idiom at several seeds.

    of        the records, one a seed
    stash     the better of ours: of the least mean over seeds of log median time
    ours      native/ours, without unit: in each round the geometric mean of the native idiom's two calls over our one;
              the median over rounds; the mean over seeds
    control   native/native likewise, the second call over the first: its distance from 1 is the measurement's error
    """

    of: list[Record]
    stash: str
    ours: Interval
    control: Interval

    @property
    def trusted(self) -> bool:
        """Is the native idiom found as fast as itself?"""
        return self.control.low <= 1 <= self.control.high


def against_native(records: list[Record]) -> list[AgainstNative]:
    """Every estimator that was held against its native idiom at three seeds or more, by the same code and machine."""
    compared = [r for r in records if r.calibration is not None and control(r) in r.calibration.seconds]
    found = []
    for of in grouped(compared, _but_for_its_seed).values():
        rounds = [seconds_of(r) for r in of]
        best = min(stashes(of[0], rounds[0]), key=lambda name: np.mean([np.log(np.median(s[name])) for s in rounds]))
        first, second = f"native-{of[0].cell.method}", control(of[0])
        ours = interval([float(np.median(np.sqrt(s[first] * s[second]) / s[best])) for s in rounds])
        itself = interval([float(np.median(s[second] / s[first])) for s in rounds])
        found += [AgainstNative(of, best.partition(" ")[2], ours, itself)] if ours.decided else []
    return found


def table(records: list[Record], stale: frozenset[str] = frozenset()) -> Table:
    """One line for every estimator of `against_native`."""
    return Table(
        "speed-seeds",
        "The native idiom's time over ours, the better of our two stashes: median over rounds, then mean over seeds "
        "with 95 % intervals. The unit of replication is the seed: data and, in JAX, compilation are a seed's own, the "
        "process is a framework's. Above 1: ours is faster. native/native is the native idiom against itself: its "
        "distance from 1 is the measurement's error.",
        in_order([_row(found, stale) for found in against_native(records)]),
    )


def _but_for_its_seed(r: Record) -> tuple:
    same = r.cell.model_copy(update={"seed": 0}).key
    return same, r.environment.get("fingerprint", ""), r.code.get("stamp", "")


def _row(found: AgainstNative, stale: frozenset[str]) -> dict:
    return names(found.of[0]) | {
        "stash": found.stash,
        "seeds": found.ours.n,
        "native/ours": found.ours.text(3),
        "native/native": found.control.text(3),
        "machine": found.of[0].environment.get("fingerprint", ""),
        "marks": calibrated_marks(found.of, stale),
        "record": digits(r.key for r in found.of),
    }
