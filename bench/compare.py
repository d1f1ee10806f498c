"""Two stores against each other: figures, counts and plans cell by cell, times as ratios with intervals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.record import Record
from bench.stats import Interval, interval

RELATIVE = (" bias", " cosine", " descent")


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
    devices: tuple[str, str] | None = None
    """Of the two stores, where they are of one each and these differ: cells are then the same but for their device."""
    times: dict[str, Interval] = field(default_factory=dict)
    """Method and framework, or "calibration", contestant and framework → time in B over time in A, one value a cell."""

    @property
    def same(self) -> bool:
        return not (self.differences or self.only_a or self.only_b)


def compare(a: Iterable[Record], b: Iterable[Record], tolerance: float = 0.0) -> Comparison:
    """Hold B against A.  Figures must agree to `tolerance`, counts, plans and statuses exactly.

    The tolerance is relative: to the number, in a list to its largest entry, and for bias, cosine and descent, which
    are relative to dF already, to 1.  Of a figure that differs in several places the first is named.  Plans of two
    devices are not of one kind and not compared.
    """
    a, b = list(a), list(b)
    devices = _devices(a, b)
    left, right = ({_name(r, devices is not None): r for r in store} for store in (a, b))
    found = Comparison(devices=devices)
    found.only_a = sorted(left[name].key for name in left.keys() - right.keys())
    found.only_b = sorted(right[name].key for name in right.keys() - left.keys())
    ratios: dict[str, list[float]] = {}
    for name in sorted(left.keys() & right.keys()):
        one, other = _figures(left[name]), _figures(right[name])
        differing = []
        for what in sorted((one.keys() | other.keys()) - ({"plan"} if devices else set())):
            scale = 1.0 if what.endswith(RELATIVE) else 0.0
            places = _differences(what, one.get(what), other.get(what), tolerance, scale)
            differing += [Difference(right[name].key, *place) for place in itertools.islice(places, 1)]
        found.differences += differing
        found.equal += not differing
        before, now = _medians(left[name]), _medians(right[name])
        for lane in before.keys() & now.keys():
            ratios.setdefault(lane, []).append(now[lane] / before[lane])
    found.times = {lane: interval(values, np.median) for lane, values in sorted(ratios.items())}
    return found


def _name(r: Record, whatever_device: bool) -> str:
    return r.cell.model_copy(update={"device": "any"}).key if whatever_device else r.key


def _devices(a: list[Record], b: list[Record]) -> tuple[str, str] | None:
    one, other = (sorted({r.cell.device for r in store}) for store in (a, b))
    return (one[0], other[0]) if len(one) == len(other) == 1 and one != other else None


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


def _differences(what: str, a: Any, b: Any, tolerance: float, scale: float = 0.0) -> Iterator[tuple[str, Any, Any]]:
    """The places where two trees are not the same: the place, and what stands there in each.

    `scale` is what a number's difference is held against where the number itself is less: of a list, its largest entry.
    """
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted(a.keys() | b.keys()):
            yield from _differences(f"{what} {name}", a.get(name), b.get(name), tolerance, scale)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        largest = max([scale, *(abs(x) for x in (*a, *b) if isinstance(x, float))])
        for i, (x, y) in enumerate(zip(a, b)):
            yield from _differences(f"{what}[{i}]", x, y, tolerance, largest)
    elif isinstance(a, float) and isinstance(b, float):
        if not math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance * scale):
            yield what, a, b
    elif a != b:
        yield what, a, b
