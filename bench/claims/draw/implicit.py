"""K-RMD, Neumann and CG against K: at w* with the rates of the theory, away from it against two references."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from bench.claims.draw.lines import GUIDE, legend, one_framework, over_K, panels
from bench.claims.implicit import C8, OFF, at_optimum, condition, energy
from bench.claims.query import K_of, numbers, option, sample_of
from bench.record import Record, Sample
from bench.report import style
from bench.report.figures import Picture
from bench.report.runs import grouped

METHODS = ("krmd", "neumann", "cg")
LEAST = 1e-17


def draw(records: list[Record]) -> Picture | None:
    chosen, name = one_framework(records, lambda r: C8.wants(r) and option(r.cell, "coupling") == "-I")
    here = [r for r in chosen if at_optimum(r).any()]
    away = [r for r in chosen if option(r.cell, "start") == "fixed" and r.cell.horizon == OFF["T"]]
    kappas = sorted({round(condition(r), 6) for r in here})[:2]
    if not kappas:
        return None
    figure, axes = panels(len(kappas) + (2 if away else 0), 3.7, 4.3)
    for ax, kappa in zip(axes, kappas):
        of = [r for r in here if round(condition(r), 6) == kappa]
        _lines(ax, of, lambda r: energy(r))
        _rates(ax, kappa, sorted({K_of(r) for r in of}))
        ax.set_yscale("log")
        ax.set_ylim(LEAST, 5)
        ax.set_ylabel("‖h − h*‖ / ‖h*‖, energy norm (relative)")
        ax.set_title(f"at w*, κ = {kappa:g}, T = {of[0].cell.horizon}")
    for ax, (title, pick) in zip(axes[len(kappas) :], (("finite-T dF", _exact), ("implicit h*", _implicit))):
        _lines(ax, away, lambda r, pick=pick: pick(sample_of(r)))
        ax.set_ylim(0, None)
        ax.axvline(OFF["K"], color="#999999", linestyle=":", linewidth=0.9)
        ax.set_ylabel(f"error against the {title} (relative)")
        ax.set_title(f"off w*, κ = {condition(away[0]):g}, T = {OFF['T']}")
    legend(figure, axes, 5)
    figure.suptitle(
        f"K-RMD, Neumann and CG: spectrum, coupling −I, M = {sample_of(here[0]).M}, γ = 1/β = 1, float64, {name}",
        fontsize=9,
    )
    return Picture(
        C8.figure,
        "Relative error against K, median over λ. At w* in the energy norm with the theory's rates as thin lines; "
        "K-RMD and Neumann are the same vector there (C7). Off w*, from a fixed start and after T = 20 steps, in the "
        f"norm of the bias, against the exact finite-T hypergradient and the implicit one. float64, {name}.",
        figure,
    )


def _exact(s: Sample) -> np.ndarray:
    return np.array(s.exact_error) / np.array(s.exact_norm)


def _implicit(s: Sample) -> np.ndarray:
    return numbers(s.implicit_error) / numbers(s.implicit_norm)


def _lines(ax: Axes, rs: list[Record], value: Any) -> None:
    for method in METHODS:
        by_K = grouped([r for r in rs if r.cell.method == method], K_of)
        K = sorted(by_K)
        looks = style.method(method)
        line = {"krmd": "-", "neumann": "--", "cg": "-."}[method]
        hollow: dict[str, Any] = (
            {"markerfacecolor": "none", "markersize": 8} if method == "neumann" else {"markersize": 4}
        )
        y = [np.median(np.concatenate([value(r) for r in by_K[k]])) for k in K]
        ax.plot(K, np.maximum(y, LEAST), **looks, **hollow, linestyle=line, linewidth=1.2, label=method)
    over_K(ax, [K_of(r) for r in rs])


def _rates(ax: Axes, kappa: float, Ks: list[int]) -> None:
    K, root = np.array(Ks, float), np.sqrt(kappa)
    ax.plot(K, (1 - 1 / kappa) ** K, **GUIDE, label="(1−1/κ)^K")
    dotted: dict[str, Any] = GUIDE | {"linestyle": ":"}
    ax.plot(K, 2 * ((root - 1) / (root + 1)) ** K, **dotted, label="2((√κ−1)/(√κ+1))^K")
