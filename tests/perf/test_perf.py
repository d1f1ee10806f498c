"""How long a hypergradient takes, ours beside native, by pytest-benchmark: `nox -s perf`.

Digits hyper-cleaning, T = 100, float32, one thread.  Nothing here can fail on time; compare saved runs with
`nox -s perf -- --benchmark-compare`.
"""

from __future__ import annotations

from functools import partial

import pytest

import backends
from backends.hypergradient import METHODS
from tasks import TASKS

K = 25
ENTRIES = [
    ("rmd", {"stash": "iterates"}),
    ("rmd", {"stash": "residuals"}),
    ("native-rmd", {}),
    ("krmd", {"truncation": K, "stash": "iterates"}),
    ("krmd", {"truncation": K, "stash": "residuals"}),
    ("native-krmd", {"truncation": K}),
    ("cg", {"truncation": K}),
    ("native-cg", {"truncation": K}),
    ("neumann", {"truncation": K}),
    ("neumann", {"truncation": K, "linearise": "once"}),
    ("native-neumann", {"truncation": K}),
    ("fmd", {}),
    ("native-fmd", {}),
]


def _name(entry: tuple[str, dict]) -> str:
    return " ".join([entry[0], *(str(v) for k, v in entry[1].items() if k != "truncation")])


@pytest.mark.parametrize("entry", ENTRIES, ids=_name)
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_hypergradient(benchmark, framework, entry):
    method, options = entry
    benchmark.group = f"{framework} {method.removeprefix('native-')}"
    bk = backends.load(framework)
    task = TASKS["hypercleaning"](dataset="digits", train=200, validation=200, test=500)
    args = [bk.asarray(x) for x in (task.hparams(0, "informed"), *task.context(0, 0, 100))]
    f = bk.compile(partial(METHODS[method](**options), bk, task.problem(bk)))
    result = benchmark.pedantic(lambda: bk.wait(f(*args)), rounds=5, warmup_rounds=1)
    assert bk.leaves(result.grad)[0].shape == (200,)
