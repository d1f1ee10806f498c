"""C11 – C14, C15b: what few steps are worth where λ is trained on real data.

Everything is read at the iteration that validation data select, from float32 runs of one optimiser, rate and number of
iterations: those that most runs of a problem share.  Differences are paired by seed.  *Comparable*: the interval of the
difference lies within ± 0.5 points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import numpy as np

from bench.claims.protocol import Claim, Finding, Statistic
from bench.claims.query import keys, listed
from bench.record import Record
from bench.report import runs
from bench.report.runs import TASKS, Family, Line
from bench.stats import FEW, Interval, interval, paired

POINTS = 0.5  # DESIGN §5; F1 is counted in points too
# Half a point of an accuracy near 90 % is a twentieth of the error rate; the loss may differ by the same share.
LOSS = 0.05  # of the exact hypergradient's mean validation loss
FROM_K = 5
QUARTER = 4  # few steps: K ≤ T/4
PROBLEMS = 2  # of the three must be decided before C15b is

Outcome = Literal["comparable", "better", "worse", "open", "few seeds"]


class Metric(NamedTuple):
    """What is compared; `sign` is −1 where less is better."""

    name: str
    unit: str
    value: Callable[[Record], float]
    sign: int = 1


ACCURACY = Metric("held-out accuracy", "points", runs.accuracy)
METRICS = (
    ACCURACY,
    Metric("validation accuracy", "points", runs.validation_accuracy),
    Metric("F1", "points", lambda r: 100 * runs.f1(r)),
    Metric("validation loss", "1", runs.loss, -1),
)


class Compared(NamedTuple):
    """A line minus the exact hypergradient of its family, over the seeds of both."""

    family: Family
    line: Line
    metric: Metric
    difference: Interval
    margin: float

    @property
    def gain(self) -> tuple[float, float]:
        """The interval, more being better."""
        low, high = (self.metric.sign * x for x in (self.difference.low, self.difference.high))
        return min(low, high), max(low, high)

    @property
    def outcome(self) -> Outcome:
        if not self.difference.decided:
            return "few seeds"
        low, high = self.gain
        if -self.margin <= low and high <= self.margin:
            return "comparable"
        return "worse" if high < -self.margin else "better" if low > self.margin else "open"

    @property
    def as_good(self) -> bool:
        """Not worse by the margin."""
        return self.difference.decided and self.gain[0] >= -self.margin

    @property
    def words(self) -> str:
        return f"{self.metric.name} at {self.line.label(self.family.T)} {shown(self.difference)}"

    @property
    def statistic(self) -> Statistic:
        d = self.difference
        name = f"{self.metric.name} at K = {self.line.K} minus that of the exact hypergradient ({self.metric.unit})"
        return Statistic(f"{name}, {self.family.name}", d.middle, d, "seed")


def shown(i: Interval) -> str:
    """`-0.10 [-0.31, +0.12]`."""
    digits = 2 if not np.isfinite(i.middle) or abs(i.middle) >= 0.1 else 3
    return i.text(digits, sign="+")


def _wants(*tasks: str) -> Callable[[Record], bool]:
    """Float32 runs of K-RMD and RMD on these tasks, with metrics on held-out data."""

    def wanted(r: Record) -> bool:
        c = r.cell
        ours = c.kind == "training" and c.task in tasks and c.dtype == "float32" and c.method in ("krmd", "rmd")
        return ours and (r.training is None or bool(r.training.held))

    return wanted


def families(records: Iterable[Record], *tasks: str) -> list[Family]:
    """The problems of these tasks, one framework's records."""
    found = runs.families(records, ("float32",))
    return [f for f in found if f.name.partition(" ")[0] in tasks]


def truncated(family: Family) -> list[Line]:
    """K-RMD with K < T at the family's horizon and at the exact hypergradient's settings."""
    exact = family.exact
    if exact is None:
        return []
    settings = _settings(family, exact)
    found = [line for line in family.lines if line.method == "krmd" and not line.baseline and line.T == family.T]
    return [line for line in found if (line.K or 0) < line.T and _settings(family, line) == settings]


def _settings(family: Family, line: Line) -> str:
    return runs.settings_of(family.lines[line][0].cell)


def compare(family: Family, line: Line, against: Line, metric: Metric) -> Compared | None:
    """None where no seed has both."""
    a, b = (runs.by_seed(family.lines[x], metric.value) for x in (line, against))
    seeds = sorted(set(a) & set(b))
    if not seeds:
        return None
    margin = POINTS if metric.sign > 0 else LOSS * float(np.mean([b[s] for s in seeds]))
    return Compared(family, line, metric, paired([a[s] for s in seeds], [b[s] for s in seeds]), margin)


def compared(records: Iterable[Record], tasks: Iterable[str], metrics: Iterable[Metric]) -> list[Compared]:
    """All K < T against K = T, problem by problem."""
    metrics = tuple(metrics)
    return [
        c
        for family in families(records, *tasks)
        if family.exact is not None
        for line in truncated(family)
        for metric in metrics
        if (c := compare(family, line, family.exact, metric)) is not None
    ]


def times(family: Family, line: Line) -> Interval | None:
    """Seconds an upper iteration over the exact hypergradient's, by seed, on one machine that other cells may share."""
    assert family.exact is not None
    a, b = ({(runs.machine(r), r.cell.seed): runs.seconds(r) for r in family.lines[x]} for x in (line, family.exact))
    ratios = [a[k] / b[k] for k in sorted(set(a) & set(b)) if np.isfinite(a[k]) and np.isfinite(b[k])]
    return interval(ratios) if ratios else None


def _undecided(found: list[Compared], records: list[Record]) -> Finding | None:
    """A finding where there is nothing to compare, or too few seeds."""
    used = keys(records)
    if not found:
        return Finding("inconclusive", "no K < T beside K = T or RMD at the same upper rate", None, used)
    most = max(found, key=lambda c: c.difference.n)
    if not most.difference.decided:
        n = most.difference.n
        reason = f"{n} seed{'s' if n > 1 else ''} ({_at(most.family)}); at least {FEW} are needed; {most.words}"
        return Finding("inconclusive", reason, most.statistic, used)
    return None


def _at(family: Family) -> str:
    settings = {f"{runs.pair_of(r.cell)}, {r.cell.settings['iterations']} iterations" for r in family.records}
    return f"{family.name}, {' or '.join(sorted(settings))}"


def _used(found: list[Compared]) -> tuple[str, ...]:
    """The runs behind the comparisons."""
    lines = [(c.family, line) for c in found for line in (c.line, c.family.exact) if line is not None]
    return keys({r.key: r for family, line in lines for r in family.lines[line]}.values())


def _farthest(found: list[Compared]) -> Compared:
    return max(found, key=lambda c: abs(c.difference.middle) / c.margin)


# C11


def _cleaning(records: list[Record]) -> Finding:
    every = compared(records, ("hypercleaning",), METRICS)
    if (nothing := _undecided(every, records)) is not None:
        return nothing
    found = [c for c in every if c.difference.decided]
    small, first = ([c for c in found if of(c.line.K or 0)] for of in (lambda K: K >= FROM_K, lambda K: K == 1))
    used = _used(found)
    if not small or not first:
        lacks = f"K from {FROM_K} to T" if not small else "K = 1"
        return Finding("inconclusive", f"no runs of {lacks} with {FEW} seeds", None, used)
    worst, n = _farthest(small), max(c.difference.n for c in found)
    Ks = sorted({c.line.K or 0 for c in small})
    told = f"{_at(worst.family)}, {n} seeds: K = {listed(Ks)} against K = T, farthest {worst.words}"
    apart = [c for c in small if c.outcome in ("worse", "better")]
    if apart:
        told += f"; not close: {_by_family([(c, f'{c.words} ({c.outcome})') for c in apart])}"
        return Finding("refuted", told, _farthest(apart).statistic, used)
    loss = [c for c in first if c.metric.sign < 0]
    told += "; " + _by_family([(c, c.words) for c in first])
    if any(c.gain[0] >= 0 for c in loss):
        return Finding("refuted", f"{told}: K = 1 is not worse", worst.statistic, used)
    unsure = [c for c in small if c.outcome != "comparable"]
    if unsure:
        reason = f"{told}; not shown to be close: {_by_family([(c, c.words) for c in unsure])}"
        return Finding("inconclusive", reason, worst.statistic, used)
    if not loss or not all(c.gain[1] < 0 for c in loss):
        return Finding("inconclusive", f"{told}: K = 1 is not shown to be worse", worst.statistic, used)
    return Finding("reproduced", told, worst.statistic, used)


# C12, C13


def _as_accurate(task: str) -> Callable[[list[Record]], Finding]:
    def weigh(records: list[Record]) -> Finding:
        every = compared(records, (task,), (ACCURACY,))
        if (nothing := _undecided(every, records)) is not None:
            return nothing
        found = [c for c in every if c.difference.decided]
        timed = [(c, times(c.family, c.line)) for c in found]
        told = _by_family([(c, f"{_briefly(c)} (time {_ratio(t)})") for c, t in timed])
        told = f"held-out accuracy against K = T, {max(c.difference.n for c in found)} seeds: {told}"
        worst, used = min(found, key=lambda c: c.difference.middle), _used(found)
        if any(c.outcome == "worse" for c in found):
            return Finding("refuted", f"{told}: less accurate", worst.statistic, used)
        if not all(c.as_good for c in found):
            return Finding("inconclusive", f"{told}: not shown to be as accurate", worst.statistic, used)
        if not all(t is not None and t.decided and t.high < 1 for _, t in timed):
            # These times are of a machine that other cells may have shared: they never refute.
            return Finding("inconclusive", f"{told}: not shown to be cheaper", worst.statistic, used)
        return Finding("reproduced", told, worst.statistic, used)

    return weigh


def _by_family(found: list[tuple[Compared, str]]) -> str:
    """`problem: K = 1 -0.10 [-0.31, +0.12], K = 5 …; problem: …`: what is said of each, its problem once."""
    names = dict.fromkeys(c.family.name for c, _ in found)
    lines = {name: [said for c, said in found if c.family.name == name] for name in names}
    return "; ".join(f"{name}: {', '.join(of)}" for name, of in lines.items())


def _briefly(c: Compared) -> str:
    """`K = 1 -0.10 [-0.31, +0.12]`, where the metric is named once for all."""
    return f"{c.line.label(c.family.T)} {shown(c.difference)}"


def _ratio(t: Interval | None) -> str:
    return "unknown" if t is None else f"× {t.middle:.2f}"


# C14


def horizons(records: Iterable[Record]) -> list[tuple[Compared, Line]]:
    """A long horizon with a short backward pass against a short horizon with its exact hypergradient: K-RMD of the
    largest K that pulls back no more steps than the short horizon has, or of the least K there is."""
    found = []
    for family in families(records, "fewshot"):
        long = [x for x in family.lines if x.method == "krmd" and x.T == family.T and x.pulled < x.T]
        for short in (x for x in family.lines if x.exact and x.T < family.T):
            same = [x for x in long if _settings(family, x) == _settings(family, short)]
            within = [x for x in same if x.pulled <= short.T]
            if same:
                line = max(within, key=lambda x: x.pulled) if within else min(same, key=lambda x: x.pulled)
                if (c := compare(family, line, short, ACCURACY)) is not None:
                    found.append((c, short))
    return found


def _long_beats_short(records: list[Record]) -> Finding:
    found, used = horizons(records), keys(records)
    if not found:
        reason = "no run of a short horizon beside one of the long horizon with K < T"
        return Finding("inconclusive", reason, None, used)
    worst, short = min(found, key=lambda pair: (pair[0].difference.decided, pair[0].difference.middle))
    d = worst.difference
    told = f"T = {worst.family.T}, K = {worst.line.K} against T = {short.T}, exact: {shown(d)} points, "
    told += f"{d.n} seed{'s' if d.n > 1 else ''}"
    name = f"held-out accuracy at T = {worst.family.T}, K = {worst.line.K} minus that at T = {short.T} (points)"
    statistic = Statistic(name, d.middle, d, "seed")
    if not d.decided:
        return Finding("inconclusive", f"{told}; at least {FEW} are needed", statistic, used)
    if d.low > 0:
        return Finding("reproduced", told, statistic, used)
    no_better = d.high < 0 or worst.outcome == "comparable"
    return Finding("refuted" if no_better else "inconclusive", f"{told}: not shown to be better", statistic, used)


# C15b


def few_steps(records: Iterable[Record]) -> list[Compared]:
    """Accuracy of K ≤ T/4 against the exact hypergradient, on the three problems."""
    return [c for c in compared(records, TASKS, (ACCURACY,)) if c.line.pulled * QUARTER <= c.line.T]


def _often(records: list[Record]) -> Finding:
    every = few_steps(records)
    if (nothing := _undecided(every, records)) is not None:
        return nothing
    found = [c for c in every if c.difference.decided]
    used, n = _used(found), len(found)
    close, worse = (sum(c.outcome == o for c in found) for o in ("comparable", "worse"))
    decided = {c.family.name.partition(" ")[0] for c in found}
    told = f"{close} of {n} (problem, K ≤ T/{QUARTER}) comparable, {worse} worse, on {listed(sorted(decided))}: "
    told += _by_family([(c, _briefly(c)) for c in found])
    statistic = Statistic("share of (problem, few K) comparable to the exact hypergradient", close / n)
    if len(decided) < PROBLEMS:
        lacks = listed(t for t in TASKS if t not in decided)
        return Finding("inconclusive", f"{told}; too few seeds or none on {lacks}", statistic, used)
    if 2 * close > n:
        return Finding("reproduced", told, statistic, used)
    return Finding("refuted" if 2 * worse >= n else "inconclusive", told, statistic, used)


C11 = Claim(
    id="C11",
    statement="Hyper-cleaning: small K is close to full RMD in test accuracy, validation accuracy, F1 (± 0.5 points "
    "each) and validation loss (± 5 %) for every K ≥ 5, and K = 1 has a slightly higher validation loss. (That it is "
    "about twice as fast is C15a's.)",
    source="PAPER §3, C11",
    tag="restated",
    figure="C11-cleaning",
    wants=_wants("hypercleaning"),
    weigh=_cleaning,
)
C12 = Claim(
    id="C12",
    statement="Task interaction: few steps are as accurate as full RMD (not worse by 0.5 points) at lower time an "
    "upper iteration, for every K < T.",
    source="PAPER §4, C12",
    tag="restated",
    figure="C12-interaction",
    wants=_wants("task_interaction"),
    weigh=_as_accurate("task_interaction"),
)
C13 = Claim(
    id="C13",
    statement="One-shot classification: K < T is as accurate as full RMD (not worse by 0.5 points) and cheaper an "
    "upper iteration.",
    source="PAPER §5, C13",
    tag="restated",
    figure="C13-fewshot",
    wants=_wants("fewshot"),
    weigh=_as_accurate("fewshot"),
)
C14 = Claim(
    id="C14",
    statement="One-shot classification: a long forward pass with a short backward pass beats a short horizon with its "
    "exact hypergradient.",
    source="PAPER §5, C14",
    tag="restated",
    figure="C14-horizon",
    wants=_wants("fewshot"),
    weigh=_long_beats_short,
)
C15b = Claim(
    id="C15b",
    statement="Few-step back-propagation often performs comparably to optimisation with the exact gradient: over the "
    "three problems, more than half of all K ≤ T/4 are within ± 0.5 points of its accuracy. Refuted if half or more "
    "are worse; at least two of the problems must have three seeds.",
    source="PAPER §1, abstract",
    tag="paper",
    figure="C15b-comparable",
    wants=_wants(*TASKS),
    weigh=_often,
)
