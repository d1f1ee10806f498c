"""The problems that the theory is tried on, against closed forms in NumPy, and the constants computed on them."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from math import inf

import jax
import numpy as np
import pytest

import backends
from backends.hypergradient import METHODS
from bench import constants as theory
from bench import stamp
from bench.cell import Cell
from bench.reference import flat
from tasks import TASKS, TaskError
from tests import oracles
from tests.grid import relative
from tests.problems import Case

BOUND = 1e-12  # closed form against recursion, κ ≤ 100
PROBLEMS = {
    "-I": ("spectrum", {"dimension": 5, "coupling": "-I", "direct": 0.7}, 30),
    "dense": ("spectrum", {"dimension": 5, "width": 8, "kappa": 50.0, "rate": 0.9}, 30),
    "commuting": ("spectrum", {"dimension": 5, "width": 7, "coupling": "commuting"}, 30),
    "lambda": ("spectrum", {"dimension": 5, "width": 8, "start": "lambda", "rate": 0.2, "direct": 0.3}, 20),
    "narrow": ("spectrum", {"dimension": 5, "width": 3}, 30),
    "optimum": ("spectrum", {"dimension": 5, "start": "optimum"}, 30),
    "counterexample": ("counterexample", {}, 100),
    "scalar": ("scalar", {}, 60),
    "scalar, no φ": ("scalar", {"direct": 0.0}, 60),
    "logistic": ("logistic", {"features": 4, "examples": 9, "validation": 7}, 25),
    "logistic, optimum": ("logistic", {"features": 4, "examples": 9, "validation": 7, "start": "optimum"}, 25),
    "doublewell": ("doublewell", {"dimension": 4}, 20),
    "toy": ("quadratic", {}, 40),
}
QUADRATICS = [name for name, (task, _, _) in PROBLEMS.items() if task in ("spectrum", "counterexample", "scalar")]


def _case(name: str, seed: int = 0, draw: int | None = None) -> Case:
    """A problem of the table at the seed's λ, or at another draw of λ with the same data."""
    key, options, T = PROBLEMS[name]
    task = TASKS[key](**options)
    data, xs = task.context(seed, 0, T)
    return Case(name, task.problem, task.hparams(seed if draw is None else draw), data, xs)


def _task(name: str):
    key, options, _ = PROBLEMS[name]
    return TASKS[key](**options)


def _estimate(bk, method: str, case: Case, **options) -> np.ndarray:
    problem, *args = case.at(bk)
    return flat(bk, bk.compile(partial(METHODS[method](**options), bk, problem))(*args).grad)


def _constants(bk, name: str, seed: int = 0, draw: int | None = None) -> theory.Constants:
    problem, *args = _case(name, seed, draw).at(bk)
    return theory.constants(bk, _task(name), problem, seed)(*args)


# estimators against closed forms


def _closed_form(case: Case, K: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(h_{T−K}, dF, CG's limit H⁻¹) of a quadratic, by powers of I − γH in its eigenvectors."""
    d, lam, T = case.data, case.hparams, len(case.xs)
    s, Q = np.linalg.eigh(d["H"])
    S = d.get("S", np.zeros_like(d["C"]))
    optimum = Q @ (Q.T @ d["C"] @ lam / s)
    power = lambda n: (Q * (1 - d["rate"] * s) ** n) @ Q.T  # noqa: E731 - reads as the formula
    f_w = optimum + power(T) @ (d["start"] + S @ lam - optimum) - d["target"]
    f_lam = d["direct"] * (lam - d["anchor"])
    pulled = lambda n: f_lam + d["C"].T @ (Q @ ((1 - (1 - d["rate"] * s) ** n) / s * (Q.T @ f_w)))  # noqa: E731 - as above
    return pulled(K), pulled(T) + S.T @ power(T) @ f_w, f_lam + d["C"].T @ (Q @ (Q.T @ f_w / s))


@pytest.mark.parametrize("name", QUADRATICS)
def test_quadratics_are_their_closed_forms(bk, name):
    case = _case(name)
    for K in (0, 1, 2, 5, len(case.xs)):
        h, dF, implicit = _closed_form(case, K)
        for method in ("krmd", "neumann"):
            assert np.linalg.norm(_estimate(bk, method, case, truncation=K) - h) <= BOUND * np.linalg.norm(dF), K
    assert relative(_estimate(bk, "rmd", case), dF) <= BOUND
    assert relative(_estimate(bk, "fmd", case), dF) <= BOUND
    M = len(case.data["start"])
    assert relative(_estimate(bk, "cg", case, truncation=2 * M), implicit) <= 1e-10


def test_coupling_minus_I_returns_the_solution_of_the_linear_system(bk):
    """h = v: K-RMD's is γ Σ (I − γH)^k ∇f, CG's minimises over the Krylov space."""
    case = _case("-I")
    d = oracles.dense(case)
    f_lam = 0.7 * (case.hparams - case.data["anchor"])
    A = np.eye(5) - case.data["H"]
    v = sum(np.linalg.matrix_power(A, k) @ d.f_w for k in range(4))
    assert relative(_estimate(bk, "krmd", case, truncation=4) - f_lam, v) <= BOUND
    v = np.linalg.solve(case.data["H"], d.f_w)
    assert relative(_estimate(bk, "cg", case, truncation=5) - f_lam, v) <= 1e-10
    assert relative(_estimate(bk, "cg", case, truncation=3) - f_lam, v) > 1e-3


@pytest.mark.parametrize("name", ["scalar", "lambda", "logistic", "doublewell"])
def test_estimates_map_over_hyperparameters(bk, name):
    """A vmapped estimator is the loop, in every method: no task branches on a value."""
    case = _case(name)
    problem, _, data, xs = case.at(bk)
    lams = bk.asarray(np.stack([_case(name, 0, i).hparams for i in range(3)]))
    for method in ("rmd", "fmd", "krmd", "cg", "neumann"):
        f = METHODS[method](**({"truncation": 3} if method in ("krmd", "cg", "neumann") else {}))
        at = bk.compile(lambda lam, f=f: f(bk, problem, lam, data, xs).grad)
        mapped = bk.to_numpy(bk.compile(bk.vmap(at))(lams))
        assert all(relative(mapped[i], flat(bk, at(lams[i]))) <= BOUND for i in range(3)), method


@pytest.mark.parametrize("name", ["lambda", "logistic", "doublewell"])
def test_estimates_are_the_dense_oracle_s(bk, name):
    case = _case(name)
    d = oracles.dense(case)
    assert relative(_estimate(bk, "rmd", case), d.rmd()) <= BOUND
    for K in (1, 4, len(case.xs)):
        assert relative(_estimate(bk, "krmd", case, truncation=K), d.krmd(K)) <= BOUND
    assert relative(d.rmd(), oracles.central_differences(case)) < 1e-8


# the problems themselves


@pytest.mark.parametrize("name", PROBLEMS)
def test_step_is_a_gradient_step_on_the_inner_loss(bk, name):
    case = _case(name)
    problem, lam, data, xs = case.at(bk)
    theta = problem.embed(lam, data)
    w = bk.asarray(np.random.default_rng(8).standard_normal(case.data["start"].shape))
    grad = bk.to_numpy(bk.value_and_grad(lambda w: problem.inner_loss(w, theta, data))(w)[1])
    moved = bk.to_numpy(w) - bk.to_numpy(problem.step(w, theta, data, xs[0]))
    assert relative(moved, case.data["rate"] * grad) < 1e-12


def test_losses_are_those_of_the_docstrings(bk):
    rng = np.random.default_rng(9)
    w = rng.standard_normal(4)
    case = _case("logistic")
    problem, lam, data, _ = case.at(bk)
    d, theta = case.data, 1 / (1 + np.exp(-case.hparams))
    g = np.mean(theta * np.log1p(np.exp(-d["X"] @ w))) + 0.05 * w @ w
    assert float(problem.inner_loss(bk.asarray(w), problem.embed(lam, data), data)) == pytest.approx(g, rel=1e-14)
    f = np.mean(np.log1p(np.exp(-d["X_val"] @ w)))
    assert float(problem.outer_loss(bk.asarray(w), lam, data)) == pytest.approx(f, rel=1e-14)
    far = bk.asarray(1e4 * w)
    assert np.isfinite(flat(bk, bk.value_and_grad(lambda w: problem.inner_loss(w, lam, data))(far)[1])).all()
    case = _case("doublewell")
    problem, lam, data, _ = case.at(bk)
    d = case.data
    g = 0.5 * w @ d["H"] @ w - 1.5 * np.sqrt(1 + w**2).sum() - w @ d["C"] @ case.hparams
    assert float(problem.inner_loss(bk.asarray(w), lam, data)) == pytest.approx(g, rel=1e-14)


@pytest.mark.parametrize(
    ("key", "options"),
    [("spectrum", {"kappa": 1000.0, "start": "optimum"}), ("logistic", {"start": "optimum"})],
)
def test_a_start_at_the_optimum_stays(bk, key, options):
    task = TASKS[key](**options)
    data, xs = task.context(2, 0, 100)
    problem = task.problem(bk)

    def moved(lam: np.ndarray) -> float:
        d = bk.asarray(data)
        theta = problem.embed(bk.asarray(lam), d)
        w, _ = bk.scan(lambda w, x: (problem.step(w, theta, d, x), None), problem.init(theta, d), bk.asarray(xs))
        return float(np.linalg.norm(bk.to_numpy(w) - data["start"]) / np.linalg.norm(data["start"]))

    lam = task.hparams(2)
    assert moved(lam) < 1e-13
    assert moved(lam + 0.01) > 1e-4


def test_the_counterexample_turns_away():
    """cos(h_1, dF) over all directions of ∇f: −.85 at γ = 1, T = 1000 and −.66 at γ = .1, T = 100 (PAPER §1, C2)."""
    bk = backends.load("jax", "float64")
    for rate, T, worst in ((1.0, 1000, -0.85), (0.1, 100, -0.66)):
        task = TASKS["counterexample"](rate=rate)
        data, xs = task.context(0, 0, T)
        problem, args = task.problem(bk), (bk.asarray(data), bk.asarray(xs))
        assert np.allclose(data["C"] @ data["C"].T, [[1, 0.9], [0.9, 1]])
        # w_0 = 0, so ŵ is linear in λ: on a ring this wide ∇f = ŵ − a takes every direction at any T.
        turn = np.linspace(0, 2 * np.pi, 4001)
        ring = np.linalg.solve(data["C"], data["H"] @ np.stack([np.cos(turn), np.sin(turn)])).T
        lams = bk.asarray(1e4 * ring)

        def everywhere(method, lams=lams, problem=problem, args=args):
            return bk.to_numpy(bk.compile(bk.vmap(lambda lam: method(bk, problem, lam, *args).grad))(lams))

        h, dF = everywhere(METHODS["krmd"](truncation=1)), everywhere(METHODS["rmd"]())
        cosine = np.sum(h * dF, axis=1) / (np.linalg.norm(h, axis=1) * np.linalg.norm(dF, axis=1))
        assert round(float(cosine.min()), 2) == worst


def test_the_counterexample_s_worst_point(bk):
    task = TASKS["counterexample"]()
    data, xs = task.context(3, 0, 2000)
    case = Case("worst", task.problem, task.hparams(3, "worst"), data, xs)
    h, dF = _estimate(bk, "krmd", case, truncation=1), _estimate(bk, "rmd", case)
    assert round(float(h @ dF / np.linalg.norm(h) / np.linalg.norm(dF)), 2) == -0.85


@pytest.mark.parametrize("K", [1, 2, 5])
def test_the_scalar_example_stalls(bk, K):
    """1-RMD is 0 at λ = .909, where dF = .818; for every K at 1/(2 − a^K), where dF = a^K/(2 − a^K)."""
    task, a = TASKS["scalar"](), 0.9
    data, xs = task.context(0, 0, 400)
    lam = task.hparams(0, "stall") if K == 1 else np.array([1 / (2 - a**K)])
    case = Case("stall", task.problem, lam, data, xs)
    dF = float(_estimate(bk, "rmd", case)[0])
    assert abs(float(_estimate(bk, "krmd", case, truncation=K)[0])) < 1e-14
    assert dF == pytest.approx(a**K / (2 - a**K), rel=1e-12)
    if K == 1:
        assert (round(float(lam[0]), 3), round(dF, 3)) == (0.909, 0.818)


def test_the_double_well_starts_where_it_is_not_convex():
    case = _case("doublewell")
    d = oracles.dense(case)

    def smallest(w: np.ndarray) -> float:
        return float(np.linalg.eigvalsh(case.data["H"] - np.diag(1.5 * (1 + w**2) ** -1.5))[0])

    assert smallest(d.w[0]) < -0.5
    assert smallest(d.w[-1]) > 0.3


def test_bad_options_are_refused():
    for key, bad, allowed in (
        ("spectrum", {"coupling": "I"}, "-I, dense, commuting"),
        ("spectrum", {"start": "zero"}, "fixed, lambda, optimum"),
        ("spectrum", {"kappa": 0.5}, "at least 1"),
        ("spectrum", {"dimension": 1}, "from 2"),
        ("spectrum", {"coupling": "-I", "width": 30}, "it is 0 or 20"),
        ("spectrum", {"coupling": "commuting", "width": 3}, "it is 0 or at least 20"),
        ("spectrum", {"rate": 2.0}, "0 < rate < 2"),
        ("counterexample", {"correlation": 1.0}, "< 1"),
        ("counterexample", {"kappa": 0.1}, "at least 1"),
        ("counterexample", {"rate": 0.0}, "0 < rate < 2"),
        ("scalar", {"direct": -1.0}, "from 0"),
        ("scalar", {"rate": 0.0}, "0 < rate < 2"),
        ("logistic", {"examples": 5}, "at least features"),
        ("logistic", {"ridge": 0.0}, "ridge > 0"),
        ("logistic", {"rate": -1.0}, "0 for 1/β"),
        ("logistic", {"validation": 0}, "from 1"),
        ("logistic", {"start": "fixed"}, "zero, optimum"),
        ("doublewell", {"depth": 2.0}, "at most 1.6"),
        ("doublewell", {"dimension": 0}, "from 1"),
        ("doublewell", {"rate": 2.0}, "0 < rate < 2"),
        ("minibatch_ridge", {"batch": 0}, "from 1"),
        ("minibatch_ridge", {"groups": 7}, "at most features"),
        ("minibatch_ridge", {"rate": 0.0}, "> 0"),
    ):
        with pytest.raises(TaskError, match=allowed):
            TASKS[key](**bad)
    for key in ("spectrum", "counterexample", "scalar", "logistic", "doublewell", "minibatch_ridge"):
        with pytest.raises(TaskError, match="allowed are init"):
            TASKS[key]().hparams(0, "nowhere")


def test_a_task_that_imports_another_is_stamped_with_it():
    for key in ("counterexample", "scalar"):
        names = {path.name for path in stamp.files(Cell(task=key, method="rmd", backend="jax", horizon=5))}
        assert {f"{key}.py", "spectrum.py"} <= names


# the constants


def test_curvature_is_that_of_the_construction():
    assert theory.curvature(TASKS["spectrum"](kappa=50.0), 0) == pytest.approx((0.02, 1.0), rel=1e-12)
    assert theory.curvature(TASKS["counterexample"](), 0) == (0.01, 1.0)
    assert theory.curvature(TASKS["scalar"](), 0) == (1.0, 1.0)
    assert theory.curvature(TASKS["quadratic"](), 0) == (0.5, 1.0)
    assert theory.curvature(TASKS["doublewell"](), 0) == pytest.approx((-0.9, 1.0), rel=1e-12)
    X = TASKS["logistic"]().context(0, 0, 1)[0]["X"]
    alpha, beta = theory.curvature(TASKS["logistic"](), 0)
    assert (alpha, beta) == pytest.approx((0.1, 0.1 + np.linalg.svd(X)[1][0] ** 2 / 240), rel=1e-12)


@pytest.mark.parametrize("name", ["logistic", "doublewell", "dense"])
def test_curvature_is_within_the_bounds_and_reaches_them(name):
    """lower ≼ ∇²g ≼ upper over draws of w and λ, and both ends are met somewhere, so that neither is slack."""
    bk = backends.load("jax", "float64")
    task, (problem, _, data, _) = _task(name), _case(name).at(bk)
    lower, upper = task.curvature_bounds(0)
    M, N = len(lower), len(_case(name).hparams)
    rng = np.random.default_rng(4)
    at = [(rng.standard_normal(M) * 10.0 ** rng.uniform(-3, 2), 3 * rng.standard_normal(N)) for _ in range(40)]
    at += [(np.zeros(M), np.full(N, 40.0)), (np.zeros(M), np.full(N, -40.0)), (np.full(M, 1e6), np.zeros(N))]
    below, above = [], []
    hessian = jax.jit(jax.hessian(lambda w, lam: problem.inner_loss(w, problem.embed(lam, data), data)))
    for w, lam in at:
        H = np.asarray(hessian(w, lam))
        below.append(np.linalg.eigvalsh(H - lower)[0])
        above.append(np.linalg.eigvalsh(upper - H)[0])
    assert min(*below, *above) > -1e-12
    assert min(below) < 1e-9
    assert min(above) < 1e-9


def test_lanczos_is_dense(bk):
    """From the matrix, from Hessian-vector products in either framework, and beyond the size where it takes over."""
    task = TASKS["spectrum"](dimension=150, kappa=300.0)
    data, _ = task.context(0, 0, 1)
    values = theory.extremes(data["H"])
    assert values == pytest.approx((1 / 300, 1.0), rel=1e-10)
    assert theory.lanczos(data["H"]) == pytest.approx(values, rel=1e-10)
    lam, w = (bk.asarray(np.random.default_rng(0).standard_normal(150)) for _ in range(2))
    operator = theory.hessian(bk, task.problem(bk), w, lam, bk.asarray(data))
    assert theory.extremes(operator) == pytest.approx(values, rel=1e-10)


def test_lanczos_takes_over_at_size(monkeypatch):
    called = []
    monkeypatch.setattr(theory, "lanczos", lambda matrix: called.append(len(matrix)) or (0.0, 1.0))
    theory.extremes(np.eye(1000))
    theory.extremes(np.eye(1001))
    assert called == [1001]


@pytest.mark.parametrize("name", PROBLEMS)
def test_constants_are_the_dense_oracle_s(bk, name):
    case, c = _case(name), _constants(bk, name)
    d = oracles.dense(case)
    B = [(B @ d.E) for B in (d.B_0, *d.B)]
    norms = [np.linalg.norm(b, 2) for b in B]
    assert c.B_max == pytest.approx(max(norms), rel=1e-12)
    assert (norms[0] == max(norms)) == (name == "lambda")  # there the maximum is at t = 0
    assert c.f_w == pytest.approx(np.linalg.norm(d.f_w), rel=1e-12)
    assert (c.gamma, c.horizon, c.size) == (case.data["rate"], len(case.xs), len(d.f_w))
    assert c.rank == min(np.linalg.matrix_rank(b) for b in B[1:])
    H = (np.eye(c.size) - d.A[-1]) / c.gamma
    BB = B[-1] @ B[-1].T
    scale = np.linalg.norm(BB) * np.linalg.norm(H)
    assert c.commutator == pytest.approx(np.linalg.norm(BB @ H - H @ BB) / scale, abs=1e-13)


def test_rank_and_commutator_tell_the_couplings_apart():
    bk = backends.load("jax", "float64")
    found = {name: _constants(bk, name) for name in ("-I", "dense", "commuting", "narrow", "counterexample")}
    assert {name: c.rank for name, c in found.items()} == {
        "-I": 5,
        "dense": 5,
        "commuting": 5,
        "narrow": 3,
        "counterexample": 2,
    }
    assert max(found["commuting"].commutator, found["-I"].commutator) < 1e-14
    assert found["dense"].commutator > 0.05
    assert found["counterexample"].commutator > 0.5


def test_local_curvature_is_the_smallest_on_the_way(bk):
    case, c = _case("doublewell"), _constants(bk, "doublewell")
    w, T = oracles.dense(case).w, len(case.xs)
    assert c.alpha_tail.shape == (T,)
    share = np.linspace(0, 1, theory.WITHIN + 2)
    on = [
        min(np.linalg.eigvalsh(case.data["H"] - np.diag(1.5 * (1 + (a + s * (b - a)) ** 2) ** -1.5))[0] for s in share)
        for a, b in pairwise(w)
    ]
    assert c.alpha_tail == pytest.approx([min(on[T - K :]) for K in range(1, T + 1)], rel=1e-12)
    assert c.alpha_tail[-1] < -0.5 < 0.3 < c.alpha_tail[0]
    assert _constants(bk, "logistic").alpha_tail.size == 0


@pytest.mark.parametrize("name", PROBLEMS)
def test_bias_is_within_the_bound(name):
    """C1 at twenty draws of λ and several K."""
    bk = backends.load("jax", "float64")
    problem, _, data, xs = _case(name).at(bk)
    T = len(xs)
    at = theory.constants(bk, _task(name), problem, 0)
    Ks = sorted({0, 1, 2, 5, 10, T - 1})
    exact = bk.compile(partial(METHODS["rmd"](), bk, problem))
    short = {K: bk.compile(partial(METHODS["krmd"](truncation=K), bk, problem)) for K in Ks}
    finite = 0
    for draw in range(20):
        args = (bk.asarray(_case(name, 0, draw).hparams), data, xs)
        c, dF = at(*args), flat(bk, exact(*args).grad)
        for K in Ks:
            error, bound = np.linalg.norm(flat(bk, short[K](*args).grad) - dF), c.bound(K)
            assert error <= bound * (1 + 1e-9) + 1e-13 * np.linalg.norm(dF), (draw, K)
            finite += np.isfinite(bound)
    assert finite >= 60  # the double well's start, within the last steps at large K, has none


def test_on_a_scalar_problem_the_bound_is_sharp(bk):
    """An error of one in K would break it (PAPER §1, C1)."""
    task = TASKS["scalar"](direct=0.0)
    data, xs = task.context(1, 0, 400)
    case = Case("scalar", task.problem, task.hparams(1), data, xs)
    problem, *args = case.at(bk)
    c = theory.constants(bk, task, problem, 1)(*args)
    dF = _estimate(bk, "rmd", case)
    for K in (1, 10, 100):
        error = np.linalg.norm(_estimate(bk, "krmd", case, truncation=K) - dF)
        assert c.bound(K) * (1 - 1e-9) <= error <= c.bound(K) * (1 + 1e-9)
        assert error > 1.05 * c.bound(K + 1)


def test_no_bound_where_the_statement_asks_for_more():
    bk = backends.load("jax", "float64")
    task = TASKS["scalar"](rate=1.5)
    data, xs = task.context(0, 0, 10)
    args = tuple(map(bk.asarray, (task.hparams(0), data, xs)))
    assert theory.constants(bk, task, task.problem(bk), 0)(*args).bound(3) == inf
    c = _constants(bk, "doublewell")
    assert c.bound(1) < inf
    assert c.bound(c.horizon) == c.bound(0) == inf
    with pytest.raises(ValueError, match="need float64"):
        theory.constants(backends.load("jax", "float32"), task, task.problem(bk), 0)


def test_constants_trace_once_for_all_hyperparameters():
    bk = backends.load("jax", "float64")
    case, calls = _case("logistic"), []
    problem, lam, data, xs = case.at(bk)

    def step(w, theta, data, x, take=problem.step):
        calls.append(1)
        return take(w, theta, data, x)

    at = theory.constants(bk, _task("logistic"), problem.replace(step=step), 0)
    first = at(lam, data, xs)
    traced = len(calls)
    assert at(lam + 0.5, data, xs).B_max != first.B_max
    assert len(calls) == traced
