"""Where a store's seconds went: what was measured, and the harness's own share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench.account import account
from bench.record import Record
from bench.report.runs import grouped
from bench.report.table import Table


def table(records: list[Record]) -> Table:
    """One line a part, the largest first."""
    machines = grouped(records, lambda r: r.environment.get("fingerprint", ""))
    return Table(
        "seconds",
        "Where the seconds of all records went: what was asked for is measured, failed is what the next run tries "
        "again (unavailable, timeout, oom, error), all else is the harness's own. Share: of all seconds of the "
        "machine.",
        pd.DataFrame([line for machine, of in machines.items() for line in _lines(machine, of)]),
    )


def _lines(machine: str, records: list[Record]) -> Iterator[dict[str, Any]]:
    spent = account(records)
    whole = math.fsum([*spent.measured.values(), *spent.harness.values(), spent.failed]) or 1.0
    failed = {"all": spent.failed} if spent.failed else {}
    for what, parts in (("measured", spent.measured), ("harness", spent.harness), ("failed", failed)):
        for name, seconds in sorted(parts.items(), key=lambda part: (-part[1], part[0])):
            yield {"what": what, "part": name, "seconds": seconds, "share": seconds / whole, "machine": machine}
