"""Upper iterations: against closed forms and plain loops, after a kill, and what is refused."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from backends.hypergradient.protocol import Problem
from bench import arrays, baseline, checkpoint, training
from bench.cell import Cell
from bench.checkpoint import Checkpoint
from bench.compare import compare
from bench.report import live, table
from bench.runner import Runner
from bench.stamp import files
from bench.store import Store
from bench.underway import Underway
from tasks import TASKS
from tasks.quadratic import closed_form, outer_value
from tests.test_cli import ROOT, call, refused

EXACT = 1e-12
PAIR = 1e-10


def _cell(task: str, K: int, T: int, backend: str = "jax", **more) -> Cell:
    settings = {"iterations": 25, "rate": 0.1, **more.pop("settings", {})}
    more = {"method": "krmd", "method_options": {"truncation": K}, "dtype": "float64", "timed": False} | more
    return Cell(kind="training", settings=settings, task=task, backend=backend, horizon=T, **more)


def _train(*args, **more):
    record = Runner().compute(_cell(*args, **more))
    assert (record.status, record.reason) == ("ok", "")
    return record.training


def _plain(lam: np.ndarray, K: int, T: int, iterations: int, optimiser: str, schedule: str) -> list[np.ndarray]:
    """The toy's path by the closed form, Adam as its paper writes it."""
    path, m, v = [lam], np.zeros_like(lam), np.zeros_like(lam)
    for t in range(1, iterations + 1):
        g, eta = closed_form(path[-1], K, T), 0.1 / (t**0.5 if schedule == "sqrt" else 1)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        adam = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        path.append(path[-1] - eta * (adam if optimiser == "adam" else g))
    return path


@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("starts", [1, 3])
@pytest.mark.parametrize(("optimiser", "schedule"), [("gd", "constant"), ("adam", "sqrt")])
def test_the_toy_s_path(backend, starts, optimiser, schedule):
    settings = {"starts": starts, "optimiser": optimiser, "schedule": schedule}
    t = _train("quadratic", 5, 50, backend, seed=4, settings=settings)
    lam = np.stack([TASKS["quadratic"]().hparams(seed) for seed in range(4, 4 + starts)])
    path = np.stack(_plain(lam, 5, 50, 25, optimiser, schedule), axis=1)
    assert t.seeds == list(range(4, 4 + starts))
    assert t.iterations == [0, 10, 20, 25]
    assert np.abs(np.array(t.lam) - path[:, t.iterations]).max() < EXACT * 10
    assert np.array_equal(t.last, np.array(t.lam)[:, -1])
    at = np.array(t.lam)
    h, dF = closed_form(at, 5, 50), closed_form(at, 50, 50)
    assert np.array(t.value) == pytest.approx(outer_value(at, 50), rel=1e-10)
    assert np.array(t.norm) == pytest.approx(np.linalg.norm(h, axis=-1), rel=1e-10)
    assert np.array(t.exact_norm) == pytest.approx(np.linalg.norm(dF, axis=-1), rel=1e-10)
    inner = np.sum(h * dF, axis=-1)
    assert np.array(t.descent) == pytest.approx(inner / np.sum(dF * dF, axis=-1), rel=1e-8)
    assert np.array(t.cosine) == pytest.approx(
        inner / np.linalg.norm(h, axis=-1) / np.linalg.norm(dF, axis=-1), rel=1e-8
    )
    assert t.rates == pytest.approx([0.1 / (tau + 1) ** (0.5 if schedule == "sqrt" else 0) for tau in t.iterations])


@pytest.mark.parametrize("K", [1, 3, 20])
def test_the_scalar_floor(bk, K):
    """‖dF‖² ends at (a^K/(2 − a^K))²; with one pull-back more or less it is another number."""
    t = _train("scalar", K, 500, bk.name, settings={"iterations": 60, "rate": 0.6, "every": 20})
    floors = [(0.9**k / (2 - 0.9**k)) ** 2 for k in (K - 1, K, K + 1)]
    assert t.exact_norm[0][-1] ** 2 == pytest.approx(floors[1], rel=1e-11)
    assert all(abs(t.exact_norm[0][-1] ** 2 / floor - 1) > 0.1 for floor in (floors[0], floors[2]))
    assert t.last[0][0] == pytest.approx(1 / (2 - 0.9**K), rel=EXACT)


def test_the_frameworks_walk_one_path():
    for task, rate in (("logistic", 1.0), ("counterexample", 0.05), ("doublewell", 0.1)):
        a, b = (
            _train(task, 3, 20, name, settings={"starts": 2, "rate": rate, "every": 5}) for name in ("jax", "torch")
        )
        for name in ("value", "norm", "exact_norm", "last"):
            assert np.array(getattr(a, name)) == pytest.approx(np.array(getattr(b, name)), rel=PAIR), (task, name)


def test_starts_go_their_own_ways():
    """A start in a batch is the start alone, where the data do not depend on the seed."""
    many = _train("quadratic", 5, 30, settings={"starts": 3})
    alone = _train("quadratic", 5, 30, seed=2)
    assert np.array(many.last[2]) == pytest.approx(np.array(alone.last[0]), rel=EXACT)


def test_a_named_point_starts_there():
    t = _train("counterexample", 1, 1000, lam="worst", settings={"iterations": 1, "rate": 1e-3})
    assert t.cosine[0][0] < -0.8
    assert t.lam[0][0] == pytest.approx(TASKS["counterexample"]().hparams(0, "worst").tolist())


def test_float32_is_held_against_float64():
    """λ stays float64, and dF is."""
    t = _train("quadratic", 50, 50, dtype="float32", settings={"iterations": 3, "rate": 1e-9, "every": 1})
    lam = TASKS["quadratic"]().hparams(0)
    assert t.exact_norm[0][0] == pytest.approx(np.linalg.norm(closed_form(lam, 50, 50)), rel=EXACT)
    assert 0 < abs(t.norm[0][0] / t.exact_norm[0][0] - 1) < 1e-5
    assert t.lam[0][1] != t.lam[0][0]  # the step is below float32's resolution


def test_projection_follows_every_step(monkeypatch):
    make = TASKS["quadratic"].problem

    def problem(self, bk) -> Problem:
        return make(self, bk).replace(project=lambda lam: bk.xp.clip(lam, -1.0, 1.0))

    monkeypatch.setattr(TASKS["quadratic"], "problem", problem)
    t = _train("quadratic", 5, 30, "torch", settings={"starts": 4, "every": 1})
    assert np.abs(np.array(t.lam)[:, 0]).max() > 1
    assert np.abs(np.array(t.lam)[:, 1:]).max() <= 1


@pytest.mark.parametrize("episodic", [False, True])
def test_data_are_drawn_for_each_iteration_where_the_task_says_so(monkeypatch, episodic):
    asked, context = [], TASKS["quadratic"].context
    monkeypatch.setattr(
        TASKS["quadratic"],
        "context",
        lambda self, seed, index, horizon: asked.append(index) or context(self, seed, index, horizon),
    )
    monkeypatch.setattr(TASKS["quadratic"], "episodic", episodic, raising=False)
    _train("quadratic", 5, 10, settings={"iterations": 4})
    assert asked == ([0, 1, 2, 3, 4] if episodic else [0])


class Killed(BaseException):
    """As a signal would."""


@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("after", [1, 13, 25])
def test_a_killed_run_goes_on_bit_for_bit(monkeypatch, tmp_path, backend, after):
    cell = _cell("quadratic", 5, 20, backend, settings={"starts": 2, "optimiser": "adam", "every": 4})
    whole = Runner().compute(cell).training
    monkeypatch.setattr(checkpoint, "INTERVAL", 0.0)
    calls, step = [], training._step

    def counted(*args):
        calls.append(1)
        if len(calls) > after:
            raise Killed
        return step(*args)

    monkeypatch.setattr(training, "_step", counted)
    if after < 25:
        with pytest.raises(Killed):
            Runner(tmp_path).compute(cell)
        assert [p.name for p in tmp_path.iterdir()] == [f"{cell.key}.npz"]
        calls.clear()
        monkeypatch.setattr(training, "_step", lambda *args: calls.append(1) or step(*args))
    resumed = Runner(tmp_path).compute(cell).training
    assert len(calls) == (25 - after if after < 25 else 25)
    assert resumed == whole
    assert list(tmp_path.iterdir()) == []


def test_another_code_s_checkpoint_is_not_taken_up(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "INTERVAL", 0.0)
    kept = Checkpoint(tmp_path / "x.npz", "one")
    kept.write(lambda: {"iteration": 3})
    assert kept.read()["iteration"] == 3
    assert Checkpoint(tmp_path / "x.npz", "two").read() is None
    (tmp_path / "x.npz").write_bytes(b"PK half a file")
    assert kept.read() is None
    made_by = {path.name for path in files(_cell("quadratic", 5, 20))}
    assert {"training.py", "upper.py", "optimisers.py", "checkpoint.py", "selection.py"} <= made_by


def test_checkpoints_keep_to_the_clock(monkeypatch, tmp_path):
    now, written = [0.0], []
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoint.arrays, "write", lambda path, parts: written.append(now[0]))
    kept = Checkpoint(tmp_path / "x.npz", "one")
    for now[0] in np.arange(0.0, 35.0):
        kept.write(dict)
    assert written == [10.0, 20.0, 30.0]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_diverging_run_is_a_row(backend):
    record = Runner().compute(_cell("scalar", 50, 100, backend, settings={"rate": 50.0, "every": 1}))
    assert record.status == "diverged"
    assert "at iteration" in record.reason
    assert record.training.last is None
    assert np.isfinite(np.array(record.training.lam)).all()


def test_a_path_to_infinity_is_nonfinite():
    record = Runner().compute(_cell("scalar", 5, 10, settings={"rate": 1e200, "iterations": 9, "starts": 2}))
    assert record.status in ("diverged", "nonfinite")
    assert "inf" not in record.model_dump_json(exclude={"reason", "environment"}).lower()
    state = training._start(np.array([[1.0], [np.nan]]))._replace(iteration=2)
    found = training._left(state, np.ones(2) * 1e8)
    assert found == {"status": "nonfinite", "reason": "λ has NaN or infinite entries at iteration 2, start 1"}
    found = training._verdict(7, np.array([1.0, np.inf]), np.zeros((2, 1)))
    assert found == {"status": "nonfinite", "reason": "F has NaN or infinite entries at iteration 7, start 1"}


def test_a_figure_that_differs_is_named():
    record = Runner().compute(_cell("scalar", 1, 20))
    other = record.model_copy(deep=True)
    other.training.exact_norm[0][1] *= 1 + 1e-6
    assert compare([record], [record]).same
    assert [d.what for d in compare([record], [other], 1e-9).differences] == ["training exact_norm[0][1]"]
    assert compare([record], [other], 1e-5).same


DIGITS = {"dataset": "digits", "train": 120, "validation": 100, "test": 200}
CLEANING = {
    "horizon": 30,
    "task_options": DIGITS,
    "method_options": {"truncation": 10},
    "settings": {"iterations": 20, "rate": 0.1, "optimiser": "adam", "every": 4},
}


FAMILIES = {
    "hypercleaning": CLEANING,
    "task_interaction": {
        "horizon": 30,
        "task_options": {"dataset": "digits", "train_each": 5, "validation_each": 10, "test_each": 20},
        "method_options": {"truncation": 10},
        "settings": {"iterations": 20, "rate": 0.003, "optimiser": "adam", "every": 4},
    },
    "fewshot": {
        "horizon": 10,
        "task_options": {
            "dataset": "digits",
            "filters": 4,
            "blocks": 2,
            "episodes": 2,
            "queries": 5,
            "steps": 10,
            "validation_episodes": 10,
            "test_episodes": 10,
        },
        "method_options": {"truncation": 5},
        "settings": {"iterations": 20, "rate": 0.003, "optimiser": "adam", "every": 4},
    },
}


def _family(task: str, backend: str = "jax", **more):
    return Cell(kind="training", task=task, method="krmd", backend=backend, timed=False, **FAMILIES[task] | more)


def _trained(cell: Cell, cache=None):
    record = Runner(cache).compute(cell)
    assert (record.status, record.reason) == ("ok", "")
    return record.training


def test_a_task_s_metrics_along_the_run():
    t = _trained(_family("hypercleaning", dtype="float64"))
    task = TASKS["hypercleaning"](**DIGITS)
    assert set(t.validation) == set(t.held) == {"accuracy", "f1", "noise_rate"}
    assert t.held["noise_rate"] == [0.5] * 6
    assert t.value[0][-1] < t.value[0][0]
    assert t.selected == [t.iterations[int(np.argmin(t.value[0]))]]
    assert len(t.every_value) == len(t.every_norm) == 20
    assert [t.every_value[i] for i in t.iterations[:-1]] == t.value[0][:-1]
    assert [t.every_norm[i] for i in t.iterations[:-1]] == t.norm[0][:-1]
    # F and the validation accuracy of the chosen λ, by plain NumPy.
    data, _ = task.context(0, 0, 30)
    weight, w = 1 / (1 + np.exp(-np.array(t.chosen))), np.zeros((10, 65))
    for _ in range(30):
        z = data["X"] @ w.T
        p = np.exp(z - z.max(1, keepdims=True))
        r = (p / p.sum(1, keepdims=True) - data["Y"]) * weight[:, None] / 120
        w = w - (r.T @ data["X"] + 0.002 * w)
    z = data["X_val"] @ w.T
    loss = np.mean(np.log(np.exp(z).sum(1)) - (z * data["Y_val"]).sum(1))
    assert min(t.value[0]) == pytest.approx(loss, rel=1e-5)
    i = t.iterations.index(t.selected[0])
    hit = (z.argmax(1) == data["Y_val"].argmax(1)).mean()
    assert t.validation["accuracy"][i] == pytest.approx(hit)
    marked, wrong = np.array(t.chosen) < -3, task.evaluation(0)["corrupted"]
    assert t.held["f1"][i] == pytest.approx(2 * (marked & wrong).sum() / (marked.sum() + wrong.sum()), rel=1e-6)


def _hold_noise(monkeypatch, task: str) -> None:
    """Noise for held-out features; labels stay, and so does which training examples are corrupted."""
    evaluation = TASKS[task].evaluation

    def noise(self, seed):
        rng, held = np.random.default_rng(9), evaluation(self, seed)
        return {
            name: rng.normal(size=x.shape).astype(x.dtype) if x.dtype.kind == "f" and x.ndim > 1 else x
            for name, x in held.items()
        }

    monkeypatch.setattr(TASKS[task], "evaluation", noise)


@pytest.mark.parametrize("task", FAMILIES)
def test_held_out_data_choose_nothing(monkeypatch, task):
    """Noise in their place changes what is measured on them and not a bit of anything else."""
    one = _trained(_family(task))
    _hold_noise(monkeypatch, task)
    other = _trained(_family(task))
    assert other.held["accuracy"] != one.held["accuracy"]
    assert other.model_dump(exclude={"held", "seconds"}) == one.model_dump(exclude={"held", "seconds"})


@pytest.mark.parametrize("task", FAMILIES)
def test_the_frameworks_train_one_model(task):
    a, b = (_trained(_family(task, name, dtype="float64")) for name in ("jax", "torch"))
    for name in ("every_value", "every_norm", "value", "exact_norm"):
        assert np.array(getattr(a, name)) == pytest.approx(np.array(getattr(b, name)), rel=1e-8), name
    assert a.selected == b.selected
    for name in a.held:
        assert a.held[name] == pytest.approx(b.held[name], rel=1e-6)
        assert a.validation[name] == pytest.approx(b.validation[name], rel=1e-6)


@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("task", FAMILIES)
def test_a_killed_training_goes_on_with_its_metrics(monkeypatch, tmp_path, task, backend):
    cell = _family(task, backend)
    whole = _trained(cell)
    monkeypatch.setattr(checkpoint, "INTERVAL", 0.0)
    calls, step = [], training._step

    def killed(*args):
        calls.append(1)
        if len(calls) > 11:
            raise Killed
        return step(*args)

    monkeypatch.setattr(training, "_step", killed)
    with pytest.raises(Killed):
        Runner(tmp_path).compute(cell)
    monkeypatch.setattr(training, "_step", step)
    resumed = _trained(cell, tmp_path)
    assert resumed.model_dump(exclude={"seconds"}) == whole.model_dump(exclude={"seconds"})


# A checkpoint every iteration, each long enough to be hit, and a line of which iteration it was.
SLOW = """
import time
from backends.hypergradient.krmd import KRMD
from bench import checkpoint, training

checkpoint.INTERVAL, step = 0.0, training._step

def slowly(settings, state, *rest):
    with open("{log}", "a") as log:
        print(state.iteration, file=log)
    time.sleep(0.05)
    return step(settings, state, *rest)

training._step = slowly

class Slow(KRMD):
    pass
"""
KILLED = """title = "t"
[[grid]]
kind = "training"
task = "hypercleaning"
task_options = {{ dataset = "digits", train = 120, validation = 100, test = 200 }}
settings = {{ iterations = 40, rate = 0.1, optimiser = "adam", every = 4 }}
backend = "{backend}"
horizon = 30
timed = false
method = [{{ name = "{method}", truncation = 10 }}]
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_kill_9_changes_no_bit_of_a_training(tmp_path, backend):
    """The whole command, with its worker, at a random moment."""
    guest, file, log = tmp_path / "slow.py", tmp_path / "sweep.toml", tmp_path / "log"
    guest.write_text(SLOW.format(log=log))
    file.write_text(KILLED.format(backend=backend, method=f"{guest}:Slow"))

    def run(out: Path) -> subprocess.Popen:
        command = [sys.executable, "-m", "bench", "run", str(file), "--workers", "1", "--out", str(out)]
        return subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def trained(out: Path) -> dict:
        assert run(out).wait(timeout=300) == 0
        (record,) = Store(out).load()[0]
        assert (record.status, record.reason) == ("ok", "")
        return record.training.model_dump(exclude={"seconds"})

    def iterations() -> list[int]:
        found = [int(line) for line in log.read_text().split()]
        log.unlink()
        return found

    whole = trained(tmp_path / "whole")
    assert iterations() == list(range(40))
    out = tmp_path / "out"
    process = run(out)
    deadline = time.monotonic() + 120
    while not list((out / "cache").glob("training*.npz")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    time.sleep(random.uniform(0, 1.2))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = iterations()
    (kept,) = (out / "cache").glob("training*.npz")
    done = int(arrays.read(kept)["iteration"])
    assert not list((out / "records").iterdir())
    assert before == list(range(len(before)))
    assert 0 < done <= len(before) < 40
    assert trained(out) == whole
    assert iterations() == list(range(done, 40)), "it did not go on from where it stopped"
    assert not kept.exists()


def test_a_run_that_is_under_way_is_told(monkeypatch, capsys, tmp_path):
    file = tmp_path / "sweep.toml"
    file.write_text(GOOD + "settings = { iterations = 40, rate = 0.1 }\n")
    store = tmp_path / "out"
    assert call(monkeypatch, capsys, "run", str(file), "--out", str(store), "--workers", "1")[0] == 0
    (record,) = (store / "records").iterdir()
    cell = Cell.model_validate(json.loads(record.read_text())["record"]["cell"])
    record.unlink()  # of a first cell there is none yet
    monkeypatch.setattr(checkpoint, "INTERVAL", 0.0)
    step, calls = training._step, []

    def killed(*args):
        calls.append(1)
        if len(calls) > 12:
            raise Killed
        return step(*args)

    monkeypatch.setattr(training, "_step", killed)
    with pytest.raises(Killed):
        Runner(store / "cache").compute(cell)
    _, out, _ = call(monkeypatch, capsys, "status", str(store))
    assert f"under way: iteration 12 of 40, about 0 s left: {cell.key}" in out
    code, out, _ = call(monkeypatch, capsys, "report", str(store))
    assert code == 0
    assert (store / "figures" / "under-way.png").exists()
    page = (store / "report.html").read_text()
    assert "12 of 40" in page
    assert cell.key[-table.DIGITS :] in page
    monkeypatch.setattr(training, "_step", step)
    assert call(monkeypatch, capsys, "run", str(file), "--out", str(store), "--workers", "1")[0] == 0
    assert call(monkeypatch, capsys, "report", str(store))[0] == 0
    assert not (store / "figures" / "under-way.png").exists()
    assert "under-way" not in (store / "report.html").read_text()


def test_what_is_under_way_is_drawn_as_far_as_it_is():
    cell = Cell(kind="training", task="quadratic", method="krmd", method_options={"truncation": 5}, backend="jax",
                horizon=10, settings={"iterations": 40, "rate": 0.1})  # fmt: skip
    y = np.linspace(2.0, 1.0, 12)
    (picture,) = live.figures([Underway(cell, 12, 40, 1.0, y, y / 7), Underway(cell, 0, 40, None, y[:0], y[:0])])
    value, norm = picture.figure.axes
    np.testing.assert_array_equal(value.lines[0].get_ydata(), y)
    np.testing.assert_array_equal(norm.lines[0].get_ydata(), y / 7)
    assert value.get_xlim() == norm.get_xlim() == (0, 40)
    assert "1 more" in picture.caption
    assert live.figures([]) == []


def _baselines(backend: str) -> dict:
    found = {}
    for data in baseline.PARTS:
        cell = Cell(
            kind="baseline",
            settings={"data": data},
            task="hypercleaning",
            task_options=DIGITS,
            method="rmd",
            backend=backend,
            horizon=100,
            timed=False,
        )
        record = Runner().compute(cell)
        assert (record.status, record.reason) == ("ok", "")
        found[data] = record.baseline
    return found


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_baselines(backend):
    found = _baselines(backend)
    assert {data: b.examples for data, b in found.items()} == {"all": 120, "clean": 60, "validation": 100, "both": 160}
    for b in found.values():
        assert b.rate == b.rates[int(np.argmin([np.inf if x is None else x for x in b.losses]))]
    assert found["all"].accuracy < found["clean"].accuracy < found["both"].accuracy


def test_held_out_data_choose_no_baseline(monkeypatch):
    one = _baselines("torch")
    _hold_noise(monkeypatch, "hypercleaning")
    other = _baselines("torch")
    for data in baseline.PARTS:
        assert other[data].accuracy != one[data].accuracy
        assert other[data].model_dump(exclude={"accuracy"}) == one[data].model_dump(exclude={"accuracy"})


def test_a_baseline_keeps_back_what_chooses():
    data, _ = TASKS["hypercleaning"](**DIGITS).context(0, 0, 1)
    corrupted = TASKS["hypercleaning"](**DIGITS).evaluation(0)["corrupted"]
    for part in ("validation", "both"):
        (X, _), (other, _) = baseline._parts(part, data, corrupted)
        assert len(other) == 20
        assert not {x.tobytes() for x in X} & {x.tobytes() for x in other}


GOOD = """title = "t"
[[grid]]
kind = "training"
task = "scalar"
backend = "jax"
horizon = 10
method = [{ name = "krmd", truncation = 1 }]
"""
BAD = {
    "none": ("", "kind training needs the option 'iterations'; its options are iterations, rate"),
    "iterations": ("iterations = 0, rate = 1.0", "iterations = 0 is not allowed; it is a whole number from 1"),
    "a bool": ("iterations = true, rate = 1.0", "iterations = True is not allowed"),
    "starts": ("iterations = 5, rate = 1.0, starts = 0", "starts = 0 is not allowed"),
    "every": ("iterations = 5, rate = 1.0, every = -1", "every = -1 is not allowed"),
    "rate": ("iterations = 5, rate = 0.0", "rate = 0.0 is not allowed; it is a number above 0"),
    "infinite": ("iterations = 5, rate = inf", "rate = inf is not allowed"),
    "nan": ("iterations = 5, rate = nan", "rate = nan is not allowed"),
    "text": ('iterations = 5, rate = "fast"', "rate = 'fast' is not allowed"),
    "schedule": ('iterations = 5, rate = 1.0, schedule = "steps"', "allowed are constant, sqrt, cosine"),
    "optimiser": ('iterations = 5, rate = 1.0, optimiser = "lbfgs"', "allowed are gd, momentum, adam"),
    "unknown": ("iterations = 5, rate = 1.0, momentum = 0.9", "no option 'momentum'; allowed are iterations, rate"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings(monkeypatch, capsys, tmp_path, name):
    given, says = BAD[name]
    file = tmp_path / "sweep.toml"
    file.write_text(GOOD + f"settings = {{ {given} }}\n")
    assert says in refused(monkeypatch, capsys, "run", str(file), "--out", str(tmp_path / "out"))


def test_settings_narrow_a_sweep(monkeypatch, capsys, tmp_path):
    file = tmp_path / "sweep.toml"
    file.write_text(GOOD + "settings = { iterations = 5, rate = 1.0 }\n")
    code, out, _ = call(monkeypatch, capsys, "run", str(file), "--only", "iterations=5", "--dry-run")
    assert code == 0
    assert "cells       1" in out
