"""Ours against the native idiom, over seeds: means of medians, beside what the native idiom is from itself."""

from __future__ import annotations

import numpy as np
import pytest

from bench.report import native, speed, targets
from tests.calibrated import calibrated

WHAT = "native idiom / ours, the better stash, at that size, over seeds"


def test_the_mean_over_seeds_has_students_interval():
    ratios = [1.0, 1.1, 1.2]
    records = [calibrated(i, r) for i, r in enumerate(ratios)]
    (found,) = native.against_native(records)
    assert found.ours.middle == pytest.approx(1.1)
    assert found.ours.high - found.ours.middle == pytest.approx(4.302653 * 0.1 / np.sqrt(3), rel=1e-6)
    (row,) = native.table(records).rows.to_dict("records")
    assert (row["stash"], row["seeds"], row["machine"]) == ("residuals", 3, "here")
    assert row["native/ours"] == "1.100 [0.852, 1.348]"
    assert row["native/native"] == "1.000 [1.000, 1.000]"


def test_both_calls_of_the_native_idiom_count():
    (found,) = native.against_native([calibrated(i, 1.0, again=1.21) for i in range(3)])
    assert found.ours.middle == pytest.approx(1.1)
    assert found.control.middle == pytest.approx(1.21)
    assert not found.trusted


def test_the_stash_is_one_for_all_seeds():
    records = [calibrated(i, 1.0) for i in range(3)]
    seconds = records[0].calibration.seconds  # at one seed the other is a little faster
    seconds["krmd iterates"] = [0.9 * s for s in seconds["krmd residuals"]]
    (found,) = native.against_native(records)
    assert found.stash == "residuals"
    assert found.ours.middle == pytest.approx(1.0)


@pytest.mark.parametrize(
    "third",
    [{"K": 25}, {"machine": "there"}, {"dtype": "float64"}, {"backend": "torch"}, {"lam": "init"}, {"horizon": 50}],
)
def test_two_seeds_decide_nothing_and_nothing_else_is_a_seed(third):
    assert native.against_native([calibrated(0, 1.0), calibrated(1, 1.0), calibrated(2, 1.0, **third)]) == []


def test_other_code_is_no_seed():
    records = [calibrated(i, 1.0) for i in range(3)]
    records[2].code["stamp"] = "another"
    assert native.against_native(records) == []


def test_records_without_the_control_are_left_out():
    records = [calibrated(i, 1.0) for i in range(3)]
    for r in records:
        del r.calibration.seconds["native-krmd again"]
    assert native.against_native(records) == []
    assert set(speed.table(records).rows["native/native"]) == {""}


def test_stale_records_are_marked():
    records = [calibrated(i, 1.0) for i in range(3)]
    stale = frozenset([records[1].key])
    assert list(native.table(records, stale).rows.marks) == ["stale"]
    assert list(speed.table(records, stale).rows.marks) == ["", "stale", ""]


@pytest.mark.parametrize(
    ("ratios", "again", "verdict"),
    [
        ((1.1, 1.12, 1.11), 1.0, "yes"),
        ((0.99, 1.0, 1.01), 1.0, "a tie"),
        ((0.9, 0.91, 0.92), 1.0, "no"),
        ((1.1, 1.12, 1.11), 1.1, "a tie"),  # what finds the native idiom unlike itself shows nothing
    ],
)
def test_the_target_says_faster_tied_or_slower(ratios, again, verdict):
    records = [calibrated(i, r, again, K=K) for i, r in enumerate(ratios) for K in (5, 100)]
    rows = targets.table({"speed": records}).rows.set_index("what")
    assert rows.reached[f"jax, {WHAT}"] == verdict
    assert rows.reached[f"torch, {WHAT}"] == "not measured"


def test_a_tie_at_one_K_is_a_tie():
    records = [calibrated(i, r * at, K=K) for i, r in enumerate((0.99, 1, 1.01)) for K, at in ((5, 1.0), (100, 1.2))]
    assert targets.table({"speed": records}).rows.set_index("what").reached[f"jax, {WHAT}"] == "a tie"


@pytest.mark.parametrize("other", [{"K": 25}, {"K": 100, "dtype": "float64"}, {"K": 100, "horizon": 200}])
def test_the_target_needs_both_K_at_that_size(other):
    records = [calibrated(i, 1.1, **given) for i in range(3) for given in ({"K": 5}, other)]
    assert targets.table({"speed": records}).rows.set_index("what").reached[f"jax, {WHAT}"] == "not measured"


def test_the_floors_are_of_one_seed():
    records = [calibrated(0, 1.0), calibrated(1, 0.1), calibrated(2, 0.1)]
    rows = targets.table({"speed": records}).rows.set_index("what")
    (told,) = [text for what, text in rows.measured.items() if what.startswith("JAX") and what.endswith("iterates")]
    assert told == "1.58 to 1.58 over K"


def test_foreign_load_is_marked():
    records = [calibrated(i, 1.0) for i in range(3)]
    records[2].calibration.flags.append("foreign load")
    assert list(native.table(records).rows.marks) == ["foreign load"]
    assert list(speed.table(records).rows.marks) == ["", "", "foreign load"]


def test_each_stash_stands_beside_the_native_idiom_and_its_own_floor():
    (row,) = speed.table([calibrated(0, 1.25)]).rows.to_dict("records")
    assert row["native/ours"] == row["native/residuals"] == "1.25 [1.25, 1.25]"
    assert row["native/iterates"] == "0.83 [0.83, 0.83]"
    assert row["iterates/floor"] == "1.26 [1.26, 1.26]"  # 1.5/1.25 over .9 + .05
    assert row["residuals/floor"] == "0.84 [0.84, 0.84]"  # 1/1.25 over .95·.9 + .1
    record = calibrated(0, 1.0, method="cg")
    renamed = {"krmd residuals": "cg", "native-krmd": "native-cg", "native-krmd again": "native-cg again"}
    seconds = {renamed.get(name, name): s for name, s in record.calibration.seconds.items() if "iterates" not in name}
    record.calibration.seconds = seconds | {"floor: steps": [s / 1.5 for s in seconds["cg"]]}
    (row,) = speed.table([record]).rows.to_dict("records")
    assert row["ours/floor"] == "1.50 [1.50, 1.50]"
    assert row["iterates/floor"] == row["native/iterates"] == ""


def test_the_compiled_lane_has_no_single_step():
    (row,) = speed.table([calibrated(0, 1.0, backend="torch:compiled")]).rows.to_dict("records")
    assert np.isnan(row["one step (ms)"])


def test_a_target_is_not_reached_by_rounding():
    """1.154 is shown as 1.15 and is more than 1.15."""
    records = [calibrated(0, 1.5 / (0.95 * 1.154))]
    rows = targets.table({"speed": records}).rows.set_index("what")
    (what,) = [name for name in rows.index if name.startswith("JAX") and name.endswith("iterates")]
    assert rows.measured[what] == "1.15 to 1.15 over K"
    assert rows.reached[what] == "no"
    assert rows.marks[what] == ""
    marked = targets.table({"speed": records}, None, frozenset(r.key for r in records)).rows.set_index("what")
    assert marked.marks[what] == "stale"
