"""The report on training: what is chosen, what is on the front, what stands in a row; reports of half a store."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from bench import report
from bench.record import Bias, Time
from bench.report import curves, interaction, pareto, reference, runs, training
from bench.report.runs import Line
from bench.report.table import Table
from tasks import TASKS
from tests import trained


def swept(K, rate, loss, status="ok", optimiser="adam", seed=0):
    settings = {**trained.SETTINGS, "rate": rate, "optimiser": optimiser}
    return trained.run("jax", "hypercleaning", K, seed, task_options=trained.CLEANING, settings=settings, loss=loss,
                       status=status)  # fmt: skip


@pytest.fixture(scope="module")
def records():
    made = []
    for b in ("jax", "torch"):
        made += [*trained.cleaning(b), *trained.interaction(b), *trained.fewshot(b, 2)]
        made += [trained.planned(b, "hypercleaning", K, 31400 * K, task_options=trained.CLEANING) for K in (1, 5, 100)]
    for s in range(5):
        for part, accuracy in (("all", 0.80), ("clean", 0.87), ("validation", 0.90), ("both", 0.91)):
            made.append(trained.baseline(part, s, accuracy + trained.jitter(s)))
    made += [swept(5, 0.03, 0.42), swept(5, 0.3, 0.43), swept(5, 1.0, 0.4, status="diverged")]
    return made


def tables(records) -> dict[str, Table]:
    return {t.name: t for t in report.tables_of(records)}


def test_a_row_is_the_mean_at_the_selected_iteration(records):
    rows = tables(records)["training"].rows
    (row,) = rows[(rows.problem.str.startswith("hyper")) & (rows.K == 1) & (rows.framework == "torch")].to_dict(
        "records"
    )
    assert (row["seeds"], row["selected"]) == (5, 200)
    assert re.fullmatch(r"86\.00 \[85\.\d\d, 86\.\d\d\]", row["held accuracy (%)"])
    assert row["validation loss"].startswith("0.4500 [")
    assert row["bias at the start"].startswith("0.891")
    assert row["bias at the end"].startswith("1.069")  # the last one, not the selected
    assert row["s/iteration"] == pytest.approx(0.1012)
    assert row["record"].count(";") == 4
    few = rows[rows.problem.str.startswith("fewshot")]
    assert few["held accuracy (%)"].str.endswith("(n = 2)").all()
    assert (few["± over episodes (points)"] == "0.40 (n = 2)").all()  # 1.96 · 5/√600


def test_every_run_is_in_a_table_and_every_failure_has_its_reason(records):
    cells = tables(records)["training-cells"].rows.set_index("record")
    mine = [r for r in records if r.cell.kind in ("training", "baseline")]
    assert set(cells.index) == {r.key for r in mine}
    (bad,) = cells[cells.status != "ok"].itertuples()
    assert "‖λ‖" in bad.reason
    stale = training.tables(records, frozenset([mine[0].key]))
    assert next(t for t in stale if t.name == "training-cells").rows.stale.sum() == 1
    assert (next(t for t in stale if t.name == "training").rows.marks == "stale").sum() == 1


def rates(records):
    return tables(records)["upper-rate"].rows.set_index("rate")


def test_the_upper_rate_is_chosen_by_validation_loss():
    rows = rates([swept(5, 0.03, 0.42), swept(5, 0.1, 0.40), swept(5, 0.3, 0.43)])
    assert rows.chosen.to_dict() == {0.03: "", 0.1: "yes", 0.3: ""}
    assert rows.loc[0.1, "inside the grid"] == "yes"
    rows = rates([swept(5, 0.03, 0.42), swept(5, 0.1, 0.40), swept(5, 0.3, 0.39)])
    assert rows.loc[0.3, "inside the grid"] == "no, at its end"
    rows = rates(
        [swept(5, 0.03, 0.42), swept(5, 0.1, 0.40), swept(5, 0.3, 0.39), swept(5, 1.0, 0.1, status="diverged")]
    )
    assert (rows.loc[0.3, "inside the grid"], rows.loc[1.0, "marks"]) == ("yes", "diverged")
    other = [swept(5, 0.03, 0.42), swept(5, 0.1, 0.40), swept(5, 0.3, 0.41, optimiser="momentum")]
    assert rates(other).loc[0.1, "inside the grid"] == "too few rates"


def test_a_choice_is_over_the_seeds_that_all_pairs_have():
    """Seed 1 of the better pair is worse, and no other pair has it."""
    rows = rates([swept(5, 0.1, 0.40), swept(5, 0.1, 0.90, seed=1), swept(5, 0.03, 0.42)])
    assert (rows.loc[0.1, "chosen"], rows.loc[0.1, "seeds"]) == ("yes", 1)


def test_a_family_takes_the_settings_of_most_runs_then_of_least_loss():
    few = [swept(K, 0.3, 0.1) for K in (1, 5)]
    many = [swept(K, rate, loss) for K in (1, 5, 100) for rate, loss in ((0.1, 0.4), (1.0, 0.5))]
    (family,) = runs.families([*few, *many])
    assert {r.cell.settings["rate"] for r in family.records} == {0.1}
    assert family.exact == Line("krmd", 100, 100, False)


def test_a_line_is_read_where_it_has_most_runs():
    """A baseline tried at the family's settings on two splits, and run on five at its own."""
    own = {**trained.SETTINGS, "rate": 0.5}
    none = {"task_options": {**trained.INTERACTION, "interaction": False}}
    tried = [trained.run("jax", "task_interaction", 100, s, **none) for s in range(2)]
    many = [trained.run("jax", "task_interaction", 100, s, settings=own, **none) for s in range(5)]
    learned = [r for r in trained.interaction("jax") if r.cell.task_options.get("interaction", True)]
    (family,) = runs.families([*learned, *tried, *many])
    (baseline,) = [of for line, of in family.lines.items() if line.baseline]
    assert sorted(r.key for r in baseline) == sorted(r.key for r in many)
    (family,) = runs.families([*learned, *tried, *many[:2]])  # as many at both: the family's
    (baseline,) = [of for line, of in family.lines.items() if line.baseline]
    assert sorted(r.key for r in baseline) == sorted(r.key for r in tried)


def test_baselines_stand_in_the_order_of_accuracy_whichever_way_it_falls(records):
    rows = tables(records)["baselines"].rows
    values = [float(x.partition(" ")[0]) for x in rows["held accuracy (%)"]]
    assert values == sorted(values, reverse=True)
    assert rows.what[0] == "baseline: both"
    assert rows.what.iloc[-1] == "baseline: all"
    assert rows.set_index("what").loc["baseline: clean", "over no cleaning (points)"].startswith("+7.00 [")
    assert {"krmd, K = 1", "krmd, K = 100"} <= set(rows.what)


def twins(by=0.0, at=5, n=20, **fields):
    steps = [1.0 / (1 + i) for i in range(n)]
    other = [x * (1 + by) if i == at else x for i, x in enumerate(steps)]
    plain = {"dtype": "float64", "task_options": trained.CLEANING, **fields}
    return [trained.run("jax", "hypercleaning", 5, steps=steps, **plain),
            trained.run("torch", "hypercleaning", 5, steps=other, **plain)]  # fmt: skip


def test_trajectories_of_both_frameworks():
    def row(records):
        return tables(records)["trajectories"].rows.to_dict("records")[0]

    good = row(twins(5e-9))
    assert (good["ok"], good["iterations compared"]) == (True, 20)
    assert good["difference of F"] == pytest.approx(5e-9, rel=1e-3)
    assert not row(twins(5e-8))["ok"]
    assert row(twins(5e-8, at=25, n=40))["ok"]  # after the twentieth
    assert not row(twins(np.nan))["ok"]
    assert row(twins(n=7))["iterations compared"] == 7
    assert "trajectories" not in tables(twins()[:1])
    assert "trajectories" not in tables([trained.run(b, "hypercleaning", 5) for b in ("jax", "torch")])


def test_the_page_says_what_was_trained(records, tmp_path):
    report.write([*records, *twins(5e-8)], tmp_path, "T", frozenset([records[0].key]))
    html = (tmp_path / "report.html").read_text()
    assert "114 runs on real tasks, 20 baselines" in html
    assert "1 of them are stale" in html
    assert "hypercleaning (train=1000, validation=1000): 0 of 1" in html


def test_the_pareto_front():
    line = [Line("krmd", K, 100, False) for K in (1, 5, 25, 50)]
    costs = dict(zip(line, (1.0, 2.0, 3.0, 3.0)))
    assert pareto.front(costs, dict(zip(line, (1.0, 3.0, 2.0, 4.0)))) == [line[0], line[1], line[3]]
    assert pareto.front(costs, dict(zip(line, (5.0, 3.0, 2.0, 4.0)))) == [line[0]]
    assert pareto.front(costs, dict(zip(line, (np.nan, 3.0, 3.0, 3.0)))) == [line[1]]
    assert pareto.front({**costs, line[0]: np.nan}, dict(zip(line, (9.0, 1.0, 1.0, 1.0)))) == [line[1]]


def test_memory_is_a_plan_or_the_law_and_says_which(records):
    cleaning, task, few = runs.families(records)
    lines = {p.line.K: p.memory for p in pareto.points(cleaning, records) if p.framework == "jax"}
    assert lines[5] == 5 * 31400
    assert np.isnan(lines[25])  # no record of it: nothing is made up beside a plan
    assert all(np.isnan(p.memory) for f in (task, few) for p in pareto.points(f, records))
    (picture,) = pareto.figures(records)
    assert "planned memory" in picture.caption
    alone = trained.cleaning("jax")
    (family,) = runs.families(alone)
    assert {p.line.K: p.memory for p in pareto.points(family, alone)}[25] == 25 * 7850 * 4
    assert "memory by the law" in pareto.figures(alone)[0].caption


def test_the_first_figure_answers_which_K(records, tmp_path):
    pictures = report.figures_of(records)
    stems = [p.stem for p in pictures]
    assert stems[0] == "which-K"
    assert len([s for s in stems if s.startswith("training-")]) == 6
    assert [s for s in stems if s.startswith("interaction-")]
    for picture in pictures:
        for ax in picture.figure.axes:
            if ax.axison and ax.has_data() and ax.get_label() != "<colorbar>":
                assert ax.get_xlabel(), picture.stem
                if "interaction-" not in picture.stem:  # maps in a row share their axis
                    assert ax.get_ylabel(), picture.stem
    report.write(records, tmp_path, "T", frozenset())
    html = (tmp_path / "report.html").read_text()
    assert html.index('id="which-K"') < html.index('id="training-')
    for r in records:
        assert r.key in html


def test_the_same_records_give_the_same_bytes(records, tmp_path):
    files = [
        {p.relative_to(folder): p.read_bytes() for p in report.write(records[::3], folder, "T", frozenset())}
        for folder in (tmp_path / "a" / "x", tmp_path / "b" / "x")
        if folder.mkdir(parents=True) is None
    ]
    assert files[0] == files[1]


@pytest.mark.parametrize("part", [slice(0, 1), slice(0, 7), slice(30, 45), slice(-3, None), slice(-1, None)])
def test_half_a_store_has_a_report(records, part, tmp_path):
    files = report.write(records[part], tmp_path, "T", frozenset())
    assert tmp_path / "tables" / "training-cells.md" in files
    cells = pd.read_csv(tmp_path / "tables" / "training-cells.csv")
    assert len(cells) == len([r for r in records[part] if r.cell.kind != "hypergradient"])


def test_a_run_without_figures_is_left_out_of_them():
    """No time, no bias, no accuracy: a panel less, not an error."""
    r = trained.run("jax", "hypercleaning", 5)
    bare = r.training.model_copy(update={"seconds": None, "bias": [[None] * 4], "held": {"accuracy": [None] * 4}})
    r = r.model_copy(update={"training": bare})
    assert pareto.figures([r]) == []
    (picture,) = curves.figures([r])
    titles = {ax.get_title() for ax in picture.figure.axes}
    assert "exact hypergradient" in titles
    assert not [t for t in titles if "time" in t or "bias" in t or "accuracy" in t]


def test_runs_for_certificates_are_not_drawn_beside_the_others(records):
    small = [trained.run("jax", "fewshot", 5, dtype="float64", horizon=10, task_options={"filters": 4})]
    caption = pareto.figures([*records, *small])[0].caption
    assert caption == pareto.figures(records)[0].caption
    assert len(curves.figures([*records, *small])) == 6
    assert len(curves.figures(small)) == 1


def test_the_matrix_of_interactions():
    C = interaction.matrix([1.0, 2.0, 3.0, 9.0])
    assert C.tolist() == [[0, 1, 2], [1, 0, 3], [2, 3, 0]]
    assert interaction.matrix([1.0, 2.0, 9.0]) is None
    assert interaction.matrix([]) is None
    full = np.arange(100.0).reshape(10, 10)
    shown, ends, names = interaction.ordered(full, "cifar10")
    assert names[:4] == ["airplane", "automobile", "ship", "truck"]
    assert ends.tolist() == [4]
    assert shown[0, :4].tolist() == [0, 1, 8, 9]
    assert interaction.ordered(full[:3, :3], "cifar10")[1].tolist() == []


def test_a_learned_interaction_is_held_against_none_by_split():
    made = trained.interaction("jax", 5)
    rows = interaction.table(made).rows.set_index("K")
    assert set(rows["splits"]) == {5}
    assert set(rows["learned C beats C = 0"]) == {"yes"}
    assert rows.loc[100, "gain (points)"].startswith("+3.0")
    worse = [
        r.model_copy(update={"cell": r.cell.model_copy(update={"task_options": trained.INTERACTION})})
        if r.cell.task_options.get("interaction") is False
        else r
        for r in made
        if r.cell.truncation in (1, 100)
    ]
    assert interaction.table(worse).rows.empty  # no baseline, no row
    few = [r for r in made if r.cell.seed < 2]
    assert set(interaction.table(few).rows["learned C beats C = 0"]) == {"too few splits"}


def test_the_permutation_test_sees_a_planted_group():
    animals = np.array(interaction.SUPERCLASS["cifar10"])
    upper = np.triu_indices(10, 1)
    inside = animals[upper[0]] == animals[upper[1]]
    made = []
    for s in range(3):
        none = {**trained.INTERACTION, "interaction": False}
        made.append(trained.run("jax", "task_interaction", 100, s, task_options=none))
        for K, chosen in ((100, np.where(inside, 1.0, 0.01)), (5, np.where(inside, 0.01, 1.0))):
            flat = [*chosen.tolist(), 0.1]
            made.append(trained.run("jax", "task_interaction", K, s, task_options=trained.INTERACTION, chosen=flat))
    rows = interaction.table(made).rows.set_index("K")
    assert rows.loc[100, "largest p"] < 0.02
    assert rows.loc[5, "largest p"] > 0.9
    assert rows.loc[100, "C within"] == pytest.approx(1.0)


def timed_alone():
    """K = 5 and K = 100, each called alone on the machine."""
    alone = []
    for K, median in ((5, 0.02), (100, 0.03)):
        r = trained.planned("jax", "hypercleaning", K, 1, task_options=trained.CLEANING)
        time = Time(lane="jit", compile=1.0, warmup=0.1, values=[median], median=median, iqr_ratio=0.0, flags=[])
        alone.append(r.model_copy(update={"result": r.result.model_copy(update={"time": time})}))
    return alone


def test_times_are_those_of_calls_alone_where_there_are_any():
    made = [r for r in trained.cleaning("jax", 3) if r.cell.truncation in (5, 100)]
    (family,) = runs.families(made)
    assert {line.K: round(x, 2) for (line, _), x in pareto.seconds(family, made).items()} == {5: 0.11, 100: 0.2}
    alone = timed_alone()
    assert {line.K: x for (line, _), x in pareto.seconds(family, [*made, *alone]).items()} == {5: 0.02, 100: 0.03}
    assert "alone on the machine" in "".join(ax.get_xlabel() for ax in pareto.figures([*made, *alone])[0].figure.axes)


def test_the_table_says_what_is_comparable():
    rows = pareto.table(trained.cleaning("jax", 5)).rows.set_index("estimator")
    assert rows.loc[["K = 5", "K = 25"], "comparable"].tolist() == ["yes", "yes"]
    assert rows.loc["K = 1", "comparable"] == "no"
    assert rows.loc["K = 1", "minus exact (points)"].startswith("-2.0")
    assert rows.loc["K = 100", "minus exact (points)"] == ""
    assert rows.loc["K = 5", "one h (ms)"] == pytest.approx(105.2, rel=1e-3)
    few = pareto.table(trained.cleaning("jax", 2)).rows.set_index("estimator")
    assert few.loc["K = 5", "comparable"] == ""
    assert few.loc["K = 5", "held accuracy (%)"].endswith("(n = 2)")


def test_superclasses_have_the_sizes_they_should():
    counts = np.bincount(interaction.SUPERCLASS["cifar100"])
    assert counts.tolist() == [5] * 20
    assert len(interaction.SUPERCLASS["cifar10"]) == 10


def test_theory_s_runs_are_not_in_these_tables():
    r = trained.run("jax", "hypercleaning", 5)
    theory = r.model_copy(update={"training": r.training.model_copy(update={"held": {}, "validation": {}})})
    assert training.tables([theory]) == []
    assert report.figures_of([theory]) == []
    assert reference.table([theory]).rows.ours.eq("not measured yet").all()


def test_what_the_paper_says_of_one_problem_is_not_measured_on_another():
    other = trained.planned("jax", "task_interaction", 1, 1, task_options=trained.INTERACTION)
    biased = other.result.model_copy(update={"exact": Bias(relative=0.9)})
    full = trained.planned("jax", "hypercleaning", 5, 1)
    rows = reference.table([other.model_copy(update={"result": biased}), full]).rows
    assert rows[rows.table == "hypercleaning_init"].ours.eq("not measured yet").all()


def test_only_a_seed_is_a_replication():
    made = [trained.run("jax", "hypercleaning", 5, s, task_options=trained.CLEANING) for s in range(3)]
    other = [
        trained.run("jax", "hypercleaning", 5, task_options=trained.CLEANING, **given)
        for given in ({"lam": "informed"}, {"method_options": {"truncation": 5, "stash": "residuals"}})
    ]
    rows = tables([*made, *other])["training"].rows
    assert sorted(zip(rows.seeds, rows["λ_0"], rows.options)) == [
        (1, "informed", ""),
        (1, "init", "stash=residuals"),
        (3, "init", ""),
    ]


def test_every_table_marks_what_is_stale():
    made = [*trained.cleaning("jax", 3), *trained.interaction("jax", 3), *trained.cleaning("torch", 3)]
    steps = [trained.run(b, "hypercleaning", 5, dtype="float64") for b in ("jax", "torch")]
    swept = trained.run(
        "jax", "hypercleaning", 5, task_options=trained.CLEANING, settings={**trained.SETTINGS, "rate": 1}
    )
    made += [*steps, swept, trained.baseline("all", 0, 0.8), trained.planned("jax", "hypercleaning", 5, 1)]
    stale = frozenset(r.key for r in made)
    fresh, old = ({t.name: t.rows for t in report.tables_of(made, marked)} for marked in (frozenset(), stale))
    seen = ("which-K", "paper", "training", "upper-rate", "baselines", "interaction", "trajectories")
    for name in seen:
        assert not fresh[name].get("marks", pd.Series(dtype=str)).astype(str).str.contains("stale").any(), name
        measured = old[name][old[name].records > 0] if name == "paper" else old[name]
        assert measured.marks.str.contains("stale").all(), name


def test_a_law_of_iterates_is_not_of_kept_pull_backs():
    kept = [
        trained.run("jax", "hypercleaning", K, method_options={"truncation": K, "stash": "residuals"}) for K in (5, 100)
    ]
    (family,) = runs.families(kept)
    assert pareto.memory(family, kept) == {}
    iterates = [trained.run("jax", "hypercleaning", K) for K in (5, 100)]
    (family,) = runs.families(iterates)
    assert {line.K: x for (line, _), x in pareto.memory(family, iterates).items()} == {
        5: 5 * 7850 * 4,
        100: 100 * 7850 * 4,
    }


def test_no_front_is_drawn_through_times_of_a_shared_machine():
    def joined(made):
        left = pareto.figures(made)[0].figure.axes[0]
        return [len(line.get_xdata()) for line in left.lines if line.get_markerfacecolor() == "none"]

    made = trained.cleaning("jax", 3)
    assert not any(joined(made))
    alone = timed_alone()
    assert any(joined([*made, *alone]))


def map_texts(records):
    """The caption of the map of C, and its panels' titles."""
    (picture,) = interaction.figures(records)
    return picture.caption, [ax.get_title() for ax in picture.figure.axes]


def test_a_map_says_which_draw_it_is_of():
    made = trained.interaction("jax", 4)

    caption, titles = map_texts(made)
    assert "seed 0, jax" in caption
    assert not any("seed" in t for t in titles)
    late = [r for r in made if r.cell.truncation != 1 or r.cell.seed == 3]
    caption, titles = map_texts(late)
    assert "seed 3, jax" in caption
    apart = [r for r in late if r.cell.truncation != 5 or r.cell.seed == 2]
    caption, titles = map_texts(apart)
    assert "seed" not in caption
    assert any("seed 3" in t for t in titles)
    assert any("seed 2" in t for t in titles)


def test_an_exact_line_of_another_horizon_does_not_hide_RMD():
    made = [
        trained.run("jax", "fewshot", None, horizon=50, task_options=trained.FEWSHOT),
        trained.run("jax", "fewshot", 5, horizon=50, task_options=trained.FEWSHOT),
        trained.run("jax", "fewshot", 10, horizon=10, task_options=trained.FEWSHOT),
    ]
    (picture,) = curves.figures(made)
    shown = [text.get_text() for legend in picture.figure.legends for text in legend.get_texts()]
    assert any(text.startswith("RMD") for text in shown)


def test_a_map_says_whose_rate_it_is():
    made = trained.interaction("jax", 2)

    caption, titles = map_texts(made)
    assert "adam 0.1" in caption
    assert not any("adam" in t for t in titles)
    other = [r for r in made if r.cell.truncation != 5]
    other += [
        trained.run("jax", "task_interaction", 5, s, task_options=trained.INTERACTION, chosen=[0.1] * 46,
                    settings={**trained.SETTINGS, "rate": 0.7})
        for s in range(2)
    ]  # fmt: skip
    caption, titles = map_texts(other)
    assert "adam" not in caption
    assert [t for t in titles if t.startswith("K = 5, adam 0.7:")]
    assert [t for t in titles if t.startswith("K = 1, adam 0.1:")]


def test_a_line_that_has_no_map_chooses_no_draw():
    made = trained.interaction("jax", 3)
    without = [
        trained.run("jax", "task_interaction", 2, 9, task_options=trained.INTERACTION),
        trained.run("jax", "task_interaction", None, 9, task_options=trained.INTERACTION, chosen=[0.1] * 46),
    ]
    (picture,) = interaction.figures([*made, *without])
    assert "seed 0, jax" in picture.caption
    assert "not drawn: 1." in picture.caption  # RMD is the fifth
    assert "not drawn" not in interaction.figures(made)[0].caption


def test_the_least_p_is_that_of_the_problems_shown():
    made = trained.interaction("jax", 3)
    assert "at least 0.0005; on cifar10, whose 2 groups allow 210 assignments, at least about 0.005." in (
        interaction.table(made).caption
    )
    many = [
        trained.run("jax", "task_interaction", 100, s, task_options={"dataset": "cifar100", **options},
                    chosen=[*np.linspace(0, 1, 4950).tolist(), 0.1])
        for s in range(2)
        for options in ({}, {"interaction": False})
    ]  # fmt: skip
    assert interaction.table(many).caption.endswith("so p is at least 0.0005.")
    assert interaction.table([]).caption.endswith("so p is at least 0.0005.")


def test_lines_beyond_the_eighth_are_counted():
    made = [trained.run("jax", "hypercleaning", K, task_options=trained.CLEANING) for K in (1, 2, 3, 4, 5, 6, 7, 8)]
    assert "not drawn" not in curves.figures(made)[0].caption
    made += [trained.run("jax", "hypercleaning", K, task_options=trained.CLEANING) for K in (9, 10)]
    assert "beyond these 8 and not drawn: 2." in curves.figures(made)[0].caption


def test_draws_of_unequal_difficulty_do_not_hide_where_lines_part():
    """Losses that differ by the seed alone have no spread; what a line adds of its own has."""

    def shaded(records):
        (picture,) = curves.figures(records)
        (ax,) = [ax for ax in picture.figure.axes if ax.get_title() == "validation loss"]
        heights = []
        for band in ax.collections:
            x, y = band.get_paths()[0].vertices.T
            heights.append(np.ptp(y[x == 300]))
        return heights, np.ptp(ax.get_ylim())

    def made(own):
        runs_of = []
        for s in range(3):
            for K in (1, 100):
                r = trained.run("jax", "hypercleaning", K, s, task_options=trained.CLEANING)
                losses = [2 - s, *(1 + s + own * K * (s - 1) / 100 + at for at in (0.3, 0.2, 0.1))]
                runs_of.append(r.model_copy(update={"training": r.training.model_copy(update={"value": [losses]})}))
        return runs_of

    heights, view = shaded(made(0.0))
    assert heights == pytest.approx([0, 0], abs=1e-12)
    assert view < 0.3
    heights, view = shaded(made(0.4))
    # K = 100 adds −0.4, 0, 0.4 and K = 1 a hundredth; the level has half of both.
    assert heights == pytest.approx([0.396, 0.396])
    assert view > 0.396
    alone = [r for r in made(0.4) if r.cell.truncation == 1 or r.cell.seed == 0]
    assert shaded(alone)[0] == pytest.approx([0])  # a line of one seed has no spread and asks for no seed


def test_reports_know_the_number_of_held_out_episodes():
    assert TASKS["fewshot"].test_episodes == runs.EPISODES
