"""What the claims' figures share: looks that also work in black and white, axes over K, one framework's records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.cell import Cell
from bench.claims.protocol import PAIR
from bench.record import Record
from bench.report import style

LOOKS = style.LOOKS[:6]
GUIDE: dict[str, Any] = {"color": "#555555", "linewidth": 0.8, "linestyle": "-", "zorder": 1}
K_AXIS = "K (pull-backs of Φ)"


def but(looks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The looks with changes."""
    return {**looks, **changes}


def one_framework(records: list[Record], wanted: Callable[[Record], bool]) -> tuple[list[Record], str]:
    """The wanted records of the first framework that has any, by K and name."""
    chosen = [r for r in records if wanted(r)]
    name = next((n for n in PAIR if any(r.cell.backend == n for r in chosen)), "")
    of = [r for r in chosen if r.cell.backend == name]
    return sorted(of, key=lambda r: (r.cell.truncation or 0, r.key)), name


def panels(n: int, width: float = 3.7, height: float = 3.9) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(max(width * n, 5.5), height))
    return figure, list(figure.subplots(1, n, squeeze=False)[0])


def over_K(ax: Axes, Ks: Iterable[int], label: str = K_AXIS) -> None:
    """A logarithmic axis with the K that are there."""
    there = sorted({K for K in Ks if K > 0})
    ax.set_xscale("log")
    shown: list[int] = []
    for K in there:
        if not shown or K / shown[-1] > 1.35:
            shown.append(K)
    ax.set_xticks(shown)
    ax.set_xticks([], minor=True)
    ax.xaxis.set_major_formatter("{x:.0f}")
    ax.set_xlabel(label)


def facts(cell: Cell, *names: str) -> str:
    """`κ = 100, coupling dense`: the options of a cell that a title needs."""
    signs = {"kappa": "κ", "rate": "γ", "direct": "δ"}
    return ", ".join(f"{signs.get(n, n)} = {v}" for n in names if (v := cell.task_options.get(n)) is not None)


def legend(figure: Figure, ax: Axes | Sequence[Axes], columns: int = 4) -> None:
    """One legend below, without repetition."""
    found: dict[str, Any] = {}
    for a in [ax] if isinstance(ax, Axes) else ax:
        for handle, label in zip(*a.get_legend_handles_labels()):
            found.setdefault(label, handle)
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=columns, frameon=False)
