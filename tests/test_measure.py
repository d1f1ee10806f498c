"""What one call takes: memory of the process, the processor, and the calls it makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backends.hypergradient import METHODS
from bench import environment, measure
from bench.cell import Cell
from bench.hypergradient import Hypergradients
from tasks import TASKS

MIB = 2**20
NEEDED = 24  # MiB, larger than what frameworks take on the side

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="a process cannot reset its peak here")


@pytest.fixture(autouse=True)
def _as_in_a_worker():
    environment.keep_freed_memory()


def _scan(bk, n):
    """A scan that must keep n MiB of iterates."""

    def f(x):
        _, kept = bk.scan(lambda w, _: (w + 1, w), x, None, length=4 * n)
        return bk.xp.sum(kept * kept[::1]) if bk.name == "jax" else bk.xp.sum(kept)

    return bk.compile(f)


@linux
def test_the_resident_set_grows_by_what_a_call_needs_and_does_so_again(bk):
    x = bk.asarray(np.ones(MIB // 4 // bk.xp.ones(1, dtype=getattr(bk.xp, bk.dtype)).itemsize))
    f = _scan(bk, NEEDED)
    bk.wait(f(x))  # what is compiled, and the allocator's reserve, are of the first call
    plan = bk.memory_plan(f, x)
    assert plan == pytest.approx(NEEDED * MIB, rel=0.1)
    for _ in range(3):
        assert measure.resident_growth(bk, f, (x,)) == pytest.approx(plan, rel=0.1)


@linux
def test_a_call_that_needs_nothing_grows_nothing(bk):
    x = bk.asarray(np.ones(4))
    f = bk.compile(lambda x: x + 1)
    bk.wait(f(x))
    assert measure.resident_growth(bk, f, (x,)) < MIB


def test_after_a_resident_measurement_freed_memory_is_kept_again(monkeypatch):
    asked = []
    monkeypatch.setattr(environment, "_set_thresholds", lambda size: asked.append(size) or True)
    with environment.usual_allocator():
        assert asked == [environment.USUAL]
    assert asked == [environment.USUAL, environment.KEPT]
    monkeypatch.setattr(environment, "_allocator", "default")
    with environment.usual_allocator():
        pass
    assert asked[2:] == [environment.USUAL]


def test_where_a_peak_cannot_be_reset_the_resident_set_is_unknown(bk, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refuse)
    assert measure.resident_growth(bk, lambda: None, ()) is None


@pytest.mark.parametrize(
    ("device", "cpu", "flags"), [("cpu", 0.5, ["foreign load"]), ("cpu", 1.0, []), ("cuda", 0.5, [])]
)
def test_who_did_not_have_the_processor_is_flagged(device, cpu, flags):
    class Backend:
        pass

    Backend.device = device
    assert measure.foreign_load(Backend, 1.0, cpu) == flags


class Guest:
    """K-RMD by another name, without a formula for its calls."""

    estimand = "exact"

    def __init__(self):
        self.inner = METHODS["rmd"]()

    def check(self, problem, horizon):
        pass

    def __call__(self, bk, problem, hparams, data, xs):
        return self.inner(bk, problem, hparams, data, xs)


@pytest.mark.parametrize("method", ["guest", "native-rmd", "rmd"])
def test_a_method_without_a_formula_is_counted_all_the_same(bk, method):
    cell = Cell(task="quadratic", method=method, backend=bk.name, dtype="float64", horizon=7, timed=False)
    made = Guest() if method == "guest" else METHODS[method]()
    result = Hypergradients(None).measure(bk, TASKS["quadratic"](), made, cell, {})["result"]
    step = {"call": 7, "linearise": 7, "pull": 7}
    if method == "native-rmd":  # the framework's transforms are not ours to watch
        assert (result.counts, result.cost) == (None, None)
    else:
        assert result.counts["step"] == step
        assert result.cost == (None if method == "guest" else result.counts)
