"""Where a sweep's time went: what was asked to be measured, and the harness's own share."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass

from bench.record import Record

MEASURED = ("timing", "call", "plan", "resident", "counts", "metrics", "kind")
"""What a cell is asked for.  All else is the harness: worker starts and imports, data, references, records."""
FAILED = "failed"  # all seconds of a cell that did not end by itself: they are not the harness's


@dataclass(frozen=True)
class Account:
    """Seconds, added up by `fsum`: Python's own `sum` rounds in another way from 3.12 on.

    measured    in MEASURED, by name; FAILED
    harness     by name: import, data, reference, "between" (start of a worker, transport, storing), "rest"
    warm_cell   the median harness time of a cell in a worker that has its imports, data and references already;
                None without such a cell
    """

    measured: dict[str, float]
    harness: dict[str, float]
    warm_cell: float | None

    @property
    def share(self) -> float:
        """The harness's part of all seconds."""
        harness = math.fsum(self.harness.values())
        return harness / (harness + math.fsum(self.measured.values()) or 1.0)


def account(records: list[Record]) -> Account:
    """Of the records of one store."""
    measured: defaultdict[str, float] = defaultdict(float)
    harness: defaultdict[str, float] = defaultdict(float)
    warm = []
    for r in records:
        if not r.final:
            measured[FAILED] += r.seconds + r.overhead.get("between", 0.0)
            continue
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
    return Account(dict(measured), dict(harness), statistics.median(warm) if warm else None)
