"""A sweep's lists are crossed, wherever they stand."""

from __future__ import annotations

import itertools

import pytest

from bench.errors import UserError
from bench.sweep import Sweep, expand

LISTS = {
    "kind": "training",
    "settings": {"iterations": 5, "rate": [0.1, 0.2], "every": 5},
    "task": "spectrum",
    "task_options": {"dimension": [10, 20], "kappa": [10.0, 100.0], "coupling": "-I"},
    "backend": ["jax", "torch"],
    "horizon": 10,
    "method": [{"name": "krmd", "truncation": [1, 5, 20]}],
}


def test_each_value_of_each_list_meets_each_other():
    made = expand("s", Sweep.model_validate({"title": "t", "grid": [LISTS]}))
    found = [
        (c.settings["rate"], c.task_options["dimension"], c.task_options["kappa"], c.backend, c.truncation)
        for c in made.cells
    ]
    wanted = itertools.product([0.1, 0.2], [10, 20], [10.0, 100.0], ["jax", "torch"], [1, 5])
    assert sorted(found) == sorted(wanted)
    assert made.left_out == 2 * 2 * 2 * 2  # K = 20 of T = 10
    assert {c.settings["every"] for c in made.cells} == {5}
    assert {c.task_options["coupling"] for c in made.cells} == {"-I"}


def test_a_list_is_as_good_as_a_grid_for_each_of_its_values():
    one_by_one = [
        LISTS
        | {"settings": LISTS["settings"] | {"rate": rate}, "task_options": LISTS["task_options"] | {"dimension": d}}
        for rate in (0.1, 0.2)
        for d in (10, 20)
    ]
    made, by_hand = (expand("s", Sweep.model_validate({"title": "t", "grid": g})) for g in ([LISTS], one_by_one))
    assert set(made.cells) == set(by_hand.cells)
    assert {c.key for c in made.cells} == {c.key for c in by_hand.cells}
    assert made.left_out == by_hand.left_out


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"task_options": {"dimension": [10, "wide"]}}, "dimension"),
        ({"task_options": {"dimensions": [10, 20]}}, "no option 'dimensions'"),
        ({"settings": {"iterations": 5, "rate": [0.1, -1.0]}}, "rate = -1.0"),
    ],
)
def test_one_bad_value_in_a_list_is_refused(changed, says):
    with pytest.raises(UserError, match=says):
        expand("s", Sweep.model_validate({"title": "t", "grid": [LISTS | changed]}))


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("rate", {"settings": LISTS["settings"] | {"rate": []}}),
        ("kappa", {"task_options": LISTS["task_options"] | {"kappa": []}}),
        ("truncation", {"method": [{"name": "krmd", "truncation": []}]}),
        ("horizon", {"horizon": []}),
        ("method", {"method": []}),
    ],
)
def test_an_empty_list_is_refused(name, changed):
    with pytest.raises(UserError, match=f"{name} = \\[\\] is not allowed; a list has at least one value"):
        expand("s", Sweep.model_validate({"title": "t", "grid": [LISTS | changed]}))
