"""The floors are what an estimator cannot do without: its matrix products, no fewer and no more."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import backends
from backends.counting import count
from backends.hypergradient import METHODS
from bench import calibration
from bench.cell import Cell
from tasks import TASKS
from tests.grid import GENERIC

T, K = 12, 5
DIGITS = TASKS["hypercleaning"](dataset="digits", train=20, validation=20, test=20)


def _products(f, bk, problem, *args) -> int:
    """Matrix products in XLA's compiled program: one for each place, however often a loop comes there."""
    return bk.compile(partial(f, bk, problem)).lower(*args).compile().as_text().count(" dot(")


def test_pull_backs_kept_need_a_product_that_a_pull_back_alone_does_not():
    bk = backends.load("jax", "float32")
    data, xs = DIGITS.context(0, 0, T)
    args = (DIGITS.problem(bk), *(bk.asarray(x) for x in (DIGITS.hparams(0), data, xs)))

    def floor(f):
        return _products(lambda bk, problem, *rest: f(bk, problem, K, *rest), bk, *args)

    steps = _products(calibration._steps, bk, *args)
    outer = 2  # logits of f, and their pull-back to w
    ours = {s: _products(METHODS["krmd"](truncation=K, stash=s), bk, *args) - outer for s in ("iterates", "residuals")}
    assert (steps, floor(calibration._pull_backs), floor(calibration._steps_and_pull_backs)) == (2, 3, 4)
    # K-RMD has two loops of steps with K < T, before the last K and among them.
    assert ours == {"iterates": 2 + 2 + 3, "residuals": 2 + 4}


@pytest.mark.parametrize("floor", ["_pull_backs", "_steps_and_pull_backs"])
def test_a_floor_pulls_back_K_times(bk, floor):
    counts = count(bk, lambda *args: getattr(calibration, floor)(*args[:2], K, *args[2:]), *GENERIC["M < N"].at(bk))
    assert counts["step"]["linearise"] == counts["step"]["pull"] == K


def test_the_points_of_both_are_the_steps(bk):
    problem, *args = GENERIC["M < N"].at(bk)
    steps = calibration._steps(bk, problem, *args)
    whole = bk.leaves(args[2])[0].shape[0]
    w, alpha, _ = calibration._steps_and_pull_backs(bk, problem, whole, *args)
    for ours, theirs in zip(bk.leaves(w), bk.leaves(steps), strict=True):
        np.testing.assert_array_equal(bk.to_numpy(ours), bk.to_numpy(theirs))
    assert all(np.isfinite(bk.to_numpy(a)).all() for a in bk.leaves(alpha))


def test_the_native_idiom_is_called_twice_with_the_same_result(bk):
    problem, *args = GENERIC["M < N"].at(bk)
    cell = Cell(task="quadratic", method="krmd", method_options={"truncation": K}, backend=bk.name, horizon=T)
    calls = dict(calibration._contestants(bk, problem, METHODS["krmd"](truncation=K), cell))
    once, again = (bk.compile(calls[f"native-krmd{which}"])(*args) for which in ("", " again"))
    for a, b in zip(bk.leaves(once.grad), bk.leaves(again.grad), strict=True):
        np.testing.assert_array_equal(bk.to_numpy(a), bk.to_numpy(b))


@pytest.mark.parametrize(("share", "flags"), [(0.5, ["foreign load"]), (1.0, [])])
def test_a_calibration_that_did_not_have_the_processor_is_flagged(bk, monkeypatch, share, flags):
    now = 0.0

    def wall() -> float:
        nonlocal now
        now += 0.125
        return now

    clock = SimpleNamespace(perf_counter=wall, process_time=lambda: share * now)
    monkeypatch.setattr(calibration, "time", clock)
    cell = Cell(kind="calibration", task="quadratic", method="cg", method_options={"truncation": 1}, backend=bk.name,
                horizon=T)  # fmt: skip
    made = calibration.measure(bk, TASKS["quadratic"](), METHODS["cg"](truncation=1), cell)
    assert made["calibration"].flags == flags
