"""What a sweep would take, before it is run: cells, time, memory, data, λ, frameworks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import backends
from bench import estimate, plugins, point
from bench.cell import Cell
from bench.sweep import Expanded
from tasks import data as datasets
from tasks.data.locate import needed


def lines(expanded: Expanded, cells: list[Cell]) -> Iterator[str]:
    """Of the sweep, and of those cells of it that would be computed."""
    yield expanded.title
    left_out = f", {expanded.left_out} left out (K > T)" if expanded.left_out else ""
    yield f"cells       {len(expanded.cells)}{left_out}; {len(cells)} to compute"
    seconds, memory = sum(map(estimate.seconds, cells)), max(map(estimate.memory, cells), default=0)
    yield f"time        about {_duration(seconds)} on one core (estimated from sizes, not measured)"
    yield f"memory      about {memory / 2**20:.0f} MiB at the largest cell, frameworks aside (estimated)"
    wanted = sorted(
        {d for c in cells for d in plugins.build(plugins.task_class(c.task), c.task_options, c.task).datasets}
    )
    yield "data        " + (", ".join(f"{d} ({_sources(d)})" for d in wanted) or "none")
    for lam in sorted({c.lam for c in cells if point.is_file(c.lam) and point.digest(c.lam) is None}):
        yield f"λ           {lam}: cannot be read now"
    for name in sorted({c.backend for c in cells}):
        yield f"backend     {name}: {backends.unavailable(name) or 'installed'}"


def _duration(seconds: float) -> str:
    """In the unit that people would say it in."""
    unit, name = next(((u, n) for u, n in ((3600, "h"), (60, "min")) if seconds >= u), (1, "s"))
    return f"{seconds / unit:.1f} {name}"


def _sources(name: str) -> str:
    """Where the files that a data set is read from are, as in `cache: 3 of 4 files`."""
    if name not in datasets.DATASETS:
        return "unknown"
    wanted = {file.path for file in needed(datasets.DATASETS[name])}
    found = [row["source"] for row in datasets.listing() if row["name"] == name and row["file"] in wanted]
    counts = Counter(source for source in found if source != "missing")
    return ", ".join(f"{source}: {n} of {len(wanted)} files" for source, n in sorted(counts.items())) or "missing"
