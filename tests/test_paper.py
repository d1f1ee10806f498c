"""The paper's numbers: the file holds what PAPER.md lists, each with its tag, and the report shows them as they are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bench import paper
from bench.cell import Cell
from bench.errors import UserError
from bench.report import reference
from bench.runner import Runner
from tasks import TASKS
from tests import trained

# Typed from PAPER.md, not from the file.
TYPED = {
    "abstract/few-step / exact/computation time": (0.5, "paper"),
    "toy/K = 1/largest angle": (19.31, "computed"),
    "toy/K = 10/median ‖h‖/‖dF‖": (0.542, "computed"),
    "toy/K = 25/bias to": (0.2731, "computed"),
    "toy/K = 50/bias from": (0.0051, "computed"),
    "toy/K = 100/bound": (0.0059, "computed"),
    "toy_settings/T/value": (100, "restated"),
    "toy_settings/w_0/value": ([2, 2], "recalled"),
    "hypercleaning/K = 1/test accuracy": (87.5, "recalled"),
    "hypercleaning/K = 50/validation accuracy": (90.18, "recalled"),
    "hypercleaning/K = 100/validation loss": (0.380, "recalled"),
    "hypercleaning/K = 100/F1": (0.88, "recalled"),
    "hypercleaning_informed/K = 25/bias": (0.418, "computed"),
    "hypercleaning_init/K = 50/bias to": (0.111, "computed"),
    "hypercleaning_settings/train/value": (5000, "restated"),
    "hypercleaning_settings/K/value": ([1, 5, 25, 50, 100], "recalled"),
    "hypercleaning_settings/upper iterations/value": (1000, "recalled"),
    "hypercleaning_settings/upper rate/value": (None, "open"),
    "task_interaction/5-RMD/accuracy": (61.33, "recalled"),
    "task_interaction/25-RMD/upper iterations": (4825, "recalled"),
    "task_interaction/RMD (100)/time": (2.2, "recalled"),
    "fewshot/10-RMD, 5k/accuracy": (96.3, "recalled"),
    "fewshot/short horizon, 15k/time": (0.1, "recalled"),
    "fewshot_settings/K/value": ([1, 10, 25, 50], "recalled"),
    "fewshot_source_settings/queries/value": (15, "restated"),
}
# Rows × columns of the tables in PAPER.md.
SIZES = {"toy": 6 * 5, "hypercleaning": 5 * 4, "task_interaction": 4 * 3, "fewshot": 7 * 3}


@pytest.fixture(scope="module")
def numbers():
    return {n.id: n for n in paper.numbers()}


@pytest.mark.parametrize("name", TYPED)
def test_the_figures(numbers, name):
    assert (numbers[name].value, numbers[name].tag) == TYPED[name]


def test_every_table_is_whole(numbers):
    assert {t: sum(n.table == t for n in numbers.values()) for t in SIZES} == SIZES
    assert {n.section for n in numbers.values()} == {1, 2, 3, 4, 5}
    assert numbers["task_interaction/1-RMD/upper iterations"].spread == 1800
    for problem in ("quadratic", "hypercleaning", "task_interaction", "fewshot"):
        assert {n.kind for n in numbers.values() if n.problem == problem} == {"results", "settings"}


def test_every_number_has_its_tag_and_source(numbers):
    for n in numbers.values():
        assert n.tag in ("paper", "restated", "recalled", "computed", "open")
        assert n.source
        assert (n.source == "memory") == (n.tag == "recalled")


LINE = '{ row = "r", column = "c", value = 1, unit = "1", tag = "paper", source = "s" }'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LINE.replace("unit", "units"), "unit is missing"),
        (LINE.replace("value = 1", "value = 1, note = 2"), r"unknown key table.t.number.0.note"),
        (LINE.replace('"paper"', '"certain"'), "tag = 'certain' is not allowed"),
        (LINE.replace(', tag = "paper"', ""), "tag is missing"),
        (LINE.replace("value = 1", 'value = "1"'), "is not allowed"),
        (LINE.replace('"s"', '"rumour"'), "unknown source 'rumour'"),
        (LINE.replace("value = 1, ", ""), "is open has no value"),
        (f"{LINE}, {LINE}", "twice"),
        ("{", "cannot be read as TOML"),
    ],
)
def test_what_the_schema_does_not_know_is_refused(tmp_path, line, message):
    file = tmp_path / "reference.toml"
    table = '[table.t]\nsection = 1\nproblem = "any"\nkind = "results"\ntitle = "t"\n'
    file.write_text(f'[source]\ns = "text"\n{table}number = [{LINE}]\n')
    assert [n.value for n in paper.numbers(file)] == [1.0]
    file.write_text(f'[source]\ns = "text"\n{table}number = [{line}]\n')
    with pytest.raises(UserError, match=message) as error:
        paper.numbers(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [name for name in reference.PAPER if name in TASKS])
def test_the_paper_s_sizes_are_the_tasks_defaults(name):
    sizes, is_open = {k: v for k, v in reference.PAPER[name].items() if k != "horizon"}, reference.OPEN.get(name, ())
    assert sizes == {f.name: f.default for f in dataclasses.fields(TASKS[name]) if f.name not in is_open}
    assert set(is_open) <= {f.name for f in dataclasses.fields(TASKS[name])}


def test_runs_stand_beside_the_paper_s():
    """At the paper's size alone, each K beside its row, with its own number of upper iterations."""
    full = [trained.run("jax", "hypercleaning", K, s, accuracy=0.87 + 1e-4 * K) for K in (5, 100) for s in range(3)]
    small = [trained.run("jax", "hypercleaning", 25, task_options=trained.CLEANING)]
    made = reference.table([*full, *small])
    rows = made.rows[made.rows.table == "hypercleaning"].set_index(["row", "quantity"])
    assert rows.loc[("K = 5", "test accuracy"), "ours"] == pytest.approx(87.05)
    assert rows.loc[("K = 100", "test accuracy"), "ours − paper"] == pytest.approx(88.0 - 88.33)
    assert rows.loc[("K = 100", "validation loss"), "ours"] == pytest.approx(0.4)
    assert rows.loc[("K = 5", "F1"), "records"] == 3
    assert rows.loc[("K = 5", "F1"), "ours after (upper iterations)"] == "300"
    assert rows.loc[("K = 25", "F1"), "ours"] == "not measured yet"
    assert (rows.tag == "recalled").all()
    assert rows.paper.str.endswith("†").all()
    assert "as recalled, not checked against the PDF" in made.caption


def test_rows_of_interaction_and_few_shot():
    records = [*trained.interaction("jax"), *trained.fewshot("jax", 2)]
    many = {"task_options": trained.FEWSHOT, "settings": {**trained.SETTINGS, "iterations": 15000}}
    records.append(trained.run("jax", "fewshot", 10, horizon=50, accuracy=0.99, **many))
    rows = reference.table(records).rows.set_index(["row", "quantity"])
    assert rows.loc[("RMD (100)", "accuracy"), "ours"] == pytest.approx(50.0, abs=0.1)  # and not that of C = 0
    assert rows.loc[("5-RMD", "upper iterations"), "ours"] == 200
    assert rows.loc[("10-RMD, 5k", "time"), "ours"] == pytest.approx(0.11, abs=1e-3)
    assert rows.loc[("RMD (50), 5k", "upper iterations"), "ours"] == 300
    assert rows.loc[("1-RMD, 15k", "accuracy"), "ours"] == "not measured yet"
    assert rows.loc[("10-RMD, 15k", "accuracy"), "ours"] == pytest.approx(99.0)
    assert rows.loc[("short horizon, 15k", "accuracy"), "ours"] == "not measured yet"


def test_half_the_width_stands_in_and_says_so():
    half = [trained.run("jax", "fewshot", K, horizon=50, task_options={"filters": 32}) for K in (1, 10)]
    whole = trained.run("jax", "fewshot", 10, horizon=50, accuracy=0.95, task_options=trained.FEWSHOT)
    narrow = trained.run("jax", "fewshot", 25, horizon=50, task_options={"filters": 16})
    rows = reference.table([*half, whole, narrow]).rows.set_index(["row", "quantity"])
    assert rows.loc[("1-RMD, 5k", "accuracy"), "marks"] == "filters = 32, not 64"
    assert np.isnan(rows.loc[("1-RMD, 5k", "accuracy"), "ours − paper"])
    assert rows.loc[("10-RMD, 5k", "accuracy"), "ours"] == pytest.approx(95.0)
    assert rows.loc[("10-RMD, 5k", "accuracy"), "marks"] == ""
    assert rows.loc[("25-RMD, 5k", "accuracy"), "ours"] == "not measured yet"


def _toy(**changes):
    plain = {"kind": "landscape", "task": "quadratic", "method": "krmd", "method_options": {"truncation": 5}}
    return Cell(**plain, backend="jax", dtype="float64", **{"horizon": 100, **changes})


def test_ours_stands_beside_the_paper_s():
    made = reference.table([Runner().compute(_toy())])
    rows = made.rows.set_index(["row", "quantity"])
    assert set(made.rows.table) == {"toy"}
    assert rows.loc[("K = 5", "largest angle"), "ours"] == pytest.approx(16.59, abs=0.005)
    assert rows.loc[("K = 5", "bias to"), "ours"] == pytest.approx(0.7724, abs=5e-5)
    assert abs(rows.loc[("K = 5", "median ‖h‖/‖dF‖"), "ours − paper"]) < 0.005
    assert rows.loc[("K = 1", "largest angle"), "ours"] == "not measured yet"
    assert "†" not in made.caption


def test_other_sizes_are_not_the_paper_s():
    assert reference.table([Runner().compute(_toy(horizon=20))]).rows.empty
    assert reference.table([]).rows.empty


def test_what_is_recalled_carries_a_dagger():
    record = Runner().compute(Cell(task="hypercleaning", method="rmd", backend="jax", device="cuda:7", horizon=100))
    made = reference.table([record])
    assert "as recalled, not checked against the PDF" in made.caption
    rows = made.rows[made.rows.tag == "recalled"]
    assert set(rows.table) == {"hypercleaning"}
    assert rows.paper.str.endswith("†").all()
    assert set(made.rows.ours) == {"not measured yet"}
    assert not made.rows[made.rows.tag != "recalled"].paper.str.contains("†").any()
