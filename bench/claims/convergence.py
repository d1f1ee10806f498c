"""C3 – C6: where upper iterations with a truncated hypergradient end.

With ∇_λ f = 0 the end is exact; with a direct term it is not.  The scalar family has both ends in closed form: as
T → ∞, h = 0 at λ = δ/(δ + 1 − a^K), and there dF = δ a^K/(δ + 1 − a^K), a = 1 − γ.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from bench.claims.protocol import Claim, Finding, Statistic
from bench.claims.query import K_of, is_kind, keys, listed, numbers, option, sample_of, without_direct_term
from bench.record import Record
from bench.report.runs import grouped, training_of
from bench.stats import LEVEL, Interval, interval

STOPPED, STILL = 1e-6, 1e-10  # ‖h‖ at the end, of its start: arrived, for C3, C4, C6; and for C5
AS_T_GROWS = 1e-3  # a^{T−K} at most: then the closed form, which is for T → ∞, holds to a per mille
FLOOR = 0.01  # relative difference of ‖dF‖² at the end and the closed form that C3 allows
FROM_K = 20
EXACT = 1e-12  # ‖dF‖ at the end, of its start
NOT_EXACT = 1e-6  # above it a run that has arrived has arrived elsewhere
KS, STARTS, ILL = (1, 2, 5), 20, 100.0
NAMED = 1e-3  # C6's two numbers have three digits
FEW = 3


class End(NamedTuple):
    """The closed form on the scalar family."""

    lam: float
    dF: float


def end(r: Record) -> End:
    """Where K-RMD stops as T → ∞."""
    delta, a_K = float(option(r.cell, "direct")), (1 - float(option(r.cell, "rate"))) ** K_of(r)
    return End(delta / (delta + 1 - a_K), delta * a_K / (delta + 1 - a_K))


def floor(r: Record) -> np.ndarray:
    """‖dF‖² at the end, a number a start."""
    return np.array([row[-1] ** 2 for row in training_of(r).exact_norm])


def shrunk(values: list[list[float]]) -> np.ndarray:
    """The last of every start over its first."""
    return np.array([row[-1] / row[0] if row[0] > 0 else 0.0 for row in values])


def arrived(r: Record, below: float = STOPPED) -> bool:
    """Has h gone to 0 from every start?"""
    return bool(shrunk(training_of(r).norm).max() <= below)


def _known(r: Record) -> bool:
    """The closed form holds: T is large against K."""
    return (1 - float(option(r.cell, "rate"))) ** (r.cell.horizon - K_of(r)) <= AS_T_GROWS


# C3


def _family(r: Record) -> bool:
    """C6's family, with its direct term."""
    return is_kind("training", "krmd", task="scalar")(r) and float(option(r.cell, "direct")) > 0


def decreasing(r: Record) -> bool:
    """η_τ ∝ 1/√τ, counted from 1."""
    t = training_of(r)
    scaled = np.array(t.rates) * np.sqrt(np.array(t.iterations) + 1)
    return len(scaled) > 1 and bool(np.ptp(scaled) <= 1e-9 * scaled.max())


def constant(r: Record) -> float:
    """The constant that Õ hides: the η-weighted mean of ‖dF‖² over ε + (ε² + 1)/√R, the largest of the starts."""
    t = training_of(r)
    exact, h, cosine = np.array(t.exact_norm), np.array(t.norm), np.array([numbers(row) for row in t.cosine])
    bias = np.sqrt(np.maximum(exact**2 + h**2 - 2 * np.nan_to_num(cosine) * exact * h, 0))
    epsilon, R = bias.max(axis=1), max(t.iterations[-1], 1)
    mean = (exact**2 @ np.array(t.rates)) / np.sum(t.rates)
    return float((mean / (epsilon + (epsilon**2 + 1) / np.sqrt(R))).max())


def _biased(records: list[Record]) -> Finding:
    sqrt = [r for r in records if decreasing(r) and _known(r)]
    done = [r for r in sqrt if arrived(r)]
    if len({K_of(r) for r in done}) < FEW:
        reason = f"{len(done)} of {len(sqrt)} runs with η ∝ 1/√τ have arrived; three values of K are needed"
        return Finding("inconclusive", reason, None, keys(sqrt))
    away = {r.key: np.abs(floor(r) / end(r).dF ** 2 - 1).max() for r in done}
    worst = max(away.values())
    over = interval(np.concatenate([floor(r) / end(r).dF ** 2 for r in done]))
    statistic = Statistic("floor of ‖dF‖² over (a^K/(2−a^K))²", over.middle, over, "start and K")
    told = (
        f"K = {listed(sorted({K_of(r) for r in done}))}: floor within {worst:.1e} of (a^K/(2−a^K))²; the constant of "
        f"Õ(ε + (ε²+1)/√R) is at most {max(constant(r) for r in done):.2g}"
    )
    return Finding("reproduced" if worst <= FLOOR else "refuted", told, statistic, keys(done))


# C4


def slope(records: list[Record]) -> tuple[Interval, Interval] | None:
    """Slope of log ‖dF‖² over K ≥ 20, measured and of the closed form at the same K; the unit is K."""
    of = grouped([r for r in records if K_of(r) >= FROM_K and (floor(r) > 0).all()], K_of)
    if len(of) < FEW:
        return None
    K = np.array(sorted(of), float)
    measured = [np.mean([np.log(floor(r)).mean() for r in of[int(k)]]) for k in K]
    return fitted(K, np.array(measured)), fitted(K, np.array([2 * np.log(end(of[int(k)][0]).dF) for k in K]))


def fitted(x: np.ndarray, y: np.ndarray) -> Interval:
    """The slope of a line with Student's interval."""
    line: Any = stats.linregress(x, y)
    half = float(stats.t.ppf(0.5 + LEVEL / 2, len(x) - 2) * line.stderr)
    return Interval(float(line.slope), float(line.slope) - half, float(line.slope) + half, len(x))


def _geometric(records: list[Record]) -> Finding:
    families = grouped([r for r in records if _known(r) and arrived(r)], lambda r: float(option(r.cell, "rate")))
    fits = {rate: (found, of) for rate, of in families.items() if (found := slope(of)) is not None}
    if not fits:
        return Finding(
            "inconclusive", f"fewer than three values of K ≥ {FROM_K} whose runs arrived", None, keys(records)
        )
    rate, ((measured, formula), of) = max(fits.items(), key=lambda fit: _off(fit[1][0][0], fit[0]))
    expected = 2 * np.log(1 - rate)
    inside = measured.low <= expected <= measured.high
    told = (
        f"slope {measured.middle:.4f} [{measured.low:.4f}, {measured.high:.4f}] over {measured.n} K ≥ {FROM_K} against "
        f"2 log a = {expected:.4f} (γ = {rate:g}); the closed form's own slope there is {formula.middle:.4f}"
    )
    statistic = Statistic("slope of log ‖dF‖² in K", measured.middle, measured, "K")
    return Finding("reproduced" if inside else "refuted", told, statistic, keys(of))


def _off(measured: Interval, rate: float) -> float:
    return float(abs(measured.middle / (2 * np.log(1 - rate)) - 1))


# C5


def ill_conditioned(r: Record, samples: list[Record]) -> bool:
    """κ ≥ 100, by the task's option or by the α and β of a sample of the same task."""
    kappa = option(r.cell, "kappa")
    known = [sample_of(s) for s in samples if (s.cell.task, s.cell.task_options) == (r.cell.task, r.cell.task_options)]
    return (kappa or 0) >= ILL or any(s.alpha > 0 and s.beta / s.alpha >= ILL * (1 - 1e-9) for s in known)


def _exact(records: list[Record]) -> Finding:
    samples, runs = [r for r in records if r.sample is not None], [r for r in records if r.training is not None]
    toy = [r for r in runs if r.cell.task == "quadratic" and K_of(r) in KS]
    ill = [r for r in runs if r.cell.task != "quadratic" and K_of(r) in KS and ill_conditioned(r, samples)]
    ill = [r for r in ill if without_direct_term(r.cell)]
    direct = [r for r in runs if r.cell.task in ("scalar", "spectrum") and not without_direct_term(r.cell)]
    direct = [r for r in direct if K_of(r) in KS]
    used = keys([*toy, *ill, *direct])
    left = {r.key: float(shrunk(training_of(r).exact_norm).max()) for r in (*toy, *ill)}
    elsewhere = [r for r in (*toy, *ill) if arrived(r, STILL) and left[r.key] > NOT_EXACT]
    if elsewhere:
        r = max(elsewhere, key=lambda r: left[r.key])
        reason = f"h → 0 where ‖dF‖ is {left[r.key]:.1e} of its start: {r.cell.task}, K = {K_of(r)}"
        return Finding("refuted", reason, Statistic("largest ‖dF‖/‖dF(λ_0)‖", left[r.key]), used)
    for name, of, starts in (("the toy", toy, STARTS), (f"a problem with κ ≥ {ILL:g}", ill, 1)):
        for K in KS:
            runs = [r for r in of if K_of(r) == K and len(training_of(r).seeds) >= starts]
            if not runs:
                reason = f"{name} lacks a run of K = {K} from {starts} start(s) or more"
                return Finding("inconclusive", reason, None, used)
            if (least := min(left[r.key] for r in runs)) > EXACT:
                reason = f"{name}, K = {K}: ‖dF‖ is still {least:.1e} of its start; the run is too short"
                return Finding("inconclusive", reason, Statistic("least ‖dF‖/‖dF(λ_0)‖", least), used)
    exact = [r for r in (*toy, *ill) if left[r.key] <= EXACT]
    every = np.concatenate([shrunk(training_of(r).exact_norm) for r in exact])
    statistic = Statistic("largest ‖dF‖/‖dF(λ_0)‖", float(every.max()), interval(every, np.median), "start; its median")
    stuck = [float(shrunk(training_of(r).exact_norm).min()) for r in direct if arrived(r, STILL)]
    if not stuck or min(stuck) <= NOT_EXACT:
        what = "none has arrived" if not stuck else f"it too ends at {min(stuck):.1e}"
        return Finding("inconclusive", f"no run with a direct term stops elsewhere: {what}", statistic, used)
    reason = (
        f"‖dF‖ ≤ {every.max():.1e} ‖dF(λ_0)‖ from {len(every)} starts, K = {listed(KS)}; with a direct term it stops "
        f"at {min(stuck):.1e} or more"
    )
    return Finding("reproduced", reason, statistic, keys([*exact, *direct]))


# C6


def _stops(records: list[Record]) -> Finding:
    done = [r for r in records if arrived(r) and _known(r) and training_of(r).last is not None]
    if not done:
        return Finding("inconclusive", "no run of 1-RMD with a direct term has arrived", None, keys(records))
    r = min(done, key=lambda r: abs(float(option(r.cell, "direct")) - 1))
    t, at = training_of(r), end(r)
    lam, dF = np.array(t.last).ravel(), np.sqrt(floor(r))
    found = interval(dF)
    reason = (
        f"λ = {lam.mean():.4f}, dF = {found.middle:.4f} from {len(lam)} start(s), against {at.lam:.4f} and {at.dF:.4f} "
        f"(γ = {option(r.cell, 'rate'):g})"
    )
    good = max(np.abs(lam - at.lam).max(), np.abs(dF - at.dF).max()) <= NAMED
    statistic = Statistic("dF where 1-RMD stops", found.middle, found, "start")
    return Finding("reproduced" if good else "refuted", reason, statistic, keys([r]))


C3 = Claim(
    id="C3",
    statement="Biased convergence: with a bias of at most ε and η_τ ∝ 1/√τ, the mean of ‖∇F‖² is Õ(ε + (ε²+1)/√R). "
    "Judged where the floor is known: on the scalar family ‖dF‖² ends at (a^K/(2−a^K))², a = 1 − γ.",
    source="PAPER §1, C3",
    tag="restated",
    figure="C3-C5-floor",
    wants=_family,
    weigh=_biased,
)
C4 = Claim(
    id="C4",
    statement="K = O(log 1/ε) steps are enough for an ε-stationary point: the floor falls geometrically in K, its "
    "logarithm with slope 2 log a.",
    source="PAPER §1, C4",
    tag="restated",
    figure="C3-C5-floor",
    wants=_family,
    weigh=_geometric,
)
C5 = Claim(
    id="C5",
    statement="Exact convergence: if moreover there is no interference (∇_λ f = 0) and ∂Φ/∂λ has rank M, then for any "
    "K ≥ 1 h = 0 implies dF = 0. A direct term breaks it.",
    source="PAPER §1, C5",
    tag="restated",
    figure="C3-C5-floor",
    wants=lambda r: is_kind("training", "krmd")(r) or is_kind("sample", "krmd")(r),
    weigh=_exact,
)
C6 = Claim(
    id="C6",
    statement="Without that condition it fails: on ½ŵ² + ½(λ−1)² 1-RMD stops at λ = .909, where dF = .818 (γ = .1).",
    source="PAPER §1, C6",
    tag="computed",
    figure="C6-wrong-end",
    wants=lambda r: _family(r) and K_of(r) == 1,
    weigh=_stops,
)
