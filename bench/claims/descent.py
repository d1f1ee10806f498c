"""C2, C2′: is K-RMD's h a direction of sufficient descent, ⟨h, dF⟩ ≥ c ‖dF‖² with c > 0, for every K ≥ 1?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.claims.protocol import Claim, Finding, Statistic
from bench.claims.query import K_of, is_kind, keys, numbers, problem, sample_of, without_direct_term
from bench.record import Record
from bench.report.runs import training_of
from bench.stats import interval

LARGE_T = 0.01  # T is large where (1−γα)^T is at most this
LEFT_OUT = 1e-8  # of ‖dF(λ_0)‖: nearer to a stationary point the ratio is rounding
COMMUTES = 1e-10


def premises(r: Record) -> np.ndarray:
    """At which λ of a sample C2 speaks: g strongly convex, γ ≤ 1/β, T large, ∇_λ f = 0, B_t of rank M."""
    s = sample_of(r)
    smooth = s.alpha > 0 and s.gamma * s.beta <= 1 + 1e-12 and (1 - s.gamma * s.alpha) ** s.horizon <= LARGE_T
    return (np.array(s.rank) == s.M) & bool(smooth and without_direct_term(r.cell))


def commuting(r: Record) -> np.ndarray:
    """The same, and BBᵀ commutes with H."""
    return premises(r) & (np.array(sample_of(r).commutator) <= COMMUTES)


def along(r: Record) -> np.ndarray:
    """⟨h, dF⟩/‖dF‖² along a run, all starts, without what is too near to a stationary point."""
    t = training_of(r)
    norm = np.array(t.exact_norm)
    ratio = np.array([numbers(row) for row in t.descent])
    return ratio[(norm >= LEFT_OUT * norm[:, :1]) & ~np.isnan(ratio)]


def ratios(records: list[Record], where: Callable[[Record], np.ndarray]) -> list[tuple[Record, np.ndarray]]:
    """The ratios of every record: at the λ of samples, and along runs on problems whose sampled λ all qualify."""
    samples, found = [r for r in records if r.sample is not None], []
    for r in samples:
        ratio = numbers(sample_of(r).descent)
        found.append((r, ratio[where(r) & ~np.isnan(ratio)]))
    good = {problem(r.cell) for r in samples if where(r).all()}
    good -= {problem(r.cell) for r in samples if not where(r).all()}
    found += [(r, along(r)) for r in records if r.training is not None and problem(r.cell) in good]
    return [(r, x) for r, x in found if len(x)]


def _found(
    records: list[Record], where: Callable[[Record], np.ndarray]
) -> tuple[Finding | None, str, Statistic | None]:
    """A refutation if there is one; else the words and the number of what was seen."""
    of = ratios(records, where)
    if not of:
        return Finding("inconclusive", "no problem meets the premises", None, keys(records)), "", None
    worst, x = min(of, key=lambda pair: pair[1].min())
    at = f"{worst.cell.task}, T = {worst.cell.horizon}, K = {K_of(worst)}"
    statistic = Statistic("smallest ⟨h, dF⟩/‖dF‖²", float(x.min()), interval(x, np.median), f"λ, on {at}; its median")
    told = f"{sum(len(x) for _, x in of)} points on {len({problem(r.cell) for r, _ in of})} problems"
    if x.min() > 0:
        return None, f"smallest ratio {x.min():.3g} ({at}), {told}", statistic
    cosine = min(_cosine(r) for r, _ in of if r.cell.task == worst.cell.task)
    reason = f"ratio down to {x.min():.3g} at {at}, cosine there down to {cosine:.3f}; {told}"
    return Finding("refuted", reason, statistic, keys(r for r, _ in of)), "", None


def _cosine(r: Record) -> float:
    """The smallest cosine of h and dF in a record."""
    rows = [sample_of(r).cosine] if r.sample is not None else training_of(r).cosine
    return float(np.nanmin(np.concatenate([numbers(row) for row in rows])))


def _as_restated(records: list[Record]) -> Finding:
    bad, told, statistic = _found(records, premises)
    if bad is not None:
        return bad
    tried = [r for r, _ in ratios(records, premises) if r.cell.task == "counterexample" and K_of(r) == 1]
    if not tried:
        return Finding("inconclusive", f"the counterexample at K = 1 was not tried; {told}", statistic, keys(records))
    return Finding("reproduced", told, statistic, keys(records))


def _commuting(records: list[Record]) -> Finding:
    bad, told, statistic = _found(records, commuting)
    if bad is not None:
        return bad
    of = ratios(records, commuting)
    if min(K_of(r) for r, _ in of) > 1:
        return Finding("inconclusive", f"K = 1 was not tried; {told}", statistic, keys(records))
    return Finding("reproduced", told, statistic, keys(r for r, _ in of))


def _wants(r: Record) -> bool:
    return is_kind("sample", "krmd")(r) or is_kind("training", "krmd")(r)


C2 = Claim(
    id="C2",
    statement="Sufficient descent: with g strongly convex, ∇_λ f = 0, ∂Φ/∂λ of rank M, T large and γ small, "
    "⟨h, dF⟩ ≥ c ‖dF‖² with c > 0 for every K ≥ 1. As restated it is not a theorem for T → ∞.",
    source="PAPER §1, C2 as restated",
    tag="restated",
    figure="C2-descent",
    wants=_wants,
    weigh=_as_restated,
)

C2_COMMUTING = Claim(
    id="C2′",
    statement="The same where moreover BBᵀ commutes with ∇²_w g: then ⟨h, dF⟩ > 0 for every K ≥ 1.",
    source="PAPER §1, C2′",
    tag="computed",
    figure="C2-descent",
    wants=_wants,
    weigh=_commuting,
)
