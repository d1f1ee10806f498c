"""Sessions: bench, tests, lint, types, crosscheck, stress.  Each builds its own environment from constraints.txt."""

from __future__ import annotations

import itertools

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests"]


def _install(session: nox.Session, *extras: str) -> None:
    session.install("--constraint", "constraints.txt", "--editable", f".[{','.join(extras)}]")


@nox.session
def bench(session: nox.Session) -> None:
    """Run a preset (default: quick) and write its report.  `nox -s bench -- cleaning --backend jax`."""
    _install(session, "all")
    arguments = session.posargs or ["quick"]
    session.run("python", "-m", "bench", "run", *arguments)
    named = [a for flag, a in itertools.pairwise(arguments) if flag == "--out"]
    if "--dry-run" not in arguments:
        stem = arguments[0].removesuffix(".toml").rpartition("/")[2]
        session.run("python", "-m", "bench", "report", named[0] if named else f"results/runs/{stem}")


@nox.session
def tests(session: nox.Session) -> None:
    """The whole test suite."""
    _install(session, "all", "dev")
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
    session.run("basedpyright")
