"""Cells to records in processes of their own: a crash, a hang or an exhausted memory is one row.

One worker a framework, kept between cells, so that imports, data and references are paid for once.  Untimed cells of
different frameworks run side by side; timed cells run alone.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, TimeoutError, wait
from contextlib import suppress
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from bench import environment, point, stamp
from bench.cell import Cell
from bench.record import Record

_runner: Any = None  # of this worker process


def _start(threads: int, lane: int, cache: str, memory_limit: int | None) -> None:
    """First thing in a worker: cores and thread counts before any framework is imported, and death with the parent."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        first = lane * threads % len(cores)
        os.sched_setaffinity(0, set((cores + cores)[first : first + threads]))
    for name in environment.THREAD_VARIABLES[:3]:
        os.environ[name] = str(threads)
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):  # not Linux: a worker then ends with its pipe
        ctypes.CDLL("libc.so.6", use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if memory_limit:
        resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    environment.keep_freed_memory()
    global _runner
    from bench.runner import Runner

    _runner = Runner(Path(cache))


def _compute(cell: str) -> str:
    return _runner.compute(Cell.model_validate_json(cell)).model_dump_json()


class Executor:
    """`run` yields each record as it is done."""

    def __init__(
        self, cache: Path, workers: int, timeout: float, threads: int, memory_limit: int | None = None
    ) -> None:
        self.cache, self.workers, self.timeout, self.threads = cache, workers, timeout, threads
        self.memory_limit = memory_limit
        self.pools: dict[str, ProcessPool] = {}
        self.free: dict[str, float] = {}  # lane → when it gave its last record
        self.numbers: dict[str, int] = {}  # lane → that of its core, which the worker after a broken one has again

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, kind: Any, *exc: object) -> None:
        for pool in self.pools.values():
            pool.close() if kind is None else pool.stop()
        for pool in self.pools.values():
            pool.join()

    def run(self, cells: list[Cell]) -> Iterator[Record]:
        """Untimed cells up to `workers` at once, then timed cells one by one.

        Cells at λ from a file begin when all others are done: the run that it is from may be among them.
        """
        for from_file in (False, True):
            mine = [c for c in cells if point.is_file(c.lam) is from_file]
            yield from self._together([c for c in mine if not c.timed])
            for cell in (c for c in mine if c.timed):
                yield self._received(cell, time.perf_counter(), self._submit(cell))

    def _together(self, cells: list[Cell]) -> Iterator[Record]:
        waiting = _interleaved(cells)
        running: dict[Future, tuple[Cell, float]] = {}
        while waiting or running:
            while waiting and len(running) < self.workers:
                cell = waiting.pop(0)
                running[self._submit(cell)] = cell, time.perf_counter()
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield self._received(*running.pop(future), future)

    def _received(self, cell: Cell, submitted: float, future: Future) -> Record:
        """The record, with what the cell waited for beside its own seconds: the worker's start, transport, storing."""
        record, lane = self._record(cell, future), _lane(cell)
        now = time.perf_counter()
        waited = now - max(submitted, self.free.get(lane, 0.0)) - record.seconds
        self.free[lane] = now
        return record.model_copy(update={"overhead": record.overhead | {"between": max(waited, 0.0)}})

    def _submit(self, cell: Cell) -> Future:
        """To the lane's worker; a pool that broke with its worker is replaced."""
        lane = _lane(cell)
        while True:
            if lane not in self.pools:
                self.pools[lane] = self._pool(self.numbers.setdefault(lane, len(self.numbers)))
            try:
                return self.pools[lane].schedule(_compute, args=(cell.model_dump_json(),), timeout=self.timeout)
            except RuntimeError:  # a pool that is not active any more; BrokenProcessPool is one, too
                del self.pools[lane]

    def _pool(self, number: int) -> ProcessPool:
        return ProcessPool(
            max_workers=1,
            # pebble's annotation is narrower than its documentation
            context=multiprocessing.get_context("spawn"),  # pyright: ignore[reportArgumentType] - pebble's stub wants a wider type
            initializer=_start,
            initargs=(self.threads, number, str(self.cache), self.memory_limit),
        )

    def _record(self, cell: Cell, future: Future) -> Record:
        try:
            return Record.model_validate_json(future.result())
        except TimeoutError:
            return _failed(cell, "timeout", f"no result after {self.timeout:g} s", self.timeout)
        except ProcessExpired as error:
            return _failed(cell, *_expired(error.exitcode))
        except MemoryError as error:
            return _failed(cell, "oom", f"MemoryError {error}".strip())
        except Exception as error:  # the pool's own failures: the sweep goes on
            return _failed(cell, "error", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _lane(cell: Cell) -> str:
    """Cells of one framework and device share a worker."""
    return f"{cell.backend.partition(':')[0]} {cell.device.partition(':')[0]}"


def _expired(code: int | None) -> tuple[str, str]:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        if -code == signal.SIGKILL:
            return "oom", "the worker was killed (SIGKILL): most likely the system ran out of memory"
        return "error", f"the worker crashed ({name})"
    return "error", f"the worker ended with exit code {code}"


def _failed(cell: Cell, status: Any, reason: str, seconds: float = 0.0) -> Record:
    return Record(
        key=cell.key,
        cell=cell,
        status=status,
        reason=reason,
        environment=environment.describe(cell.device),
        code=stamp.code(cell),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=seconds,
    )


def _interleaved(cells: list[Cell]) -> list[Cell]:
    """Frameworks in turn, so that each worker has something to do."""
    queues: dict[str, list[Cell]] = {}
    for cell in cells:
        queues.setdefault(cell.backend, []).append(cell)
    numbered = [(i, cell) for queue in queues.values() for i, cell in enumerate(queue)]
    return [cell for _, cell in sorted(numbered, key=itemgetter(0))]
