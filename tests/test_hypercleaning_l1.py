"""The source problem's hyper-cleaning: its projection, its Φ, and what is refused."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.optimize import minimize

from backends.hypergradient import METHODS
from bench.cell import Cell
from bench.runner import Runner
from tasks import TASKS, TaskError
from tests.grid import relative

SMALL = {"dataset": "digits", "train": 40, "validation": 40, "test": 100, "radius": 0.4}
TASK = TASKS["hypercleaning_l1"](**SMALL)


@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0])
def test_projection_is_the_nearest_point(bk, spread):
    rng = np.random.default_rng(3)
    lam = 0.4 + spread * rng.normal(size=40)
    found = bk.to_numpy(TASK.problem(bk).project(bk.asarray(lam)))
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.sum() <= 16 + 1e-12
    R = {"type": "ineq", "fun": lambda x: 16 - x.sum(), "jac": lambda x: -np.ones(40)}
    best = minimize(
        lambda x: ((x - lam) ** 2).sum(),
        np.full(40, 0.4),
        jac=lambda x: 2 * (x - lam),
        bounds=[(0, 1)] * 40,
        constraints=[R],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    ).x
    assert np.abs(found - best).max() < 1e-6


def test_projection_leaves_what_is_inside(bk):
    lam = np.linspace(0, 0.7, 40)
    assert np.array_equal(bk.to_numpy(TASK.problem(bk).project(bk.asarray(lam))), lam)
    assert not bk.to_numpy(TASK.problem(bk).project(bk.asarray(-lam - 1.0))).any()


def test_step_is_the_gradient_of_g(bk):
    problem, rng = TASK.problem(bk), np.random.default_rng(0)
    data, _ = TASK.context(0, 0, 5)
    w, lam = bk.asarray(0.1 * rng.normal(size=(10, 65))), bk.asarray(rng.uniform(size=40))
    data = bk.asarray(data)
    _, grad = bk.value_and_grad(lambda w: problem.inner_loss(w, lam, data))(w)
    assert relative(bk.to_numpy(problem.step(w, lam, data, None)), bk.to_numpy(w - grad)) < 1e-14


def test_estimators_agree(bk):
    data, xs = TASK.context(0, 0, 20)
    args = tuple(bk.asarray(x) for x in (TASK.hparams(0), data, xs))
    exact = bk.compile(partial(METHODS["native-rmd"](), bk, TASK.problem(bk)))(*args).grad
    for name in ("rmd", "fmd"):
        assert relative(bk.to_numpy(METHODS[name]()(bk, TASK.problem(bk), *args).grad), bk.to_numpy(exact)) < 1e-12


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_training_stays_inside_and_cleans(backend):
    cell = Cell(
        kind="training",
        task="hypercleaning_l1",
        task_options=SMALL,
        method="krmd",
        method_options={"truncation": 10},
        backend=backend,
        dtype="float64",
        horizon=50,
        timed=False,
        settings={"iterations": 30, "rate": 1.0, "every": 10},
    )
    record = Runner().compute(cell)
    assert (record.status, record.reason) == ("ok", "")
    lam = np.array(record.training.last)[0]
    assert lam.min() >= 0
    assert lam.max() <= 1
    assert lam.sum() <= 16 + 1e-9
    assert record.training.value[0][-1] < record.training.value[0][0]
    wrong = TASK.evaluation(0)["corrupted"]
    assert lam[~wrong].mean() > 2 * lam[wrong].mean()
    marked = lam < 1e-3
    f1 = 2 * (marked & wrong).sum() / (marked.sum() + wrong.sum())
    assert record.training.held["f1"][-1] == pytest.approx(f1, rel=1e-6)


def test_points_and_refusals():
    informed = TASK.hparams(0, "informed")
    assert set(np.round(informed, 12)) == {0.0, 0.8}
    assert TASK.hparams(0).sum() == pytest.approx(16)
    for options, says in (({"radius": 0.0}, "radius = 0.0"), ({"groups": 4}, "groups = 4")):
        with pytest.raises(TaskError, match=says):
            TASKS["hypercleaning_l1"](**SMALL | options)
