"""The learned interaction of classes: what it is worth, whom it groups, and a map with related classes side by side."""

from __future__ import annotations

import re
from collections.abc import Iterator
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from bench.cell import Cell
from bench.grouping import Grouping, assignments, grouping
from bench.record import Record
from bench.report import runs, style
from bench.report.figures import Picture
from bench.report.runs import Family, by_seed, grouped, training_of
from bench.report.table import Table, digits
from bench.stats import paired

SHOWN = 4  # K
DECADES = 4  # of entries
PERMUTATIONS = 1999
# Which of 20 superclasses each fine class of CIFAR-100 is of, in the order of its labels.
_CIFAR100 = (
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10,
    12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16,
    12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14,
    13,
)  # fmt: skip
# Animals are bird, cat, deer, dog, frog, horse; the others are vehicles.
SUPERCLASS: dict[str, tuple[int, ...]] = {"cifar10": (0, 0, 1, 1, 1, 1, 1, 1, 0, 0), "cifar100": _CIFAR100}

# Few enough to be written at the axes.
NAMES: dict[str, tuple[str, ...]] = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
}


def figures(records: list[Record]) -> list[Picture]:
    """One figure a problem whose chosen λ was recorded."""
    with mpl.rc_context(style.RC):
        return [p for f in runs.drawn(records) if f.name.startswith("task_interaction") for p in _figures(f)]


def matrix(chosen: list[float]) -> np.ndarray | None:
    """C from flat λ: its upper triangle by rows, then ρ; None where the length is of no C."""
    pairs = len(chosen) - 1
    n = round((1 + np.sqrt(1 + 8 * max(pairs, 0))) / 2)
    if pairs < 1 or n * (n - 1) // 2 != pairs:
        return None
    C = np.zeros((n, n))
    C[np.triu_indices(n, 1)] = chosen[:-1]
    return C + C.T


def ordered(C: np.ndarray, dataset: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """C with its superclasses side by side, where one ends, and names; as it is where they are not known."""
    of, names = np.array(SUPERCLASS.get(dataset, ())), NAMES.get(dataset, ())
    if len(of) != len(C):
        return C, np.array([], int), []
    order = np.argsort(of, kind="stable")
    return C[np.ix_(order, order)], np.flatnonzero(np.diff(of[order])) + 1, [names[i] for i in order if names]


def table(records: list[Record], stale: frozenset[str] = frozenset()) -> Table:
    """Does a learned C help, and whom does it group?  Paired by split, framework by framework."""
    rows, datasets = [], set()
    for family in (f for f in runs.families(records) if f.name.startswith("task_interaction")):
        found = list(_rows(family, stale))
        rows += found
        if any(np.isfinite(row["largest p"]) for row in found):
            datasets.add(_dataset(family.records[0].cell))
    return Table(
        "interaction",
        "Regularization learning: held-out accuracy of the learned C less that of C = 0 with its own learned ρ, in "
        "points, paired by split, 95 % interval; C = 0 is trained with the exact hypergradient. Right: mean C within "
        "and between superclasses, which no problem has seen, and the largest p over splits of a permutation test "
        f"whether C is larger within: {_least(sorted(datasets))}.",
        pd.DataFrame(rows),
    )


def _least(datasets: list[str]) -> str:
    """How small p can get: few superclasses can be assigned in fewer ways than are drawn."""
    told = f"{PERMUTATIONS} permutations of classes, so p is at least {1 / (1 + PERMUTATIONS):g}"
    for name in datasets:
        of = SUPERCLASS.get(name, ())
        if of and (ways := assignments(of)) <= PERMUTATIONS:
            told += f"; on {name}, whose {len(set(of))} groups allow {ways} assignments, at least about {1 / ways:.1g}"
    return told


def _dataset(cell: Cell) -> str:
    return str(cell.task_options.get("dataset", "cifar10"))


def _rows(family: Family, stale: frozenset[str]) -> Iterator[dict[str, Any]]:
    exact = [line for line in family.lines if line.baseline and line.exact]
    for line, of in family.lines.items():
        if line.baseline or not exact:
            continue
        for framework, mine in grouped(of, lambda r: r.cell.backend).items():
            base = by_seed([r for r in family.lines[exact[0]] if r.cell.backend == framework], runs.accuracy)
            own = by_seed(mine, runs.accuracy)
            seeds = sorted(base.keys() & own.keys())
            gain = paired([own[s] for s in seeds], [base[s] for s in seeds])
            found = [g for r in mine if (g := _grouping(r)) is not None]
            yield {
                "problem": family.name,
                "framework": framework,
                "K": line.K,
                "splits": len(seeds),
                "accuracy, C = 0 (%)": float(np.mean([base[s] for s in seeds])) if seeds else np.nan,
                "accuracy, C learned (%)": float(np.mean([own[s] for s in seeds])) if seeds else np.nan,
                "gain (points)": gain.text(sign="+") if gain.decided else "–",
                "learned C beats C = 0": ("yes" if gain.low > 0 else "no") if gain.decided else "too few splits",
                "C within": float(np.mean([g.within for g in found])) if found else np.nan,
                "C between": float(np.mean([g.between for g in found])) if found else np.nan,
                "largest p": max((g.p for g in found), default=np.nan),
                "marks": runs.marks(mine, stale),
                "record": digits(r.key for r in mine),
            }


def _grouping(r: Record) -> Grouping | None:
    C = matrix(training_of(r).chosen or [])
    of = np.array(SUPERCLASS.get(_dataset(r.cell), ()))
    return None if C is None or len(C) != len(of) else grouping(C, of, PERMUTATIONS)


def _figures(family: Family) -> Iterator[Picture]:
    learned = {line: _maps(of) for line, of in family.lines.items() if not line.baseline}
    learned = {line: of for line, of in learned.items() if of}
    left_out = len(learned) - SHOWN
    learned = dict(list(learned.items())[:SHOWN])
    # Panels are of one draw and framework where all of them have one.
    shared = min(set.intersection(*map(set, learned.values())), default=None) if learned else None
    found = [(line, *of[min(of) if shared is None else shared]) for line, of in learned.items()]
    if not found or max(C.max() for *_, C in found) <= 0:
        return
    one = found[0][1].cell
    dataset, alike = _dataset(one), len({runs.pair_of(r.cell) for _, r, _ in found}) == 1
    top = max(C.max() for *_, C in found)
    figure = Figure(figsize=(3.6 * len(found) + 0.9, 5.3), layout="constrained")
    panels: Any = figure.subplots(1, len(found), squeeze=False)[0]
    norm = LogNorm(top * 10.0**-DECADES, top)
    maps = [ordered(C, dataset) for *_, C in found]
    for ax, (line, r, C), (shown, ends, names) in zip(panels, found, maps):
        ax.imshow(np.maximum(shown, top * 10.0**-DECADES), norm=norm, cmap="magma", interpolation="nearest")
        for end in ends:
            ax.axhline(end - 0.5, color="#FFFFFF", linewidth=0.4)
            ax.axvline(end - 0.5, color="#FFFFFF", linewidth=0.4)
        own = [] if shared else [r.cell.backend, f"seed {r.cell.seed}"]
        own += [] if alike else [runs.pair_of(r.cell)]
        part = (C[np.triu_indices(len(C), 1)] > 0).mean()
        title = f"{', '.join([line.label(family.T), *own])}: {part:.0%} of pairs above 0"
        ax.set_title(title, fontsize=7 if own else 9)
        ax.set_xlabel("class, by superclass" if len(ends) else "class")
        if names:
            ax.set_xticks(range(len(names)), names, rotation=90)
            ax.set_yticks(range(len(names)), names if ax is panels[0] else [""] * len(names))
        ax.grid(False)
    panels[0].set_ylabel(panels[0].get_xlabel())
    figure.colorbar(ScalarMappable(norm, "magma"), ax=list(panels), label="C of two classes", shrink=0.8)
    # What differs is said at its panel.
    common = [f"seed {one.seed}", one.backend] if shared else []
    common += [runs.pair_of(one)] if alike else []
    facts = f"{family.name}: {', '.join([f'T = {family.T}', *common, family.dtype])}"
    figure.suptitle(fill(facts, 45 * len(found) + 10), fontsize=9)
    stem = re.sub(r"[^A-Za-z0-9]+", "-", f"interaction-{family.name}").strip("-")
    yield Picture(
        stem,
        f"The learned interaction C at the selected iteration: {facts}. Lines part superclasses; what is below "
        f"10^-{DECADES} of the largest entry has the darkest colour."
        + (f" Lines learned beyond these {SHOWN} and not drawn: {left_out}." if left_out > 0 else ""),
        figure,
    )


def _maps(of: list[Record]) -> dict[tuple[str, int], tuple[Record, np.ndarray]]:
    """The records that have a C, with it, by draw."""
    return {_draw(r): (r, C) for r in of if (C := matrix(training_of(r).chosen or [])) is not None}


def _draw(r: Record) -> tuple[str, int]:
    return r.cell.backend, r.cell.seed
