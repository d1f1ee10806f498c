"""One cell in, one record out: the only place where a method, a task and a backend meet."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import backends
from backends.hypergradient import InvalidOption
from bench import environment, plugins, stamp
from bench.cell import Cell
from bench.errors import UserError
from bench.hypergradient import Hypergradients
from bench.kinds import KINDS
from bench.measure import clock
from bench.record import Record
from tasks.data import DataError
from tasks.protocol import TaskError


class Runner:
    """Computes cells in this process; what cells share is kept between them."""

    def __init__(self, cache: Path | None = None) -> None:
        self.cache, self.hypergradients = cache, Hypergradients(cache)

    def compute(self, cell: Cell) -> Record:
        """The record of a cell.  Whatever goes wrong is a status and a reason, never an exception."""
        started, began = datetime.now(UTC), time.perf_counter()
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
            seconds=time.perf_counter() - began,
            overhead=overhead,
            **outcome,
        )

    def _measure(self, cell: Cell, overhead: dict[str, float]) -> dict[str, Any]:
        with clock(overhead, "import"):
            bk = _backend(cell.backend, cell.dtype, cell.device)
        task = plugins.build(plugins.task_class(cell.task), cell.task_options, f"task {cell.task}")
        method = plugins.build(plugins.method_class(cell.method), cell.method_options, f"method {cell.method}")
        method.check(task.problem(bk), cell.horizon)
        if cell.kind == "hypergradient":
            return self.hypergradients.measure(bk, task, method, cell, overhead)
        with clock(overhead, "kind"):
            return KINDS[cell.kind](bk, task, method, cell, self.cache)


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
