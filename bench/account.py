"""Where a sweep's time went: what was asked to be measured, and the harness's own share."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass

from bench.record import Record

MEASURED = ("timing", "call", "plan", "resident", "counts", "metrics", "kind")
"""What a cell is asked for.  All else is the harness: worker starts and imports, data, references, records."""


@dataclass(frozen=True)
class Account:
    """Seconds, added up by `fsum`: Python's own `sum` rounds in another way from 3.12 on.

    measured    in MEASURED, by name
    harness     by name: import, data, reference, "between" (start of a worker, transport, storing), "rest"
    failed      all seconds of cells that the next run tries again: neither the one nor the other
    warm_cell   the median harness time of a cell in a worker that has its imports, data and references already;
                None without such a cell
    """

    measured: dict[str, float]
    harness: dict[str, float]
    failed: float
    warm_cell: float | None

    @property
    def share(self) -> float:
        """The harness's part of all seconds but the failed ones."""
        harness = math.fsum(self.harness.values())
        return harness / (harness + math.fsum(self.measured.values()) or 1.0)


def account(records: list[Record]) -> Account:
    """Of the records of one store."""
    measured: defaultdict[str, float] = defaultdict(float)
    harness: defaultdict[str, float] = defaultdict(float)
    warm = []
    final = [r for r in records if r.final]
    failed = math.fsum(r.seconds + r.overhead.get("between", 0.0) for r in records if not r.final)
    for r in final:
        inside = {name: s for name, s in r.overhead.items() if name != "between"}
        parts = {name: s for name, s in r.overhead.items() if name not in MEASURED}
        parts["rest"] = max(r.seconds - math.fsum(inside.values()), 0.0)
        for name, s in inside.items():
            if name in MEASURED:
                measured[name] += s
        for name, s in parts.items():
            harness[name] += s
        if all(parts.get(name, 0.0) < 0.05 for name in ("import", "data", "reference")):
            warm.append(math.fsum(parts.values()))
    return Account(dict(measured), dict(harness), failed, statistics.median(warm) if warm else None)
