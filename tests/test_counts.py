"""Deterministic gates: oracle calls, compilations, planned memory."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import backends
from backends.counting import count
from backends.hypergradient import METHODS, Sizes
from backends.hypergradient.protocol import size
from tasks import TASKS
from tests.grid import CONVEX
from tests.problems import generic

T = 12
KS = (0, 1, 7, T)
TAKES_K = ("krmd", "cg", "neumann")
WIDE = generic(m=3, n=7, p=2, horizon=T)  # M < N; the grid's own is shorter than K = 7
DIGITS = TASKS["hypercleaning"](dataset="digits", train=20, validation=20, test=20)


def _digits(bk):
    data, xs = DIGITS.context(0, 0, T)
    return DIGITS.problem(bk), bk.asarray(DIGITS.hparams(0)), bk.asarray(data), bk.asarray(xs)


def _logistic(bk):
    task = TASKS["logistic"](features=4, examples=6, validation=5)
    data, xs = task.context(0, 0, T)
    return task.problem(bk), bk.asarray(task.hparams(0)), bk.asarray(data), bk.asarray(xs)


PROBLEMS = {"generic": WIDE.at, "convex": CONVEX["away"].at, "digits": _digits, "logistic": _logistic}
COUNTED = [
    (name, where)
    for where in PROBLEMS
    for name in ("rmd", "krmd", "fmd", "cg", "neumann")
    if (name, where) != ("cg", "generic")  # it has no inner loss; the other three have one
]


def _variants(name: str):
    Ks = [{"truncation": K} for K in KS] if name in TAKES_K else [{}]
    stashes = [{"stash": s} for s in ("iterates", "residuals")] if name in ("rmd", "krmd") else [{}]
    chunks = [{"chunk": c} for c in (1, 3, 256)] if name == "fmd" else [{}]
    once = [{"linearise": e} for e in ("each", "once")] if name == "neumann" else [{}]
    return [k | s | c | e for k in Ks for s in stashes for c in chunks for e in once]


def _nonzero(counts):
    return {f: {k: n for k, n in kinds.items() if n} for f, kinds in counts.items()}


@pytest.mark.parametrize(("name", "where"), COUNTED)
def test_counted_calls_are_the_formula(bk, name, where):
    problem, hparams, data, xs = PROBLEMS[where](bk)
    assert {len(x) for x in bk.leaves(xs)} == {T}
    theta = problem.embed(hparams, data)
    M = size(bk, problem.init(theta, data))
    sizes = Sizes(T, M, size(bk, hparams), size(bk, theta), size(bk, problem.lower(theta)))
    ran = set()
    for options in _variants(name):
        method = METHODS[name](**options)
        assert count(bk, method, problem, hparams, data, xs) == _nonzero(method.cost(sizes)), options
        ran.add(options.get("truncation"))
    assert ran == ({0, 1, 7, 12} if name in TAKES_K else {None})


def test_every_method_is_counted_on_three_problems():
    assert {name for name, _ in COUNTED} == {name for name in METHODS if not name.startswith("native-")}
    assert all(sum(name == n for n, _ in COUNTED) >= 3 for name in METHODS if not name.startswith("native-"))


@pytest.mark.parametrize("stash", ["iterates", "residuals"])
@pytest.mark.parametrize("K", KS)
def test_krmd_counts_as_the_design_says(bk, stash, K):
    """Step (call, linearise, pull): iterates T, K, K; residuals T − K, K, K.  Typed in here on purpose."""
    counts = count(bk, METHODS["krmd"](truncation=K, stash=stash), *PROBLEMS["convex"](bk))
    step = counts["step"]
    expected = {"call": T if stash == "iterates" else T - K, "linearise": K, "pull": K}
    assert step == {k: n for k, n in expected.items() if n}


@pytest.mark.parametrize("name", METHODS)
def test_new_values_compile_nothing(name):
    """New λ, data and xs of the same shapes: one compilation in all."""
    bk = backends.load("jax", "float64")
    case = CONVEX["away"]
    problem, hparams, data, xs = case.at(bk)
    options = {"truncation": 3} if name.removeprefix("native-") in TAKES_K else {}
    f = bk.compile(partial(METHODS[name](**options), bk, problem))
    seen = set()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        lam = bk.asarray(rng.standard_normal(3))
        other = data | {"target": bk.asarray(rng.standard_normal(4))}
        seen.add(float(np.linalg.norm(bk.to_numpy(f(lam, other, xs + seed).grad))))
    assert f._cache_size() == 1
    assert len(seen) == 3
    # Another horizon is another shape: the counter does count.
    f(hparams, data, xs[:-1])
    assert f._cache_size() == 2


def _plan(bk, method, horizon: int):
    problem, hparams, data, _ = _digits(bk)
    xs = bk.asarray(DIGITS.context(0, 0, horizon)[1])
    return bk.memory_plan(bk.compile(partial(method, bk, problem)), hparams, data, xs)


M_BYTES = 8 * 65 * 10


def test_krmd_iterates_memory_is_linear_in_K(bk):
    Ks = np.array([5, 10, 20, 40, 80])
    plans = np.array([_plan(bk, METHODS["krmd"](truncation=int(K)), 100) for K in Ks])
    slope, intercept = np.polyfit(Ks, plans, 1)
    assert 0.9 * M_BYTES <= slope <= 1.1 * M_BYTES
    assert np.abs(plans - slope * Ks - intercept).max() <= 0.01 * plans.max()


def test_krmd_memory_is_flat_in_T(bk):
    short, long = (_plan(bk, METHODS["krmd"](truncation=5), horizon) for horizon in (100, 1000))
    assert abs(long - short) <= 0.01 * short


@pytest.mark.parametrize(
    ("method", "fewer", "more", "horizons"),
    [
        ("krmd", {"truncation": 20}, {"truncation": 80}, (100, 100)),
        ("rmd", {}, {}, (100, 200)),
        ("neumann", {"truncation": 5}, {"truncation": 50}, (100, 100)),
        ("cg", {"truncation": 5}, {"truncation": 50}, (100, 100)),
        ("fmd", {"chunk": 10}, {"chunk": 10}, (100, 200)),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_law_grows_as_the_plan(bk, method, fewer, more, horizons):
    """The workspace of a step is in the plan and not in the law: their differences are held against each other.

    Not over FMD's chunk, on which that workspace depends.
    """
    plans, laws = [], []
    for options, horizon in zip((fewer, more), horizons):
        made = METHODS[method](**options)
        plans.append(_plan(bk, made, horizon))
        laws.append(8 * made.law(Sizes(horizon, M=650, N=20, P=20, lower=20)))
    grown = laws[1] - laws[0]
    assert abs(plans[1] - plans[0] - grown) <= 0.1 * max(grown, M_BYTES)


def test_rmd_memory_grows_with_T(bk):
    """The other way round, so that the law is not true of anything."""
    short, long = (_plan(bk, METHODS["rmd"](), horizon) for horizon in (100, 200))
    assert long - short >= 0.9 * 100 * M_BYTES


def test_cg_memory_is_flat_in_K_and_T(bk):
    base = _plan(bk, METHODS["cg"](truncation=5), 100)
    assert abs(_plan(bk, METHODS["cg"](truncation=50), 100) - base) <= 0.01 * base
    assert abs(_plan(bk, METHODS["cg"](truncation=5), 1000) - base) <= 0.01 * base


def test_fmd_memory_grows_with_the_chunk_and_not_with_T(bk):
    one, ten = (_plan(bk, METHODS["fmd"](chunk=c), 100) for c in (1, 10))
    assert ten - one >= 0.9 * 9 * M_BYTES
    longer = _plan(bk, METHODS["fmd"](chunk=10), 1000)
    assert abs(longer - ten) <= 0.01 * ten
