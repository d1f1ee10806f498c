"""Where truncated upper iterations end: at a floor with a direct term, at dF = 0 without; and the wrong end point."""

from __future__ import annotations

import numpy as np

from bench.claims.convergence import C3, C5, C6, FROM_K, KS, arrived, end, floor
from bench.claims.draw.lines import GUIDE, LOOKS, but, one_framework, panels
from bench.claims.query import K_of, option, without_direct_term
from bench.record import Record
from bench.report.figures import Picture
from bench.report.runs import grouped, training_of

EXACT = 1e-12
LEAST = 1e-18


def draw_floor(records: list[Record]) -> Picture | None:
    family, name = one_framework(records, C3.wants)
    runs, other = one_framework(records, lambda r: C5.wants(r) and r.training is not None)
    ended = [r for r in family if arrived(r) and (floor(r) > 0).all()]
    runs = [r for r in runs if K_of(r) in KS]
    exact = [r for r in runs if without_direct_term(r.cell) and np.max(_relative(r)[:, -1]) <= EXACT]
    if not ended or not exact:
        return None
    figure, axes = panels(2, 5.2, 4.2)
    ax = axes[0]
    by_K = grouped(ended, K_of)
    Ks = sorted(by_K)
    ax.plot(Ks, [end(by_K[K][0]).dF ** 2 for K in Ks], **GUIDE, label="(a^K/(2−a^K))², a = 1 − γ")
    ax.plot(Ks, [np.mean(floor(by_K[K][0])) for K in Ks], **but(LOOKS[0], linestyle="none"), label="measured")
    ax.axvline(FROM_K, color="#999999", linestyle=":", linewidth=0.9)
    ax.set_yscale("log")
    ax.set_xlabel("K (pull-backs of Φ)")
    ax.set_ylabel("‖dF‖² where the run stops")
    r = ended[0]
    ax.set_title(f"with a direct term: scalar, T = {r.cell.horizon}, γ = {option(r.cell, 'rate'):g}")
    ax.legend(frameon=False)
    ax = axes[1]
    for i, (key, rs) in enumerate(grouped(exact, lambda r: (r.cell.task, K_of(r))).items()):
        looks, t = LOOKS[i % len(LOOKS)], training_of(rs[0])
        worst = np.maximum(_relative(rs[0]).max(axis=0), LEAST)
        kappa = 2 if key[0] == "quadratic" else option(rs[0].cell, "kappa")
        label = f"{key[0]}, κ = {kappa:g}, T = {rs[0].cell.horizon}, K = {key[1]}"
        size = {
            "markersize": 4,
            "markevery": max(len(worst) // 10, 1),
            "markerfacecolor": looks["color"] if i < len(LOOKS) else "none",
        }
        ax.plot(np.array(t.iterations) / t.iterations[-1], worst, **looks, **size, linewidth=1.0, label=label)
    ax.axhline(EXACT, **GUIDE)
    ax.set_yscale("log")
    ax.set_xlabel("upper iteration τ / last τ")
    ax.set_ylabel("‖dF‖ / ‖dF(λ_0)‖, the worst start")
    ax.set_title("without: to rounding for any K")
    ax.legend(frameon=False, fontsize=7)
    figure.suptitle(f"Where K-RMD's upper iterations end: float64, {name}", fontsize=9)
    return Picture(
        C3.figure,
        f"Left: ‖dF‖² where upper iterations with K-RMD stop, on the scalar family with its direct term, and the "
        "closed form as a thin line; C4's slope is fitted right of the dotted line. Right: runs without a direct term, "
        f"‖dF‖ of the worst start along the run, with the line 1e-12 that C5 asks for. float64, "
        f"{', '.join(dict.fromkeys((name, other)))}.",
        figure,
    )


def _relative(r: Record) -> np.ndarray:
    """‖dF‖/‖dF(λ_0)‖, (starts, recorded)."""
    norm = np.array(training_of(r).exact_norm)
    return norm / norm[:, :1]


def draw_wrong_end(records: list[Record]) -> Picture | None:
    chosen, name = one_framework(records, C3.wants)
    done = [r for r in chosen if training_of(r).lam is not None and arrived(r)]
    one = [r for r in done if C6.wants(r)]
    if not one:
        return None
    settings = max((r.cell.settings for r in one), key=lambda s: sum(r.cell.settings == s for r in done))
    done = [r for r in done if r.cell.settings == settings and K_of(r) in (1, 5, 20, 60)] or one
    figure, axes = panels(2, 4.6, 4.0)
    for looks, r in zip(LOOKS, done):
        t = training_of(r)
        style = looks | {"markersize": 4, "linewidth": 1.2, "label": f"K = {K_of(r)}"}
        axes[0].plot(t.iterations, np.array(t.lam)[0, :, 0], **style)
        axes[1].plot(t.iterations, t.exact_norm[0], **style)
    r = one[0]
    at = end(r)
    for ax, value, words in (
        (axes[0], at.lam, f"1-RMD stops: λ = {at.lam:.3f}"),
        (axes[1], at.dF, f"dF = {at.dF:.3f}"),
    ):
        ax.axhline(value, **GUIDE)
        ax.annotate(
            words,
            (0.98, value),
            xycoords=("axes fraction", "data"),
            xytext=(0, 5),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=8,
        )
    axes[0].set_ylabel("λ")
    axes[1].set_ylabel("|dF|")
    axes[1].set_yscale("log")
    for ax in axes:
        ax.set_xlabel("upper iteration τ")
    axes[0].legend(frameon=False)
    words = f"½ŵ² + ½(λ−1)², T = {r.cell.horizon}, γ = {option(r.cell, 'rate'):g}, float64, {name}"
    figure.suptitle(f"A direct term: K-RMD stops where dF ≠ 0: {words}", fontsize=9)
    return Picture(
        C6.figure,
        f"Upper iterations with K-RMD on the scalar example {words}: λ and |dF|. Thin lines: where 1-RMD stops by the "
        "closed form.",
        figure,
    )
