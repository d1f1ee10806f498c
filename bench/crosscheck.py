"""Do both frameworks give the same hypergradient?  Row by row in float64, and where they part when they do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from typing import Any
from xml.etree import ElementTree

import numpy as np

import backends
from backends.hypergradient.protocol import head, length
from bench import plugins
from bench.cell import Cell
from bench.reference import flat
from bench.runner import one_line
from bench.sweep import expand, read

BOUND = 1e-10
PAIR = ("torch", "jax")


@dataclass(frozen=True)
class Row:
    """One estimator on one problem: the relative difference of the two frameworks, or why there is none."""

    cell: Cell
    difference: float | None
    located: str

    @property
    def agrees(self) -> bool:
        return self.difference is not None and self.difference <= BOUND

    @property
    def name(self) -> str:
        options = " ".join(f"{k}={v}" for k, v in self.cell.method_options.items())
        return f"{self.cell.task} T={self.cell.horizon} λ={self.cell.lam} {self.cell.method} {options}".rstrip()


def grid() -> list[Cell]:
    """Every (method, problem, T, K) of the quick sizes, once."""
    cells = expand(*read("quick")).cells
    plain = {"backend": "torch", "device": "cpu", "dtype": "float64", "timed": False}
    return list(dict.fromkeys(c.model_copy(update=plain) for c in cells if c.kind == "hypergradient"))


def rows(cells: list[Cell]) -> Iterator[Row]:
    """Each cell in both frameworks, in this process."""
    for cell in cells:
        try:
            a, b = (_hypergradient(name, cell) for name in PAIR)
        except Exception as error:  # a row that cannot be computed is a row that does not agree
            yield Row(cell, None, f"{type(error).__name__}: {one_line(error)}")
            continue
        difference = relative(a, b)
        located = "" if difference <= BOUND else locate(cell)
        yield Row(cell, difference, located)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """‖a − b‖ / max(‖a‖, ‖b‖); infinite for NaN or different lengths; 0 for two zeros."""
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    scale = max(np.linalg.norm(a), np.linalg.norm(b))
    return float(np.linalg.norm(a - b) / scale) if scale > 0 else 0.0


def locate(cell: Cell) -> str:
    """The first thing on which the frameworks differ: λ, data, embed, direct term, init, a step t, its pull-backs; then
    the method's own text."""
    sides = [_problem(name, cell) for name in PAIR]
    for what, trace in _traces(cell):
        a, b = (flat(bk, trace(bk, *inputs)) for bk, *inputs in sides)
        if relative(a, b) > BOUND:
            return what
    return "the method's own recursion (all pieces of the problem agree)"


def _traces(cell: Cell) -> Iterator[tuple[str, Callable]]:
    yield "λ", lambda bk, problem, lam, data, xs: lam
    yield "data", lambda bk, problem, lam, data, xs: data
    yield "embed", lambda bk, problem, lam, data, xs: problem.embed(lam, data)
    yield "embed: vjp", partial(_pulled, "embed")
    yield "init", lambda bk, problem, lam, data, xs: problem.init(problem.embed(lam, data), data)
    yield "init: vjp", partial(_pulled, "init")
    for t in range(cell.horizon):
        yield f"step {t + 1}: call", partial(_iterate, t + 1)
        if t in (0, cell.horizon - 1):
            yield f"step {t + 1}: vjp", partial(_pulled, t)
            yield f"step {t + 1}: jvp", partial(_pushed, t)
    yield "direct term and ∂f/∂w: value_and_grad", _direct


def _iterate(n: int, bk: Any, problem: Any, lam: Any, data: Any, xs: Any) -> Any:
    theta = problem.embed(lam, data)
    return bk.scan(
        lambda w, x: (problem.step(w, theta, data, x), None), problem.init(theta, data), head(bk, xs, n), length=n
    )[0]


def _pulled(what: Any, bk: Any, problem: Any, lam: Any, data: Any, xs: Any) -> Any:
    theta = problem.embed(lam, data)
    if what == "embed":
        out, pull = bk.vjp(lambda lam: problem.embed(lam, data), lam)
    elif what == "init":
        out, pull = bk.vjp(lambda theta: problem.init(theta, data), theta)
    else:
        out, pull = _linearised(bk, problem, theta, lam, data, xs, what)
    return pull(bk.map(lambda o: 1.0 + o, out))


def _linearised(bk: Any, problem: Any, theta: Any, lam: Any, data: Any, xs: Any, t: int) -> tuple:
    x = bk.map(lambda x: x[t], xs)
    w = _iterate(bk, problem, lam, data, xs, t)
    return bk.vjp(lambda w, theta: problem.step(w, theta, data, x), w, theta)


def _pushed(t: int, bk: Any, problem: Any, lam: Any, data: Any, xs: Any) -> Any:
    theta = problem.embed(lam, data)
    x = bk.map(lambda x: x[t], xs)
    w = _iterate(bk, problem, lam, data, xs, t)
    return bk.jvp(lambda w, theta: problem.step(w, theta, data, x), (w, theta), (w, theta))[1]


def _direct(bk: Any, problem: Any, lam: Any, data: Any, xs: Any) -> Any:
    theta = problem.embed(lam, data)
    w = _iterate(bk, problem, lam, data, xs, length(bk, xs))
    return bk.value_and_grad(lambda w, theta: problem.outer_loss(w, theta, data), (0, 1))(w, theta)


@lru_cache(maxsize=8)
def _cached_problem(name: str, task_name: str, task_options: tuple, seed: int, lam: str, horizon: int) -> tuple:
    bk = backends.load(name, "float64")
    task = plugins.build(plugins.task_class(task_name), dict(task_options), f"task {task_name}")
    data, xs = task.context(seed, 0, horizon)
    return bk, task.problem(bk), bk.asarray(task.hparams(seed, lam)), bk.asarray(data), bk.asarray(xs)


def _problem(name: str, cell: Cell) -> tuple:
    return _cached_problem(name, cell.task, tuple(cell.task_options.items()), cell.seed, cell.lam, cell.horizon)


def _hypergradient(name: str, cell: Cell) -> np.ndarray:
    bk, problem, lam, data, xs = _problem(name, cell)
    method = plugins.build(plugins.method_class(cell.method), cell.method_options, f"method {cell.method}")
    return flat(bk, bk.compile(partial(method, bk, problem))(lam, data, xs).grad)


def as_json(results: list[Row], expected: int) -> dict:
    """What `--json` writes."""
    listed = [{"name": r.name, "agrees": r.agrees} | asdict(r) | {"cell": r.cell.model_dump()} for r in results]
    return {"bound": BOUND, "expected": expected, "rows": listed}


def as_junit(results: list[Row], expected: int) -> str:
    """What `--junit` writes: a test case a row."""
    failures = sum(not r.agrees for r in results) + (expected - len(results))
    suite = ElementTree.Element("testsuite", name="crosscheck", tests=str(expected), failures=str(failures))
    for row in results:
        case = ElementTree.SubElement(suite, "testcase", classname="crosscheck", name=row.name)
        if not row.agrees:
            text = f"relative difference {row.difference}; {row.located}"
            ElementTree.SubElement(case, "failure", message=text)
    return ElementTree.tostring(suite, encoding="unicode")
