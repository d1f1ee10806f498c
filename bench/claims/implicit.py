"""C7, C8: K-RMD beside implicit differentiation, at the lower optimum w* and away from it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.claims.protocol import Claim, Finding, Statistic
from bench.claims.query import K_of, is_kind, keys, listed, numbers, option, problem, sample_of, without_direct_term
from bench.record import Record, Result
from bench.report.runs import grouped
from bench.stats import Interval, interval, paired

SAME = 1e-10  # relative difference of K-RMD and Neumann at w*
AT_OPTIMUM = 1e-13  # (1−γα)^T at which any start has reached w*
OFF = {"kappa": 100.0, "T": 20, "K": 10}  # C8's case away from w*
SERIES = ("krmd", "neumann")


# C7


def _estimates(r: Record) -> bool:
    right = r.cell.kind == "hypergradient" and r.cell.dtype == "float64" and r.cell.method in SERIES
    return right and option(r.cell, "start") == "optimum" and (r.cell.truncation or 0) >= 1


def result_of(r: Record) -> Result:
    assert r.result is not None
    return r.result


def differences(records: list[Record]) -> list[tuple[float, Record, Record]]:
    """K-RMD against Neumann, (relative difference, theirs), of every problem and K that has both."""
    found = []
    exact = [r for r in records if r.result is not None and r.result.sketch.exact]
    for _, of in grouped(exact, lambda r: (problem(r.cell), r.cell.lam, K_of(r))).items():
        mine, other = ([r for r in of if r.cell.method == m] for m in SERIES)
        for a in mine:
            for b in other:
                x, y = (np.array(result_of(r).sketch.values) for r in (a, b))
                apart = float(np.linalg.norm(x - y) / np.linalg.norm(y)) if y.any() else np.inf
                found.append((apart, a, b))
    return found


def rest(r: Record) -> np.ndarray:
    """‖h − h*‖ over (1−γα)^K/(γα) ‖∂f/∂w‖ max‖B_t‖, at the λ of a sample where w_0 = w*."""
    s = sample_of(r)
    limit = (1 - s.gamma * s.alpha) ** K_of(r) / (s.gamma * s.alpha) * np.array(s.f_w) * np.array(s.B_max)
    error, scale = numbers(s.implicit_error), numbers(s.implicit_norm)
    here = at_optimum(r) & (limit > 1e-9 * scale)
    return (error / limit)[here]


def _series(records: list[Record]) -> Finding:
    found, samples = differences(records), [r for r in records if r.sample is not None]
    if not found:
        return Finding("inconclusive", "no pair of K-RMD and Neumann at w* with its whole vector", None, keys(records))
    values = [d for d, _, _ in found]
    worst = max(values)
    used = keys({r.key: r for _, a, b in found for r in (a, b, *samples)}.values())
    statistic = Statistic(
        "largest relative difference", worst, interval(values, np.median), "problem and K; its median"
    )
    rests = np.concatenate([rest(r) for r in samples]) if samples else np.zeros(0)
    tail = f"; rest of the series at most {rests.max():.3f} of its bound (1−γα)^K" if len(rests) else ""
    told = f"{len(values)} pairs, K = {listed(sorted({K_of(a) for _, a, _ in found}))}, differ by ≤ {worst:.1e}"
    good = worst <= SAME and (not len(rests) or rests.max() <= 1 + 1e-9)
    return Finding("reproduced" if good else "refuted", told + tail, statistic, used)


# C8


def at_optimum(r: Record) -> np.ndarray:
    """At which λ of a sample ŵ = w*: where T is long enough, or at the cell's own λ if the start is its optimum."""
    s = sample_of(r)
    if s.alpha <= 0:
        return np.zeros(len(s.seeds), bool)
    if (1 - s.gamma * s.alpha) ** s.horizon <= AT_OPTIMUM:
        return np.ones(len(s.seeds), bool)
    return (np.array(s.seeds) == r.cell.seed) & (option(r.cell, "start") == "optimum")


def condition(r: Record) -> float:
    s = sample_of(r)
    return s.beta / s.alpha


def rate(r: Record) -> float:
    """What the theory allows the relative error in the energy norm."""
    kappa, K = condition(r), K_of(r)
    if r.cell.method != "cg":
        return (1 - 1 / kappa) ** K
    return 2 * ((np.sqrt(kappa) - 1) / (np.sqrt(kappa) + 1)) ** K


def energy(r: Record) -> np.ndarray:
    """‖h − h*‖_H/‖h*‖_H at the λ where ŵ = w*."""
    s, here = sample_of(r), at_optimum(r)
    return numbers(s.energy_error)[here] / numbers(s.energy_norm)[here]


def rounding(r: Record) -> float:
    """Relative errors below it say nothing: the linear system's own condition."""
    return 1e-13 * condition(r)


def _clean(r: Record) -> bool:
    """h = v: coupling −I, no direct term, γ = 1/β, so that energy norms exist."""
    s = sample_of(r)
    right = option(r.cell, "coupling") == "-I" and without_direct_term(r.cell)
    return bool(
        right and s.alpha > 0 and abs(s.gamma * s.beta - 1) < 1e-9 and not np.isnan(numbers(s.energy_norm)).all()
    )


class Off(NamedTuple):
    """CG's relative error minus K-RMD's away from w*, λ by λ, against both references."""

    exact: np.ndarray
    implicit: np.ndarray
    medians: tuple[float, ...]  # K-RMD, CG against the finite-T one; against the implicit one
    used: tuple[Record, Record]


def off_optimum(records: list[Record]) -> list[Off]:
    """The case κ = 100, T = 20, K = 10 with w_0 fixed."""
    case = [
        r
        for r in records
        if option(r.cell, "start") == "fixed" and r.cell.horizon == OFF["T"] and K_of(r) == OFF["K"]
        if abs(condition(r) / OFF["kappa"] - 1) < 1e-6
    ]
    found = []
    for _, of in grouped(case, lambda r: problem(r.cell)).items():
        mine, cg = ([r for r in of if r.cell.method == m] for m in ("krmd", "cg"))
        if mine and cg and sample_of(mine[0]).seeds == sample_of(cg[0]).seeds:
            a, b = sample_of(mine[0]), sample_of(cg[0])
            exact = [np.array(s.exact_error) / np.array(s.exact_norm) for s in (a, b)]
            implicit = [numbers(s.implicit_error) / numbers(s.implicit_norm) for s in (a, b)]
            middles = [float(np.nanmedian(x)) for x in (*exact, *implicit)]
            found.append(Off(exact[1] - exact[0], implicit[1] - implicit[0], tuple(middles), (mine[0], cg[0])))
    return found


def _above(records: list[Record]) -> tuple[str, int]:
    """Where CG's error in the energy norm is above Neumann's, and how many pairs were compared."""
    pairs, first = 0, ""
    for _, of in grouped(records, lambda r: (problem(r.cell), K_of(r))).items():
        for a in (r for r in of if r.cell.method == "cg"):
            for b in (r for r in of if r.cell.method == "neumann" and sample_of(r).seeds == sample_of(a).seeds):
                over = energy(a) > energy(b) * (1 + 1e-9) + rounding(a)
                pairs += len(over)
                if over.any():
                    first = first or f"κ = {condition(a):g}, K = {K_of(a)}: CG {energy(a).max():.2e} above Neumann"
    return first, pairs


def in_bias_norm(records: list[Record]) -> str:
    """How often CG is above Neumann at w* in the norm of the bias: reported, decides nothing."""
    above = pairs = 0
    for _, of in grouped(records, lambda r: (problem(r.cell), K_of(r))).items():
        mine, other = ([r for r in of if r.cell.method == m] for m in ("cg", "neumann"))
        for a, b in ((a, b) for a in mine for b in other if sample_of(a).seeds == sample_of(b).seeds):
            x, y = (numbers(sample_of(r).implicit_error)[at_optimum(r)] for r in (a, b))
            scale = numbers(sample_of(a).implicit_norm)[at_optimum(a)]
            above, pairs = above + int((x > y * (1 + 1e-9) + rounding(a) * scale).sum()), pairs + len(x)
    return f"in the bias norm in {above} of {pairs}"


def _faster(records: list[Record]) -> Finding:
    here = [r for r in records if _clean(r) and len(energy(r))]
    used = keys(here)
    missing = [m for m in (*SERIES, "cg") if not any(r.cell.method == m for r in here)]
    if missing:
        return Finding("inconclusive", f"no sample of {listed(missing)} at w* with γ = 1/β, coupling −I", None, used)
    share = {r.key: float(energy(r).max() / rate(r)) for r in here if rate(r) > rounding(r)}
    broken = [r for r in here if (energy(r) > rate(r) * (1 + 1e-9) + rounding(r)).any()]
    first, pairs = _above(here)
    worst = max(share.values(), default=np.nan)
    over = interval(np.concatenate([energy(r) / rate(r) for r in here if r.key in share]), np.median)
    statistic = Statistic("largest error over its rate, energy norm", worst, over, "λ and K; its median")
    if broken:
        r = broken[0]
        reason = (
            f"{r.cell.method}, κ = {condition(r):g}, K = {K_of(r)}: error {energy(r).max():.2e} above {rate(r):.2e}"
        )
        return Finding("refuted", reason, statistic, used)
    if first:
        return Finding("refuted", first, statistic, used)
    if not pairs:
        return Finding("inconclusive", "no pair of CG and Neumann at one K", statistic, used)
    told = f"{sum(len(energy(r)) for r in here)} errors within their rates, CG never above Neumann in {pairs} pairs, "
    told += in_bias_norm(here)
    away = off_optimum(records)
    if not away:
        return Finding("inconclusive", f"{told}; nothing away from w* (κ = 100, T = 20, K = 10)", statistic, used)
    exact, implicit = _paired([a.exact for a in away]), _paired([a.implicit for a in away])
    m = away[0].medians
    told += (
        f"; away from w* K-RMD {m[0]:.2f} / CG {m[1]:.2f} against the finite-T hypergradient, {m[2]:.2f} / {m[3]:.2f} "
        f"against the implicit one"
    )
    used = keys({r.key: r for r in (*here, *(r for a in away for r in a.used))}.values())
    if not (exact.decided and implicit.decided):
        return Finding("inconclusive", f"{told}; too few λ for an interval", statistic, used)
    each = exact.low > 0 and implicit.high < 0
    return Finding(
        "reproduced" if each else "refuted", told + ("" if each else "; not each wins once"), statistic, used
    )


def _paired(values: list[np.ndarray]) -> Interval:
    x = np.concatenate(values)
    x = x[~np.isnan(x)]
    return paired(x.tolist(), np.zeros(len(x)).tolist())


C7 = Claim(
    id="C7",
    statement="At w* K-RMD's h is the first K terms of the Neumann series of implicit differentiation; the rest is "
    "O((1−γα)^K).",
    source="PAPER §1, C7",
    tag="restated",
    figure="C7-C8-implicit",
    wants=lambda r: _estimates(r) or (is_kind("sample", "krmd")(r) and option(r.cell, "start") == "optimum"),
    weigh=_series,
)
C8 = Claim(
    id="C8",
    statement="At w* with γ = 1/β the error of K-RMD and Neumann is at most (1−1/κ)^K and that of K-step CG at most "
    "2((√κ−1)/(√κ+1))^K, in the energy norm, in which CG is never above Neumann. Away from w* who is nearer depends on "
    "the reference.",
    source="PAPER §1, C8",
    tag="restated",
    figure="C7-C8-implicit",
    wants=is_kind("sample", "krmd", "neumann", "cg", task="spectrum"),
    weigh=_faster,
)
