"""Two stores against each other."""

from __future__ import annotations

import pytest

from bench.cell import Cell
from bench.compare import compare
from bench.runner import Runner
from bench.stats import FEW
from bench.store import Store
from tests.calibrated import calibrated
from tests.test_cli import call
from tests.test_mutants import MUTANTS, _load
from tests.trained import run


@pytest.fixture(scope="module")
def records():
    runner = Runner()
    plain = {"task": "quadratic", "backend": "jax", "horizon": 10, "dtype": "float64"}
    cells = [Cell(method="krmd", method_options={"truncation": K}, **plain) for K in (1, 5, 10)]
    return [runner.compute(c) for c in [*cells, Cell(method="rmd", **plain)]]


def test_a_store_with_itself(records):
    found = compare(records, records)
    assert found.same
    assert found.equal == len(records)
    assert found.times["krmd jax"].middle == 1.0


def test_an_estimator_that_is_off_by_one(records, monkeypatch):
    """Every row of it is named, and no other."""
    broken = _load(*MUTANTS["K-RMD: one pull-back too few"])
    monkeypatch.setattr("bench.plugins.method_class", lambda name: {"krmd": broken}[name])
    monkeypatch.setattr("bench.plugins.options", lambda cls: [])
    wrong = [Runner().compute(r.cell) if r.cell.method == "krmd" else r for r in records]
    assert [r.status for r in wrong] == ["ok"] * 4
    found = compare(records, wrong, tolerance=1e-9)
    assert {d.key for d in found.differences} == {r.key for r in records if r.cell.method == "krmd"}
    assert found.equal == 1


def test_what_only_one_has(records):
    found = compare(records[:3], records[1:])
    assert (found.only_a, found.only_b) == ([records[0].key], [records[3].key])
    assert not found.same


def _elsewhere(r, factor=1.0, plan=0):
    """The same cell on a GPU: ‖h‖ off by `factor`, biases by 1e-15, another plan."""
    cell, result = r.cell.model_copy(update={"device": "cuda"}), r.result
    exact = result.exact.model_copy(update={"relative": result.exact.relative + 1e-15})
    memory = result.memory.model_copy(update={"plan": plan})
    result = result.model_copy(update={"norm": result.norm * factor, "exact": exact, "memory": memory})
    return r.model_copy(update={"cell": cell, "key": cell.key, "result": result})


def test_cells_of_two_devices_are_matched(records):
    there = [_elsewhere(r) for r in records]
    found = compare(records, there, tolerance=1e-9)
    assert found.devices == ("cpu", "cuda")
    assert found.same
    assert found.equal == len(records)
    assert found.times["krmd jax"].n == 3
    strict = compare(records, there)
    assert {d.what for d in strict.differences} == {"exact bias"}
    wrong = compare(records, [*there[1:], _elsewhere(records[0], factor=1 + 1e-6)], tolerance=1e-9)
    assert [(d.key, d.what) for d in wrong.differences] == [(there[0].key, "‖h‖")]
    missing = compare(records, there[1:])
    assert (missing.only_a, missing.only_b) == ([records[0].key], [])


def test_cells_of_one_device_or_of_several_are_not(records):
    there = [_elsewhere(r) for r in records]
    assert compare(records, records).devices is None
    mixed = compare(records, [*records, *there])
    assert mixed.devices is None
    assert mixed.only_b == sorted(r.key for r in there)
    plans = compare(there, [_elsewhere(r, plan=1) for r in records])
    assert {d.what for d in plans.differences} == {"plan"}


def test_the_first_place_of_a_figure_that_differs_is_named():
    before = run("jax", "hypercleaning", 5)
    held = {name: list(values) for name, values in before.training.held.items()}
    name = sorted(held)[0]
    held[name][1:] = [value * 1.01 for value in held[name][1:]]
    after = before.model_copy(update={"training": before.training.model_copy(update={"held": held})})
    (one,) = compare([before], [after], tolerance=1e-6).differences
    assert one.what == f"training held {name}[1]"
    assert one.b == pytest.approx(1.01 * one.a)
    assert compare([before], [after], tolerance=0.02).same


def test_a_number_of_a_list_is_held_against_its_largest():
    before = run("jax", "hypercleaning", 5)
    name = sorted(before.training.held)[0]
    values = [1.0, *[1e-12] * (len(before.training.held[name]) - 1)]

    def with_(values):
        held = {**before.training.held, name: values}
        return before.model_copy(update={"training": before.training.model_copy(update={"held": held})})

    moved = [1.0, *[2e-12] * (len(values) - 1)]
    assert compare([with_(values)], [with_(moved)], tolerance=1e-9).same
    assert not compare([with_(values)], [with_(moved)], tolerance=1e-13).same


def _slower(r, factors):
    """The same calibration at `factors` the time, but for each contestant's slowest round: it is far off."""
    seconds = {name: [s * factors.get(name, 1.0) for s in values] for name, values in r.calibration.seconds.items()}
    for values in seconds.values():
        values[values.index(max(values))] *= 100  # which moves no median
    return r.model_copy(update={"calibration": r.calibration.model_copy(update={"seconds": seconds})})


def test_calibrations_give_ratios_of_every_contestant_that_both_have():
    before = [calibrated(seed, 1.0) for seed in range(FEW)]
    now = [_slower(r, {"krmd residuals": 2.0 + r.cell.seed, "native-krmd": 0.5}) for r in before]
    del before[0].calibration.seconds["one vjp"], now[1].calibration.seconds["floor: steps"]
    found = compare(before, now)
    assert found.same
    assert found.equal == FEW
    assert found.times.keys() == {f"calibration {name} jax" for name in calibrated(0, 1.0).calibration.seconds}
    ours, native = (found.times[f"calibration {name} jax"] for name in ("krmd residuals", "native-krmd"))
    assert tuple(ours) == pytest.approx((3.0, 2.0, 4.0, FEW))  # below ten cells: the range
    assert tuple(native) == pytest.approx((0.5, 0.5, 0.5, FEW))
    assert [found.times[f"calibration {name} jax"].n for name in ("one vjp", "floor: steps")] == [FEW - 1] * 2


def test_of_calibrations_the_status_alone_must_be_the_same():
    before = [calibrated(seed, 1.0) for seed in range(2)]
    failed = before[0].model_copy(update={"status": "timeout", "calibration": None})
    found = compare(before, [failed, before[1]])
    assert [(d.key, d.what, d.a, d.b) for d in found.differences] == [(failed.key, "status", "ok", "timeout")]
    assert {ratio.n for ratio in found.times.values()} == {1}


def test_times_in_turn_are_not_pooled_with_times_alone(records):
    """A store that holds both kinds of the same estimator has a lane for each."""
    both = [*records, calibrated(0, 1.0)]
    found = compare(both, [*records, _slower(both[-1], {"krmd iterates": 7.0})])
    assert found.times["krmd jax"].n == 3
    assert found.times["krmd jax"].high == 1.0
    assert found.times["calibration krmd iterates jax"].middle == pytest.approx(7.0)


def test_the_command(records, monkeypatch, capsys, tmp_path):
    for name, chosen in (("a", records), ("b", records[:-1])):
        store = Store(tmp_path / name)
        store.create()
        for r in chosen:
            store.write(r)
    code, out, _ = call(monkeypatch, capsys, "compare", str(tmp_path / "a"), str(tmp_path / "a"))
    assert code == 0
    assert "4 cells equal, 0 differ" in out
    code, out, _ = call(monkeypatch, capsys, "compare", str(tmp_path / "a"), str(tmp_path / "b"))
    assert code == 1
    assert records[-1].key in out.replace("\n", "")
