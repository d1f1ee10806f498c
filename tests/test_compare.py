"""Two stores against each other."""

from __future__ import annotations

import pytest

from bench.cell import Cell
from bench.compare import compare
from bench.runner import Runner
from bench.store import Store
from tests.test_cli import call
from tests.test_mutants import MUTANTS, _load


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
