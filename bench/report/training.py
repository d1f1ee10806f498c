"""Tables of training on real tasks: runs, the choice of the upper rate, baselines, both frameworks' trajectories."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from bench.cell import Cell
from bench.optimisers import EPS, MEAN, SQUARE
from bench.record import Record
from bench.report import runs
from bench.report.frame import problem
from bench.report.runs import grouped, training_of
from bench.report.table import Table
from bench.stats import Interval, interval, paired

COMPARED, AGREE = 20, 1e-8  # upper iterations, and the largest relative difference of the frameworks over them
LEAST = 1e-6  # of the first: a norm below it is not held to be relative to itself
GRID = 3  # rates of one optimiser that have an inside


def tables(records: list[Record], stale: frozenset[str] = frozenset()) -> list[Table]:
    """All tables that these records can fill."""
    made = [make(records, stale) for make in (_training, _rates, _baselines, _trajectories, _cells)]
    return [t for t in made if not t.rows.empty]


def text(values: Iterable[float], digits: int = 2) -> str:
    """`88.05 [87.90, 88.20]`: the mean over seeds with its 95 % interval; below three seeds `88.05 (n = 1)`."""
    x = [v for v in values if np.isfinite(v)]
    if not x:
        return ""
    return _shown(interval(x), digits)


def _shown(found: Interval, digits: int = 2, sign: str = "") -> str:
    """With n where it is too small for an interval."""
    return found.text(digits, sign) + ("" if found.decided else f" (n = {found.n})")


def _upper(r: Record) -> dict[str, Any]:
    s = r.cell.settings
    return {"optimiser": s.get("optimiser", "gd"), "rate": s.get("rate"), "upper iterations": s.get("iterations")}


def _estimator(c: Cell) -> dict[str, Any]:
    return {
        "problem": problem(c),
        "method": c.method,
        "K": np.nan if c.truncation is None else c.truncation,
        "T": c.horizon,
    }


def _lane(r: Record) -> tuple:
    c = r.cell
    where = c.backend, c.device, c.dtype, c.lam
    return problem(c), -c.horizon, runs.line_of(c).order, *where, runs.settings_of(c), _options(c)


def _options(c: Cell) -> str:
    return ", ".join(f"{k}={v}" for k, v in c.method_options.items() if k != "truncation")


def _training(records: list[Record], stale: frozenset[str]) -> Table:
    groups = grouped([r for r in records if runs.is_run(r)], _lane)
    return Table(
        "training",
        "Upper iterations on real tasks, a line an estimator, K, framework and upper rate: means over seeds with 95 %"
        " intervals, none below three seeds. Accuracies, losses and F1 are those at the selected iteration, the "
        "recorded one of least validation loss; held-out data choose nothing. Few-shot's accuracy of one seed is a "
        "mean over episodes, whose own 95 % interval is ±; the interval beside the accuracy is over seeds. The "
        "validation loss is F where the task has no other. Bias is ‖h − dF‖/‖dF‖ at the start, where λ is λ_0, and at"
        " the last recorded iteration, where it is another number. s/iteration: one h from NumPy to NumPy, median "
        "over iterations, of one machine, on which other cells may have run. "
        f"Adam: β_1 = {MEAN}, β_2 = {SQUARE}, ε = {EPS:g}.",
        pd.DataFrame([_run_row(groups[key], stale) for key in sorted(groups)]).dropna(axis=1, how="all"),
    )


def _run_row(of: list[Record], stale: frozenset[str]) -> dict[str, Any]:
    c, timed = of[0].cell, runs.one_machine(of)
    middle = interval([s for r in timed if np.isfinite(s := runs.seconds(r))], np.median).middle

    def over(value: Callable[[Record], float], digits: int = 2) -> str | float:
        return text(map(value, of), digits) or np.nan

    return {
        **_estimator(c),
        "framework": c.backend,
        "device": c.device,
        "dtype": c.dtype,
        "λ_0": c.lam,
        "options": _options(c),
        **_upper(of[0]),
        "seeds": len(of),
        "selected": float(np.median([training_of(r).selected[0] for r in of])),
        "held accuracy (%)": over(runs.accuracy),
        "validation accuracy (%)": over(runs.validation_accuracy),
        "validation loss": over(runs.loss, 4),
        "held loss": over(lambda r: runs.metric(r, "held", "loss"), 4),
        "F1": over(runs.f1, 3),
        "noise rate": over(lambda r: runs.metric(r, "held", "noise_rate"), 3),
        "± over episodes (points)": over(runs.over_episodes),
        "s/iteration": middle,
        "bias at the start": over(lambda r: _ends(r, "bias")[0], 3),
        "bias at the end": over(lambda r: _ends(r, "bias")[1], 3),
        "cosine at the start": over(lambda r: _ends(r, "cosine")[0], 3),
        "cosine at the end": over(lambda r: _ends(r, "cosine")[1], 3),
        "machine": runs.machine(timed[0]),
        "marks": runs.marks(of, stale),
        "record": "; ".join(r.key for r in of),
    }


def _ends(r: Record, name: str) -> tuple[float, float]:
    values = runs.column(getattr(training_of(r), name)[0])
    return float(values[0]), float(values[-1])


# the upper rate


def _tried(records: list[Record]) -> list[Record]:
    """The runs, and the final failures among their kind."""
    lanes = {_swept(r) for r in records if runs.is_run(r)}
    return [r for r in records if runs.is_run(r) or (r.final and r.cell.kind == "training" and _swept(r) in lanes)]


def _swept(r: Record) -> tuple:
    """What shares one choice of the rate."""
    c = r.cell
    where = c.backend, c.device, c.dtype, c.lam
    return problem(c), -c.horizon, runs.line_of(c).order, *where, _options(c), c.settings.get("iterations") or 0


def _rates(records: list[Record], stale: frozenset[str]) -> Table:
    lines: list[dict[str, Any]] = []
    groups = grouped(_tried(records), _swept)
    for key in sorted(groups):
        pairs = grouped(groups[key], lambda r: runs.pair_of(r.cell))
        if len(pairs) > 1:
            lines += _choice(pairs, stale)
    chosen = [line for line in lines if line["chosen"]]
    inside = sum(line["inside the grid"] == "yes" for line in chosen)
    return Table(
        "upper-rate",
        "The choice of optimiser and rate, for each K: validation loss at the selected iteration, and which pair it "
        f"chooses, over the seeds that all pairs have. Of {len(chosen)} choices {inside} lie inside the grid: not at "
        "an end of the rates that were run with the same optimiser. Held-out accuracy is printed and decides nothing.",
        pd.DataFrame(lines),
    )


def _choice(pairs: dict[str, list[Record]], stale: frozenset[str]) -> list[dict[str, Any]]:
    ok = {name: [r for r in of if runs.is_run(r)] for name, of in pairs.items()}
    seeds = [{r.cell.seed for r in of} for of in ok.values() if of]
    common = set.intersection(*seeds) if seeds else set()
    shared = {name: [r for r in of if r.cell.seed in common] for name, of in ok.items()}
    ok = shared if common else ok
    # A pair that failed on one draw is not chosen for what it gave on the others.
    whole = {name for name, of in pairs.items() if all(runs.is_run(r) for r in of)}
    score = {name: float(np.mean([runs.loss(r) for r in of])) for name, of in shared.items() if of and name in whole}
    score = {name: x for name, x in score.items() if np.isfinite(x)}
    best = min(score, key=lambda name: (score[name], name), default="")
    order = sorted(pairs, key=lambda name: _where(pairs[name][0]))
    return [_rate_row(pairs[name], ok[name], name == best, _inside(name, pairs), stale) for name in order]


def _where(r: Record) -> tuple[str, float]:
    return str(r.cell.settings.get("optimiser", "gd")), float(r.cell.settings["rate"] or 0)


def _inside(name: str, pairs: dict[str, list[Record]]) -> bool | None:
    """None where the optimiser was run at too few rates."""
    optimiser, rate = _where(pairs[name][0])
    rates = [at for o, at in (_where(of[0]) for of in pairs.values()) if o == optimiser]
    return min(rates) < rate < max(rates) if len(set(rates)) >= GRID else None


def _rate_row(
    of: list[Record], ok: list[Record], best: bool, inside: bool | None, stale: frozenset[str]
) -> dict[str, Any]:
    c = of[0].cell
    statuses = sorted({r.status for r in of if r.status != "ok"})
    return {
        **_estimator(c),
        "framework": c.backend,
        "dtype": c.dtype,
        **_upper(of[0]),
        "seeds": len(ok),
        "validation loss": text(map(runs.loss, ok), 4),
        "validation accuracy (%)": text(map(runs.validation_accuracy, ok)),
        "held accuracy (%)": text(map(runs.accuracy, ok)),
        "F1": text(map(runs.f1, ok), 3),
        "chosen": "yes" if best else "",
        "inside the grid": "" if not best else {True: "yes", False: "no, at its end", None: "too few rates"}[inside],
        "marks": ", ".join([*statuses, *filter(None, [runs.marks(of, stale)])]),
        "record": "; ".join(r.key for r in ok or of),
    }


# baselines


def _baselines(records: list[Record], stale: frozenset[str]) -> Table:
    parts = [r for r in records if r.status == "ok" and r.baseline is not None]
    lines: list[dict[str, Any]] = []
    for name, of in sorted(grouped(parts, lambda r: runs.family_of(r.cell)).items()):
        lines += _ranked(of, next((f for f in runs.families(records) if f.name == name), None), stale)
    return Table(
        "baselines",
        "The same model on other data of the same draws, without hyperparameters, beside what cleaning gives: all "
        "(every training example, right or wrong), clean (those with right labels), validation (the validation data "
        "alone), both (clean and validation). In the order of held-out accuracy, whichever way it falls; differences "
        "to no cleaning are paired by seed, in points, and of one framework where that has it.",
        pd.DataFrame(lines),
    )


def _ranked(parts: list[Record], family: runs.Family | None, stale: frozenset[str]) -> list[dict[str, Any]]:
    """A line a part and a trained line, by accuracy."""
    found = []
    none: dict[str, dict[int, float]] = {}
    for r in parts:
        if r.baseline and r.cell.settings["data"] == "all":
            none.setdefault(r.cell.backend, {})[r.cell.seed] = 100 * r.baseline.accuracy
    other = next(iter(none.values()), {})
    whole = next((r.baseline.examples for r in parts if r.baseline and r.cell.settings["data"] == "all"), np.nan)
    for (part, framework), of in grouped(parts, lambda r: (r.cell.settings["data"], r.cell.backend)).items():
        rates = sorted({r.baseline.rate for r in of if r.baseline})
        examples = sorted({r.baseline.examples for r in of if r.baseline})
        values = {r.cell.seed: 100 * r.baseline.accuracy for r in of if r.baseline}
        words = f"rate {', '.join(f'{x:g}' for x in rates)}"
        found.append((f"baseline: {part}", framework, of, examples[0], words, values))
    for line, of in {} if family is None else family.lines.items():
        for framework, rs in grouped(of, lambda r: r.cell.backend).items():
            label = line.label(family.T) if family else ""
            name = label if line.method in label else f"{line.method}, {label}"
            values = runs.by_seed(rs, runs.accuracy)
            found.append((name, framework, rs, whole, runs.pair_of(rs[0].cell), values))
    found.sort(key=lambda f: (-np.mean(list(f[5].values())) if f[5] else np.inf, f[0], f[1]))
    return [
        {
            "problem": problem(of[0].cell),
            "what": what,
            "framework": framework,
            "seeds": len(of),
            "examples trained on": examples,
            "settings": words,
            "held accuracy (%)": text(values.values()),
            "over no cleaning (points)": "" if what == "baseline: all" else _over(values, none.get(framework, other)),
            "marks": runs.marks(of, stale),
            "record": "; ".join(r.key for r in of),
        }
        for what, framework, of, examples, words, values in found
    ]


def _over(a: dict[int, float], b: dict[int, float]) -> str:
    both = sorted(set(a) & set(b))
    if not both:
        return ""
    return _shown(paired([a[s] for s in both], [b[s] for s in both]), sign="+")


# PyTorch against JAX


def _trajectories(records: list[Record], stale: frozenset[str]) -> Table:
    wanted = [r for r in records if r.cell.kind == "training" and r.cell.dtype == "float64"]
    wanted = [r for r in wanted if r.training is not None and r.training.every_value is not None]
    lines = []
    for of in grouped(wanted, lambda r: r.cell.pair_key()).values():
        pair = {r.cell.backend: r for r in of}
        if {"jax", "torch"} <= set(pair):
            lines.append(_apart(pair["torch"], pair["jax"], stale))
    agree = sum(line["ok"] for line in lines)
    return Table(
        "trajectories",
        f"PyTorch against JAX along upper iterations in float64: largest relative difference of F and of ‖h‖ over the "
        f"first {COMPARED} iterations. {agree} of {len(lines)} runs agree to {AGREE:g}. A value below {LEAST:g} of "
        "the first is held against that. One pair of runs a row.",
        pd.DataFrame(lines),
    )


def _apart(a: Record, b: Record, stale: frozenset[str]) -> dict[str, Any]:
    c, n = a.cell, min(COMPARED, *(len(training_of(r).every_value or []) for r in (a, b)))
    F = _largest(*((training_of(r).every_value or [])[:n] for r in (a, b)))
    h = _largest(*((training_of(r).every_norm or [])[:n] for r in (a, b)))
    return {
        **_estimator(c),
        **_upper(a),
        "seed": c.seed,
        "iterations compared": n,
        "difference of F": F,
        "difference of ‖h‖": h,
        "ok": bool(n > 0 and max(F, h) <= AGREE and a.status == b.status),
        "marks": runs.marks((a, b), stale),
        "record": f"{a.key}; {b.key}",
    }


def _largest(a: list[float], b: list[float]) -> float:
    """Relative; infinite for what is not finite."""
    x, y = np.array(a, float), np.array(b, float)
    if not len(x) or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return np.inf
    scale = np.maximum(np.maximum(abs(x), abs(y)), LEAST * max(abs(x[0]), abs(y[0])))
    apart = np.divide(abs(x - y), scale, out=np.zeros_like(x), where=scale > 0)
    return float(apart.max())


# every cell


def _cells(records: list[Record], stale: frozenset[str]) -> Table:
    """The runs and baselines one by one, and every training cell that did not end as `ok`."""
    kinds = [r for r in records if r.cell.kind in ("training", "baseline")]
    shown = [r for r in kinds if runs.is_run(r) or r.baseline is not None or r.status != "ok"]
    return Table(
        "training-cells",
        "Every run on a real task and every baseline, one by one, and every training cell that did not end as `ok`, "
        "with its reason. One record a row.",
        pd.DataFrame([_cell(r, r.key in stale) for r in sorted(shown, key=lambda r: (_lane(r), r.cell.seed))]),
    )


def _cell(r: Record, stale: bool) -> dict[str, Any]:
    c, run = r.cell, runs.is_run(r)
    held = runs.accuracy(r) if run else 100 * r.baseline.accuracy if r.baseline is not None else np.nan
    return {
        "kind": c.kind,
        **_estimator(c),
        **({} if c.kind == "training" else {"method": f"data={c.settings.get('data')}"}),
        "framework": c.backend,
        "device": c.device,
        "dtype": c.dtype,
        **(_upper(r) if c.kind == "training" else dict.fromkeys(_upper(r))),
        "seed": c.seed,
        "selected": training_of(r).selected[0] if run else np.nan,
        "held accuracy (%)": held,
        "validation loss": runs.loss(r) if run else np.nan,
        "s/iteration": runs.seconds(r) if run else np.nan,
        "wall time (s)": r.seconds,
        "machine": r.environment.get("fingerprint", ""),
        "status": r.status,
        "reason": r.reason,
        "stale": stale,
        "record": r.key,
    }
