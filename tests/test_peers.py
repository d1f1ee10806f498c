"""The race against peers: who answers wrongly, raises or is absent is a row without a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.report import targets
from tasks import TASKS
from tests.perf.peers import OURS, Contestant, contestants, measure, table

TINY = {"dataset": "digits", "train": 20, "validation": 20, "test": 20}


def _absent(case):
    import no_such_peer  # noqa: F401 - the import is what must fail


def _wrong(case):
    from tests.perf.peers import _ours

    call = _ours(case, "krmd")
    return lambda: 1.001 * call()


def _raises(case):
    raise ValueError("first line\nsecond line")


def _asserts(case):
    assert case is None


def _tires(case):
    """Is right once, when it is checked, and fails when it is timed."""
    from tests.perf.peers import _ours

    call, calls = _ours(case, "krmd"), []

    def once():
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("tired")
        return call()

    return once


def _entered():
    """In JAX, where each costs a compilation, one of ours and the peers."""
    return [e for e in contestants() if e.framework == "torch" or e.package or e.name == f"{OURS}, iterates"]


GUESTS = {"absent": _absent, "wrong": _wrong, "raises": _raises, "asserts": _asserts, "tires": _tires}


@pytest.fixture(scope="module")
def result():
    guests = [Contestant(name, "torch", "krmd", "no-such-peer", make) for name, make in GUESTS.items()]
    return measure([*_entered(), *guests], TASKS["hypercleaning"](**TINY), 6, [2, 6], 3)


def test_every_contestant_has_a_row_at_every_K(result):
    seen = [(r["framework"], r["estimator"], r["K"], r["contestant"]) for r in result["rows"]]
    assert len(seen) == len(set(seen)) == sum(1 if e.estimator == "rmd" else 2 for e in _entered()) + 2 * len(GUESTS)
    for r in result["rows"]:
        assert len(r["seconds"]) == (3 if r["status"] == "ok" else 0)
        assert (r["reason"] == "") == (r["status"] == "ok")
        if r["package"] == "":
            assert r["status"] == "ok"
            assert r["error"] < 1e-5
        else:
            # A peer may be installed; ours are held to more than peers are.
            assert r["status"] in ("ok", "unavailable") or r["package"] == "no-such-peer"


def test_only_the_right_are_timed(result):
    rows = {(r["contestant"], r["K"]): r for r in result["rows"] if r["package"] == "no-such-peer"}
    statuses = ("unavailable", "wrong", "failed", "failed", "failed")
    assert {name: rows[name, 6]["status"] for name in GUESTS} == dict(zip(GUESTS, statuses))
    assert rows["wrong", 6]["error"] == pytest.approx(1e-3, rel=1e-2)
    assert rows["raises", 6]["reason"] == "ValueError: first line"
    assert rows["asserts", 6]["reason"].startswith("AssertionError")
    assert rows["tires", 6]["reason"] == "RuntimeError: tired"
    assert result["peers"]["no-such-peer"] is None


def test_the_table_is_made_from_the_file(result):
    text = table(json.loads(json.dumps(result)))
    assert text == table(result)
    lines = [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]
    assert len(lines) == len(result["rows"])
    for framework, estimator, K, name, ms, ratio, rank, _error, status, _marks in lines:
        assert (ms == ratio == rank == "–") == (status != "ok"), (framework, estimator, K, name)
    ours = [line for line in lines if line[3].startswith(OURS)]
    groups = {(r["framework"], r["estimator"], r["K"]) for r in result["rows"]}
    assert sum(line[5] == "1.00 [1.00, 1.00]" for line in ours) == len(groups)


def test_ours_must_be_right(result):
    liar = Contestant(OURS, "torch", "krmd", "", _wrong)
    with pytest.raises(RuntimeError, match="nothing is timed"):
        measure([liar], TASKS["hypercleaning"](**TINY), 6, [2], 3)


def test_a_race_of_other_code_is_stale(result):
    made = json.loads(json.dumps(result))
    made["rows"] = [row | {"flags": []} for row in made["rows"]]
    assert targets.stale_keys({}, made) == frozenset()
    made["code"]["tasks/hypercleaning.py"] = "other"
    assert targets.stale_keys({}, made) == {"peers"}
    rows = targets.table({}, made, frozenset({"peers"})).rows
    assert set(rows[rows.source == "peers"].marks) == {"stale"}


def test_the_committed_table_is_that_of_the_committed_file():
    folder = Path(__file__).parent.parent / "results" / "peers"
    assert table(json.loads((folder / "peers.json").read_text())) + "\n" == (folder / "peers.md").read_text()
