"""Nothing lost, nothing computed twice, nothing read that is not whole; each failure one row."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from bench.cell import Cell
from bench.errors import UserError
from bench.executor import Executor
from bench.record import SCHEMA
from bench.report import tables_of
from bench.runner import Runner
from bench.store import Store, is_stale
from tests.test_cli import call

ROOT = Path(__file__).resolve().parent.parent
SWEEP = """title = "Small"
[[grid]]
task = "quadratic"
backend = ["jax", "torch"]
horizon = 20
dtype = "float64"
seed = [0, 1]
timed = false
method = [{ name = "rmd" }, { name = "krmd", truncation = [1, 5, 20] }, { name = "cg", truncation = [1, 2] }]
[[grid]]
kind = "training"
task = "hypercleaning"
task_options = { dataset = "digits", train = 20, validation = 20, test = 20 }
settings = { iterations = 40, rate = 0.1 }
backend = "torch"
horizon = 20
dtype = "float64"
timed = false
method = [{ name = "krmd", truncation = 5 }]
"""
CELLS = 25
TIMES = {"seconds", "s/iteration", "wall time (s)", "one h (ms)"}  # a report's table and columns that say how long


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    file = folder / "small.toml"
    file.write_text(SWEEP)
    return subprocess.run(
        [sys.executable, "-m", "bench", "run", str(file), "--out", str(folder / "out"), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def _contents(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in sorted((folder / "out" / "records").glob("*.json"))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    result = _run(folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_a_second_run_computes_nothing_and_says_so(finished):
    before = _contents(finished)
    assert len(before) == CELLS
    result = _run(finished)
    assert result.returncode == 0
    assert "nothing to compute" in result.stdout
    assert _contents(finished) == before


def _figures(record: str) -> dict:
    """What of a record must not depend on when it was made."""
    made = json.loads(record)["record"]
    if made["training"] is not None:
        return {k: v for k, v in made["training"].items() if k != "seconds"}
    return {k: made["result"][k] for k in ("value", "norm", "exact", "sketch", "counts", "cost")}


def _tables(folder: Path) -> dict[str, str]:
    """The report's tables, every digit of them, without times."""
    made = tables_of(Store(folder / "out").load()[0])
    return {
        t.name: t.rows[[c for c in t.rows.columns if c not in TIMES]].to_csv(index=False)
        for t in made
        if t.name not in TIMES
    }


def _reached(names: list[str], wanted: int | None) -> bool:
    """So many records are there; None: all of PyTorch's but the training, so that this is what it computes."""
    if wanted is not None:
        return len(names) >= wanted
    return sum("-torch-" in name for name in names if not name.startswith("training")) == 12


def _workers(process: subprocess.Popen) -> list[str]:
    """Process numbers of a harness's workers."""
    with contextlib.suppress(OSError):  # either may end while we look
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return [c for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]
    return []


@pytest.mark.parametrize("number", range(int(os.environ.get("HYPERGRAD_BENCH_KILLS", "5"))))
def test_kill_9_loses_nothing(finished, tmp_path, number):
    """At a random moment, the harness and a worker in turn; every fifth time a training is under way.

    `nox -s stress` does it fifty times.
    """
    whom, dice = ("harness", "worker")[number % 2], random.Random(number)
    file = tmp_path / "small.toml"
    file.write_text(SWEEP)
    command = [sys.executable, "-m", "bench", "run", str(file), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    records = tmp_path / "out" / "records"
    training = number % 5 == 4
    wanted = 12 if training else dice.randint(0, CELLS - 4)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if _reached([p.name for p in records.glob("*.json")], None if training else wanted):
            break
        time.sleep(0.01)
    time.sleep(dice.uniform(0, 0.3))
    if whom == "harness":
        process.kill()
        process.wait()
    else:
        while not (workers := _workers(process)) and process.poll() is None:
            time.sleep(0.01)  # none has started yet
        if workers:
            os.kill(int(dice.choice(workers)), signal.SIGKILL)
        else:
            assert len(_contents(tmp_path)) == CELLS, "ended before a worker could be killed, and before the sweep"
        process.wait(timeout=120)
    survivors = _contents(tmp_path)
    assert len(survivors) >= wanted
    kept = {n: t for n, t in survivors.items() if json.loads(t)["record"]["status"] == "ok"}
    if training and whom == "harness":
        assert not any(name.startswith("training") for name in survivors), "killed too late to kill the training"
    lost = [json.loads(t)["record"]["reason"] for n, t in survivors.items() if n not in kept]
    assert len(kept) >= (wanted if whom == "harness" else CELLS - 3), lost
    result = _run(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    after = _contents(tmp_path)
    assert {n: after[n] for n in kept} == kept, "a finished cell was computed again"
    assert {n: _figures(t) for n, t in after.items()} == {n: _figures(t) for n, t in _contents(finished).items()}
    tables = _tables(tmp_path)
    assert {"bias", "counts", "cells", "certificates", "training-cells"} <= set(tables)
    assert tables == _tables(finished)


def test_cut_edited_and_newer_records_are_set_aside(finished, tmp_path):
    records = tmp_path / "out" / "records"
    records.mkdir(parents=True)
    texts = _contents(finished)
    names = list(texts)[:5]
    for name in names:
        (records / name).write_text(texts[name])
    (records / names[0]).write_text(texts[names[0]][: len(texts[names[0]]) // 2])
    edited = json.loads(texts[names[1]])
    edited["record"]["result"]["value"] = 0.0
    (records / names[1]).write_text(json.dumps(edited))
    newer = json.loads(texts[names[2]])
    newer["record"]["schema_version"] = SCHEMA + 1
    (records / names[2]).write_text(json.dumps(newer))
    os.replace(records / names[3], records / "another-name.json")
    good, complaints = Store(tmp_path / "out").load()
    assert [f"{r.key}.json" for r in good] == [names[4]]
    for word in ("not a whole record", "edited by hand", "newer version", "named for another cell"):
        assert sum(word in c for c in complaints) == 1
    assert len(list((tmp_path / "out" / "set_aside").iterdir())) == 4
    assert Store(tmp_path / "out").load()[1] == []


def test_one_harness_a_store(tmp_path):
    store = Store(tmp_path)
    store.create()
    with store.locked(), pytest.raises(UserError, match="another run"), Store(tmp_path).locked():
        pass


def test_changed_code_makes_a_record_stale(finished, monkeypatch):
    record = Store(finished / "out").load()[0][0]
    assert not is_stale(record)
    monkeypatch.setattr("bench.stamp._content", lambda path: "other")
    assert is_stale(record)


GUEST = """
import os, signal, time
from dataclasses import dataclass
from backends.hypergradient import METHODS

class _Guest:
    estimand = "exact"
    def check(self, problem, horizon): pass
    def __call__(self, *args):
        self.fail()
        return METHODS["rmd"]()(*args)

@dataclass(frozen=True)
class Segfault(_Guest):
    def fail(self): os.kill(os.getpid(), signal.SIGSEGV)

@dataclass(frozen=True)
class Exit(_Guest):
    def fail(self): os._exit(3)

@dataclass(frozen=True)
class Hang(_Guest):
    def fail(self): time.sleep(600)

@dataclass(frozen=True)
class Raise(_Guest):
    def fail(self): raise ZeroDivisionError("planted")

@dataclass(frozen=True)
class OutOfMemory(_Guest):
    def fail(self):
        import numpy
        self_filling = numpy.ones(1 << 40)

@dataclass(frozen=True)
class NaN(_Guest):
    def __call__(self, bk, problem, lam, data, xs):
        r = METHODS["rmd"]()(bk, problem, lam, data, xs)
        return r._replace(grad=bk.map(lambda h: h * float("nan"), r.grad))

@dataclass(frozen=True)
class LargeArray(_Guest):
    def fail(self):
        import numpy
        numpy.empty(3 << 30, numpy.uint8)

@dataclass(frozen=True)
class LargeTensor(_Guest):
    def fail(self):
        import torch
        torch.empty(3 << 30, dtype=torch.uint8)

@dataclass(frozen=True)
class LargeInJax(_Guest):
    def fail(self):
        import jax
        with jax.ensure_compile_time_eval():  # the call is being traced
            jax.numpy.zeros(3 << 30, "uint8").block_until_ready()

@dataclass(frozen=True)
class Fine(_Guest):
    def fail(self): pass
"""
PLANTED = {
    "Segfault": ("error", "SIGSEGV"),
    "Exit": ("error", "exit code 3"),
    "Hang": ("timeout", "no result after"),
    "Raise": ("error", "ZeroDivisionError: planted"),
    "OutOfMemory": ("oom", "allocate"),
    "NaN": ("nonfinite", "NaN"),
    "Fine": ("ok", ""),
}


def test_each_failure_is_one_row(tmp_path):
    file = tmp_path / "guest.py"
    file.write_text(GUEST)
    plain = {"task": "quadratic", "backend": "torch", "dtype": "float64", "horizon": 5, "timed": False}
    cells = [Cell(method=f"{file}:{name}", **plain) for name in PLANTED]
    with Executor(tmp_path / "cache", workers=1, timeout=15, threads=1) as executor:
        records = {r.cell.method.rpartition(":")[2]: r for r in executor.run(cells)}
    found = {n: (r.status, r.reason) for n, r in records.items()}
    assert {n: s for n, (s, _) in found.items()} == {n: s for n, (s, _) in PLANTED.items()}, found
    for name, (_, says) in PLANTED.items():
        assert says in records[name].reason, records[name].reason
        assert "\n" not in records[name].reason


class _Watched(Executor):
    """Notes which cells are under way whenever one begins."""

    def __enter__(self):
        self.under_way, self.begun = [], []
        return self

    def _submit(self, cell):
        self.under_way.append(cell)
        self.begun.append(list(self.under_way))
        done = Future()
        done.set_result("")
        return done

    def _received(self, cell, submitted, future):
        self.under_way.remove(cell)
        return cell


def test_timed_cells_run_alone(tmp_path):
    """Whatever `workers` says; untimed ones side by side."""
    plain = {"task": "quadratic", "method": "rmd", "dtype": "float64"}
    lanes = [(b, t, T) for b in ("jax", "torch") for t in (True, False) for T in (4, 5)]
    cells = [Cell(**plain, backend=b, timed=t, horizon=T) for b, t, T in lanes]
    with _Watched(tmp_path, workers=2, timeout=1, threads=1) as executor:
        assert sorted(executor.run(cells), key=cells.index) == cells
    assert [len(together) for together in executor.begun if together[-1].timed] == [1] * 4
    assert max(len(together) for together in executor.begun) == 2


def _address_space(packages: str) -> float:
    """GiB that a process takes which has only imported them: several times as much with CUDA as without."""
    program = f"import {packages}; print(next(line for line in open('/proc/self/status') if line.startswith('VmPeak')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[1]) / 2**20


@pytest.mark.parametrize("limited", [False, True])
def test_memory_beyond_the_limit_is_a_row(monkeypatch, capsys, tmp_path, limited):
    """What is to be had without the limit is refused under it, by either allocator, and the next cell is computed."""
    guest, file = tmp_path / "guest.py", tmp_path / "sweep.toml"
    guest.write_text(GUEST)
    names = ("LargeArray", "LargeTensor", "Fine")  # 3 GiB that nobody touches: under the limit there is the rest, too
    methods = ", ".join(f'{{ name = "{guest}:{name}" }}' for name in names)
    grid = f'[[grid]]\ntask = "quadratic"\nbackend = "torch"\nhorizon = 5\ntimed = false\nmethod = [{methods}]\n'
    file.write_text('title = "t"\n' + grid)
    arguments = ["run", str(file), "--out", str(tmp_path / "out"), "--workers", "1"]
    limit = ["--memory-limit", f"{_address_space('torch') + 2:.1f}"] if limited else []
    code, out, _ = call(monkeypatch, capsys, *arguments, *limit)
    found = {r.cell.method.rpartition(":")[2]: r for r in Store(tmp_path / "out").load()[0]}
    statuses = {name: found[name].status for name in names}
    if not limited:
        assert (code, statuses) == (0, dict.fromkeys(names, "ok")), out
        return
    assert (code, statuses) == (1, {"LargeArray": "oom", "LargeTensor": "oom", "Fine": "ok"}), out
    assert "Unable to allocate 3.00 GiB" in found["LargeArray"].reason
    assert "can't allocate memory: you tried to allocate 3221225472 bytes" in found["LargeTensor"].reason
    assert all("\n" not in r.reason for r in found.values())


def test_what_jax_cannot_have_is_out_of_memory(tmp_path):
    guest = tmp_path / "guest.py"
    guest.write_text(GUEST)
    plain = {"task": "quadratic", "backend": "jax", "horizon": 5, "timed": False}
    cells = [Cell(method=f"{guest}:{name}", **plain) for name in ("LargeInJax", "Fine")]
    limit = int((_address_space("jax, jaxlib") + 2) * 2**30)
    with Executor(tmp_path / "cache", workers=1, timeout=60, threads=1, memory_limit=limit) as executor:
        large, fine = executor.run(cells)
    assert (large.status, fine.status) == ("oom", "ok"), (large.reason, fine.reason)
    assert "3221225472" in large.reason


def test_a_missing_framework_is_a_row(monkeypatch):
    monkeypatch.setitem(sys.modules, "backends.torch_backend", None)
    monkeypatch.setattr("bench.runner._backend", __import__("backends").load)
    record = Runner().compute(Cell(task="quadratic", method="rmd", backend="torch", horizon=5))
    assert record.status == "unavailable"
    assert "python -m pip install 'hypergrad-bench[torch]'" in record.reason


def test_a_missing_device_is_a_row():
    record = Runner().compute(Cell(task="quadratic", method="rmd", backend="jax", device="cuda:7", horizon=5))
    assert record.status == "unavailable"
    assert "cuda:7" in record.reason


def test_an_unsupported_pair_is_a_row():
    cell = Cell(task="quadratic", method="krmd", method_options={"truncation": 9}, backend="jax", horizon=5)
    record = Runner().compute(cell)
    assert record.status == "unsupported"
    assert "allowed are 0 to 5" in record.reason


def test_keys_are_names_of_their_own():
    a = Cell(task="quadratic", method="rmd", backend="jax", horizon=5)
    assert a.key != a.model_copy(update={"seed": 1}).key
    assert a == Cell.model_validate_json(a.model_dump_json())
    assert len({a, Cell.model_validate_json(a.model_dump_json())}) == 1
