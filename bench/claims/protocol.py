"""What a claim is: words, a query over records, and a rule that turns what was found into a verdict.

    reproduced      every framework's records confirm it
    refuted         every framework's records contradict it
    inconclusive    records are missing or too few, a check could not have failed, or the frameworks' verdicts differ

No verdict rests on a recalled number, and none on a record that is not `ok`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from bench.paper import Tag
from bench.record import Record
from bench.stats import Interval

Verdict = Literal["reproduced", "refuted", "inconclusive"]

PAIR = ("jax", "torch")


@dataclass(frozen=True)
class Statistic:
    """The number that a verdict rests on; `unit` is the unit of replication behind its interval, if there is one."""

    name: str
    value: float
    interval: Interval | None = None
    unit: str = ""


@dataclass(frozen=True)
class Finding:
    """What the records of one framework say."""

    verdict: Verdict
    reason: str
    statistic: Statistic | None = None
    used: tuple[str, ...] = ()  # keys of the records


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict."""

    claim: Claim
    verdict: Verdict
    reason: str
    findings: dict[str, Finding] = field(default_factory=dict)  # by framework
    left_out: dict[str, int] = field(default_factory=dict)  # records that are not ok, by status
    failed: bool = False  # an exception: no verdict could be formed


@dataclass(frozen=True)
class Claim:
    """One statement of the paper (PAPER §1, §2).

    wants    which records it reads
    weigh    the ok records of one framework, at least one of them → what they say
    figure   stem of its figure
    """

    id: str
    statement: str
    source: str
    tag: Tag
    figure: str
    wants: Callable[[Record], bool]
    weigh: Callable[[list[Record]], Finding]

    def judge(self, records: list[Record]) -> Judged:
        """The verdict, framework by framework; what goes wrong here is told, and does not stop the other claims."""
        try:
            chosen = [r for r in records if self.wants(r)]
            left_out = dict(sorted(Counter(r.status for r in chosen if r.status != "ok").items()))
            ok = [r for r in chosen if r.status == "ok"]
            found = {name: self.weigh(of) for name in PAIR if (of := [r for r in ok if r.cell.backend == name])}
        except Exception as error:
            reason = " ".join(f"no verdict could be formed: {type(error).__name__}: {error}".split())
            return Judged(self, "inconclusive", reason, failed=True)
        verdict, reason = together(found)
        if left_out:
            reason += "; left out: " + ", ".join(f"{n} {status}" for status, n in left_out.items())
        return Judged(self, verdict, reason, found, left_out)


def together(found: dict[str, Finding]) -> tuple[Verdict, str]:
    """One verdict of both frameworks: theirs where they agree."""
    if not found:
        return "inconclusive", "no records"
    told = [f"{name}: {f.reason}" for name, f in found.items()]
    verdicts = {name: f.verdict for name, f in found.items()}
    missing = [name for name in PAIR if name not in found]
    if missing:
        alone = ", ".join(f"{name} alone says {v}" for name, v in verdicts.items())
        return "inconclusive", f"no records of {', '.join(missing)}; {alone}; {'; '.join(told)}"
    if len(set(verdicts.values())) > 1:
        both = ", ".join(f"{name} {v}" for name, v in verdicts.items())
        return (
            "inconclusive",
            f"no common verdict ({both}; each from the problems that its records cover): {'; '.join(told)}",
        )
    verdict = found[PAIR[0]].verdict
    same = len({f.reason for f in found.values()}) == 1
    return verdict, f"both: {found[PAIR[0]].reason}" if same else "; ".join(told)
