"""Time, memory and counts of one call, each by its own means: nothing is timed under a tracker."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import environment
from bench.record import Time

MIN_VALUES = 5
MIN_SECONDS = 0.5
LONG = 30.0  # one value of this length is enough, and flagged
SETTLED = 0.05  # seconds
SHARE = 0.85  # a busy single thread gets this share of the clock, or something else is running


def timing(bk: Any, f: Callable, args: tuple) -> tuple[Any, Time]:
    """The call's result, and seconds: compile, warm-up, then at least 5 values and 0.5 s, the device synchronised."""
    start = time.perf_counter()
    bk.prepare(f, *args)
    compiled = time.perf_counter() - start
    start = time.perf_counter()
    result = bk.wait(f(*args))
    warmup = time.perf_counter() - start

    values: list[float] = []
    began, cpu = time.perf_counter(), time.process_time()
    total = 0.0
    while not values or (values[0] < LONG and (len(values) < MIN_VALUES or total < MIN_SECONDS)):
        start = time.perf_counter()
        bk.wait(f(*args))
        values.append(time.perf_counter() - start)
        total += values[-1]
    flags = foreign_load(bk, time.perf_counter() - began, time.process_time() - cpu)
    if len(values) == 1:
        flags.append("one value")
    # Thousands of short calls say no more than two hundred: keep evenly spaced ones in the record.
    kept = values[:: max(1, len(values) // 200)]
    return result, Time(
        lane=bk.lane,
        compile=compiled if bk.lane != "eager" else None,
        warmup=warmup,
        values=kept,
        median=statistics.median(values),
        iqr_ratio=iqr_ratio(values),
        flags=flags,
    )


def iqr_ratio(values: list[float]) -> float:
    """(upper − lower quartile) / median; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    lower, middle, upper = statistics.quantiles(values, n=4, method="inclusive")
    return (upper - lower) / middle


def resident_growth(bk: Any, f: Callable, args: tuple) -> int | None:
    """Bytes: the peak of this process's resident set during one call, less what was resident before it.

    The call takes its memory anew from the system, whatever the process did before; so it is slower than a timed one,
    and is none.  None where the system does not let a process reset its peak.
    """
    with environment.usual_allocator():
        bk.wait(f(*args))  # another thread's heap gives its reserve back when a block of its own is freed,
        time.sleep(SETTLED)  # which JAX does after it has given its result
        environment.give_back_freed_memory()
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident now
            before = _resident("VmRSS")
            bk.wait(f(*args))
            return max(_resident("VmHWM") - before, 0)
        except OSError:
            return None


def _resident(name: str) -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024


def foreign_load(bk: Any, wall: float, cpu: float) -> list[str]:
    """The flag of a timing of `wall` seconds in which this process had the processor for `cpu` seconds."""
    return ["foreign load"] if bk.device == "cpu" and cpu < SHARE * wall else []


class clock:
    """Adds the seconds of a block to `book[name]`."""

    def __init__(self, book: dict[str, float], name: str) -> None:
        self.book, self.name = book, name

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        self.book[self.name] = self.book.get(self.name, 0.0) + time.perf_counter() - self.start
