"""The upper level on flat λ: F and h by a method, dF by the native idiom, metrics, and the upper step's projection."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import backends
from backends.hypergradient import METHODS
from backends.hypergradient.protocol import identity, no_metrics
from bench.cell import Cell
from bench.reference import flat
from tasks.selection import selection

Tree = Any


class Estimate(NamedTuple):
    """F (starts,), h (starts, N), w_T in the backend's arrays, and the seconds it took."""

    value: np.ndarray
    h: np.ndarray
    params: Tree
    seconds: float


class Upper:
    """λ are float64 rows, one a start, whatever the backend: both frameworks walk the same path.

    start      λ_0
    metrics    the data that the task's metrics are taken on, "validation" and "held"; None for a task that has no
               metrics and for more than one start
    """

    def __init__(self, bk: Any, task: Any, method: Any, cell: Cell, starts: int) -> None:
        self.bk, self.task, self.cell = bk, task, cell
        framework = cell.backend.partition(":")[0]
        self.exactly = bk if cell.dtype == "float64" else backends.load(framework, "float64", cell.device)
        trees = [self.exactly.asarray(task.hparams(cell.seed + i, cell.lam)) for i in range(starts)]
        self.start = np.stack([flat(self.exactly, tree) for tree in trees])
        self.unravel = self.exactly.ravel(trees[0])[1]
        problem = task.problem(bk)
        self.unravel_here = bk.ravel(bk.asarray(task.hparams(cell.seed, cell.lam)))[1]

        def estimate(vector: Any, data: Any, xs: Any) -> tuple:
            result = method(bk, problem, self.unravel_here(vector), data, xs)
            return result.value, bk.ravel(result.grad)[0], result.params

        self.mapped = starts > 1
        self._estimate = bk.compile(bk.vmap(estimate, (0, None, None)) if self.mapped else estimate)
        self.problem = task.problem(self.exactly)
        self._exact = self.exactly.compile(partial(METHODS["native-rmd"](), self.exactly, self.problem))
        self._inputs: tuple | None = None
        self.metrics = None
        if problem.metrics is not no_metrics and not self.mapped:
            self._metrics = bk.compile(lambda w, lam, held: problem.metrics(w, lam, held))
            selecting = selection(task, cell.seed)
            self.metrics = {
                "validation": None if selecting is None else bk.asarray(selecting),
                "held": bk.asarray(task.evaluation(cell.seed)),
            }

    def inputs(self, iteration: int) -> tuple:
        """(data, xs) of iteration τ, in NumPy and in the backend's arrays; made once where they do not change."""
        if getattr(self.task, "episodic", False) or self._inputs is None:
            given = self.task.context(self.cell.seed, iteration, self.cell.horizon)
            self._inputs = given, tuple(self.bk.asarray(x) for x in given)
        return self._inputs

    def estimate(self, lam: np.ndarray, inputs: tuple) -> Estimate:
        """F, h and w_T; the clock stops when they have reached NumPy."""
        began = time.perf_counter()
        value, h, params = self._estimate(self.bk.asarray(lam if self.mapped else lam[0]), *inputs[1])
        value, h = (np.asarray(x, np.float64) for x in self.bk.to_numpy((value, h)))
        return Estimate(value.reshape(len(lam)), h.reshape(lam.shape), params, time.perf_counter() - began)

    def exact(self, lam: np.ndarray, inputs: tuple) -> np.ndarray:
        """dF, start by start."""
        bk = self.exactly
        given = inputs[1] if bk is self.bk else tuple(bk.asarray(x) for x in inputs[0])
        return np.stack([flat(bk, self._exact(self.unravel(bk.asarray(row)), *given).grad) for row in lam])

    def measured(self, part: str, lam: np.ndarray, params: Tree) -> dict[str, float]:
        """The task's metrics at λ and w_T on its "validation" or "held" data; none where there are none."""
        if self.metrics is None or self.metrics[part] is None:
            return {}
        found = self._metrics(params, self.unravel_here(self.bk.asarray(lam[0])), self.metrics[part])
        return {name.removeprefix("test_"): float(x) for name, x in self.bk.to_numpy(found).items()}

    def project(self, lam: np.ndarray) -> np.ndarray:
        """`Problem.project`, in float64."""
        if self.problem.project is identity:
            return lam
        bk = self.exactly
        return np.stack([flat(bk, self.problem.project(self.unravel(bk.asarray(row)))) for row in lam])
