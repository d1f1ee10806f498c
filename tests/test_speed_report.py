"""Ours against the native idiom, over seeds: means of medians, beside what the native idiom is from itself."""

from __future__ import annotations

import numpy as np
import pytest

from bench.cell import Cell
from bench.record import Calibration, Record
from bench.report import speed, targets

ROUNDS = np.linspace(1.0, 1.2, 11)  # the machine's own drift, alike for all of a round


def calibrated(seed: int, ours: float, again: float = 1.0, backend: str = "jax", K: int = 5) -> Record:
    """Krmd's better stash takes `ours` times as long as the native idiom."""
    cell = Cell.model_validate(
        {
            "kind": "calibration",
            "task": "hypercleaning",
            "method": "krmd",
            "method_options": {"truncation": K},
            "backend": backend,
            "horizon": 100,
            "seed": seed,
            "lam": "informed",
        }
    )
    times = {
        "krmd residuals": ours,
        "krmd iterates": 1.5 * ours,
        "native-krmd": 1.0,
        "native-krmd again": again,
        "one step": 0.01,
        "one vjp": 0.01,
        "floor: steps": 0.9,
        "floor: pull-backs": 0.05,
        "floor: both": 0.1,
    }
    seconds = {name: [float(x) for x in t * ROUNDS] for name, t in times.items()}
    return Record(
        key=cell.key,
        cell=cell,
        status="ok",
        environment={"fingerprint": "here"},
        code={"stamp": ""},
        started="",
        seconds=0.0,
        calibration=Calibration(lane="jit", seconds=seconds),
    )


def test_the_mean_over_seeds_has_students_interval():
    ratios = [1.0, 1.1, 1.2]
    (found,) = speed.against_native([calibrated(i, 1 / r, again=1 / 1.01) for i, r in enumerate(ratios)])
    assert found.ours.middle == pytest.approx(1.1)
    assert found.ours.high - found.ours.middle == pytest.approx(4.302653 * 0.1 / np.sqrt(3), rel=1e-6)
    assert found.control.middle == pytest.approx(1.01)
    (row,) = speed.over_seeds([calibrated(i, 1 / r) for i, r in enumerate(ratios)]).rows.to_dict("records")
    assert (row["seeds"], row["native/ours"], row["native/native"]) == (
        3,
        "1.100 [0.852, 1.348]",
        "1.000 [1.000, 1.000]",
    )


def test_two_seeds_decide_nothing_and_K_is_not_a_seed():
    assert speed.against_native([calibrated(0, 1.0), calibrated(1, 1.0), calibrated(2, 1.0, K=25)]) == []


def test_records_without_the_control_are_left_out():
    records = [calibrated(i, 1.0) for i in range(3)]
    for r in records:
        assert r.calibration is not None
        del r.calibration.seconds["native-krmd again"]
    assert speed.against_native(records) == []
    assert set(speed.table(records).rows["native/native"]) == {""}


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [((1.1, 1.12, 1.11), "yes"), ((0.99, 1.0, 1.01), "a tie"), ((0.9, 0.91, 0.92), "no")],
)
def test_the_target_says_faster_tied_or_slower(ratios, verdict):
    records = [calibrated(i, 1 / r) for i, r in enumerate(ratios)]
    rows = targets.table({"speed": records}).rows.set_index("what")
    assert rows.reached["jax, native idiom / ours, the better stash, at that size, over seeds"] == verdict
    assert rows.reached["torch, native idiom / ours, the better stash, at that size, over seeds"] == "not measured"
