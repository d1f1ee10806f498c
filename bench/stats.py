"""Intervals, paired differences and ranks.  The unit of replication is the seed (for times of one cell: the round).

Below 3 values nothing is decided; below 10 the interval is Student's t (the bootstrap covers too little there); from 10
on it is the percentile bootstrap.  Ranks come from paired differences: who is not shown to differ shares a rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

FEW, MANY = 3, 10
LEVEL = 0.95


class Interval(NamedTuple):
    """A statistic with its 95 % interval; NaN where the values are too few to decide anything."""

    middle: float
    low: float
    high: float
    n: int

    @property
    def decided(self) -> bool:
        return bool(np.isfinite(self.low))

    def text(self, decimals: int = 2, sign: str = "") -> str:
        """`1.00 [0.98, 1.02]`, or `1.00` where nothing is decided; `sign` is "+" for differences."""
        middle, low, high = (f"{x:{sign}.{decimals}f}" for x in (self.middle, self.low, self.high))
        return f"{middle} [{low}, {high}]" if self.decided else middle


def interval(values: Sequence[float] | np.ndarray, statistic: Callable = np.mean) -> Interval:
    """The mean (or another statistic) of one value a seed.  A constant has an interval of no width."""
    x = np.asarray(values, float)
    if x.ndim != 1:
        raise ValueError(f"values of shape {x.shape}; expected one number a seed")
    if not np.isfinite(x).all():
        raise ValueError("values that are NaN or infinite are failures, not data: leave them out and say so")
    middle = float(statistic(x)) if len(x) else np.nan
    if len(x) < FEW:
        return Interval(middle, np.nan, np.nan, len(x))
    if np.ptp(x) == 0:
        return Interval(middle, middle, middle, len(x))
    if len(x) < MANY:
        if statistic is not np.mean:
            return Interval(middle, float(x.min()), float(x.max()), len(x))
        half = float(stats.t.ppf(0.5 + LEVEL / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
        return Interval(middle, middle - half, middle + half, len(x))
    found = stats.bootstrap(
        (x,), statistic, confidence_level=LEVEL, n_resamples=2000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return Interval(middle, float(found.low), float(found.high), len(x))


def paired(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Mean of a − b, seed by seed."""
    if len(a) != len(b):
        raise ValueError(f"paired values need the same seeds: {len(a)} against {len(b)}")
    return interval(np.asarray(a, float) - np.asarray(b, float))


def comparable(a: Sequence[float], b: Sequence[float], margin: float) -> bool | None:
    """Does the interval of the paired difference lie inside ± margin?  None below three seeds."""
    found = paired(a, b)
    return bool(-margin <= found.low and found.high <= margin) if found.decided else None


def ranks(scores: Mapping[str, Sequence[float]]) -> dict[str, int]:
    """1 for every entry that none is shown to beat; then the same among the rest.  More is better."""
    left, rank, found = dict(scores), 1, {}
    while left:
        best = [a for a in left if not any(paired(left[b], left[a]).low > 0 for b in left if b != a)]
        for name in best:
            found[name] = rank
            del left[name]
        rank += len(best)
    return found
