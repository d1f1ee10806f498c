"""The laws of K-RMD's time and memory, and the time of few steps beside all of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.claims.cost import ABOUT, C9, HALF, ITEMSIZE, C15a, Half, bytes_per_K, halves, large, most_K, result_of
from bench.claims.draw.lines import GUIDE, LOOKS, over_K, panels
from bench.claims.protocol import PAIR
from bench.claims.query import K_of
from bench.record import Record
from bench.report import style
from bench.report.figures import Picture
from bench.report.frame import problem
from bench.report.runs import grouped

KRMD = "#0072B2"


def draw_laws(records: list[Record]) -> Picture | None:
    wanted = [r for r in records if C9.wants(r) and result_of(r).time is not None]
    lanes = [(of[0].cell.backend, of) for name in PAIR for of in large([r for r in wanted if r.cell.backend == name])]
    lanes = [(name, of) for name, of in lanes if bytes_per_K(of) is not None]  # as the law is judged
    if not lanes:
        return None
    size = max(result_of(of[0]).sizes["M"] for _, of in lanes)
    lanes = [(name, of) for name, of in lanes if result_of(of[0]).sizes["M"] == size]
    one = max(sorted({machine(of[0]) for _, of in lanes}), key=lambda m: sum(machine(of[0]) == m for _, of in lanes))
    shown = [(name, of) for name, of in lanes if machine(of[0]) == one]
    figure, axes = panels(3, 3.9, 4.2)
    for name, of in shown:
        looks: dict[str, Any] = {"color": KRMD, "marker": "o"} | style.framework(name, KRMD)
        at = most_K(of)
        K = [K_of(r) for r in at]
        axes[0].plot(K, [1e3 * t.median for r in at if (t := result_of(r).time)], **looks, label=name)
        axes[1].plot(K, [(result_of(r).memory.plan or np.nan) / 1024 for r in at], **looks, label=name)
        for i, (k, rs) in enumerate(sorted(grouped(of, K_of).items())):
            over = sorted((r for r in rs if r.cell.horizon > k), key=lambda r: r.cell.horizon)
            if len(over) > 2:
                mark = looks | {"color": LOOKS[i % 6]["color"], "markeredgecolor": LOOKS[i % 6]["color"]}
                mark |= {"marker": LOOKS[i % 6]["marker"], "markerfacecolor": "none"}
                plans = [(result_of(r).memory.plan or np.nan) / 1024 for r in over]
                axes[2].plot([r.cell.horizon for r in over], plans, **mark, label=f"{name}, K = {k}")
                over_K(axes[2], [r.cell.horizon for r in over], "T (lower steps)")
    r = most_K(shown[0][1])[0]
    K = np.array(sorted({K_of(r) for r in most_K(shown[0][1])}), float)
    axes[1].plot(K, K * size * ITEMSIZE[r.cell.dtype] / 1024, **GUIDE, label="law: K · M · itemsize")
    for ax, label, title in zip(
        axes,
        ("median wall time (ms)", "planned memory (KiB)", "planned memory (KiB)"),
        (f"time, T = {r.cell.horizon}", f"memory, T = {r.cell.horizon}", "memory against T"),
    ):
        ax.set_ylabel(label)
        ax.set_title(title)
        ax.legend(frameon=False, fontsize=7)
        ax.set_ylim(0, None)
    for ax in axes[:2]:
        ax.set_xlabel("K (pull-backs of Φ)")
    words = f"{problem(r.cell)}, M = {size}, {r.cell.dtype}, {r.cell.device}, machine {one}"
    figure.suptitle(f"What K-RMD costs: {words}", fontsize=9)
    return Picture(
        C9.figure,
        f"Time and planned memory of one K-RMD hypergradient: {words}. Lines through the marks are on linear axes: "
        "straight in K, flat in T. K = T is drawn too, and is not in the fits.",
        figure,
    )


def draw_half(records: list[Record]) -> Picture | None:
    found = halves([r for r in records if C15a.wants(r) and r.cell.backend in PAIR])
    if not found:
        return None
    names = list(grouped([h.full for h in found], lambda r: (problem(r.cell), r.cell.backend, machine(r))))
    figure, axes = panels(len(names), 4.0, 4.4)
    for ax, (title, backend, at) in zip(axes, names):
        of = [h for h in found if (problem(h.few.cell), h.few.cell.backend, machine(h.few)) == (title, backend, at)]
        _half(ax, of)
        words = f"T = {of[0].few.cell.horizon}, a pull-back = {of[0].vjp:.2g} steps, machine {at}"
        ax.set_title(f"{backend}: {_wrapped(title)}\n{words}", fontsize=7.5)
    axes[0].set_ylabel("time of K-RMD / time of RMD")
    axes[0].legend(frameon=False, fontsize=7)
    cell = found[0].few.cell
    words = f"{', '.join(sorted({t for t, *_ in names}))}, {cell.dtype}, {cell.device}"
    figure.suptitle(f"Half the time?  {cell.dtype}, {cell.device}", fontsize=9)
    return Picture(
        C15a.figure,
        f"Time of K-RMD over RMD's, each the better of its stashes, with the widest interval of both medians: {words}. "
        "Dashed: (T·step + K·pull-back)/(T·step + T·pull-back) from the floors; dotted: the same if both cost "
        "the same, which is where ½ comes from. Shaded: about half or less.",
        figure,
    )


def machine(r: Record) -> str:
    """Its fingerprint: times of two machines are never one line."""
    return str(r.environment.get("fingerprint", ""))


def _wrapped(title: str) -> str:
    """The problem in two lines."""
    return title.replace(" (", "\n(", 1)


def _half(ax: Any, of: list[Half]) -> None:
    of = sorted(of, key=lambda h: K_of(h.few))
    K = np.array([K_of(h.few) for h in of], float)
    T = of[0].few.cell.horizon
    middle = np.array([h.measured.middle for h in of])
    bars = [middle - [h.measured.low for h in of], [h.measured.high for h in of] - middle]
    ax.errorbar(K, middle, bars, fmt="o-", color=KRMD, capsize=3, markersize=4, linewidth=1.2, label="measured")
    ax.plot(K, [h.floors for h in of], **LOOKS[1] | {"marker": "none"}, label="from the floors")
    ax.plot(K, (1 + K / T) / 2, color="#000000", linestyle=":", linewidth=1.0, label="at equal costs")
    ax.axhspan(0, HALF * (1 + ABOUT), color="#EEEEEE", zorder=0)
    ax.set_ylim(0, None)
    over_K(ax, [int(k) for k in K])
