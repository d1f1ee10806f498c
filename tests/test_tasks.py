"""The toy against its closed form and the paper's table; hyper-cleaning's data, sizes and biases."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from backends.hypergradient import METHODS
from bench import landscape
from bench.cell import Cell
from bench.runner import Runner
from tasks import TASKS, TaskError
from tasks.hypercleaning import _draw
from tasks.quadratic import closed_form, last_iterate, outer_value
from tests.grid import relative

TOY = TASKS["quadratic"]()

# The toy's table as the paper's formulas give it: K: (largest angle, median ‖h‖/‖dF‖, bias from, bias to, bound)
TABLE = {
    1: (19.31, 0.079, 0.9000, 0.9497, 0.9500),
    5: (16.59, 0.332, 0.5905, 0.7724, 0.7738),
    10: (13.58, 0.542, 0.3487, 0.5963, 0.5987),
    25: (6.99, 0.834, 0.0718, 0.2731, 0.2774),
    50: (1.98, 0.962, 0.0051, 0.0714, 0.0769),
    100: (0.0, 1.0, 0.0, 0.0, 0.0059),
}


@pytest.mark.parametrize("K", TABLE)
def test_toy_table_by_the_estimators(bk, K):
    row = landscape.over_grid(bk, TOY, METHODS["krmd"](truncation=K), K, 100, 0)
    angle, ratio, low, high, bound = TABLE[K]
    assert row.points == 201**2
    assert round(row.largest_angle_deg, 2) == angle
    assert row.median_norm_ratio == pytest.approx(ratio, abs=6e-4)
    assert (round(row.bias_min, 4), round(row.bias_max, 4)) == (low, high)
    assert round(row.bound, 4) == bound
    assert row.closed_form_error < 1e-14


def test_toy_closed_form_is_the_recursion():
    lam, w = np.array([1.3, -2.0]), np.array([2.0, 2.0])
    for _ in range(100):
        w = w - 0.1 * np.array([1.0, 0.5]) * (w - lam)
    assert np.allclose(w, last_iterate(lam, 100), rtol=1e-14)
    e = 1e-6 * np.eye(2)
    slope = [(outer_value(lam + d, 100) - outer_value(lam - d, 100)) / 2e-6 for d in e]
    assert np.allclose(closed_form(lam, 100, 100), slope, rtol=1e-7)


@pytest.mark.parametrize("K", [1, 5, 25, 100])
def test_toy_point(bk, K):
    data, xs = TOY.context(0, 0, 100)
    lam = TOY.hparams(0)
    args = (bk.asarray(lam), bk.asarray(data), bk.asarray(xs))
    h = bk.compile(partial(METHODS["krmd"](truncation=K), bk, TOY.problem(bk)))(*args).grad
    assert relative(bk.to_numpy(h), closed_form(lam, K, 100)) < 1e-13


def test_unknown_points_and_sizes_are_refused():
    with pytest.raises(TaskError, match="allowed are init"):
        TOY.hparams(0, "nowhere")
    with pytest.raises(TaskError, match="0 < rate < 2"):
        TASKS["quadratic"](rate=3.0)
    for bad, allowed in (
        ({"dataset": "svhn"}, "mnist, digits"),
        ({"train": 0}, "from 1"),
        ({"noise": 2.0}, "from 0 to 1"),
        ({"train": 10, "groups": 3}, "divides"),
    ):
        with pytest.raises(TaskError, match=allowed):
            TASKS["hypercleaning"](**bad)
    with pytest.raises(TaskError, match="asked were"):
        TASKS["hypercleaning"](dataset="digits").hparams(0, "informed")


@pytest.fixture
def digits():
    return TASKS["hypercleaning"](dataset="digits", train=100, validation=80, test=300)


def test_splits_do_not_share_examples(digits):
    draw = _draw(digits, 0)
    parts = [{row.tobytes() for row in draw[k]} for k in ("X", "X_val", "X_test")]
    assert [len(p) for p in parts] == [100, 80, 300]
    assert len(set.union(*parts)) == 480


def test_half_of_the_training_labels_are_wrong(digits):
    draw = _draw(digits, 0)
    assert draw["corrupted"].sum() == 50
    assert _draw(digits, 1)["corrupted"].tolist() != draw["corrupted"].tolist()
    same = TASKS["hypercleaning"](dataset="digits", train=100, validation=80, test=300)
    assert np.array_equal(_draw(same, 0)["X"], draw["X"])
    clean = TASKS["hypercleaning"](dataset="digits", train=100, validation=80, test=300, noise=0.0)
    assert not _draw(clean, 0)["corrupted"].any()


def test_step_is_a_gradient_step_on_the_inner_loss(bk, digits):
    data, xs = digits.context(0, 0, 3)
    problem, data, xs = digits.problem(bk), bk.asarray(data), bk.asarray(xs)
    rng = np.random.default_rng(0)
    theta = bk.asarray(rng.uniform(0.1, 1.0, 100))
    w = bk.asarray(rng.standard_normal((10, 65)))
    grad = bk.to_numpy(bk.value_and_grad(lambda w: problem.inner_loss(w, theta, data))(w)[1])
    moved = bk.to_numpy(w) - bk.to_numpy(problem.step(w, theta, data, xs[0]))
    ratio = moved.ravel() @ grad.ravel() / (grad.ravel() @ grad.ravel())
    assert ratio > 0
    assert relative(moved, ratio * grad) < 1e-12


def test_groups_repeat_one_weight(bk):
    task = TASKS["hypercleaning"](dataset="digits", train=100, validation=80, test=100, groups=10)
    data, _ = task.context(0, 0, 2)
    theta = bk.to_numpy(task.problem(bk).embed(bk.asarray(np.arange(10.0)), bk.asarray(data)))
    assert theta.shape == (100,)
    assert len(np.unique(theta)) == 10
    assert np.all(np.bincount(data["group"]) == 10)


def test_metrics_find_the_noise(bk, digits):
    """Metrics: λ that knows the noise has F1 = 1; an example is marked below σ(−3), not at it."""
    problem = digits.problem(bk)
    held = bk.asarray(digits.evaluation(0))
    w = bk.asarray(np.zeros((10, 65)))
    metrics = problem.metrics(w, bk.asarray(digits.hparams(0, "informed") - 0.01), held)
    assert float(metrics["f1"]) == 1.0
    assert float(metrics["noise_rate"]) == 0.5
    assert float(problem.metrics(w, bk.asarray(digits.hparams(0)), held)["f1"]) < 0.8


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_mnist_biases_at_the_paper_s_sizes(mnist, framework):
    """PAPER §3: relative biases at λ = informed, T = 100."""
    runner = Runner()
    for K, expected in {1: 0.961, 5: 0.834, 25: 0.418, 50: 0.171}.items():
        cell = Cell(
            task="hypercleaning",
            method="krmd",
            method_options={"truncation": K},
            backend=framework,
            dtype="float64",
            horizon=100,
            lam="informed",
            timed=False,
        )
        record = runner.compute(cell)
        assert record.status == "ok", record.reason
        assert record.result is not None
        assert record.result.exact.relative == pytest.approx(expected, abs=0.02)


def test_where_steps_are_minibatches_the_exact_reference_stands_alone():
    cell = Cell(task="minibatch_ridge", method="krmd", method_options={"truncation": 5}, backend="jax",
                dtype="float64", horizon=25, timed=False)  # fmt: skip
    result = Runner().compute(cell).result
    assert result.exact.relative > 0.1
    assert (result.implicit.relative, result.implicit.reason) == (None, "the lower level is stochastic")


def test_a_context_s_minibatches_are_of_its_seed_and_index():
    task = TASKS["minibatch_ridge"](examples=50, batch=7)
    data, xs = task.context(0, 0, 30)
    again, same = task.context(0, 0, 30)
    np.testing.assert_array_equal(xs, same)
    assert xs.shape == (30, 7)
    assert set(np.unique(xs)) <= set(range(50))
    for seed, index in ((1, 0), (0, 1)):
        assert (task.context(seed, index, 30)[1] != xs).any()
    np.testing.assert_array_equal(data["X"], again["X"])
    np.testing.assert_array_equal(data["X"], task.context(0, 1, 30)[0]["X"])
