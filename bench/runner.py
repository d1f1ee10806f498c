"""One cell in, one record out: the only place where a method, a task and a backend meet."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import backends
from backends.counting import count
from backends.hypergradient import InvalidOption, Sizes
from backends.hypergradient.protocol import size
from bench import environment, plugins, stamp
from bench.cell import Cell
from bench.errors import UserError
from bench.kinds import KINDS
from bench.measure import resident_peak, timing
from bench.record import Bias, Memory, Record, Result
from bench.reference import ReferenceCache, References, bias, flat, references
from bench.sketch import sketch
from tasks.data import DataError
from tasks.protocol import TaskError

DIVERGED = 1e8  # ‖w_T‖ beyond this multiple of 1 + ‖w_0‖ is not a solution of anything


class Runner:
    """Computes cells in this process; what cells share (references, counts) is kept between them."""

    def __init__(self, cache: Path | None = None) -> None:
        self.cache, self.references = cache, ReferenceCache(cache)
        self.counts: dict[str, Any] = {}

    def compute(self, cell: Cell) -> Record:
        """The record of a cell.  Whatever goes wrong is a status and a reason, never an exception."""
        started, clock = datetime.now(UTC), time.perf_counter()
        made_by = stamp.code(cell)  # before anything is imported
        overhead: dict[str, float] = {}
        outcome: dict[str, Any] = {}
        try:
            outcome = self._measure(cell, overhead)
        except backends.Unavailable as error:
            outcome = {"status": "unavailable", "reason": one_line(error)}
        except (DataError, UserError, TaskError) as error:
            outcome = {"status": "unavailable" if isinstance(error, DataError) else "error", "reason": one_line(error)}
        except InvalidOption as error:
            outcome = {"status": "unsupported", "reason": one_line(error)}
        except MemoryError as error:
            outcome = {"status": "oom", "reason": one_line(error) or "MemoryError"}
        except Exception as error:
            oom = is_out_of_memory(error)
            outcome = {"status": "oom" if oom else "error", "reason": f"{type(error).__name__}: {one_line(error)}"}
        return Record(
            key=cell.key,
            cell=cell,
            environment=environment.describe(cell.device),
            code=made_by,
            started=started.isoformat(timespec="seconds"),
            seconds=time.perf_counter() - clock,
            overhead=overhead,
            **outcome,
        )

    def _measure(self, cell: Cell, overhead: dict[str, float]) -> dict[str, Any]:
        with _clock(overhead, "import"):
            bk = _backend(cell.backend, cell.dtype, cell.device)
        task = plugins.build(plugins.task_class(cell.task), cell.task_options, f"task {cell.task}")
        method = plugins.build(plugins.method_class(cell.method), cell.method_options, f"method {cell.method}")
        problem = task.problem(bk)
        method.check(problem, cell.horizon)
        if cell.kind in KINDS:
            with _clock(overhead, "kind"):
                return KINDS[cell.kind](bk, task, method, cell, self.cache)
        with _clock(overhead, "data"):
            hparams, data, xs = (bk.asarray(x) for x in _inputs(task, cell))
        f = bk.compile(partial(method, bk, problem))
        before = resident_peak()
        if cell.timed:
            with _clock(overhead, "timing"):
                result, times = timing(bk, f, (hparams, data, xs))
        else:
            with _clock(overhead, "call"):
                result, times = bk.wait(f(hparams, data, xs)), None
        resident = resident_peak() - before
        with _clock(overhead, "plan"):
            plan = bk.memory_plan(f, hparams, data, xs) if cell.timed else None
        sizes = _sizes(bk, problem, hparams, data, result.params, cell.horizon)
        with _clock(overhead, "counts"):
            counts, cost = self._count(cell, bk, method, problem, sizes, (hparams, data, xs))
        h, value = flat(bk, result.grad), float(bk.to_numpy(result.value))
        status, reason = _verdict(bk, problem, hparams, data, h, value, result.params)
        finite = status == "ok"
        with _clock(overhead, "reference"):
            ref = self._references(cell, task)
        none = Bias(reason=reason)
        law = method.law(sizes) if hasattr(method, "law") else None
        with _clock(overhead, "metrics"):
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
        formula = method.cost(sizes) if hasattr(method, "cost") else None
        if formula is None:
            return None, None
        cost = {f: {k: n for k, n in kinds.items() if n} for f, kinds in formula.items()}
        # Counts do not depend on the values of λ or data, nor on the dtype.
        key = repr((cell.method, cell.method_options, cell.task, cell.task_options, cell.backend, sizes))
        if key not in self.counts:
            self.counts[key] = count(bk, method, problem, *args)
        return self.counts[key], cost

    def _references(self, cell: Cell, task: Any) -> References:
        def make() -> References:
            bk = _backend(cell.backend.partition(":")[0], "float64", cell.device)
            hparams, data, xs = (bk.asarray(x) for x in _inputs(task, cell))
            return references(bk, task, task.problem(bk), hparams, data, xs)

        made_by = cell.model_copy(update={"method": "native-rmd", "method_options": {}, "kind": "hypergradient"})
        return self.references.get(f"{cell.problem_key()} {cell.backend} {cell.device} {stamp.stamp(made_by)}", make)


def _finite(x: Any) -> float | None:
    """A number that JSON can hold."""
    return float(x) if math.isfinite(x) else None


def one_line(error: BaseException) -> str:
    """An exception's message in one line of bearable length."""
    return " ".join(str(error).split())[:300]


def is_out_of_memory(error: BaseException) -> bool:
    """By what it says: JAX raises INTERNAL or RESOURCE_EXHAUSTED, PyTorch a RuntimeError."""
    text = str(error).lower()
    return any(s in text for s in ("out of memory", "resource_exhausted", "can't allocate memory", "not enough memory"))


@lru_cache(maxsize=8)
def _backend(name: str, dtype: str, device: str) -> Any:
    return backends.load(name, dtype, device)


def _inputs(task: Any, cell: Cell) -> tuple:
    data, xs = task.context(cell.seed, 0, cell.horizon)
    return task.hparams(cell.seed, cell.lam), data, xs


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


class _clock:
    """Adds the seconds of a block to `book[name]`."""

    def __init__(self, book: dict[str, float], name: str) -> None:
        self.book, self.name = book, name

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        self.book[self.name] = self.book.get(self.name, 0.0) + time.perf_counter() - self.start
