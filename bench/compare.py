"""Two stores against each other: figures, counts and plans cell by cell, times as ratios with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.record import Record
from bench.stats import Interval, interval


@dataclass(frozen=True)
class Difference:
    """One figure of one cell that is not the same in both."""

    key: str
    what: str
    a: Any
    b: Any


@dataclass
class Comparison:
    """What is the same, what is not, what only one store has, and how the times compare."""

    equal: int = 0
    differences: list[Difference] = field(default_factory=list)
    only_a: list[str] = field(default_factory=list)
    only_b: list[str] = field(default_factory=list)
    times: dict[str, Interval] = field(default_factory=dict)
    """Method and framework, or "calibration", contestant and framework → time in B over time in A, one value a cell."""

    @property
    def same(self) -> bool:
        return not (self.differences or self.only_a or self.only_b)


def compare(a: Iterable[Record], b: Iterable[Record], tolerance: float = 0.0) -> Comparison:
    """Hold B against A.  Figures must agree to `tolerance` (relative), counts, plans and statuses exactly."""
    left, right = {r.key: r for r in a}, {r.key: r for r in b}
    found = Comparison(only_a=sorted(left.keys() - right.keys()), only_b=sorted(right.keys() - left.keys()))
    ratios: dict[str, list[float]] = {}
    for key in sorted(left.keys() & right.keys()):
        one, other = _figures(left[key]), _figures(right[key])
        differing = [
            Difference(key, what, one.get(what), other.get(what))
            for what in sorted(one.keys() | other.keys())
            if not _equal(one.get(what), other.get(what), tolerance)
        ]
        found.differences += differing
        found.equal += not differing
        before, now = _medians(left[key]), _medians(right[key])
        for lane in before.keys() & now.keys():
            ratios.setdefault(lane, []).append(now[lane] / before[lane])
    found.times = {lane: interval(values, np.median) for lane, values in sorted(ratios.items())}
    return found


def _medians(r: Record) -> dict[str, float]:
    """Lane → median seconds.

    A calibration's contestants have lanes of their own: they are called in turn, so their values are not those of an
    estimator that is called alone, and of one cell they are not independent.
    """
    found: dict[str, float] = {}
    if r.result is not None and r.result.time is not None:
        found[f"{r.cell.method} {r.cell.backend}"] = r.result.time.median
    if r.calibration is not None:
        for name, seconds in r.calibration.seconds.items():
            found[f"calibration {name} {r.cell.backend}"] = float(np.median(seconds))
    return found


def _figures(r: Record) -> dict[str, Any]:
    """Everything of a record that does not depend on the hour or the machine's speed."""
    figures: dict[str, Any] = {"status": r.status}
    if r.result is not None:
        part = r.result
        figures |= {"value": part.value, "‖h‖": part.norm, "plan": part.memory.plan, "counts": part.counts}
        figures |= {"cost": part.cost, **{f"metric {k}": v for k, v in part.metrics.items()}}
        for name in ("exact", "implicit", "implicit_wT"):
            bias = getattr(part, name)
            figures |= {f"{name} bias": bias.relative, f"{name} cosine": bias.cosine, f"{name} descent": bias.descent}
    if r.landscape is not None:
        figures |= r.landscape.model_dump(include={"largest_angle_deg", "median_norm_ratio", "bias_min", "bias_max"})
    for name in ("sample", "training", "baseline"):
        part = getattr(r, name)
        if part is not None:
            figures |= {f"{name} {field}": value for field, value in part.model_dump(exclude={"seconds"}).items()}
    return figures


def _equal(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=tolerance, abs_tol=0.0)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_equal(x, y, tolerance) for x, y in zip(a, b))
    return bool(a == b)
