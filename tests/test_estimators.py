"""Every estimator against every other derivation."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import backends
from backends.hypergradient import METHODS, Problem
from bench.reference import flat
from tests import oracles, problems
from tests.grid import BOUND, CONVEX, GENERIC, check, hypergradient, relative


@pytest.mark.parametrize("name", METHODS)
def test_grid(bk, name):
    check({name: METHODS[name]}, bk)


@pytest.mark.parametrize("case", GENERIC.values(), ids=GENERIC)
def test_dense_oracle_is_the_slope_of_F(case):
    assert relative(oracles.dense(case).rmd(), oracles.central_differences(case)) < 1e-8


def test_sizes_differ():
    d = oracles.dense(GENERIC["M < N"])
    assert len({d.E.shape[1], d.E.shape[0], d.A[0].shape[0]}) == 3
    d = oracles.dense(GENERIC["P = M"])
    assert d.B[0].shape[0] == d.B[0].shape[1]


def test_krmd_with_all_steps_is_rmd_without_init(bk):
    case = GENERIC["M > N"]
    T = len(case.xs[1])
    d = oracles.dense(case)
    init_term = d.E.T @ (np.linalg.multi_dot([*reversed(d.A), d.B_0]).T @ d.f_w)
    h, _ = hypergradient(bk, METHODS["krmd"](truncation=T), case)
    assert relative(h + init_term, d.rmd()) <= BOUND
    assert np.linalg.norm(init_term) > 1e-3 * np.linalg.norm(h)


def test_at_the_optimum_krmd_is_neumann(bk):
    case = CONVEX["optimum"]
    for K in (0, 1, 7, 12):
        a, b = (hypergradient(bk, METHODS[m](truncation=K), case)[0] for m in ("krmd", "neumann"))
        assert relative(a, b) <= BOUND


def test_cg_with_M_steps_is_the_implicit_gradient(bk):
    for case in CONVEX.values():
        h, _ = hypergradient(bk, METHODS["cg"](truncation=4), case)
        assert relative(h, oracles.dense(case).implicit()) <= BOUND


def test_krmd_bias_is_within_the_bound(bk):
    """‖e_K‖ ≤ (1−γα)^K/(γα) ‖∂f/∂w‖ max‖B_t‖ on dF/dθ."""
    case = problems.convex(horizon=40)
    d = oracles.dense(case)
    alpha, gamma = 1.0, 0.2
    exact = d.f_theta + _total(d).T @ d.f_w
    for K in (1, 5, 20, 40):
        e = exact - (d.f_theta + _total(d, K).T @ d.f_w)
        bound = (1 - gamma * alpha) ** K / (gamma * alpha) * np.linalg.norm(d.f_w)
        assert np.linalg.norm(e) <= bound * max(np.linalg.norm(B, 2) for B in d.B) + 1e-14
        assert relative(hypergradient(bk, METHODS["krmd"](truncation=K), case)[0], d.krmd(K)) <= BOUND


def _total(d, K=None):
    Z = np.zeros_like(d.B_0)
    for A, B in zip(d.A[d.T - (K if K is not None else d.T) :], d.B[d.T - (K if K is not None else d.T) :]):
        Z = A @ Z + B
    return Z


@pytest.mark.parametrize("name", ["rmd", "krmd", "fmd", "cg", "neumann"])
def test_compiled_is_plain(name):
    bk = backends.load("jax", "float64")
    options = {"truncation": 3} if name in ("krmd", "cg", "neumann") else {}
    problem, hparams, data, xs = CONVEX["away"].at(bk)
    method = partial(METHODS[name](**options), bk, problem)
    a, b = method(hparams, data, xs), bk.compile(method)(hparams, data, xs)
    assert relative(flat(bk, a.grad), flat(bk, b.grad)) <= 1e-13


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [("rmd", {}), ("krmd", {"truncation": 3, "stash": "residuals"}), ("fmd", {}), ("native-krmd", {"truncation": 3})],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_compiled_lane_is_eager_pytorch(name, options):
    """And compiles nothing again for new values."""
    import torch
    from torch._dynamo.utils import counters

    torch._dynamo.reset()  # what another test has compiled of the same step
    found = {}
    for lane in ("torch", "torch:compiled"):
        bk = backends.load(lane, "float64")
        problem, hparams, data, xs = CONVEX["away"].at(bk)
        f = bk.compile(partial(METHODS[name](**options), bk, problem))
        counters.clear()
        first = f(hparams, data, xs)
        compiled = counters["stats"]["unique_graphs"]
        assert (compiled > 0) is (lane == "torch:compiled")
        moved = f(bk.map(lambda x: x + 0.25, hparams), data, xs)
        assert counters["stats"]["unique_graphs"] == compiled
        found[lane] = flat(bk, first.grad), flat(bk, moved.grad)
    for eager, other in zip(*found.values()):
        assert relative(other, eager) <= 1e-13
    assert relative(found["torch"][1], found["torch"][0]) > 1e-3


@pytest.mark.parametrize("name", ["rmd", "krmd", "fmd", "cg", "neumann"])
def test_vmapped_is_a_loop(bk, name):
    options = {"truncation": 3} if name in ("krmd", "cg", "neumann") else {}
    problem, _, data, xs = CONVEX["away"].at(bk)
    method = METHODS[name](**options)
    points = bk.asarray(np.random.default_rng(0).standard_normal((3, 3)))
    together = bk.to_numpy(bk.vmap(lambda lam: method(bk, problem, lam, data, xs).grad)(points))
    for lam, h in zip(points, together):
        assert relative(h, flat(bk, method(bk, problem, lam, data, xs).grad)) <= 1e-12


@pytest.mark.parametrize("diagonal", [1.0, 2.0])
def test_cg_on_a_multiple_of_the_identity(bk, diagonal):
    """One step solves it; the steps after that must change nothing, not divide zero by zero."""
    problem = Problem(
        init=lambda theta, data: data * 1.0,
        step=lambda w, theta, data, x: w - 0.5 * (diagonal * w - theta),
        outer_loss=lambda w, theta, data: bk.xp.sum(w**2),
        inner_loss=lambda w, theta, data: 0.5 * diagonal * bk.xp.sum(w**2) - bk.xp.sum(w * theta),
    )
    lam, start, xs = (bk.asarray(x) for x in (np.array([1.0, -2.0]), np.array([3.0, 4.0]), np.arange(8)))
    for K in (1, 2, 5):
        result = METHODS["cg"](truncation=K)(bk, problem, lam, start, xs)
        assert np.allclose(bk.to_numpy(result.grad), 2 * bk.to_numpy(result.params) / diagonal, rtol=1e-13)


def test_cg_counts_negative_curvature(bk):
    problem = Problem(
        init=lambda theta, data: data * 1.0,
        step=lambda w, theta, data, x: w * 1.0,
        outer_loss=lambda w, theta, data: bk.xp.sum(w),
        inner_loss=lambda w, theta, data: -0.5 * bk.xp.sum(w**2) + bk.xp.sum(w * theta),
    )
    lam, start, xs = (bk.asarray(x) for x in (np.ones(2), np.ones(2), np.arange(2)))
    result = METHODS["cg"](truncation=1)(bk, problem, lam, start, xs)
    assert int(bk.to_numpy(result.stats["negative_curvature"])) == 1


@pytest.mark.parametrize("framework", ["torch", "jax"])
@pytest.mark.parametrize("name", ["krmd", "neumann", "rmd"])
def test_float32_is_close(name, framework):
    """Single precision loses digits, not the answer."""
    bk, d = backends.load(framework, "float32"), oracles.dense(CONVEX["away"])
    options = {} if name == "rmd" else {"truncation": 7}
    expected = d.rmd() if name == "rmd" else getattr(d, name)(7)
    assert relative(hypergradient(bk, METHODS[name](**options), CONVEX["away"])[0], expected) < 1e-5
