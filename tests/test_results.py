"""What is committed: README, tables, records and golden vectors say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import golden, report
from bench.cell import Cell
from bench.claims import judge, page
from bench.report import table, targets
from bench.report.frame import certificates
from bench.report.readme import fill
from bench.runner import Runner
from bench.store import Store
from tasks import TASKS
from tests.grid import relative

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
STORES = sorted(p.parent for p in RESULTS.glob("*/records"))
README = (ROOT / "README.md").read_text()


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("store", STORES, ids=lambda p: p.name)
def test_committed_tables_are_those_of_the_records(store, tmp_path):
    """As CSV and as Markdown: README shows the latter."""
    records, complaints = Store(store).load()
    assert complaints == []
    made = {path.name: path for path in table.write(report.tables_of(records), tmp_path)}
    committed = {path.name: path for path in (store / "tables").iterdir()}
    assert made.keys() == committed.keys()
    for name, path in made.items():
        # Whether a record is stale depends on today's code, not on the record.
        assert _without_marks(path.read_text()) == _without_marks(committed[name].read_text()), name


@pytest.mark.parametrize("suffix", ["csv", "md"])
def test_marks_of_stale_records_are_not_compared_and_other_marks_are(suffix, tmp_path):
    def written(*marks: str) -> str:
        rows = pd.DataFrame({"marks": marks, "stale": [False] * len(marks), "record": "a stale-mate"})
        table.write([table.Table("t", "A caption.", rows)], tmp_path)
        return _without_marks((tmp_path / f"t.{suffix}").read_text())

    assert written("", "noisy", "one value; noisy") == written("stale", "noisy, stale", "one value; noisy; stale")
    assert written("noisy") != written("stale")
    assert written("noisy") != written("")


def test_committed_claims_are_those_of_the_records():
    folder = RESULTS / "theory"
    records = {r.key: r for store in (RESULTS / "paper", folder) for r in Store(store).load()[0]}
    judged = judge([records[key] for key in sorted(records)])
    assert page.markdown(judged) == (folder / "claims.md").read_text()
    # Another version of a library adds up in another order.
    made, committed = ([page.as_json(j) for j in judged], json.loads((folder / "claims.json").read_text()))
    assert made == _approximately(committed)


def _approximately(tree):
    """Equal to the tree but for the last digits of its numbers."""
    if isinstance(tree, dict):
        return {key: _approximately(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_approximately(value) for value in tree]
    return pytest.approx(tree, rel=1e-9, abs=0) if isinstance(tree, float) else tree


def test_committed_targets_are_those_of_the_records():
    stores = {store.name: Store(store).load()[0] for store in STORES}
    made = targets.table(stores, targets.read_peers(RESULTS))
    text = f"{made.caption}\n\n{table.markdown(made.rows)}\n"
    assert _without_marks(text) == _without_marks((RESULTS / "targets.md").read_text())
    assert set(targets.table({}).rows.reached) == {"not measured", "yes"}  # the suite's own gates


def test_a_target_that_is_missed_is_said_to_be():
    slower = [r for r in Store(RESULTS / "speed").load()[0] if r.calibration is not None]
    for r in slower:
        for name in r.calibration.seconds:
            if not name.startswith(("native", "floor")):
                r.calibration.seconds[name] = [2 * s for s in r.calibration.seconds[name]]
    rows = targets.table({"speed": slower}).rows.set_index("what")
    assert set(rows[rows.source == "speed"].reached) == {"no"}


def _without_marks(text: str) -> str:
    text = re.sub(r"(?<=\| )stale(?= \|)", "–", text)  # what Markdown shows where there is no mark
    text = re.sub(r"(;|,)? ?\bstale\b", "", text)
    return re.sub(r'"([^",\n]*)"', r"\1", text)  # CSV puts "one value, stale" in quotes, and without its comma does not


def test_readme_shows_the_committed_tables():
    assert README.count("<!-- table: ") >= 2
    assert fill(README, ROOT) == README, "run `python -m bench readme README.md`"
    own = (RESULTS / "README.md").read_text()
    assert own.count("<!-- table: ") == 1
    assert fill(own, RESULTS) == own, "run `python -m bench readme results/README.md`"


def test_readme_s_pictures_and_links_exist():
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", prose):
        assert (ROOT / target).exists(), target


def test_readme_s_method_runs(tmp_path):
    """The example is what a stranger copies first."""
    code = next(b for b in _blocks(README, "python") if "class JacobianFree" in b)
    file = tmp_path / "jacobian_free.py"
    file.write_text(code)
    assert len(code.splitlines()) <= 45
    runner, options = Runner(), {"dataset": "digits", "train": 40, "validation": 40, "test": 40}
    records = []
    for backend in ("jax", "torch"):
        for method, method_options in ((f"{file}:JacobianFree", {}), ("neumann", {"truncation": 1})):
            cell = Cell(
                task="hypercleaning",
                task_options=options,
                method=method,
                method_options=method_options,
                backend=backend,
                dtype="float64",
                horizon=10,
                timed=False,
            )
            records.append(runner.compute(cell))
    assert [r.status for r in records] == ["ok"] * 4
    assert all(r.result.counts == r.result.cost for r in records)
    assert all(d <= 1e-10 for d, _ in certificates(records).values())
    # With A replaced by I it is Neumann's series of one term.
    assert np.allclose(records[0].result.sketch.values, records[1].result.sketch.values, rtol=1e-12)


def test_readme_s_first_use_runs():
    code = next(b for b in _blocks(README, "python") if "hypergradient = bk.compile" in b)
    names: dict = {}
    exec(code, names)
    assert names["grad"].shape == (200,)


@pytest.mark.parametrize("framework", ["torch", "jax"])
@pytest.mark.parametrize("problem", golden.PROBLEMS)
def test_golden_vectors(problem, framework):
    stored = dict(np.load(RESULTS / "golden" / f"{problem}.npz"))
    made = golden.vectors(problem, framework)
    assert stored.keys() == made.keys()
    for name, value in stored.items():
        if not np.array_equal(value, made[name]):
            assert relative(made[name].ravel(), value.ravel()) <= 1e-12, name


@pytest.mark.parametrize("problem", golden.PROBLEMS)
def test_golden_vectors_are_whole(problem):
    """λ, data, xs, and h of every method, at K = T where K counts steps of Φ."""
    stored = dict(np.load(RESULTS / "golden" / f"{problem}.npz"))
    options, point, T = golden.PROBLEMS[problem]
    task = TASKS[problem](**options)
    data, xs = task.context(0, 0, T)
    lam = task.hparams(0, point)
    parts = [lam[name] for name in sorted(lam)] if isinstance(lam, dict) else [lam]
    np.testing.assert_array_equal(stored["lam"], np.concatenate([np.ravel(part) for part in parts]))
    np.testing.assert_array_equal(stored["xs"], xs)
    assert len(xs) == T == stored["T"]
    assert {key for key in stored if key.startswith("data_")} == {f"data_{key}" for key in data}
    for key, value in data.items():
        np.testing.assert_array_equal(stored[f"data_{key}"], value)
    assert {"h_rmd", "h_fmd", f"h_krmd_K{T}", "h_cg_K5"} <= stored.keys()
    assert (f"h_neumann_K{T}" in stored) is not task.stochastic
    # w_0 does not depend on λ.
    assert relative(stored[f"h_krmd_K{T}"], stored["h_rmd"]) <= 1e-12


def test_golden_page_s_check_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    exec(_blocks((RESULTS / "golden" / "README.md").read_text(), "python")[0], {})


def _truncated(v, K: int, last: list[int]) -> np.ndarray:
    """K-RMD on minibatch_ridge.npz with Φ's Jacobians written from the page, pulled back through the steps `last`."""
    X, y, group, rate = (v[f"data_{name}"] for name in ("X", "y", "group", "rate"))
    theta, points = np.exp(v["lam"])[group], [v["data_start"]]
    for x in v["xs"]:
        w, b = points[-1], len(x)
        points.append(w - rate * (X[x].T @ (X[x] @ w - y[x]) / b + theta * w))
    assert relative(points[-1], v["w_T"]) < 1e-13
    alpha = v["data_X_val"].T @ (v["data_X_val"] @ points[-1] - v["data_y_val"]) / len(v["data_y_val"])
    h = np.zeros(len(theta))
    for t in last[:K]:
        x = v["xs"][t]
        h += -rate * points[t] * alpha
        alpha = (np.eye(len(theta)) - rate * (X[x].T @ X[x] / len(x) + np.diag(theta))).T @ alpha
    return np.bincount(group, weights=h * theta)


def test_golden_minibatches_are_those_of_the_last_steps():
    v = dict(np.load(RESULTS / "golden" / "minibatch_ridge.npz"))
    T = int(v["T"])
    backwards = list(range(T))[::-1]
    for K in (1, 5, 10, T):
        assert relative(_truncated(v, K, backwards), v[f"h_krmd_K{K}"]) < 1e-12
    assert relative(_truncated(v, T, backwards), v["h_rmd"]) < 1e-12
    # What the file is for: the first steps, the last in the order of time, or one too early, are seen.
    for wrong in (list(range(T)), list(range(T - 5, T)), backwards[1:]):
        assert relative(_truncated(v, 5, wrong), v["h_krmd_K5"]) > 0.01


def test_golden_hypercleaning_is_the_page_s_formula():
    """Central differences of F written from the page alone, in NumPy."""
    v = dict(np.load(RESULTS / "golden" / "hypercleaning.npz"))
    n = len(v["data_X"])

    def loss(w, X, Y):
        z = X @ w.T
        return np.log(np.exp(z).sum(1)) - (Y * z).sum(1)

    def F(lam):
        theta, w = 1 / (1 + np.exp(-lam)), v["data_zero"]
        for _ in range(int(v["T"])):
            z = v["data_X"] @ w.T
            p = np.exp(z) / np.exp(z).sum(1)[:, None]
            w = w - ((theta[:, None] * (p - v["data_Y"])).T @ v["data_X"] / n + 0.002 * w)
        return loss(w, v["data_X_val"], v["data_Y_val"]).mean()

    assert F(v["lam"]) == pytest.approx(float(v["value"]), rel=1e-12)
    slope = [(F(v["lam"] + e) - F(v["lam"] - e)) / 2e-4 for e in 1e-4 * np.eye(n)]
    assert relative(np.array(slope), v["h_rmd"]) < 1e-6


def test_golden_task_interaction_is_the_page_s_formula():
    """Likewise; here λ comes in through a matrix, and every entry of it in two places."""
    v = dict(np.load(RESULTS / "golden" / "task_interaction.npz"))
    X, Y, n = v["data_X"], v["data_Y"], len(v["data_X"])

    def F(lam):
        C = np.zeros((10, 10))
        C[np.triu_indices(10, 1)] = lam[:-1]
        C = C + C.T
        R, w = 2 * (np.diag(C.sum(1)) - C) + lam[-1] * np.eye(10), v["data_zero"]
        for _ in range(int(v["T"])):
            p = np.exp(X @ w.T)
            w = w - 0.1 * ((p / p.sum(1)[:, None] - Y).T @ X / n + 2 * R @ w)
        z = v["data_X_val"] @ w.T
        return (np.log(np.exp(z).sum(1)) - (v["data_Y_val"] * z).sum(1)).mean()

    assert F(v["lam"]) == pytest.approx(float(v["value"]), rel=1e-12)
    slope = [(F(v["lam"] + e) - F(v["lam"] - e)) / 2e-5 for e in 1e-5 * np.eye(len(v["lam"]))]
    assert relative(np.array(slope), v["h_rmd"]) < 1e-6
