"""Peer libraries beside ours on hyper-cleaning: same loss, T and K, in float32, called in turn in one process.

    python tests/perf/peers.py --out results/peers [--rounds 10] [--small]

Every answer is held against our hypergradient in float64 before anything is timed: who is further off than TOLERANCE
is a row with its error and neither time nor rank, who is not installed a row `unavailable`.  A round calls every
contestant once, in an order of its own; ratios are formed round by round.  The native idiom enters twice: its distance
from itself is the measurement's error.  All get the task's own `inner_loss` and `outer_loss`.  Ours writes
the gradient in Φ by hand, peers differentiate the loss, so two more rows part the two causes: ours with Φ by autodiff,
and HyperTorch with our Φ.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import runpy
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import backends
from backends.hypergradient import METHODS
from backends.hypergradient.krmd import STASHES
from bench import environment, stamp, stats
from bench.cell import Cell
from bench.measure import foreign_load
from tasks import TASKS

TOLERANCE = 1e-4  # ‖h − ours‖/‖ours‖; float32 leaves about 1e-6 after a hundred steps
ROUNDS = 10
OURS = "ours"
NATIVE = ("native idiom", "native idiom again")
SMALL = {"dataset": "digits", "train": 100, "validation": 100, "test": 100}


@dataclass(frozen=True)
class Case:
    """One problem in one framework: what an adapter needs."""

    bk: Any
    problem: Any
    lam: Any
    data: Any
    xs: Any
    horizon: int
    truncation: int
    rate: float

    def inner(self, w: Any, lam: Any) -> Any:
        return self.problem.inner_loss(w, self.problem.embed(lam, self.data), self.data)

    def outer(self, w: Any, lam: Any) -> Any:
        return self.problem.outer_loss(w, self.problem.embed(lam, self.data), self.data)


@dataclass(frozen=True)
class Contestant:
    """`make` turns a case into a call without arguments that returns the hypergradient."""

    name: str
    framework: str
    estimator: str
    package: str  # its distribution; "" for ours
    make: Callable[[Case], Callable[[], Any]]


def _ours(c: Case, method: str, **options: Any) -> Callable[[], Any]:
    if not method.endswith("-rmd") and method != "rmd":
        options["truncation"] = c.truncation
    f = c.bk.compile(partial(METHODS[method](**options), c.bk, c.problem))
    return lambda: f(c.lam, c.data, c.xs).grad


def _by_autodiff(c: Case, stash: str) -> Callable[[], Any]:
    """Ours with Φ = w − γ∇g, ∇g by the framework."""
    grad = c.bk.value_and_grad(c.problem.inner_loss)
    problem = c.problem.replace(step=lambda w, theta, data, x: w - c.rate * grad(w, theta, data)[1])
    return _ours(replace(c, problem=problem), "krmd", stash=stash)


def _standalone(c: Case) -> Callable[[], Any]:
    """A script of a page that imports nothing of ours: what the native idiom must be as fast as."""
    script = runpy.run_path(str(Path(__file__).with_name(f"standalone_{c.bk.name}.py")))["hypergradient"]
    return lambda: script(c.lam, *(c.data[name] for name in ("X", "Y", "X_val", "Y_val")), c.horizon)


def _weights(w: Any) -> Any:
    """A module that is its one parameter."""
    import torch

    class Weights(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(w.clone())

        def forward(self) -> Any:
            return self.w

    return Weights()


def _forward(c: Case, model: Any, sgd: Any) -> None:
    """The first T − K steps, by the framework's own optimiser: no graph is wanted."""
    for _ in range(c.horizon - c.truncation):
        sgd.zero_grad()
        c.inner(model(), c.lam).backward()
        sgd.step()


def _higher(c: Case) -> Callable[[], Any]:
    import higher
    import torch

    def call() -> Any:
        model, lam = _weights(c.data["zero"]), c.lam.clone().requires_grad_()
        sgd = torch.optim.SGD(model.parameters(), lr=c.rate)
        _forward(c, model, sgd)
        with higher.innerloop_ctx(model, sgd) as (unrolled, optimiser):
            for _ in range(c.truncation):
                optimiser.step(c.inner(unrolled(), lam))
            return torch.autograd.grad(c.outer(unrolled(), lam), lam)[0]

    return call


def _torchopt(c: Case) -> Callable[[], Any]:
    import torch
    import torchopt

    def call() -> Any:
        model, lam = _weights(c.data["zero"]), c.lam.clone().requires_grad_()
        _forward(c, model, torch.optim.SGD(model.parameters(), lr=c.rate))
        optimiser = torchopt.MetaSGD(model, lr=c.rate)
        for _ in range(c.truncation):
            optimiser.step(c.inner(model(), lam))
        return torch.autograd.grad(c.outer(model(), lam), lam)[0]

    return call


def _hypertorch(c: Case, our_phi: bool = False) -> Callable[[], Any]:
    import hypergrad
    import torch

    if not hasattr(hypergrad, "GradientDescent"):
        raise ImportError("the `hypergrad` installed is another library of that name")
    descent = hypergrad.GradientDescent(lambda w, lam: c.inner(w[0], lam[0]), c.rate)

    def phi(w: list, lam: list, create_graph: bool = True) -> list:
        if not our_phi:
            return descent(w, lam, create_graph=create_graph)
        with torch.set_grad_enabled(create_graph):
            return [c.problem.step(w[0], c.problem.embed(lam[0], c.data), c.data, None)]

    def call() -> Any:
        lam, w = [c.lam.clone().requires_grad_()], [c.data["zero"].clone()]
        kept = []
        for t in range(c.horizon):
            kept = [*kept, w] if t >= c.horizon - c.truncation else kept
            w = [x.detach() for x in phi([x.requires_grad_() for x in w], [c.lam], create_graph=False)]
        maps = [phi] * c.truncation
        return hypergrad.reverse([*kept, w], lam, maps, lambda w, lam: c.outer(w[0], lam[0]), set_grad=False)[0]

    return call


def _betty(c: Case) -> Callable[[], Any]:
    """Betty counts the products: K terms are K − 1 iterations."""
    import torch
    from betty.configs import Config, EngineConfig
    from betty.engine import Engine
    from betty.logging.logger_base import get_logger
    from betty.problems import ImplicitProblem

    get_logger().setLevel("ERROR")  # it tells of every engine it builds

    class Lower(ImplicitProblem):
        def training_step(self, batch: Any) -> Any:
            return c.inner(self.module(), self.upper.module())

    class Upper(ImplicitProblem):
        def training_step(self, batch: Any) -> Any:
            return c.outer(self.lower.module(), self.module())

        def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            self.found = self.module.w.grad

    def call() -> Any:
        upper_config = Config(first_order=True, retain_graph=True)
        series = {"neumann_iterations": c.truncation - 1, "neumann_alpha": c.rate}
        lower_config = Config(type="neumann", unroll_steps=c.horizon, **series)
        models = _weights(c.lam), _weights(c.data["zero"])
        sgd = [torch.optim.SGD(m.parameters(), lr=c.rate) for m in models]
        batches = [(c.xs[:1],)]
        upper = Upper("upper", upper_config, models[0], sgd[0], train_data_loader=batches)
        lower = Lower("lower", lower_config, models[1], sgd[1], train_data_loader=batches)
        edges = {"u2l": {upper: [lower]}, "l2u": {lower: [upper]}}
        Engine([upper, lower], EngineConfig(train_iters=c.horizon), edges).run()
        return upper.found

    return call


def _jaxopt(c: Case) -> Callable[[], Any]:
    import jax
    import jaxopt

    def F(lam: Any, data: Any) -> Any:
        case = replace(c, data=data)
        plain = {"stepsize": c.rate, "tol": 0.0, "acceleration": False, "implicit_diff": False}
        descent = partial(jaxopt.GradientDescent, case.inner, **plain)
        w = data["zero"]
        if c.horizon > c.truncation:
            w = descent(maxiter=c.horizon - c.truncation, unroll=False).run(w, jax.lax.stop_gradient(lam)).params
        return case.outer(descent(maxiter=c.truncation).run(jax.lax.stop_gradient(w), lam).params, lam)

    f = jax.jit(jax.grad(F))
    return lambda: f(c.lam, c.data)


def contestants() -> list[Contestant]:
    """Ours, the native idiom and ours without the hand-written gradient, then the peers."""
    made = []
    for framework in ("torch", "jax"):
        ours = partial(Contestant, framework=framework, estimator="krmd", package="")
        made += [ours(f"{OURS}, {stash}", make=partial(_ours, method="krmd", stash=stash)) for stash in STASHES]
        made += [ours(name, make=partial(_ours, method="native-krmd")) for name in NATIVE]
        made += [ours(f"Φ by autodiff, {stash}", make=partial(_by_autodiff, stash=stash)) for stash in STASHES]
        exact = partial(Contestant, framework=framework, estimator="rmd", package="")
        made += [exact(f"{OURS}, {stash}", make=partial(_ours, method="rmd", stash=stash)) for stash in STASHES]
        made += [exact(name, make=partial(_ours, method="native-rmd")) for name in NATIVE]
        made += [exact("stand-alone script", make=_standalone)]
    return [
        *made,
        Contestant("higher", "torch", "krmd", "higher", _higher),
        Contestant("TorchOpt MetaSGD", "torch", "krmd", "torchopt", _torchopt),
        Contestant("HyperTorch reverse", "torch", "krmd", "hypergrad", _hypertorch),
        Contestant("HyperTorch reverse, our Φ", "torch", "krmd", "hypergrad", partial(_hypertorch, our_phi=True)),
        Contestant("JAXopt GradientDescent", "jax", "krmd", "jaxopt", _jaxopt),
        Contestant(f"{OURS}, each", "torch", "neumann", "", partial(_ours, method="neumann")),
        Contestant(f"{OURS}, once", "torch", "neumann", "", partial(_ours, method="neumann", linearise="once")),
        Contestant("Betty neumann", "torch", "neumann", "betty-ml", _betty),
    ]


def measure(entered: list[Contestant], task: Any, horizon: int, truncations: list[int], rounds: int) -> dict[str, Any]:
    """Check, then time: a row a contestant and K."""
    rows = []
    for framework, estimator in dict.fromkeys((e.framework, e.estimator) for e in entered):
        group = [e for e in entered if (e.framework, e.estimator) == (framework, estimator)]
        for K in truncations if estimator != "rmd" else [horizon]:
            print(f"{framework}, {estimator}, K = {K}", file=sys.stderr)
            rows += _race(group, framework, estimator, task, horizon, K, rounds)
    packages = sorted({e.package for e in entered if e.package})
    return {
        "schema_version": 1,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "task": {"name": "hypercleaning", "horizon": horizon, "lam": "informed", "dtype": "float32", **vars(task)},
        "tolerance": TOLERANCE,
        "environment": environment.describe(),
        "code": _code(),
        "peers": {name: _version(name) for name in packages},
        "rows": rows,
    }


def _case(framework: str, dtype: str, task: Any, horizon: int, K: int) -> Case:
    bk = backends.load(framework, dtype)
    arrays = (task.hparams(0, "informed"), *task.context(0, 0, horizon))
    lam, data, xs = (bk.asarray(x) for x in arrays)
    return Case(bk, task.problem(bk), lam, data, xs, horizon, K, task.rate)


def _race(
    group: list[Contestant], framework: str, estimator: str, task: Any, horizon: int, K: int, rounds: int
) -> list[dict[str, Any]]:
    exact = _case(framework, "float64", task, horizon, K)
    wanted = exact.bk.to_numpy(_ours(exact, estimator)())
    case = _case(framework, "float32", task, horizon, K)
    calls, rows = {}, []
    for entry in group:
        row = {"framework": framework, "estimator": estimator, "K": K, "contestant": entry.name}
        row |= {"package": entry.package, "status": "ok", "reason": "", "error": None, "seconds": [], "flags": []}
        rows.append(row)
        try:
            call = entry.make(case)
            found = case.bk.to_numpy(case.bk.wait(call()))
        except ImportError as error:
            row |= {"status": "unavailable", "reason": str(error)}
            continue
        except Exception as error:  # what a peer raises is its result, here and below
            row |= {"status": "failed", "reason": _reason(error)}
            continue
        row["error"] = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
        if row["error"] <= TOLERANCE:
            calls[entry.name] = (call, row)
        else:
            row |= {"status": "wrong", "reason": f"differs from ours by more than {TOLERANCE}"}
    if not any(name.startswith(OURS) for name in calls):
        raise RuntimeError(
            f"{framework}, {estimator}, K = {K}: ours in float32 is not ours in float64; nothing is timed"
        )
    order = np.random.default_rng(0)
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(rounds):
        for name in order.permutation(list(calls)):  # in a fixed order each would inherit the caches of the same one
            call, row = calls[name]
            start = time.perf_counter()
            try:
                case.bk.wait(call())
            except Exception as error:
                row |= {"status": "failed", "reason": _reason(error), "seconds": []}
                del calls[name]
                continue
            row["seconds"].append(time.perf_counter() - start)
    flags = foreign_load(case.bk, time.perf_counter() - began, time.process_time() - cpu)
    for _, row in calls.values():
        row["flags"] = flags
    return rows


def _reason(error: Exception) -> str:
    """In one line; a bare `assert` has only its name."""
    said = " ".join(str(error).splitlines()[:1])[:200]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def table(result: dict[str, Any]) -> str:
    """Markdown: a group a framework, estimator and K; ratios to the better of our rows."""
    lines = [
        "| framework | estimator | K | contestant | median (ms) | peer / ours | rank | error | status | marks |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple, list[dict]] = {}
    for row in result["rows"]:
        groups.setdefault((row["framework"], row["estimator"], row["K"]), []).append(row)
    for (framework, estimator, K), rows in groups.items():
        timed = {r["contestant"]: np.array(r["seconds"]) for r in rows if r["seconds"]}
        ours = min((s for name, s in timed.items() if name.startswith(OURS)), key=np.median)
        ranks = stats.ranks({name: (-np.log(s)).tolist() for name, s in timed.items()})
        for r in rows:
            cells = [framework, estimator, str(K), r["contestant"]]
            if r["seconds"]:
                s = timed[r["contestant"]]
                ratio = stats.interval(s / ours, np.median)
                cells += [f"{1e3 * np.median(s):.4g}", ratio.text()]
                cells += [str(ranks[r["contestant"]])]
            else:
                cells += ["–", "–", "–"]
            error = "–" if r["error"] is None else f"{r['error']:.1e}"
            marks = ", ".join(r["flags"]) or "–"
            lines.append("| " + " | ".join([*cells, error, r["status"], marks]) + " |")
    return "\n".join(lines)


def _code() -> dict[str, str]:
    """The files of ours that rows depend on: those of the same estimators' calibration cells, and the race's own."""
    same = {"kind": "calibration", "task": "hypercleaning", "horizon": 100}
    cells = [Cell(**same, method=m, backend=b) for m in ("rmd", "krmd", "neumann") for b in ("torch", "jax")]
    ours = {name for cell in cells for name in stamp.contents(cell)} - {"bench/calibration.py"}
    return stamp.of_files(
        [*ours, *(f"tests/perf/{name}.py" for name in ("peers", "standalone_jax", "standalone_torch"))]
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder; peers.json and peers.md go there")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--small", action="store_true", help="digits in place of MNIST, to try the script")
    given = parser.parse_args(argv)
    # One thread for everybody; both are read when a framework is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    environment.keep_freed_memory()
    sizes, horizon, truncations = (SMALL, 20, [2, 20]) if given.small else ({}, 100, [5, 100])
    result = measure(contestants(), TASKS["hypercleaning"](**sizes), horizon, truncations, given.rounds)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "peers.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    (given.out / "peers.md").write_text(table(result) + "\n")
    print(table(result))


if __name__ == "__main__":
    main(sys.argv[1:])
