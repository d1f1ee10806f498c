"""Runs of the upper level on real tasks: training records with metrics on held-out data, one start each.

family     a problem, with what is compared inside it: a baseline without interaction, a shorter horizon
line       what differs inside a family: the estimator, K, T, the baseline; seeds and frameworks are of one line
settings   of the upper level: optimiser, rate, schedule, iterations

What a run is worth is read at its selected iteration, which validation data alone have chosen.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from bench.cell import Cell
from bench.record import Record, Training

Key = TypeVar("Key", bound=Hashable)

EPISODES = 600  # held-out ones of few-shot, its default: reports import no task, a test holds this to it
ORDER = ("krmd", "rmd", "fmd", "neumann", "cg")
TASKS = ("hypercleaning", "task_interaction", "fewshot")  # in the paper's order
POINTS = 100  # of a share
NORMAL = 1.96  # standard deviations to either side that hold 95 %


class Line(NamedTuple):
    """The estimator with its K and T; `baseline` is a problem without interaction."""

    method: str
    K: int | None
    T: int
    baseline: bool

    @property
    def pulled(self) -> int:
        """K; T for what has none."""
        return self.T if self.K is None else self.K

    @property
    def exact(self) -> bool:
        """Do all T steps count?"""
        return self.method in ("rmd", "fmd") or (self.method == "krmd" and self.K == self.T)

    def label(self, T: int) -> str:
        """In a family whose horizon is T."""
        name = self.method.upper() if self.K is None else f"K = {self.K}"
        if self.method not in ("krmd", "rmd"):
            name = f"{self.method} {name}" if self.K is not None else self.method
        if self.T != T:
            name = f"T = {self.T}, {'exact' if self.exact else name}"
        return f"C = 0, {name}" if self.baseline else name

    @property
    def order(self) -> tuple:
        rank = ORDER.index(self.method) if self.method in ORDER else len(ORDER)
        return self.baseline, -self.T, rank, self.method, self.pulled


class Family(NamedTuple):
    """One problem in one precision: its chosen runs, by line."""

    name: str
    dtype: str
    T: int
    lines: dict[Line, list[Record]]

    @property
    def records(self) -> list[Record]:
        return [r for of in self.lines.values() for r in of]

    @property
    def exact(self) -> Line | None:
        """What all K are held against: K = T at the family's horizon, or RMD."""
        found = [line for line in self.lines if line.exact and line.T == self.T and not line.baseline]
        return min(found, key=lambda line: line.order, default=None)


def is_run(r: Record) -> bool:
    """Is it one?"""
    return r.status == "ok" and r.training is not None and bool(r.training.held) and len(r.training.seeds) == 1


def training_of(r: Record) -> Training:
    assert r.training is not None
    return r.training


def family_of(cell: Cell) -> str:
    """The task and its options, but for those that make a line; λ_0 and the device, where they are not the usual.

    `interaction` makes a line; so do `steps` of an episode where they are T, as those of a shorter horizon are.
    """
    given = {k: v for k, v in cell.task_options.items() if k != "interaction" and (k, v) != ("steps", cell.horizon)}
    given |= {"λ_0": cell.lam} if cell.kind == "training" and cell.lam != "init" else {}
    given |= {"device": cell.device} if cell.device != "cpu" else {}
    options = ", ".join(f"{k}={v}" for k, v in given.items())
    return f"{cell.task} ({options})" if options else cell.task


def line_of(cell: Cell) -> Line:
    return Line(cell.method, cell.truncation, cell.horizon, cell.task_options.get("interaction") is False)


def settings_of(cell: Cell) -> str:
    return json.dumps(cell.settings, sort_keys=True)


def pair_of(cell: Cell) -> str:
    """`adam 0.03`: optimiser and rate, and the schedule where the rate changes."""
    s = cell.settings
    schedule = s.get("schedule", "constant")
    return f"{s.get('optimiser', 'gd')} {s['rate']:g}" + ("" if schedule == "constant" else f" {schedule}")


def families(records: Iterable[Record], dtypes: tuple[str, ...] = ("float32", "float64")) -> list[Family]:
    """All families with their chosen runs; of a problem in two precisions the first of `dtypes`."""
    found: dict[str, Family] = {}
    runs = [r for r in records if is_run(r)]
    for dtype in reversed(dtypes):
        for name, of in grouped([r for r in runs if r.cell.dtype == dtype], lambda r: family_of(r.cell)).items():
            found[name] = Family(name, dtype, horizon(of), _chosen(of))
    return [found[name] for name in sorted(found, key=_rank)]


def drawn(records: Iterable[Record]) -> list[Family]:
    """Those of a store that are drawn: float32, where it has any.  Short float64 runs are for certificates."""
    found = families(records)
    return [f for f in found if f.dtype == "float32"] or found


def _rank(name: str) -> tuple[int, str]:
    task = name.partition(" ")[0]
    return (TASKS.index(task) if task in TASKS else len(TASKS)), name


def horizon(records: list[Record]) -> int:
    """The T of most K, then the longest."""
    Ks = {T: len({line_of(r.cell).pulled for r in of}) for T, of in grouped(records, lambda r: r.cell.horizon).items()}
    return max(Ks, key=lambda T: (Ks[T], T))


def _chosen(records: list[Record]) -> dict[Line, list[Record]]:
    """By line the runs at the family's settings; a line that has more elsewhere takes its own."""
    best, lines = most_run(records), {}
    by_line = grouped(records, lambda r: line_of(r.cell))
    for line in sorted(by_line, key=lambda line: line.order):
        of = by_line[line]
        runs = Counter(settings_of(r.cell) for r in of)
        settings = best if runs[best] == max(runs.values()) else most_run(of)
        # A stash changes cost and not h: one record a seed and framework.
        same = grouped([r for r in of if settings_of(r.cell) == settings], lambda r: (r.cell.backend, r.cell.seed))
        lines[line] = [of[0] for of in same.values()]
    return lines


def most_run(records: list[Record]) -> str:
    """The settings of most records; among equals those of the least validation loss."""
    by = grouped(records, lambda r: settings_of(r.cell))
    return min(by, key=lambda s: (-len(by[s]), np.mean([loss(r) for r in by[s]]), s))


# at the selected iteration


def selected(r: Record) -> int:
    """Its place among the recorded iterations."""
    t = training_of(r)
    return t.iterations.index(t.selected[0])


def metric(r: Record, part: str, name: str) -> float:
    """NaN where there is none."""
    values = getattr(training_of(r), part).get(name)
    value = None if values is None else values[selected(r)]
    return np.nan if value is None else float(value)


def accuracy(r: Record) -> float:
    """On held-out data, in per cent."""
    return POINTS * metric(r, "held", "accuracy")


def validation_accuracy(r: Record) -> float:
    """In per cent."""
    return POINTS * metric(r, "validation", "accuracy")


def over_episodes(r: Record) -> float:
    """± of a run's held-out accuracy over its episodes, 95 %, in points; NaN where held-out data are no episodes."""
    number = r.cell.task_options.get("test_episodes") or EPISODES
    return POINTS * NORMAL * metric(r, "held", "accuracy_sd") / np.sqrt(int(number))


def f1(r: Record) -> float:
    return metric(r, "held", "f1")


def losses(r: Record) -> list[float]:
    """Validation loss at the recorded iterations: what selects; F where a task has no other."""
    t = training_of(r)
    found = t.validation.get("loss", t.value[0])
    return [np.nan if x is None else float(x) for x in found]


def loss(r: Record) -> float:
    return losses(r)[selected(r)]


def seconds(r: Record) -> float:
    """Of one upper iteration's h, the median."""
    s = training_of(r).seconds
    return np.nan if s is None else s.median


def machine(r: Record) -> str:
    """Times of two machines are never mixed."""
    return f"{r.environment.get('fingerprint', '')} {r.cell.device}"


def one_machine(records: list[Record]) -> list[Record]:
    """Those of the machine that has most of them."""
    counts = Counter(machine(r) for r in records)
    most = min(counts, key=lambda m: (-counts[m], m), default="")
    return [r for r in records if machine(r) == most]


def by_seed(records: Iterable[Record], value: Callable[[Record], float]) -> dict[int, float]:
    """Seed → value, of one framework; a value that does not exist is left out."""
    return {r.cell.seed: x for r in records if np.isfinite(x := value(r))}


def marks(records: Iterable[Record], stale: frozenset[str]) -> str:
    """Is one of them of code that has changed since?"""
    return "stale" if any(r.key in stale for r in records) else ""


def grouped(records: Iterable[Record], key: Callable[[Record], Key]) -> dict[Key, list[Record]]:
    """Records by a key, in the order of their names."""
    made: dict[Key, list[Record]] = {}
    for r in sorted(records, key=lambda r: r.key):
        made.setdefault(key(r), []).append(r)
    return made


def column(values: Iterable[Any]) -> np.ndarray:
    """A list with None as NaN."""
    return np.array([np.nan if v is None else v for v in values], float)
