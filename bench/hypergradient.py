"""A hypergradient at one λ: bias, time, memory, counts."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import backends
from backends.counting import count
from backends.hypergradient import Sizes
from backends.hypergradient.protocol import size
from bench import stamp
from bench.cell import Cell
from bench.measure import clock, resident_growth, timing
from bench.point import hparams_of
from bench.record import Bias, Memory, Result
from bench.reference import ReferenceCache, References, bias, flat, references
from bench.sketch import sketch

DIVERGED = 1e8  # ‖w_T‖ beyond this multiple of 1 + ‖w_0‖ is not a solution of anything


class Hypergradients:
    """What cells share (references, counts) is kept between them."""

    def __init__(self, cache: Path | None) -> None:
        self.references = ReferenceCache(cache)
        self.counts: dict[str, Any] = {}

    def measure(self, bk: Any, task: Any, method: Any, cell: Cell, overhead: dict[str, float]) -> dict[str, Any]:
        """The fields of a record; the seconds of each part are added to `overhead`."""
        problem = task.problem(bk)
        with clock(overhead, "data"):
            hparams, data, xs = _inputs(bk, task, cell)
        f = bk.compile(partial(method, bk, problem))
        if cell.timed:
            with clock(overhead, "timing"):
                result, times = timing(bk, f, (hparams, data, xs))
        else:
            with clock(overhead, "call"):
                result, times = bk.wait(f(hparams, data, xs)), None
        plan = resident = None
        if cell.timed:
            with clock(overhead, "plan"):
                plan = bk.memory_plan(f, hparams, data, xs)
            with clock(overhead, "resident"):
                resident = resident_growth(bk, f, (hparams, data, xs))
        sizes = _sizes(bk, problem, hparams, data, result.params, cell.horizon)
        with clock(overhead, "counts"):
            counts, cost = self._count(cell, bk, method, problem, sizes, (hparams, data, xs))
        h, value = flat(bk, result.grad), float(bk.to_numpy(result.value))
        status, reason = _verdict(bk, problem, hparams, data, h, value, result.params)
        finite = status == "ok"
        with clock(overhead, "reference"):
            ref = self._references(cell, task)
        none = Bias(reason=reason)
        law = method.law(sizes) if hasattr(method, "law") else None
        with clock(overhead, "metrics"):
            metrics = problem.metrics(result.params, hparams, bk.asarray(task.evaluation(cell.seed))) if finite else {}
        return {
            "status": status,
            "reason": reason,
            "result": Result(
                sizes=sizes._asdict(),
                value=_finite(value),
                norm=_finite(np.linalg.norm(h)),
                exact=bias(h, ref.exact, ref.floor) if finite else none,
                implicit=bias(h, ref.implicit, ref.floor, ref.reason) if finite else none,
                implicit_wT=bias(h, ref.implicit_wT, ref.floor, ref.reason) if finite else none,
                sketch=sketch(h if finite else np.zeros(0)),
                time=times,
                memory=Memory(
                    law=None if law is None else law * np.dtype(cell.dtype).itemsize, plan=plan, resident=resident
                ),
                counts=counts,
                cost=cost,
                stats={k: _finite(bk.to_numpy(v)) for k, v in result.stats.items()},
                metrics={k: _finite(bk.to_numpy(v)) for k, v in metrics.items()},
                estimand=method.estimand,
            ),
        }

    def _count(self, cell: Cell, bk: Any, method: Any, problem: Any, sizes: Sizes, args: tuple) -> tuple[Any, Any]:
        """What was called, by function and kind, and the method's own formula for it.

        A method without a formula is counted all the same; one whose formula is None cannot be.
        """
        formula = method.cost(sizes) if hasattr(method, "cost") else {}
        if formula is None:
            return None, None
        cost = {f: {k: n for k, n in kinds.items() if n} for f, kinds in formula.items()} or None
        # Counts do not depend on the values of λ or data, nor on the dtype.
        key = repr((cell.method, cell.method_options, cell.task, cell.task_options, cell.backend, sizes))
        if key not in self.counts:
            self.counts[key] = count(bk, method, problem, *args)
        return self.counts[key], cost

    def _references(self, cell: Cell, task: Any) -> References:
        def make() -> References:
            bk = backends.load(cell.backend.partition(":")[0], "float64", cell.device)
            hparams, data, xs = _inputs(bk, task, cell)
            return references(bk, task, task.problem(bk), hparams, data, xs)

        made_by = cell.model_copy(update={"method": "native-rmd", "method_options": {}, "kind": "hypergradient"})
        return self.references.get(f"{cell.problem_key()} {cell.backend} {cell.device} {stamp.stamp(made_by)}", make)


def _finite(x: Any) -> float | None:
    """A number that JSON can hold."""
    return float(x) if math.isfinite(x) else None


def _inputs(bk: Any, task: Any, cell: Cell) -> tuple:
    data, xs = task.context(cell.seed, 0, cell.horizon)
    return hparams_of(bk, task, cell), bk.asarray(data), bk.asarray(xs)


def _sizes(bk: Any, problem: Any, hparams: Any, data: Any, params: Any, horizon: int) -> Sizes:
    theta = problem.embed(hparams, data)
    return Sizes(horizon, size(bk, params), size(bk, hparams), size(bk, theta), size(bk, problem.lower(theta)))


def _verdict(
    bk: Any, problem: Any, hparams: Any, data: Any, h: np.ndarray, value: float, params: Any
) -> tuple[str, str]:
    w = flat(bk, params)
    if not (np.isfinite(h).all() and math.isfinite(value) and np.isfinite(w).all()):
        where = "h" if not np.isfinite(h).all() else "the value" if not math.isfinite(value) else "w_T"
        return "nonfinite", f"{where} has NaN or infinite entries"
    start = np.linalg.norm(flat(bk, problem.init(problem.embed(hparams, data), data)))
    if np.linalg.norm(w) > DIVERGED * (1 + start):
        return "diverged", f"‖w_T‖ = {np.linalg.norm(w):.2e} from ‖w_0‖ = {start:.2e}"
    return "ok", ""
