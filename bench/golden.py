"""Golden vectors: small problems with λ, data, xs and every estimator's hypergradient, for any library to check itself.

One `<problem>.npz` a problem: `lam` (flat; a tree's parts by name, in order), `T`, `data_*`, `xs`, `value`, `w_T`, and
for each estimate `h_<method>` or `h_<method>_K<K>`, in float64.  `xs` has T on its first axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import backends
from backends.hypergradient import METHODS
from bench.reference import flat
from tasks import TASKS


class Golden(NamedTuple):
    """A task with its options, a point of λ and T."""

    options: dict[str, Any]
    point: str
    T: int


PROBLEMS: dict[str, Golden] = {
    "quadratic": Golden({}, "init", 100),
    "hypercleaning": Golden({"dataset": "digits", "train": 40, "validation": 30, "test": 30}, "informed", 25),
    "minibatch_ridge": Golden({}, "init", 25),
    "task_interaction": Golden({"dataset": "digits", "train_each": 3, "validation_each": 3}, "random", 25),
}
"""By the task's name."""
KS = {"krmd": (0, 1, 5, 10, 25), "neumann": (0, 1, 5, 10, 25), "cg": (1, 2, 5)}
"""method → K.  K = T is added but for cg: its K has nothing to do with T, and after some 15 steps rounding decides."""


def estimates(T: int, stochastic: bool) -> Iterator[tuple[str, Any]]:
    """Every estimate by its name in the file; where steps differ there is no series of one A at w_T."""
    for name in ("rmd", "fmd"):
        yield f"h_{name}", METHODS[name]()
    for name, Ks in KS.items():
        if stochastic and name == "neumann":
            continue
        for K in sorted({*Ks, T} if name != "cg" else Ks):
            yield f"h_{name}_K{K}", METHODS[name](truncation=K)


def vectors(problem: str, backend: str) -> dict[str, np.ndarray]:
    """The content of one file, computed in one framework."""
    options, point, T = PROBLEMS[problem]
    bk, task = backends.load(backend, "float64"), TASKS[problem](**options)
    data, xs = task.context(0, 0, T)
    args = tuple(bk.asarray(x) for x in (task.hparams(0, point), data, xs))
    found = {"lam": flat(bk, args[0]), "T": np.array(T), "xs": np.asarray(xs)}
    found |= {f"data_{k}": np.asarray(v) for k, v in data.items()}
    for key, method in estimates(T, task.stochastic):
        result = bk.compile(partial(method, bk, task.problem(bk)))(*args)
        found |= {key: flat(bk, result.grad), "value": np.asarray(bk.to_numpy(result.value))}
        found["w_T"] = np.asarray(bk.to_numpy(result.params))
    return found


def write(folder: Path, backend: str = "jax") -> list[Path]:
    """All files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for problem in PROBLEMS:
        file = folder / f"{problem}.npz"
        np.savez_compressed(file, allow_pickle=False, **vectors(problem, backend))
        files.append(file)
    return files
