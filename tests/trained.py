"""Runs on real tasks made by hand: accuracy, loss and time are what a test says they are."""

from __future__ import annotations

import numpy as np

from bench.cell import Cell
from bench.record import Baseline, Bias, Memory, Record, Result, Seconds, Sketch, Training

SETTINGS = {"iterations": 300, "rate": 0.1, "optimiser": "adam", "every": 100}
FEWSHOT = {"dataset": "omniglot"}
INTERACTION = {"dataset": "cifar10"}
CLEANING = {"train": 1000, "validation": 1000}


def record(c: Cell, **parts) -> Record:
    plain = {"environment": {"fingerprint": "here", "cpu": "c", "cores": 1, "ram_gib": 1, "python": "3"}}
    fields = {"status": "ok", "code": {"stamp": ""}, "started": "", "seconds": 30.0}
    return Record(key=c.key, cell=c, **{**plain, **fields, **parts})


def cell(backend: str, task: str, K: int | None, seed: int = 0, **given) -> Cell:
    options = {} if K is None else {"truncation": K}
    method = given.pop("method", "rmd" if K is None else "krmd")
    plain = {"kind": "training", "settings": SETTINGS, "horizon": 100, "timed": False, "task_options": {}}
    fields = {**plain, "backend": backend, "task": task, "seed": seed, "method": method, "method_options": options}
    return Cell.model_validate({**fields, **given})


def run(backend: str, task: str, K: int | None, seed: int = 0, **given) -> Record:
    """At the third of four recorded iterations, the selected one, it has the accuracy (a share) and loss given."""
    accuracy, loss = given.pop("accuracy", 0.9), given.pop("loss", 0.4)
    validation = given.pop("validation", accuracy + 0.01)
    f1, seconds = given.pop("f1", 0.88), given.pop("seconds", 0.2)
    bias, chosen, steps = given.pop("bias", 0.5), given.pop("chosen", None), given.pop("steps", None)
    status = given.pop("status", "ok")
    c = cell(backend, task, K, seed, **given)
    if status != "ok":
        return record(c, status=status, reason="‖λ‖ = 1e9 at iteration 3, start 0")
    losses = [3 * loss, 2 * loss, loss, 1.01 * loss]
    shape = np.array([0.7, 0.9, 1.0, 1.002])

    def metrics(at: float) -> dict:
        # The last accuracy is higher than the selected one: a choice by it would show.
        found = {"accuracy": (shape * at).tolist()}
        found |= {"f1": (shape * f1).tolist(), "noise_rate": [0.5] * 4} if task == "hypercleaning" else {}
        found |= {"loss": losses} if task != "hypercleaning" else {}
        return found | ({"accuracy_sd": [0.05] * 4} if task == "fewshot" else {})

    value = losses if task == "hypercleaning" else [1.0] * 4
    norm = [1e-2, 5e-3, 2e-3, 1e-3]
    made = Training(
        seeds=[seed], iterations=[0, 100, 200, 300], value=[value], norm=[norm], exact_norm=[norm],
        cosine=[[0.9, 0.8, 0.7, 0.6]], descent=[[0.5] * 4], bias=[[bias, bias, 1.1 * bias, 1.2 * bias]], lam=None,
        last=None, rates=[0.1] * 4, selected=[200], chosen=chosen, validation=metrics(validation),
        held=metrics(accuracy), every_value=steps or [1.0] * 300, every_norm=steps or [1.0] * 300,
        seconds=Seconds(first=2.0, median=seconds, lower=seconds, upper=seconds),
    )  # fmt: skip
    return record(c, training=made)


def baseline(part: str, seed: int, accuracy: float, **given) -> Record:
    c = Cell.model_validate(
        {"kind": "baseline", "settings": {"data": part}, "task": "hypercleaning", "task_options": CLEANING,
         "method": "rmd", "backend": "jax", "horizon": 100, "seed": seed, "timed": False, **given}
    )  # fmt: skip
    made = Baseline(examples=1000, rates=[0.5, 1.0], losses=[0.5, 0.4], rate=1.0, accuracy=accuracy)
    return record(c, baseline=made)


def planned(backend: str, task: str, K: int, plan: int, **given) -> Record:
    """A hypergradient record with a memory plan."""
    c = cell(backend, task, K, kind="hypergradient", settings={}, **given)
    none = Bias(reason="-")
    sizes = {"horizon": c.horizon, "M": 7850, "N": 10, "P": 10, "lower": 10}
    made = Result(
        sizes=sizes, value=1.0, norm=1.0, exact=none, implicit=none, implicit_wT=none,
        sketch=Sketch(exact=True, values=[1.0], norm=1.0), time=None,
        memory=Memory(law=None, plan=plan, resident=None), counts=None, cost=None, stats={}, metrics={}, estimand="",
    )  # fmt: skip
    return record(c, result=made)


def jitter(seed: int, size: float = 1e-3) -> float:
    """A little of its own for every seed, the same for all K."""
    return size * ((7 * seed) % 5 - 2)


def cleaning(b: str, seeds: int = 5, **K_1) -> list[Record]:
    """K ≥ 5 as good as K = 100, K = 1 a little worse."""
    made = []
    for s in range(seeds):
        for K in (1, 5, 25, 100):
            first = {"accuracy": 0.86 + jitter(s), "loss": 0.45 + jitter(s), "f1": 0.84, **K_1} if K == 1 else {}
            own = 2e-4 * ((s + K) % 3 - 1)
            plain = {"accuracy": 0.88 + jitter(s) + own, "loss": 0.4 + jitter(s) + own, "f1": 0.88 + own}
            fields = {**plain, **first, "seconds": 0.1 + 1e-3 * K + 1e-4 * s, "bias": 0.9 - 0.0089 * K}
            made.append(run(b, "hypercleaning", K, s, task_options=CLEANING, **fields))
    return made


def interaction(b: str, seeds: int = 5) -> list[Record]:
    made = []
    for s in range(seeds):
        for K in (1, 5, 25, 100):
            own = 5e-4 * ((s + K) % 3 - 1)
            chosen = [0.1 * ((i * (s + K)) % 7) for i in range(45)] + [1e-3]
            fields = {"accuracy": 0.5 + jitter(s, 5e-3) + own, "seconds": 0.1 + 1e-3 * K + 1e-4 * s}
            made.append(run(b, "task_interaction", K, s, task_options=INTERACTION, chosen=chosen, **fields))
        none = {**INTERACTION, "interaction": False}
        made.append(run(b, "task_interaction", 100, s, task_options=none, accuracy=0.47 + jitter(s, 5e-3)))
    return made


def fewshot(b: str, seeds: int = 5) -> list[Record]:
    """T = 50, and a short horizon that is worse."""
    made = []
    for s in range(seeds):
        for K in (1, 10, 25, 50):
            own = 5e-4 * ((s + K) % 3 - 1)
            fields = {"accuracy": 0.95 + jitter(s, 5e-3) + own, "seconds": 0.1 + 1e-3 * K + 1e-4 * s, "horizon": 50}
            made.append(run(b, "fewshot", K, s, task_options=FEWSHOT, **fields))
        short = {"accuracy": 0.93 + jitter(s, 5e-3), "seconds": 0.05, "horizon": 5}
        made.append(run(b, "fewshot", 5, s, task_options=FEWSHOT, **short))
    return made
