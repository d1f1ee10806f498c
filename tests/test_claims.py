"""Claims: each is reproduced on records that confirm it, and a planted break in them takes the verdict away."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest

from bench import __main__ as main
from bench.cell import Cell
from bench.claims import CLAIMS, judge, page, protocol
from bench.claims.bias import bound
from bench.claims.draw import training as drawn
from bench.claims.query import DEFAULTS
from bench.record import Bias, Calibration, Landscape, Memory, Record, Result, Sample, Sketch, Time, Training
from bench.store import Store
from tasks import TASKS
from tests import trained

PAIR = ("jax", "torch")
ROOT = Path(__file__).resolve().parent.parent
BY_ID = {c.id: c for c in CLAIMS}


# records, made by hand


def cell(backend: str, kind: str, task: str, K: int | None, **given) -> Cell:
    method = given.pop("method", "krmd")
    options = {} if K is None else {"truncation": K}
    plain = {"dtype": "float64", "timed": False, "task_options": {}, **given}
    return Cell.model_validate(
        {"kind": kind, "task": task, "method": method, "method_options": options, "backend": backend, **plain}
    )


def record(c: Cell, **parts) -> Record:
    fields = {
        "status": "ok",
        "environment": {"fingerprint": "here"},
        "code": {"stamp": ""},
        "started": "",
        "seconds": 0.0,
    }
    return Record(key=c.key, cell=c, **{**fields, **parts})


def change(r: Record, part: str, **fields) -> Record:
    return r.model_copy(update={part: getattr(r, part).model_copy(update=fields)})


def sample(backend, task, K, T, alpha, gamma, error, **given) -> Record:
    """One sample with ‖dF‖ = 1 at every λ, β = 1/γ and f_w B_max = γα, so that C1's bound is (1−γα)^K."""
    method, options, error = given.pop("method", "krmd"), given.pop("options", {}), np.atleast_1d(error)
    n = len(error)
    c = cell(backend, "sample", task, K, method=method, horizon=T, task_options=options)
    made = {
        "seeds": list(range(n)), "horizon": T, "M": 2, "N": 2, "alpha": alpha, "beta": 1 / gamma, "gamma": gamma,
        "f_w": [gamma * alpha] * n, "B_max": [1.0] * n, "rank": [2] * n, "commutator": [0.0] * n,
        "alpha_tail": [None] * n, "norm": [1.0] * n, "exact_norm": [1.0] * n, "exact_error": error.tolist(),
        "cosine": [0.9] * n, "descent": [0.5] * n, "implicit_norm": [1.0] * n, "implicit_error": error.tolist(),
        "energy_norm": [None] * n, "energy_error": [None] * n,
    }  # fmt: skip
    return record(c, sample=Sample(**{**made, **given}))


def training(backend, task, K, T, norm, exact, **given) -> Record:
    """Runs; `norm` and `exact` are (starts, recorded)."""
    options, settings = given.pop("options", {}), given.pop("settings", {})
    norm, exact = np.atleast_2d(norm), np.atleast_2d(exact)
    taus = given.pop("iterations", list(range(norm.shape[1])))
    ones = np.ones_like(norm).tolist()
    made = {
        "seeds": list(range(len(norm))), "iterations": taus, "value": ones, "norm": norm.tolist(),
        "exact_norm": exact.tolist(), "cosine": ones, "descent": ones, "lam": None,
        "last": [[0.0, 0.0]] * len(norm), "rates": [0.1] * len(taus), "bias": ones, "selected": [0] * len(norm),
        "chosen": None, "validation": {}, "held": {}, "every_value": None, "every_norm": None, "seconds": None,
    }  # fmt: skip
    c = cell(backend, "training", task, K, horizon=T, task_options=options, settings=settings)
    return record(c, training=Training(**{**made, **given}))


def result(c: Cell, **given) -> Record:
    none = Bias(reason="-")
    made = {
        "sizes": {"horizon": c.horizon, "M": 500, "N": 2, "P": 2, "lower": 2}, "value": 1.0, "norm": 1.0, "exact": none,
        "implicit": none, "implicit_wT": none, "sketch": Sketch(exact=True, values=[1.0, 2.0], norm=1.0), "time": None,
        "memory": Memory(law=None, plan=None, resident=None), "counts": None, "cost": None, "stats": {}, "metrics": {},
        "estimand": "",
    }  # fmt: skip
    return record(c, result=Result(**{**made, **given}))


def good_bias(b):
    a = 0.9
    Ks = [1, 2, 5, 10, 20, 50]
    many = [sample(b, "spectrum", K, 200, 0.1, 1.0, np.full(200, 0.3 * a**K)) for K in Ks]
    return [*many, *(sample(b, "scalar", K, 400, 1.0, 0.1, np.full(20, a**K), options={"direct": 0.0}) for K in Ks)]


def descending(b, worst):
    """The counterexample's and commuting samples, and a run of each."""
    commuting = {"coupling": "commuting"}
    bent = sample(
        b, "counterexample", 1, 1000, 0.01, 1.0, np.ones(5), descent=[0.1] * 4 + [worst], commutator=[0.5] * 5
    )
    return [
        bent,
        sample(b, "spectrum", 1, 1000, 0.1, 1.0, np.ones(5), options=commuting),
        training(b, "spectrum", 1, 1000, [1, 0.5, 1e-9], [1, 0.5, 1e-9], options=commuting, descent=[[0.2, 0.1, -1.0]]),
        training(b, "counterexample", 1, 1000, [1, 0.5], [1, 0.5], descent=[[0.2, 0.1]]),
    ]


def floors(b, K, T=1000, **given):
    a_K = 0.9**K
    lam, dF = 1 / (2 - a_K), a_K / (2 - a_K)
    ends = {"lam": [[[2.0], [1.0], [lam]]], "last": [[lam]]}
    return training(b, "scalar", K, T, [1, 1e-3, 1e-12], [1, dF * 1.01, dF], **ends, **given)


def good_sqrt(b):
    rates = [0.5, 0.5 / np.sqrt(2), 0.5 / np.sqrt(3)]
    return [floors(b, K, rates=rates, settings={"schedule": "sqrt"}) for K in (1, 5, 20)]


def good_floor(b):
    return [floors(b, K) for K in (1, 10, 20, 30, 40, 50)]


def good_exact(b):
    down = np.array([[1.0, 1e-7, 1e-15]])
    spectrum = {"kappa": 100.0, "coupling": "-I"}
    return [
        *(training(b, "quadratic", K, 100, np.repeat(down, 20, 0), np.repeat(down, 20, 0)) for K in (1, 2, 5)),
        *(training(b, "spectrum", K, 100, down, down, options=spectrum) for K in (1, 2, 5)),
        training(b, "spectrum", 1, 100, down, [[1.0, 0.4, 0.4]], options={"direct": 0.5}),
    ]


def good_wrong_end(b):
    return [floors(b, 1)]


def _another_neumann_is_right(records):
    """The first is wrong, and a second of the same K, which linearises once, is not."""
    wrong = Sketch(exact=True, values=[1.0, 2.5], norm=1.0)
    broken = each("result", is_("neumann", 5), sketch=wrong)(records)
    right = [r for r in records if r.cell.method == "neumann" and r.cell.truncation == 5]
    cells = [r.cell.model_copy(update={"method_options": {"truncation": 5, "linearise": "once"}}) for r in right]
    return [*broken, *(r.model_copy(update={"cell": c, "key": c.key}) for r, c in zip(right, cells))]


def good_series(b):
    made = []
    for K in (1, 5):
        for method in ("krmd", "neumann"):
            given = {"task_options": {"start": "optimum"}, "horizon": 100, "method": method}
            made.append(result(cell(b, "hypergradient", "spectrum", K, **given)))
    rest = sample(b, "spectrum", 5, 100, 0.1, 1.0, np.array([0.5]), options={"start": "optimum"})
    return [*made, rest]


def good_linear_solvers(b):
    made = []
    for kappa in (10.0, 100.0):
        options, root = {"kappa": kappa, "coupling": "-I", "start": "optimum"}, np.sqrt(kappa)
        for K in (1, 5, 10):
            slow, fast = (1 - 1 / kappa) ** K, ((root - 1) / (root + 1)) ** K
            for method, error in (("krmd", 0.9 * slow), ("neumann", 0.9 * slow), ("cg", min(fast, 0.8 * slow))):
                norms = {"energy_norm": [1.0], "energy_error": [error], "options": options, "method": method}
                made.append(sample(b, "spectrum", K, 100, 1 / kappa, 1.0, np.array([error]), **norms))
    off = {"kappa": 100.0, "coupling": "-I", "start": "fixed"}
    jitter = 1 + 0.01 * np.arange(5)
    for method, exact, implicit in (("krmd", 0.4, 0.98), ("cg", 3.0, 0.8)):
        errors = {"options": off, "method": method, "implicit_error": (implicit * jitter).tolist()}
        made.append(sample(b, "spectrum", 10, 20, 0.01, 1.0, exact * jitter, **errors))
    return made


def law(b, K, T, plan=None, seconds=None, **counts) -> Record:
    seconds = 1e-3 * (5 + 0.1 * K) if seconds is None else seconds
    time = Time(lane="jit", compile=None, warmup=0.0, values=[seconds], median=seconds, iqr_ratio=0.0)
    step = {"call": T, "linearise": K, "pull": K, **counts}
    memory = Memory(law=2000 * K, plan=8000 + 2000 * K if plan is None else plan, resident=None)
    c = cell(b, "hypergradient", "hypercleaning", K, dtype="float32", timed=True, horizon=T)
    return result(c, time=time, memory=memory, counts={"step": step})


def good_laws(b):
    return [*(law(b, K, 100) for K in (1, 5, 10, 25, 50)), *(law(b, 25, T) for T in (50, 200, 400))]


def good_toy(b):
    taus = list(range(0, 101, 10))
    made = []
    for K, speed in ((1, 0.5), (5, 1.0), (25, 2.0)):
        norm = np.exp(-speed * np.outer(1 + 0.01 * np.arange(5), taus))
        settings = {"rate": 0.05, "starts": 5}
        given = {"iterations": taus, "settings": settings, "last": [[0.0, 3.0 * i] for i in range(5)]}
        made.append(training(b, "quadratic", K, 100, norm, norm, **given))
        land = Landscape(
            points=4, largest_angle_deg=20.0 / K, median_norm_ratio=0.5, bias_min=0.1, bias_max=0.9, bound=0.9,
            closed_form_error=0.0, axis=[-5.0, 5.0], value=[[3.0, 1.0], [2.0, 4.0]], angle_deg=[[1.0, 2.0], [3.0, 4.0]],
            norm_ratio=[[0.1, 0.2], [0.3, 0.4]],
        )  # fmt: skip
        made.append(record(cell(b, "landscape", "quadratic", K, horizon=100), landscape=land))
    return made


def timings(b, method, K, ours) -> Record:
    steps, back = 1e-2, 1e-2 * (K or 100) / 100
    one = {f"{method} iterates": ours, "floor: steps": steps, "floor: pull-backs": back, f"native-{method}": ours}
    seconds = {name: [s * (1 + 1e-3 * i) for i in range(12)] for name, s in one.items()}
    c = cell(b, "calibration", "hypercleaning", K, method=method, horizon=100, dtype="float32", timed=True)
    return record(c, calibration=Calibration(lane="jit", seconds=seconds))


def good_half(b):
    return [timings(b, "rmd", None, 2.1e-2), timings(b, "krmd", 5, 1.08e-2)]


GOOD = {
    "C1": good_bias,
    "C2": lambda b: descending(b, 0.05),
    "C2′": lambda b: descending(b, 0.05),
    "C3": good_sqrt,
    "C4": good_floor,
    "C5": good_exact,
    "C6": good_wrong_end,
    "C7": good_series,
    "C8": good_linear_solvers,
    "C9": good_laws,
    "C10": good_toy,
    "C11": trained.cleaning,
    "C12": trained.interaction,
    "C13": trained.fewshot,
    "C14": trained.fewshot,
    "C15a": good_half,
    "C15b": lambda b: [*trained.cleaning(b), *trained.interaction(b), *trained.fewshot(b, 2)],
}


# breaks


def each(part, where, **fields):
    """Change a part of the records that `where` picks; a field may be a function of the record."""

    def broken(records):
        def changed(r):
            return change(r, part, **{k: v(r) if callable(v) else v for k, v in fields.items()})

        return [changed(r) if where(r) else r for r in records]

    return broken


def other_K(records, by):
    """The same numbers with K told off by one."""
    made = []
    for r in records:
        c = r.cell.model_copy(update={"method_options": {"truncation": r.cell.truncation + by}})
        made.append(r.model_copy(update={"cell": c, "key": c.key}))
    return made


def is_(method=None, K=None, task=None, kind=None):
    def where(r):
        c = r.cell
        given = ((method, c.method), (K, c.truncation), (task, c.task), (kind, c.kind))
        return all(wanted is None or wanted == is_so for wanted, is_so in given)

    return where


def with_direct(r):
    return "direct" in r.cell.task_options


def costs(**laws):
    """Other laws of K and T."""

    def broken(records):
        at = [(r.cell.backend, r.cell.truncation, r.cell.horizon) for r in records]
        return [law(b, K, T, **{name: f(K, T) for name, f in laws.items()}) for b, K, T in at]

    return broken


def tiny(r):
    return {name: [1e-5] * 5 for name in r.calibration.seconds}


def cg_above(r):
    s = r.sample
    return [1.05 * (1 - s.alpha) ** r.cell.truncation for _ in s.seeds]


def held(r, by):
    """Its metrics with another accuracy."""
    return {**r.training.held, "accuracy": [x + by for x in r.training.held["accuracy"]]}


def apart(by, *Ks):
    """Another accuracy on held-out data at these K of the long horizon."""
    return each("training", lambda r: r.cell.truncation in Ks and r.cell.horizon >= 50, held=lambda r: held(r, by))


def every_other(by):
    """A seed up, a seed down: nothing is shown."""
    return each("training", lambda r: r.cell.truncation in (5, 10), held=lambda r: held(r, by * (-1) ** r.cell.seed))


def other_cell(r, **fields):
    """The record under another cell."""
    c = r.cell.model_copy(update=fields)
    return r.model_copy(update={"cell": c, "key": c.key})


def rate_by_K(records):
    return [other_cell(r, settings={**r.cell.settings, "rate": 1.0 + (r.cell.truncation or 0)}) for r in records]


def same_K_1(records):
    """K = 1 whose loss is a seed up, a seed down."""
    b, seeds = records[0].cell.backend, sorted({r.cell.seed for r in records})
    fields = {"task_options": trained.CLEANING, "accuracy": 0.88}
    made = [trained.run(b, "hypercleaning", 1, s, loss=0.4 + 0.02 * (-1) ** s, **fields) for s in seeds]
    return [*[r for r in records if r.cell.truncation != 1], *made]


def shorter(r):
    return other_cell(r, settings={**r.cell.settings, "iterations": 9})


def slow(r):
    return r.training.seconds.model_copy(update={"median": 1.0 + 1e-3 * r.cell.seed})


AS_ACCURATE = {
    "a K that is worse": (apart(-0.02, 1), "refuted"),
    "a K that is as slow": (each("training", is_(K=1), seconds=slow), "inconclusive"),
    "nothing shown": (every_other(0.02), "inconclusive"),
    "two seeds": (lambda rs: [r for r in rs if r.cell.seed < 2], "inconclusive"),
    "no K = T": (lambda rs: [r for r in rs if r.cell.truncation not in (50, 100)], "inconclusive"),
    "a rate for every K": (rate_by_K, "inconclusive"),
    "in float64": (lambda rs: [other_cell(r, dtype="float64") for r in rs], "inconclusive"),
}

BREAKS = {
    "C11": {
        "a K that is worse": (apart(-0.02, 5), "refuted"),
        "a K that is better": (apart(0.02, 25), "refuted"),
        "a loss that is higher": (
            each("training", is_(K=5), value=lambda r: [[1.1 * x for x in r.training.value[0]]]),
            "refuted",
        ),
        "K = 1 is better": (
            each("training", is_(K=1), value=lambda r: [[0.8 * x for x in r.training.value[0]]]),
            "refuted",
        ),
        "K = 1 is the same": (same_K_1, "inconclusive"),
        "nothing shown": (every_other(0.02), "inconclusive"),
        "two seeds": (lambda rs: [r for r in rs if r.cell.seed < 2], "inconclusive"),
        "no K = 1": (lambda rs: [r for r in rs if r.cell.truncation != 1], "inconclusive"),
        "no K = T": (lambda rs: [r for r in rs if r.cell.truncation != 100], "inconclusive"),
    },
    "C12": AS_ACCURATE,
    "C13": AS_ACCURATE,
    "C14": {
        "the short horizon is better": (apart(-0.05, 1, 10, 25), "refuted"),
        "the short horizon is the same": (apart(-0.02, 1, 10, 25), "refuted"),
        "nothing shown": (
            each("training", is_(K=1), held=lambda r: held(r, -0.02 + 0.03 * (-1) ** r.cell.seed)),
            "inconclusive",
        ),
        "two seeds": (lambda rs: [r for r in rs if r.cell.seed < 2], "inconclusive"),
        "no short horizon": (lambda rs: [r for r in rs if r.cell.horizon == 50], "inconclusive"),
        "a shorter run": (lambda rs: [r if r.cell.horizon == 50 else shorter(r) for r in rs], "inconclusive"),
    },
    "C15b": {
        "most are worse": (apart(-0.03, 1, 5), "refuted"),
        "most are better": (apart(0.03, 1, 5), "inconclusive"),
        "one problem alone": (lambda rs: [r for r in rs if r.cell.task == "hypercleaning"], "inconclusive"),
        "two seeds": (lambda rs: [r for r in rs if r.cell.seed < 2], "inconclusive"),
    },
    "C1": {
        "α doubled": (each("sample", is_(), alpha=lambda r: 2 * r.sample.alpha), "refuted"),
        "K one too large": (lambda rs: other_K(rs, 1), "refuted"),
        "K one too small": (lambda rs: [r for r in other_K(rs, -1) if r.cell.truncation], "inconclusive"),
        "too few points": (lambda rs: rs[::2], "inconclusive"),
        "no scalar problem": (lambda rs: [r for r in rs if r.cell.task != "scalar"] * 2, "inconclusive"),
        "a rate above 1/β": (each("sample", is_(), beta=lambda r: 1.1 / r.sample.gamma), "inconclusive"),
    },
    "C2": {
        "a negative ratio": (lambda rs: descending(rs[0].cell.backend, -0.2), "refuted"),
        "no counterexample": (lambda rs: [r for r in rs if r.cell.task != "counterexample"], "inconclusive"),
        "rank below M": (each("sample", is_(kind="sample"), rank=lambda r: [1] * len(r.sample.seeds)), "inconclusive"),
        "negative along a run": (
            each("training", is_(task="counterexample", kind="training"), descent=[[0.2, -0.1]]),
            "refuted",
        ),
    },
    "C2′": {
        "a negative ratio": (
            each(
                "sample",
                is_(task="spectrum", kind="sample"),
                descent=lambda r: [0.5, 0.5, 0.5, 0.5, -1e-3],
            ),
            "refuted",
        ),
        "nothing commutes": (
            each("sample", is_(kind="sample"), commutator=[0.1] * 5),
            "inconclusive",
        ),
        "negative along a run": (
            each("training", is_(task="spectrum", kind="training"), descent=[[0.2, -0.1, 1.0]]),
            "refuted",
        ),
    },
    "C3": {
        "another floor": (each("training", is_(K=5), exact_norm=[[1.0, 0.5, 0.3]]), "refuted"),
        "a constant rate": (each("training", is_(), rates=[0.1, 0.1, 0.1]), "inconclusive"),
        "stopped early": (each("training", is_(K=5), norm=[[1.0, 0.5, 0.1]]), "inconclusive"),
    },
    "C4": {
        "a floor that does not fall": (each("training", is_(), exact_norm=[[1.0, 0.1, 0.01]]), "refuted"),
        "too few K": (lambda rs: rs[:4], "inconclusive"),
        "stopped early": (each("training", is_(), norm=[[1.0, 0.5, 0.1]]), "inconclusive"),
    },
    "C5": {
        "h = 0 where dF is not": (
            each("training", is_(K=2, task="spectrum"), exact_norm=[[1.0, 0.1, 0.1]]),
            "refuted",
        ),
        "stopped early": (
            each(
                "training",
                is_(K=2, task="quadratic"),
                norm=lambda r: [[1.0, 0.1, 1e-3]] * 20,
                exact_norm=lambda r: [[1.0, 0.1, 1e-3]] * 20,
            ),
            "inconclusive",
        ),
        "too few starts": (each("training", is_(K=1, task="quadratic"), seeds=list(range(19))), "inconclusive"),
        "well conditioned": (lambda rs: [r for r in rs if "kappa" not in r.cell.task_options], "inconclusive"),
        "a direct term does not matter": (
            each("training", with_direct, exact_norm=[[1.0, 1e-7, 1e-15]]),
            "inconclusive",
        ),
        "no run with a direct term": (lambda rs: rs[:-1], "inconclusive"),
    },
    "C6": {
        "another end": (each("training", is_(), last=[[0.5]], exact_norm=[[1.0, 0.1, 0.0]]), "refuted"),
        "stopped early": (each("training", is_(), norm=[[1.0, 0.5, 0.1]]), "inconclusive"),
    },
    "C7": {
        "one more term": (
            each("result", is_("neumann", 5), sketch=Sketch(exact=True, values=[1.0, 2.0 + 1e-8], norm=1.0)),
            "refuted",
        ),
        "one of two ways to linearise is off": (_another_neumann_is_right, "refuted"),
        "a rest that is too large": (each("sample", is_(kind="sample"), implicit_error=[0.7]), "refuted"),
        "no Neumann": (lambda rs: [r for r in rs if r.cell.method != "neumann"], "inconclusive"),
    },
    "C8": {
        "CG above Neumann": (
            each("sample", is_("cg", 1), energy_error=cg_above),
            "refuted",
        ),
        "K-RMD above its rate": (
            each("sample", is_("krmd", 5), energy_error=[0.99]),
            "refuted",
        ),
        "CG wins away too": (
            each("sample", lambda r: r.cell.method == "cg" and r.cell.horizon == 20, exact_error=[0.1] * 5),
            "refuted",
        ),
        "nothing away from w*": (lambda rs: [r for r in rs if r.cell.horizon != 20], "inconclusive"),
        "no CG": (lambda rs: [r for r in rs if r.cell.method != "cg"], "inconclusive"),
    },
    "C9": {
        "a pull-back too many": (
            each("result", is_(K=10), counts={"step": {"call": 100, "linearise": 10, "pull": 11}}),
            "refuted",
        ),
        "two iterates a step": (
            lambda rs: [
                law(r.cell.backend, r.cell.truncation, r.cell.horizon, plan=4000 * r.cell.truncation) for r in rs
            ],
            "refuted",
        ),
        "memory grows with T": (
            lambda rs: [
                law(
                    r.cell.backend,
                    r.cell.truncation,
                    r.cell.horizon,
                    plan=2000 * r.cell.truncation + 20 * r.cell.horizon,
                )
                for r in rs
            ],
            "refuted",
        ),
        "time is not a line": (
            lambda rs: [
                law(r.cell.backend, r.cell.truncation, r.cell.horizon, seconds=1e-4 * (1 + r.cell.truncation % 7))
                for r in rs
            ],
            "inconclusive",
        ),
        "one T": (lambda rs: [r for r in rs if r.cell.horizon == 100], "inconclusive"),
    },
    "C10": {
        "an obtuse angle": (
            each("landscape", is_(kind="landscape"), largest_angle_deg=91.0),
            "refuted",
        ),
        "a start that stays": (
            each(
                "training",
                is_(K=5, kind="training"),
                exact_norm=lambda r: [*r.training.exact_norm[:4], [1.0] * 11],
            ),
            "refuted",
        ),
        "stopped early": (
            each(
                "training",
                is_(K=5, kind="training"),
                exact_norm=lambda r: [[1.0] * 11] * 5,
                norm=lambda r: [[1.0] * 11] * 5,
            ),
            "inconclusive",
        ),
        "a smaller K is faster": (
            each(
                "training",
                is_(K=1, kind="training"),
                exact_norm=lambda r: np.exp(-5 * np.outer(1 + 0.01 * np.arange(5), r.training.iterations)).tolist(),
            ),
            "refuted",
        ),
        "other rates": (
            lambda rs: [
                r.model_copy(update={"cell": r.cell.model_copy(update={"settings": {"rate": r.cell.truncation}})})
                for r in rs
            ],
            "inconclusive",
        ),
        "no landscape": (lambda rs: [r for r in rs if r.training], "inconclusive"),
    },
    "C15a": {
        "K-RMD as slow as RMD": (lambda rs: [rs[0], timings(rs[0].cell.backend, "krmd", 5, 2e-2)], "refuted"),
        "nothing but dispatch": (
            each("calibration", is_(), seconds=tiny),
            "inconclusive",
        ),
        "no RMD": (lambda rs: rs[1:], "inconclusive"),
    },
}


def both(good):
    return [r for b in PAIR for r in good(b)]


def verdict(id_, records):
    judged = BY_ID[id_].judge(records)
    assert not judged.failed, judged.reason
    return judged.verdict, judged.reason


@pytest.mark.parametrize("id_", GOOD)
def test_reproduced_on_records_that_confirm(id_):
    assert verdict(id_, both(GOOD[id_]))[0] == "reproduced", verdict(id_, both(GOOD[id_]))


@pytest.mark.parametrize(("id_", "name"), [(i, n) for i, of in BREAKS.items() for n in of])
def test_a_planted_break_is_seen(id_, name):
    broken, expected = BREAKS[id_][name]
    records = [r for b in PAIR for r in broken(GOOD[id_](b))]
    assert verdict(id_, records)[0] == expected, verdict(id_, records)


def test_every_claim_has_records_and_breaks():
    assert set(BREAKS) == set(GOOD) == set(BY_ID)
    assert len({c.figure for c in CLAIMS}) == 13
    assert all(c.tag in ("paper", "restated", "computed") for c in CLAIMS)


def test_no_records_reproduce_nothing():
    for j in judge([]):
        assert (j.verdict, j.reason) == ("inconclusive", "no records")


@pytest.mark.parametrize("id_", GOOD)
def test_the_frameworks_must_agree(id_):
    name = next(n for n, (_, v) in BREAKS[id_].items() if v == "refuted")
    torch = BREAKS[id_][name][0](GOOD[id_]("torch"))
    found, reason = verdict(id_, [*GOOD[id_]("jax"), *torch])
    assert found == "inconclusive"
    assert "no common verdict (jax reproduced, torch refuted;" in reason
    found, reason = verdict(id_, GOOD[id_]("torch"))
    assert found == "inconclusive"
    assert "no records of jax; torch alone says reproduced" in reason


@pytest.mark.parametrize("id_", GOOD)
def test_records_that_are_not_ok_count_for_nothing(id_):
    bad = [r.model_copy(update={"status": "diverged"}) for r in both(GOOD[id_])]
    found, reason = verdict(id_, bad)
    assert found == "inconclusive"
    assert reason == f"no records; left out: {len(bad)} diverged"


def test_theory_reads_no_run_on_real_data():
    real = [other_cell(r, dtype="float64") for r in both(trained.cleaning)]
    for claim in ("C2", "C2′", "C3", "C4", "C5", "C6", "C10"):
        found = BY_ID[claim].judge([*both(GOOD[claim]), *real])
        assert found == BY_ID[claim].judge(both(GOOD[claim]))
    assert BY_ID["C5"].judge(real).reason == "no records"


def test_claims_of_training_read_the_settings_that_most_runs_share():
    """A sweep of one seed at another rate, with other verdicts, does not count."""
    sweep = [
        other_cell(r, settings={**r.cell.settings, "rate": 3.0})
        for b in PAIR
        for r in apart(-0.1, 5, 25)(trained.cleaning(b, 1))
    ]
    assert verdict("C11", [*both(trained.cleaning), *sweep])[0] == "reproduced"
    found = BY_ID["C11"].judge([*both(trained.cleaning), *sweep]).findings["jax"]
    assert not {r.key for r in sweep} & set(found.used)
    assert len(found.used) == 20


def test_one_seed_is_not_told_as_several():
    for id_ in ("C11", "C12", "C13", "C14", "C15b"):
        reason = verdict(id_, [r for r in both(GOOD[id_]) if r.cell.seed == 0])[1]
        assert "1 seed" in reason, id_
        assert "1 seeds" not in reason, id_


def _rated(records, rate, **options):
    """Another problem at another rate, whose C = 0 has one of its own."""
    found = []
    for r in records:
        own = rate if r.cell.task_options.get("interaction", True) else 9.0
        settings = {**r.cell.settings, "rate": own}
        found.append(other_cell(r, settings=settings, task_options={**r.cell.task_options, **options}))
    return found


def test_a_figure_says_the_rates_of_its_own_comparisons():
    """Panel by panel: those of another problem, and of lines that are not compared, are not named."""
    made = [*_rated(trained.interaction("jax"), 0.1), *_rated(trained.interaction("jax"), 0.7, dataset="cifar100")]
    picture = drawn.draw_interaction(made)
    titles = [ax.get_title() for ax in picture.figure.axes]
    assert len(titles) == 4
    for title in titles:
        assert title.endswith("T = 100, adam " + ("0.7" if "cifar100" in title else "0.1"))
        assert max(map(len, title.splitlines())) <= 34
    assert picture.figure.get_suptitle() == "task_interaction, float32"
    assert "on one machine that other cells may have shared" in picture.caption


def test_horizons_are_told_with_their_own_rates():
    """The exact hypergradient of the long horizon is not compared; of two problems each row names its own."""
    one = [r for r in trained.fewshot("jax") if r.cell.truncation != 50 or r.cell.horizon == 5]
    exact = [r for r in trained.fewshot("jax") if r.cell.truncation == 50 and r.cell.horizon == 50]
    exact = [other_cell(r, settings={**r.cell.settings, "rate": 9.0}) for r in exact]
    picture = drawn.draw_horizons([*one, *exact])
    assert picture.figure.get_suptitle() == "fewshot (dataset=omniglot): adam 0.1, float32"
    picture = drawn.draw_horizons([*one, *exact, *_rated(one, 0.7, filters=8)])
    assert picture.figure.get_suptitle() == "fewshot, float32"
    rows = [" ".join(t.get_text().split()) for t in picture.figure.axes[0].get_yticklabels()]
    assert len(rows) == 2
    assert sum("filters=8" in row and "adam 0.7" in row for row in rows) == 1
    assert sum("filters=8" not in row and "adam 0.1" in row for row in rows) == 1


def test_a_stash_is_no_seed_of_its_own():
    twice = [
        other_cell(r, method_options={**r.cell.method_options, "stash": "residuals"}) for r in both(trained.cleaning)
    ]
    found = BY_ID["C11"].judge([*both(trained.cleaning), *twice]).findings["jax"]
    assert found.statistic.interval.n == 5


def test_an_interval_is_over_seeds():
    found = BY_ID["C13"].judge(both(trained.fewshot)).findings["jax"].statistic
    assert (found.unit, found.interval.n) == ("seed", 5)
    assert found.interval.low <= found.value <= found.interval.high


def test_local_bound_of_a_tail():
    r = sample("jax", "doublewell", 3, 10, -0.5, 1.0, np.zeros(2), alpha_tail=[0.25, -0.1], f_w=[2.0, 2.0])
    assert bound(r)[0] == pytest.approx(2.0**8 * 0.75**3 * 2)
    assert np.isnan(bound(r)[1])


def test_a_rule_that_fails_is_told(monkeypatch):
    broken = protocol.Claim("X", "", "", "paper", "", lambda r: True, lambda rs: 1 / 0)  # pyright: ignore - it must fail
    j = broken.judge(good_wrong_end("jax"))
    assert j.failed
    assert j.verdict == "inconclusive"
    assert "ZeroDivisionError" in j.reason


def test_defaults_are_the_tasks_own():
    for name, options in DEFAULTS.items():
        task = TASKS[name]()
        for option, value in options.items():
            assert getattr(task, option) == value, (name, option)
        assert ("direct" in options) == hasattr(task, "direct")


def test_claims_read_records_alone():
    for path in (ROOT / "bench" / "claims").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {n.split(".")[0] for n in names} & {"backends", "tasks"}, path


# the page and the command


@pytest.fixture(scope="module")
def everything():
    records = {r.key: r for good in GOOD.values() for r in both(good)}
    return [records[key] for key in sorted(records)]


def test_the_same_records_give_the_same_bytes(everything, tmp_path):
    files = []
    for name in "ab":
        folder = tmp_path / name / "x"
        folder.mkdir(parents=True)
        files.append({p.relative_to(folder): p.read_bytes() for p in page.write(everything, folder, "T")[1]})
    assert files[0] == files[1]
    assert {p.suffix for p in files[0]} == {".json", ".md", ".html", ".png", ".svg"}
    assert {p.stem for p in files[0] if p.suffix == ".png"} == {c.figure for c in CLAIMS}


def test_the_page_says_everything(everything, tmp_path):
    judged, _ = page.write(everything, tmp_path, "T <b>&")
    html = (tmp_path / "claims.html").read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", html)
    assert "T &lt;b&gt;&amp;" in html
    stored = {c["id"]: c for c in json.loads((tmp_path / "claims.json").read_text())}
    for j in judged:
        assert stored[j.claim.id]["verdict"] == j.verdict
        assert f"{page._badge(j.verdict)}</h2>" in html
        assert all(f.used for f in j.findings.values())
    anchors = set(re.findall(r'href="#([^"]+)"', html))
    assert anchors <= set(re.findall(r'id="([^"]+)"', html))


def _call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main.main()
    return ended.value.code, *capsys.readouterr()


def test_exit_codes(monkeypatch, capsys, tmp_path):
    code, _, err = _call(monkeypatch, capsys, "claims", str(tmp_path / "nowhere"))
    assert (code, err.count("\n")) == (2, 1)
    assert "there is no folder" in err
    assert _call(monkeypatch, capsys, "claims", str(tmp_path))[0] == 2
    store = Store(tmp_path)
    store.create()
    for r in both(lambda b: descending(b, -0.2)):
        store.write(r)
    code, out, _ = _call(monkeypatch, capsys, "claims", str(tmp_path))
    assert code == 0
    assert re.search(r"^C2 +refuted", out, re.M)
    assert re.search(r"^C6 +inconclusive", out, re.M)
    broken = protocol.Claim("X", "", "", "paper", "", lambda r: True, lambda rs: 1 / 0)  # pyright: ignore - it must fail
    monkeypatch.setattr("bench.claims.CLAIMS", (broken,))
    assert _call(monkeypatch, capsys, "claims", str(tmp_path))[0] == 1


def test_on_records_that_the_runner_made(tmp_path):
    """The whole way, at a small size: samples, runs, page."""
    from bench.runner import Runner

    runner, made = Runner(tmp_path), []
    for b in PAIR:
        for K in (1, 5, 20):
            settings = {"points": 3}
            made.append(runner.compute(cell(b, "sample", "scalar", K, horizon=400, settings=settings,
                                            task_options={"direct": 0.0})))  # fmt: skip
        worst = cell(b, "sample", "counterexample", 1, horizon=1000, settings={"points": 1}, lam="worst")
        made.append(runner.compute(worst))
        upper = {"iterations": 60, "rate": 0.6, "every": 10}
        made += [runner.compute(cell(b, "training", "scalar", K, horizon=600, settings=upper)) for K in (1, 20, 25, 30)]
    assert [r.reason for r in made if r.status != "ok"] == []
    found = {j.claim.id: j for j in page.write(made, tmp_path, "T")[0]}
    assert found["C2"].verdict == "refuted"
    assert found["C4"].verdict == found["C6"].verdict == "reproduced"
    assert found["C1"].verdict == "inconclusive"
    assert "fewer than 1000" in found["C1"].reason
    assert not any(j.failed for j in found.values())
