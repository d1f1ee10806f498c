"""C10: on the toy h is never more than 90° from dF, every K converges, and a smaller K takes longer."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np

from bench.claims.protocol import Claim, Finding, Statistic
from bench.claims.query import K_of, is_kind, keys, listed
from bench.record import Record
from bench.report.runs import grouped, training_of
from bench.stats import interval, paired

CONVERGED = 1e-6  # ‖dF‖ of its start
MINIMA = 9
APART = 0.1  # two ends nearer than this are one


def reached(r: Record) -> np.ndarray:
    """Iterations until ‖dF‖ ≤ 1e-6 ‖dF(λ_0)‖, by start, log-linear between recorded ones; NaN where never."""
    t = training_of(r)
    log = np.log(np.maximum(np.array(t.exact_norm), 1e-300))
    log, tau, goal = log - log[:, :1], np.array(t.iterations, float), np.log(CONVERGED)
    return np.array([_crossing(tau, row, goal) for row in log])


def _crossing(tau: np.ndarray, log: np.ndarray, goal: float) -> float:
    below = np.flatnonzero(log <= goal)
    if not len(below) or below[0] == 0 or log[-1] > goal:
        return np.nan
    i = below[0]
    return float(tau[i - 1] + (tau[i] - tau[i - 1]) * (goal - log[i - 1]) / (log[i] - log[i - 1]))


def race(records: list[Record]) -> dict[int, Record]:
    """The runs of the most K that share starts, optimiser and rate, by K."""
    runs = [r for r in records if r.training is not None]
    same = grouped(runs, lambda r: (json.dumps(r.cell.settings, sort_keys=True), r.cell.horizon, r.cell.seed))
    most = max(same.values(), key=lambda of: len({K_of(r) for r in of}), default=[])
    return {K: of[0] for K, of in sorted(grouped(most, K_of).items())}


def ends(records: list[Record]) -> np.ndarray:
    """The distinct λ at which converged starts end, in order."""
    found: list[np.ndarray] = []
    for r in sorted((r for r in records if r.training is not None), key=lambda r: r.key):
        good = ~np.isnan(reached(r))
        for lam in np.array(training_of(r).last or [])[good[: len(training_of(r).last or [])]]:
            if all(np.linalg.norm(lam - other) > APART for other in found):
                found.append(lam)
    return np.array(sorted(np.round(lam, 6).tolist() for lam in found)).reshape(-1, 2)


def _weigh(records: list[Record]) -> Finding:
    lands = {K: of[0] for K, of in sorted(grouped([r for r in records if r.landscape is not None], K_of).items())}
    runs, used = race(records), keys(records)
    if not lands or len(runs) < 2:
        what = "no landscape" if not lands else "fewer than two K whose runs share a rate"
        return Finding("inconclusive", what, None, used)
    angles = {K: r.landscape.largest_angle_deg for K, r in lands.items() if r.landscape is not None}
    K_worst = max(angles, key=lambda K: angles[K])
    statistic = Statistic("largest angle of h and dF (°)", angles[K_worst])
    told = f"largest angle {angles[K_worst]:.2f}° (K = {K_worst}, {len(angles)} K)"
    if angles[K_worst] >= 90:
        return Finding("refuted", told, statistic, used)
    taken = {K: reached(r) for K, r in runs.items()}
    lost = {K: int(np.isnan(n).sum()) for K, n in taken.items() if np.isnan(n).any()}
    if lost:
        what = ", ".join(f"{n} of {len(taken[K])} at K = {K}" for K, n in lost.items())
        short = [r for K, r in runs.items() if K in lost and _moving(r)]
        reason = f"{told}; starts that do not converge: {what}" + (", still on their way" if short else "")
        return Finding("inconclusive" if short else "refuted", reason, statistic, used)
    Ks = sorted(taken)
    more = {(a, b): paired(taken[a].tolist(), taken[b].tolist()) for a, b in pairwise(Ks)}
    told += (
        f"; all {sum(map(len, taken.values()))} runs converge, K = {listed(Ks)} in "
        f"{listed(f'{np.median(taken[K]):.0f}' for K in Ks)} iterations (median)"
        f"; {len(ends(records))} distinct ends ({MINIMA} minima)"
    )
    first = interval(taken[Ks[0]] / taken[Ks[-1]], np.median)
    statistic = Statistic(f"iterations at K = {Ks[0]} over those at K = {Ks[-1]}", first.middle, first, "start")
    if any(d.high < 0 for d in more.values()):
        return Finding("refuted", f"{told}: a smaller K is faster", statistic, used)
    if not all(d.low > 0 for d in more.values()):
        return Finding("inconclusive", f"{told}: the order is not shown", statistic, used)
    return Finding("reproduced", told, statistic, used)


def _moving(r: Record) -> bool:
    """Has h not gone to 0 where dF has not?"""
    t, lost = training_of(r), np.isnan(reached(r))
    return any(row[-1] > CONVERGED * row[0] for row, bad in zip(t.norm, lost) if bad)


C10 = Claim(
    id="C10",
    statement="On the toy the angle of h and dF stays below 90° for every K, all K converge, and a smaller K needs "
    "more iterations.",
    source="PAPER §2, C10",
    tag="restated",
    figure="C10-toy",
    wants=lambda r: (
        is_kind("landscape", "krmd", task="quadratic")(r) or is_kind("training", "krmd", task="quadratic")(r)
    ),
    weigh=_weigh,
)
