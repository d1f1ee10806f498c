"""The paper's claims, checked by machine from records alone (PAPER §1, §2).

protocol      what a claim, a finding and a verdict are
bias          C1
descent       C2, C2′
convergence   C3, C4, C5, C6
implicit      C7, C8
cost          C9, C15a
toy           C10
training      C11, C12, C13, C14, C15b
draw          their figures
page          claims.json and claims.html
"""

from __future__ import annotations

from bench.claims import bias, convergence, cost, descent, implicit, toy, training
from bench.claims.protocol import Claim, Finding, Judged, Statistic
from bench.record import Record

__all__ = ["CLAIMS", "Claim", "Finding", "Judged", "Statistic", "judge"]

CLAIMS: tuple[Claim, ...] = (
    bias.C1,
    descent.C2,
    descent.C2_COMMUTING,
    convergence.C3,
    convergence.C4,
    convergence.C5,
    convergence.C6,
    implicit.C7,
    implicit.C8,
    cost.C9,
    toy.C10,
    training.C11,
    training.C12,
    training.C13,
    training.C14,
    cost.C15a,
    training.C15b,
)


def judge(records: list[Record]) -> list[Judged]:
    """A verdict for every claim, in the order of their numbers."""
    return [claim.judge(records) for claim in CLAIMS]
