"""The grid: every method on both test problems against every other derivation.  A method that passes is right.

`check(methods, bk)` runs it for a mapping name → class, so that the mutants can be put through the same grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np

from bench.reference import flat
from tests import oracles, problems

BOUND = 1e-10
GENERIC = {
    "M < N": problems.generic(m=3, n=7, p=2, horizon=6),  # M = 5, N = 8, P = 6
    "M > N": problems.generic(m=6, n=3, p=4, horizon=6, seed=3),  # M = 8, N = 4, P = 11
    "P = M": problems.generic(m=4, n=4, p=1, horizon=6, seed=5),  # M = P = 6: a transposed B has the right shape
}
CONVEX = {"away": problems.convex(), "optimum": problems.convex(at_optimum=True)}


@lru_cache(maxsize=16)
def _dense(name: str) -> oracles.Dense:
    return oracles.dense((GENERIC | CONVEX)[name])


def hypergradient(bk: Any, method: Any, case: problems.Case) -> tuple[np.ndarray, Any]:
    """dF/dλ as one vector, and all that the method returned."""
    problem, hparams, data, xs = case.at(bk)
    result = bk.compile(partial(method, bk, problem))(hparams, data, xs)
    return flat(bk, result.grad), result


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """‖a − b‖/‖b‖; NaN and another length count as infinite."""
    if a.shape != b.shape:
        return float("inf")
    error = np.linalg.norm(a - b) / np.linalg.norm(b)
    return float(error) if np.isfinite(error) else float("inf")


def agree(bk: Any, method: Any, case: problems.Case, expected: np.ndarray, what: str) -> None:
    """The method gives `expected` to 1e-10."""
    h, result = hypergradient(bk, method, case)
    error = relative(h, expected)
    assert error <= BOUND, f"{what}: off by {error:.1e}"
    d = _dense(next(n for n, c in (GENERIC | CONVEX).items() if c is case))
    assert abs(float(bk.to_numpy(result.value)) - d.value) <= BOUND * (1 + abs(d.value)), f"{what}: another value of f"
    assert relative(flat(bk, result.params), d.w[-1]) <= BOUND, f"{what}: another w_T"


def check(methods: Mapping[str, Any], bk: Any) -> None:
    """All methods of the mapping, at every K, both stashes, chunks that divide N and that do not."""
    for name, case in GENERIC.items():
        d = _dense(name)
        for key in {"rmd", "fmd", "native-rmd", "native-fmd"} & set(methods):
            variants = [{}] if key != "rmd" else [{"stash": "iterates"}, {"stash": "residuals"}]
            if key == "fmd":
                variants = [{}, {"chunk": 1}, {"chunk": 3}]
            for options in variants:
                agree(bk, methods[key](**options), case, d.rmd(), f"{key} {options} on generic {name}")
        for key in {"krmd", "native-krmd"} & set(methods):
            for K in range(d.T + 1):
                variants = [{}] if key != "krmd" else [{"stash": "iterates"}, {"stash": "residuals"}]
                for options in variants:
                    agree(bk, methods[key](truncation=K, **options), case, d.krmd(K), f"{key} K={K} on generic {name}")
    for name, case in CONVEX.items():
        d = _dense(name)
        for key in {"cg", "native-cg"} & set(methods):
            for K in range(len(d.f_w) + 1):
                agree(bk, methods[key](truncation=K), case, d.cg(K), f"{key} K={K} on convex {name}")
        for key in {"neumann", "native-neumann"} & set(methods):
            for K in range(d.T + 1):
                variants = [{}] if key != "neumann" else [{"linearise": "each"}, {"linearise": "once"}]
                for options in variants:
                    what = f"{key} K={K} {options} on convex {name}"
                    agree(bk, methods[key](truncation=K, **options), case, d.neumann(K), what)
