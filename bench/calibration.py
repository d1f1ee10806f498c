"""What an estimator's time is made of, and the time to beat: floors, both stashes and the native idiom, interleaved.

One round calls every contestant once, so that a change of the machine's speed touches all of them; ratios are formed
round by round.  Each round has an order of its own: who comes after whom (whose arrays the cache holds) is no one's.

    floor: steps         one T-scan of `step`: the forward pass that every estimator runs
    floor: pull-backs    one scan of K linearisations of `step`, each pulled back: what rmd, krmd and neumann add to it
    floor: both          one scan of K steps, each linearised where it is taken and pulled back at once: what the last
                         K steps cost where pull-backs are kept, but for keeping them
    one step, one vjp    a single call of each: what a call costs outside a scan
    native-… again       the native idiom against itself: how far apart two equal things are measured to be

A pull-back alone does not need Φ's value, and a compiler leaves it out: of a softmax regression's four matrix products
a step three are left.  Who keeps pull-backs needs the value, too, so the second floor is no floor of theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from backends.hypergradient import METHODS
from backends.hypergradient.krmd import STASHES
from backends.hypergradient.protocol import head, tail
from bench.cell import Cell
from bench.measure import foreign_load
from bench.record import Calibration

ROUNDS = 5
SECONDS, TOTAL = 0.5, 30.0  # of each contestant at least, unless all of them together have had TOTAL
MOST_ROUNDS = 200


def measure(bk: Any, task: Any, method: Any, cell: Cell, cache: Path | None = None) -> dict[str, Any]:
    """The seconds of every contestant, a list each, round by round."""
    problem = task.problem(bk)
    data, xs = task.context(cell.seed, 0, cell.horizon)
    args = tuple(bk.asarray(x) for x in (task.hparams(cell.seed, cell.lam), data, xs))
    calls = {name: bk.compile(f) for name, f in _contestants(bk, problem, method, cell)}
    for f in calls.values():
        bk.prepare(f, *args)
        bk.wait(f(*args))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    rounds, least, total = 0, 0.0, 0.0
    order = np.random.default_rng(0)
    began, cpu = time.perf_counter(), time.process_time()
    while rounds < ROUNDS or (least < SECONDS and total < TOTAL and rounds < MOST_ROUNDS):
        for name in order.permutation(list(calls)):
            start = time.perf_counter()
            bk.wait(calls[name](*args))
            seconds[name].append(time.perf_counter() - start)
        spent = [sum(values) for values in seconds.values()]
        rounds, least, total = rounds + 1, min(spent), sum(spent)
    flags = foreign_load(bk, time.perf_counter() - began, time.process_time() - cpu)
    return {"status": "ok", "calibration": Calibration(lane=bk.lane, seconds=seconds, flags=flags)}


def _contestants(bk: Any, problem: Any, method: Any, cell: Cell) -> Iterator[tuple[str, Callable]]:
    if cell.method in ("rmd", "krmd"):
        for stash in STASHES:
            yield f"{cell.method} {stash}", partial(replace(method, stash=stash), bk, problem)
    else:
        yield cell.method, partial(method, bk, problem)
    native = METHODS.get(f"native-{cell.method}")
    if native is not None:
        options = {k: v for k, v in cell.method_options.items() if k == "truncation"}
        for name in (f"native-{cell.method}", f"native-{cell.method} again"):
            yield name, partial(native(**options), bk, problem)
    yield "one step", lambda hparams, data, xs: _steps(bk, problem, hparams, data, head(bk, xs, 1))
    yield "one vjp", partial(_pull_backs, bk, problem, 1)
    yield "floor: steps", partial(_steps, bk, problem)
    K = cell.horizon if cell.truncation is None else min(cell.truncation, cell.horizon)
    if cell.method in ("rmd", "krmd", "neumann") and K:
        yield "floor: pull-backs", partial(_pull_backs, bk, problem, K)
    if cell.method in ("rmd", "krmd") and K:
        yield "floor: both", partial(_steps_and_pull_backs, bk, problem, K)


def _steps(bk: Any, problem: Any, hparams: Any, data: Any, xs: Any) -> Any:
    """T steps of Φ."""
    theta = problem.embed(hparams, data)
    return bk.scan(lambda w, x: (problem.step(w, theta, data, x), None), problem.init(theta, data), xs)[0]


def _pull_backs(bk: Any, problem: Any, K: int, hparams: Any, data: Any, xs: Any) -> Any:
    """K linearisations of Φ, each pulled back once.

    The point moves with the adjoint: at a fixed one a compiler would evaluate Φ once for all K.
    """
    theta, _, small, zero, last = _start(bk, problem, K, hparams, data, xs)

    def back(carry: tuple, x: Any) -> tuple:
        alpha, h = carry
        _, pull = bk.vjp(lambda w, theta: problem.step(w, theta, data, x), alpha, theta)
        A_alpha, B_alpha = pull(alpha)
        return (A_alpha, bk.map(lambda a, b: a + b, h, B_alpha)), None

    return bk.scan(back, (small, zero), last, length=K)[0]


def _steps_and_pull_backs(bk: Any, problem: Any, K: int, hparams: Any, data: Any, xs: Any) -> Any:
    """K steps of Φ, each linearised at its w and pulled back once."""
    theta, w, small, zero, last = _start(bk, problem, K, hparams, data, xs)

    def both(carry: tuple, x: Any) -> tuple:
        w, alpha, h = carry
        w, pull = bk.vjp(lambda w, theta: problem.step(w, theta, data, x), w, theta)
        A_alpha, B_alpha = pull(alpha)
        return (w, A_alpha, bk.map(lambda a, b: a + b, h, B_alpha)), None

    return bk.scan(both, (w, small, zero), last, length=K)[0]


def _start(bk: Any, problem: Any, K: int, hparams: Any, data: Any, xs: Any) -> tuple:
    """θ, w_0, an adjoint, h = 0 and the last K of xs."""
    theta = problem.embed(hparams, data)
    w = problem.init(theta, data)
    T = bk.leaves(xs)[0].shape[0]
    small = bk.map(lambda leaf: leaf + 0.01, w)
    return theta, w, small, bk.map(lambda leaf: 0 * leaf, theta), tail(bk, xs, T - K)
