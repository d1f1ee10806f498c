"""Sessions: bench, tests, tests-gpu-versions, lint, types, crosscheck, stress, perf, peers, each in an environment."""

from __future__ import annotations

import argparse
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests"]

# Measured by `peers`.  HyperTorch is on no registry: `hypergrad` and `hypertorch` there are other libraries.
PEERS = ("higher==0.2.1", "torchopt==0.7.3", "graphviz==0.21", "betty-ml==0.1.1", "jaxopt==0.8.5")
HYPERTORCH = "git+https://github.com/prolearner/hypertorch@6241dfafcf37ddaf14e152ba5e5a3aa7165396d3"


def _install(session: nox.Session, *extras: str, constraints: str = "constraints.txt") -> None:
    session.install("--constraint", constraints, "--editable", f".[{','.join(extras)}]")


@nox.session
def bench(session: nox.Session) -> None:
    """Run a preset (default: quick) and write its report.  `nox -s bench -- cleaning --backend jax`."""
    _install(session, "all")
    arguments = session.posargs or ["quick"]
    session.run("python", "-m", "bench", "run", *arguments)
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--out")
    given, rest = options.parse_known_args(arguments)
    presets = [a for a in rest if a.endswith(".toml") or Path(f"bench/sweeps/{a}.toml").is_file()]
    folder = given.out or (f"results/runs/{Path(presets[0]).name.removesuffix('.toml')}" if presets else None)
    if folder and "--dry-run" not in arguments:
        session.run("python", "-m", "bench", "report", folder)


@nox.session
def tests(session: nox.Session) -> None:
    """The whole test suite."""
    _install(session, "all", "dev")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(name="tests-gpu-versions", python="3.12")
def tests_gpu_versions(session: nox.Session) -> None:
    """The suite with the versions of the GPU's records, on whatever device is here.  PyTorch with CUDA: 3 GB."""
    _install(session, "all", "dev", constraints="constraints-gpu.txt")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def stress(session: nox.Session) -> None:
    """Fifty kill -9 at random moments over a sweep; nothing may be lost, halved or computed twice."""
    _install(session, "all", "dev")
    session.env["HYPERGRAD_BENCH_KILLS"] = "50"
    session.run("python", "-m", "pytest", "tests/test_store.py", "-k", "kill_9", *session.posargs)


@nox.session
def crosscheck(session: nox.Session) -> None:
    """PyTorch against JAX in float64; fails when they disagree."""
    _install(session, "all")
    session.run("python", "-m", "bench", "crosscheck", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: rules and format."""
    session.install("--constraint", "constraints.txt", "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """basedpyright on backends, tasks and bench."""
    _install(session, "all", "dev")
    # A `.venv` beside the project would otherwise be searched for the libraries, whatever is in it.
    session.run("basedpyright", "--pythonpath", f"{session.bin}/python")


@nox.session
def perf(session: nox.Session) -> None:
    """Times of all estimators and native idioms by pytest-benchmark.  `nox -s perf -- --benchmark-autosave`."""
    _install(session, "all", "dev")
    session.env.update({"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"})
    session.run("python", "-m", "pytest", "tests/perf", "--benchmark-enable", "--benchmark-only", *session.posargs)


@nox.session
def peers(session: nox.Session) -> None:
    """Peer libraries beside ours on MNIST hyper-cleaning.  `taskset -c 0 nox -s peers -- --rounds 20`; ten minutes."""
    _install(session, "all")
    session.install("pip<24.1")  # later ones refuse the metadata of betty-ml
    # Without dependencies, so that nobody replaces torch or jax; what cannot be had becomes a row `unavailable`.
    for peer in (*PEERS, HYPERTORCH):
        session.install("--no-deps", peer, success_codes=[0, 1])
    # As in a worker of a sweep, so that both are one machine to a table.
    for library in ("OMP", "MKL", "OPENBLAS"):
        session.env[f"{library}_NUM_THREADS"] = "1"
    session.run("python", "tests/perf/peers.py", "--out", "results/peers", *session.posargs)
