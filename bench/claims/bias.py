"""C1: truncation leaves a bias that falls geometrically in K.

e_K = dF − h_{T−K},    ‖e_K‖ ≤ (1−γα)^K/(γα) · ‖∂f/∂w‖ · max ‖B_t‖               g α-strongly convex
                       ‖e_K‖ ≤ 2^{T−K+1} (1−γα_tail)^K · ‖∂f/∂w‖ · max ‖B_t‖      only its last K steps
"""

from __future__ import annotations

import numpy as np

from bench.claims.protocol import Claim, Finding, Statistic
from bench.claims.query import K_of, is_kind, keys, numbers, sample_of
from bench.record import Record
from bench.stats import interval

POINTS = 1000
LONG = 400  # T from which the scalar problem makes the bound sharp
RELATIVE, ROUNDING = 1e-9, 1e-13  # a violation is ‖e_K‖ > bound (1 + 1e-9) + 1e-13 ‖dF‖
SEEN = 1e-9  # of ‖dF‖: a bound below it is too near to rounding to tell how sharp it is


def bound(r: Record) -> np.ndarray:
    """The bound at every λ; NaN where C1 says nothing: γ > 1/β, or a tail that is not strongly convex."""
    s, K = sample_of(r), K_of(r)
    size = np.array(s.f_w) * np.array(s.B_max)
    if s.gamma * s.beta > 1 + 1e-12:
        return np.full(len(size), np.nan)
    if s.alpha > 0:
        return (1 - s.gamma * s.alpha) ** K / (s.gamma * s.alpha) * size
    tail = numbers(s.alpha_tail)
    return np.where(tail > 0, np.exp2(s.horizon - K + 1) * (1 - s.gamma * tail) ** K * size, np.nan)


def tightness(r: Record) -> np.ndarray:
    """‖e_K‖/bound at every λ whose bound is well above rounding."""
    s, limit = sample_of(r), bound(r)
    with np.errstate(invalid="ignore"):
        return (np.array(s.exact_error) / limit)[limit > SEEN * np.array(s.exact_norm)]


def _weigh(records: list[Record]) -> Finding:
    points, broken, local, worst = 0, 0, 0, ""
    largest, shown = -np.inf, ""
    for r in records:
        s, limit = sample_of(r), bound(r)
        valid = ~np.isnan(limit)
        error, norm = np.array(s.exact_error)[valid], np.array(s.exact_norm)[valid]
        over = error > limit[valid] * (1 + RELATIVE) + ROUNDING * norm
        points, broken = points + len(error), broken + int(over.sum())
        local += 0 if s.alpha > 0 else len(error)
        if over.any():
            worst = worst or f"first at {r.key}"
        tight = tightness(r)
        if len(tight) and tight.max() > largest:
            largest, shown = float(tight.max()), r.cell.task
    used, sharp = keys(records), _sharpest(records)
    told = f"{points} points (problem, K, λ), {local} of them with the local bound"
    if broken:
        return Finding("refuted", f"{broken} violations in {told}; {worst}", _statistic(largest, sharp), used)
    if points < POINTS:
        return Finding("inconclusive", f"{told}: fewer than {POINTS}", None, used)
    if sharp is None:
        return Finding(
            "inconclusive", f"no scalar problem of T ≥ {LONG}, so an off-by-one in K goes unseen", None, used
        )
    s = sample_of(sharp)
    if tightness(sharp).max() <= 1 - s.gamma * s.alpha / 2:  # one more pull-back would make it 1 − γα at most
        reason = f"the sharpest scalar point is {tightness(sharp).max():.3f} of the bound: K one too small goes unseen"
        return Finding("inconclusive", reason, _statistic(largest, sharp), used)
    reason = f"no violation in {told}; largest ‖e_K‖/bound {largest:.6f} ({shown})"
    return Finding("reproduced", reason, _statistic(largest, sharp), used)


def _sharpest(records: list[Record]) -> Record | None:
    """The scalar sample of T ≥ 400 nearest to its bound."""
    scalar = [r for r in records if r.cell.task == "scalar" and r.cell.horizon >= LONG and len(tightness(r))]
    return max(scalar, key=lambda r: tightness(r).max(), default=None)


def _statistic(largest: float, sharp: Record | None) -> Statistic:
    over = None if sharp is None else interval(tightness(sharp))
    unit = "" if sharp is None else f"λ, on the scalar problem, T = {sharp.cell.horizon}, K = {K_of(sharp)}"
    return Statistic("largest ‖e_K‖/bound", largest, over, unit)


C1 = Claim(
    id="C1",
    statement="K-RMD's bias falls geometrically: with g α-strongly convex and γ ≤ 1/β, ‖dF − h‖ is at most "
    "(1−γα)^K/(γα) · ‖∂f/∂w‖ · max ‖B_t‖; where only the last K steps are in a strongly convex region, with 2^{T−K+1} "
    "instead of 1/(γα).",
    source="PAPER §1, C1",
    tag="restated",
    figure="C1-bias",
    wants=is_kind("sample", "krmd"),
    weigh=_weigh,
)
