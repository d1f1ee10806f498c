"""Figures, tables and page: from records alone, the same bytes each time, nothing lost on the way."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from bench import report
from bench.account import account
from bench.cell import Cell
from bench.report import figures, memory, scaling
from bench.report.frame import certificates, frame, work
from bench.report.table import DIGITS
from bench.runner import Runner

RESULTS = Path(__file__).resolve().parent.parent / "results"
METHODS = (("rmd", {}), ("fmd", {}), *(("krmd", {"truncation": K}) for K in (1, 5, 10)), ("cg", {"truncation": 2}))


@pytest.fixture(scope="module")
def records():
    runner, made = Runner(), []
    for backend in ("jax", "torch"):
        for method, options in METHODS:
            for dtype, timed in (("float64", False), ("float32", True)):
                plain = {"task": "quadratic", "backend": backend, "horizon": 10, "dtype": dtype, "timed": timed}
                made.append(runner.compute(Cell(method=method, method_options=options, **plain)))
        land = Cell(
            kind="landscape",
            task="quadratic",
            method="krmd",
            method_options={"truncation": 5},
            backend=backend,
            dtype="float64",
            horizon=20,
        )
        made.append(runner.compute(land))
    made.append(runner.compute(Cell(task="quadratic", method="rmd", backend="jax", device="cuda:7", horizon=10)))
    return made


def test_every_record_is_in_the_table(records, tmp_path):
    report.write(records, tmp_path, "T", frozenset())
    cells = pd.read_csv(tmp_path / "tables" / "cells.csv")
    toy = pd.read_csv(tmp_path / "tables" / "toy.csv")
    assert sorted([*cells.record, *toy.record]) == sorted(r.key for r in records)
    failures = pd.read_csv(tmp_path / "tables" / "failures.csv")
    assert list(failures.status) == ["unavailable"]
    assert "cuda:7" in failures.reason[0]


def test_the_numbers_are_the_records(records, tmp_path):
    report.write(records, tmp_path, "T", frozenset())
    bias = pd.read_csv(tmp_path / "tables" / "bias.csv").set_index("record")
    for r in records:
        if r.status == "ok" and r.result is not None:
            assert bias.loc[r.key, "‖h − dF‖/‖dF‖"] == r.result.exact.relative
            assert bias.loc[r.key, "T"] == r.cell.horizon


def test_the_first_call_is_beside_the_time_and_holds_what_compiled(records):
    made = {t.name: t.rows for t in report.tables_of(records)}
    time = made["time"].set_index("record")
    assert len(time)
    for r in records:
        if r.key in time.index:
            t = r.result.time
            assert time.loc[r.key, "first call (s)"] == (t.compile or 0) + t.warmup
            assert time.loc[r.key, "median (ms)"] == 1e3 * t.median


def test_no_title_is_wider_than_its_figure(records):
    """However long the problem's options are."""
    long = {"a_long_option": 123456, "another_long_option": "value", "a_third_one": True}
    named = [r.model_copy(update={"cell": r.cell.model_copy(update={"task_options": long})}) for r in records]
    pictures = [p for p in report.figures_of(named) if p.figure.get_suptitle()]
    assert {p.stem.partition("-")[0] for p in pictures} >= {"bias", "time", "memory"}
    for p in pictures:
        canvas = FigureCanvasAgg(p.figure)
        canvas.draw()
        box = p.figure._suptitle.get_window_extent(canvas.get_renderer())
        assert box.x0 >= 0, p.stem
        assert box.x1 <= p.figure.bbox.width, p.stem


def test_memory_stands_three_ways(records):
    (rows,) = [t.rows.set_index("record") for t in report.tables_of(records) if t.name == "memory"]
    for r in records:
        if r.key in rows.index:
            m, row = r.result.memory, rows.loc[r.key]
            assert row["plan (KiB)"] == m.plan / 1024
            assert row["resident (KiB)"] == m.resident / 1024
            assert row["resident/plan"] == m.resident / m.plan


def test_a_method_without_a_formula_is_neither_equal_nor_unequal(records):
    def without(r):
        return r.model_copy(update={"result": r.result.model_copy(update={"cost": None})})

    guests = [without(r) if r.result is not None and r.cell.method == "fmd" else r for r in records]
    counts = {t.name: t.rows for t in report.tables_of(guests)}["counts"]
    assert set(counts[counts.method == "fmd"].equal) == {None}
    assert all(equal is True for equal in counts[counts.method != "fmd"].equal)


def test_the_same_records_give_the_same_bytes(records, tmp_path):
    files = [
        {p.relative_to(folder): p.read_bytes() for p in report.write(records, folder, "T", frozenset())}
        for folder in (tmp_path / "a" / "x", tmp_path / "b" / "x")
        if folder.mkdir(parents=True) is None
    ]
    assert files[0] == files[1]
    assert {p.suffix for p in files[0]} == {".png", ".svg", ".csv", ".md", ".html"}


def test_the_page_loads_nothing(records, tmp_path):
    report.write(records, tmp_path, "T <b>&", frozenset())
    html = (tmp_path / "report.html").read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", html)
    assert "T &lt;b&gt;&amp;" in html
    for r in records:
        assert r.key in html
    assert html.count("<figure") == len(list((tmp_path / "figures").glob("*.png")))


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*/tables/*.csv")), ids=lambda f: f"{f.parts[-3]}-{f.stem}")
def test_every_committed_row_names_its_records(file):
    """By their names or by digits that `records/*DIGITS.json` finds, one file each."""
    rows = pd.read_csv(file, dtype=str).fillna("")
    if file.stem.partition("-")[0] == "seconds":  # of all records
        return
    assert rows.columns[-1] == "record"
    names = [p.stem for p in (file.parent.parent / "records").glob("*.json")]
    by_digits = Counter(name[-DIGITS:] for name in names)
    for row in rows.to_dict("records"):
        words = row["record"].replace(";", " ").split()
        assert words or {"not measured yet", "no float64 records", "no float64 record of torch"} & set(row.values())
        for word in words:
            assert word in names or by_digits[word] == 1, word


def test_seconds_add_up(records):
    (rows,) = [t.rows for t in report.tables_of(records) if t.name == "seconds"]
    assert rows.share.sum() == pytest.approx(1)
    assert rows.seconds.sum() == pytest.approx(sum(r.seconds + r.overhead.get("between", 0) for r in records), rel=0.02)
    assert {"timing", "call"} <= set(rows[rows.what == "measured"].part)


def test_a_cell_that_failed_is_not_the_harness_s_time(records):
    good = [r for r in records if r.cell.device == "cpu"]
    late = good[0].model_copy(update={"status": "timeout", "seconds": 1800.0, "overhead": {"between": 1.0}})
    alone, beside = account(good), account([*good, late])
    assert beside.harness == alone.harness
    assert beside.warm_cell == alone.warm_cell
    assert (beside.measured, beside.share) == (alone.measured, alone.share)
    assert (alone.failed, beside.failed) == (0.0, 1801.0)
    assert account([late]).warm_cell is None


def test_times_of_two_machines_are_in_two_tables(records):
    there = [r.model_copy(update={"environment": {**r.environment, "fingerprint": "elsewhere"}}) for r in records]
    made = {t.name: t.rows for t in report.tables_of([*records, *there])}
    assert len(made) == len(report.tables_of([*records, *there]))  # none takes another's name
    for name in ("time", "memory"):
        assert name not in made
        parts = [rows for other, rows in made.items() if re.fullmatch(rf"{name}-[0-9a-z]+", other)]
        assert [rows.machine.nunique() for rows in parts] == [1, 1]
    assert sum(name.startswith("summary-quadratic-") for name in made) == 2
    assert all(rows.machine.nunique() < 2 for rows in made.values() if "machine" in rows)
    for name, rows in made.items():
        timed = [c for c in rows.columns if re.search(r"\((?:ms|s)\)|s/iteration|seconds|median_s", c)]
        assert not timed or "machine" in rows or name.startswith("summary-"), (name, timed)


def test_another_lane_does_not_inherit_a_certificate(records):
    compiled = [
        r.model_copy(update={"cell": cell, "key": cell.key})
        for r in records
        if r.cell.backend == "torch" and r.cell.device == "cpu"
        for cell in [r.cell.model_copy(update={"backend": "torch:compiled"})]
    ]
    rows = frame([*(r for r in records if r.cell.device == "cpu"), *compiled])
    rows = rows[rows.method != "native-rmd"]
    assert rows[rows.framework != "torch:compiled"].certified.all()
    assert set(rows[rows.framework == "torch:compiled"].uncertified_because) == {"certificates are of torch and jax"}


def _on_a_gpu(r):
    cell = r.cell.model_copy(update={"device": "cuda"})
    return r.model_copy(
        update={"cell": cell, "key": cell.key, "environment": {**r.environment, "fingerprint": "there gpu"}}
    )


def test_a_machine_s_name_is_one_word_of_a_file_s(records):
    there = [_on_a_gpu(r) for r in records]
    names = [t.name for t in report.tables_of([*records, *there])]
    assert any(name.startswith("time-there-gpu") for name in names)
    assert not any(" " in name for name in names)


def test_on_a_gpu_the_resident_set_is_no_memory_of_a_call(records):
    there = [_on_a_gpu(r) for r in records if r.cell.device == "cpu"]
    (rows,) = [t.rows for t in report.tables_of(there) if t.name == "memory"]
    assert rows["resident (KiB)"].isna().all()
    assert rows["plan (KiB)"].notna().all()


def test_a_device_has_certificates_of_its_own(records):
    """What one device certifies says nothing of another."""
    here = [r for r in records if r.cell.device == "cpu"]
    there = [_on_a_gpu(r) for r in here if r.cell.dtype == "float32" or r.cell.backend == "jax"]
    rows = frame([*here, *there])
    rows = rows[rows.method != "native-rmd"]
    assert rows[rows.device == "cpu"].certified.all()
    assert set(rows[rows.device == "cuda"].uncertified_because) == {"no float64 record of torch"}
    (table,) = [t.rows for t in report.tables_of([*here, *there]) if t.name == "certificates"]
    assert set(table.device) == {"cpu", "cuda"}


@pytest.mark.parametrize(("per_K", "mark"), [(1.0, ""), (1.09, ""), (1.11, "plan and law differ")])
def test_a_law_that_the_plan_does_not_follow_is_marked(records, per_K, mark):
    """In `memory` by their ratio, in `memory-slopes` by their slopes, which a step's workspace does not move."""
    one = frame([r for r in records if r.cell.backend == "jax" and r.cell.method == "krmd"]).iloc[:1]
    rows = pd.concat([one.assign(K=float(K), law_bytes=8.0 * K, M=1) for K in (1000, 2000, 4000)], ignore_index=True)
    rows = rows.assign(dtype="float64", plan_bytes=per_K * rows.law_bytes)
    cells, slopes = memory.tables(rows)
    assert set(cells.rows.marks) == set(slopes.rows.marks) == {mark}
    cells, slopes = memory.tables(rows.assign(plan_bytes=rows.plan_bytes + 1e6))
    assert set(cells.rows.marks) == {"plan and law differ"}
    assert set(slopes.rows.marks) == {mark}
    assert set(memory.tables(rows.assign(stale=True))[1].rows.marks) == {", ".join(filter(None, [mark, "stale"]))}


def test_a_slope_through_whole_numbers_is_exact():
    flat = memory.fitted([1, 5, 25, 100], [7_340_033] * 4)
    assert flat == (0, 7_340_033, 0)
    straight = memory.fitted([1, 5, 25, 100], [3 * K + 11 for K in (1, 5, 25, 100)])
    assert straight == (3, 11, 0)
    bent = memory.fitted([0, 1, 2], [0, 0, 3])
    assert bent == (Fraction(3, 2), Fraction(-1, 2), 1)


def test_equal_budgets_are_drawn(records, tmp_path):
    report.write(records, tmp_path, "T", frozenset())
    assert len(list((tmp_path / "figures").glob("budget-quadratic-*.png"))) == 1


def test_stale_and_uncertified_rows_are_marked(records):
    key = records[0].key
    rows = frame(records, frozenset([key])).set_index("record")
    assert rows.stale[key]
    assert rows.stale.sum() == 1
    alone = frame([r for r in records if r.cell.backend == "jax"])
    assert not alone.certified.any()
    assert set(alone.uncertified_because) >= {"no float64 record of torch"}


@pytest.mark.parametrize(("spread", "mark"), [(0.2, ""), (0.21, "jax: IQR 21 % of the median")])
def test_a_time_whose_calls_lie_apart_is_marked(records, spread, mark):
    (timed,) = [r for r in records if r.result and r.result.time and r.cell.method == "rmd" and r.cell.backend == "jax"]
    time = timed.result.time.model_copy(update={"iqr_ratio": spread, "flags": []})
    apart = timed.model_copy(update={"result": timed.result.model_copy(update={"time": time})})
    certified = [r for r in records if r.cell.method == "rmd" and r.cell.dtype == "float64"]
    made = {t.name: t.rows for t in report.tables_of([apart, *certified])}
    assert list(made["time"].marks) == [mark]
    assert set(made["summary-quadratic-init-cpu"].marks) == {mark}
    assert set(made["bias"].marks) == {""}  # which is of no clock


def test_a_certificate_compares_the_frameworks(records):
    found = certificates(records)
    assert len(found) == len(METHODS)
    assert all(d is not None and d <= 1e-10 for d, _ in found.values())
    torch = next(r for r in records if r.cell.backend == "torch" and r.cell.dtype == "float64" and r.result)
    values = np.array(torch.result.sketch.values) * (1 + 1e-9)
    sketch = torch.result.sketch.model_copy(update={"values": values.tolist()})
    wrong = torch.model_copy(update={"result": torch.result.model_copy(update={"sketch": sketch})})
    rows = frame([wrong if r is torch else r for r in records if r.cell.device == "cpu"])
    assert sorted(rows[~rows.certified].uncertified_because.unique()) == ["the frameworks differ"]


def test_an_estimator_without_K_is_a_level_line():
    rows = pd.DataFrame(
        {
            "series": ["krmd", "krmd", "mine", "maybe", "maybe"],  # the last takes K or not
            "K": [1.0, 25.0, np.nan, 5.0, np.nan],
            "T": 100,
            "exact_bias": [0.9, 0.1, 0.5, 0.3, 0.4],
        }
    )
    placed = figures._level(rows)
    assert sorted(placed[placed.series == "mine"].K) == [1.0, 100.0]
    assert sorted(placed[placed.series == "krmd"].K) == [1.0, 25.0]
    assert list(placed[placed.series == "maybe"].K.dropna()) == [5.0]


def test_nothing_is_drawn_twice_over(tmp_path, records):
    """A second report of fewer records leaves no file of the first behind."""
    report.write(records, tmp_path, "T", frozenset())
    report.write(records[:1], tmp_path, "T", frozenset())
    assert not list(Path(tmp_path / "figures").glob("*.png"))
    assert not (tmp_path / "tables" / "toy.csv").exists()


def test_the_work_of_a_method_is_what_it_calls():
    step = {"call": 95, "linearise": 5, "pull": 5}
    assert work({"step": step, "inner": {"linearise": 1, "pull": 25}, "outer": {"linearise": 1}}) == 131
    assert work({"step": step, "embed": {"pull": 1}}) == 105
    assert np.isnan(work(None))


def test_scaling_says_which_of_its_points_are_marked():
    part = pd.DataFrame({"flags": ["", "foreign load", ""], "stale": [False, False, True]})
    assert scaling._marks(part) == "1 of 3 times are marked, stale"
    assert scaling._marks(part.iloc[:1]) == ""
