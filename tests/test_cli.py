"""Bad input: one line that says what came and what is allowed, a non-zero exit, no traceback."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import __main__ as entry
from bench import estimate, executor, stamp
from tests import trained

ROOT = Path(__file__).resolve().parent.parent
GOOD = """title = "t"
[[grid]]
task = "quadratic"
backend = "jax"
horizon = 10
method = [{ name = "rmd" }]
"""
METHOD = "method = [{ name = "


def call(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `python -m bench ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as stopped:
        entry.main()
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


def refused(monkeypatch, capsys, *arguments: str) -> str:
    """The one line of a refusal."""
    code, out, err = call(monkeypatch, capsys, *arguments)
    assert code != 0
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("error: ")
    assert "Traceback" not in err
    return err


SWEEPS = {
    "not TOML": ('title = "x', "not valid TOML"),
    "empty": ("", "is empty"),
    "binary": (b"\xfd\x00\x81", "cannot be read as TOML text"),
    "no grid": ('title = "t"', "at least one"),
    "empty grid": ('title = "t"\ngrid = []', "at least one"),
    "unknown key": (GOOD + "foo = 3\n", "unknown key 'foo'; allowed are kind, settings, task"),
    "misspelt key": (GOOD.replace("horizon", "horizn"), "unknown key 'horizn'; allowed are kind, settings, task"),
    "wrong type": (GOOD.replace("10", '"ten"'), "grid 1: horizon = 'ten' is not allowed"),
    "negative T": (GOOD.replace("10", "-1"), "T is a whole number from 1"),
    "unknown backend": (GOOD.replace('"jax"', '"jaxx"'), "'jaxx'; allowed are jax, torch"),
    "unknown device": (GOOD + 'device = "tpu"\n', "'tpu'; allowed are cpu, cuda"),
    "unknown dtype": (GOOD + 'dtype = "float16"\n', "'float16'; allowed are float32, float64"),
    "unknown method": (GOOD.replace("rmd", "rmdd"), "'rmdd'; allowed are rmd, krmd"),
    "unknown task": (GOOD.replace("quadratic", "quad"), "'quad'; allowed are quadratic"),
    "unknown option": (GOOD.replace('"rmd"', '"rmd", stsh = "x"'), "no option 'stsh'; allowed are stash"),
    "unknown stash": (GOOD.replace('"rmd"', '"rmd", stash = "x"'), "'x' is not allowed; allowed are iterates"),
    "negative K": (GOOD.replace('"rmd"', '"krmd", truncation = -1'), "-1 is not allowed"),
    "K beyond T": (GOOD.replace('"rmd"', '"krmd", truncation = 20'), "all 1 have K > T; allowed is K ≤ T"),
    "K missing": (GOOD.replace('"rmd"', '"krmd"'), "krmd needs the option 'truncation'; its options are"),
    "unknown point": (GOOD + 'lam = "nowhere"\n', "'nowhere' is not a point of quadratic; allowed are init"),
    "negative seed": (GOOD + "seed = -2\n", "seeds are whole numbers from 0"),
    "task option": (GOOD + "task_options = { ratee = 3 }\n", "no option 'ratee'; allowed are rate"),
    "task option's type": (GOOD + 'task_options = { rate = "fast" }\n', "its options are rate"),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_bad_sweep_files(monkeypatch, capsys, tmp_path, name):
    content, says = SWEEPS[name]
    file = tmp_path / "sweep.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert says in refused(monkeypatch, capsys, "run", str(file), "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


METHOD_FILES = {
    "missing": (None, "there is no file"),
    "no class": ("x = 1", "has no class 'A'"),
    "raises": ("raise RuntimeError('boom')", "raised RuntimeError: boom"),
    "imports what is not there": ("import nonexistent_module", "ModuleNotFoundError"),
    "exits": ("import sys; sys.exit(3)", "raised SystemExit"),
    "syntax": ("def (", "raised SyntaxError"),
    "no method": ("class A: pass", "it lacks __call__"[:8]),
}


@pytest.mark.parametrize("name", METHOD_FILES)
def test_bad_method_files(monkeypatch, capsys, tmp_path, name):
    content, says = METHOD_FILES[name]
    file = tmp_path / "mine.py"
    if content is not None:
        file.write_text(content)
    assert says in refused(monkeypatch, capsys, "run", "quick", "--method", f"{file}:A", "--dry-run")


def test_a_file_alone_is_asked_for_its_class(monkeypatch, capsys, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("class Mine: pass\nclass Other: pass\n")
    said = refused(monkeypatch, capsys, "run", "quick", "--method", str(file), "--dry-run")
    assert f"--method {file}: which class? expected FILE.py:CLASS; the file has Mine, Other" in said


COMMANDS = {
    "no sweep": (["run"], "allowed are cleaning"),
    "unknown preset": (["run", "nope"], "unknown preset 'nope'; allowed are"),
    "missing file": (["run", "nope.toml"], "there is no file 'nope.toml'"),
    "backend": (["run", "quick", "--backend", "foo"], "allowed are jax, torch"),
    "device": (["run", "quick", "--device", "tpu"], "allowed are cpu, cuda"),
    "method": (["run", "quick", "--method", "foo"], "allowed are rmd, krmd"),
    "only key": (["run", "quick", "--only", "foo=1"], "unknown key 'foo'; allowed are"),
    "only value": (["run", "quick", "--only", "method=foo"], "no cell has method = 'foo'; allowed are"),
    "only form": (["run", "quick", "--only", "method"], "expected KEY=VALUE"),
    "option": (["run", "quick", "--bogus"], "--bogus"),
    "number": (["run", "quick", "--workers", "x"], "--workers"),
    "output": (["run", "quick", "--out", "/proc/nothing"], "cannot be written"),
    "command": (["nope"], "unknown command 'nope'; allowed are"),
    "data command": (["data", "nope"], "allowed are fetch, list, verify"),
    "data set": (["data", "verify", "nope"], "unknown data set 'nope'; allowed are"),
    "report nowhere": (["report", "/nowhere"], "there is no folder"),
    "claims nowhere": (["claims", "/nowhere"], "there is no folder"),
    "claims of nothing": (["claims"], "DIR"),
    "status nowhere": (["status", "/nowhere"], "there is no folder"),
    "no folder": (["status"], "FOLDER"),
    "cell": (["run", "--cell", "/nowhere.json"], "no such record"),
    "crosscheck": (["crosscheck", "--only", "method=foo"], "allowed are"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_bad_commands(monkeypatch, capsys, tmp_path, name):
    arguments, says = COMMANDS[name]
    monkeypatch.chdir(tmp_path)
    assert says in refused(monkeypatch, capsys, *arguments)


@pytest.mark.parametrize("command", ["report", "status"])
def test_an_empty_folder_holds_no_records(monkeypatch, capsys, tmp_path, command):
    assert "holds no records" in refused(monkeypatch, capsys, command, str(tmp_path))
    (tmp_path / "records").mkdir()
    assert "holds no records" in refused(monkeypatch, capsys, command, str(tmp_path))


def test_a_good_sweep_can_be_looked_at_first(monkeypatch, capsys, tmp_path):
    file = tmp_path / "sweep.toml"
    file.write_text(GOOD)
    code, out, _ = call(monkeypatch, capsys, "run", str(file), "--dry-run", "--out", str(tmp_path / "out"))
    assert code == 0
    assert "cells       1" in out
    assert not (tmp_path / "out").exists()


def test_a_rehearsal_counts_what_the_run_would_compute(monkeypatch, capsys, tmp_path):
    file, out = tmp_path / "sweep.toml", str(tmp_path / "out")
    file.write_text(GOOD.replace("horizon = 10", "horizon = [4, 5]\ntimed = false"))
    assert call(monkeypatch, capsys, "run", str(file), "--out", out)[0] == 0
    rehearse = ("run", str(file), "--dry-run", "--out", out)
    assert "2; 0 to compute" in call(monkeypatch, capsys, *rehearse)[1]
    assert "2; 2 to compute" in call(monkeypatch, capsys, *rehearse, "--fresh")[1]


@pytest.mark.parametrize("value", ["false", "False"])
def test_a_boolean_is_written_as_in_toml_or_as_tables_show_it(monkeypatch, capsys, tmp_path, value):
    file = tmp_path / "sweep.toml"
    file.write_text(GOOD + GOOD.replace('title = "t"', "") + "timed = false\n")
    assert "cells       1;" in call(monkeypatch, capsys, "run", str(file), "--dry-run", "--only", f"timed={value}")[1]
    assert "allowed are true, false" in refused(monkeypatch, capsys, "run", str(file), "--only", "timed=maybe")


@pytest.mark.parametrize(("seconds", "says"), [(12.3, "about 12.3 s"), (90, "about 1.5 min"), (7200, "about 2.0 h")])
def test_a_rehearsal_tells_time_in_a_unit_that_fits(monkeypatch, capsys, tmp_path, seconds, says):
    file = tmp_path / "sweep.toml"
    file.write_text(GOOD)
    monkeypatch.setattr(estimate, "seconds", lambda cell: seconds)
    assert says in call(monkeypatch, capsys, "run", str(file), "--dry-run")[1]


def test_a_rehearsal_counts_the_files_of_a_data_set(monkeypatch, capsys, tmp_path):
    """Files that are missing do not hide those that are here."""
    file = tmp_path / "sweep.toml"
    file.write_text(GOOD.replace('"quadratic"', '"hypercleaning"'))
    monkeypatch.setenv("HYPERGRAD_BENCH_DATA", str(tmp_path))
    monkeypatch.setenv("HYPERGRAD_BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        (tmp_path / "MNIST" / "raw" / name).touch()
    assert "mnist (HYPERGRAD_BENCH_DATA: 2 of 4 files)" in call(monkeypatch, capsys, "run", str(file), "--dry-run")[1]


@pytest.mark.parametrize("arguments", [[], ["data"]])
def test_a_command_without_its_command_shows_the_help(monkeypatch, capsys, arguments):
    code, out, err = call(monkeypatch, capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: python -m bench")
    assert len(err.splitlines()) > 5


def test_the_estimate_counts_upper_iterations():
    """Three times as long is three times as dear; dF and metrics at every E-th cost something; K does."""

    def seconds(K=5, task="hypercleaning", **settings):
        settings = {"iterations": 300, "rate": 0.1, "every": 300, **settings}
        options = {} if task == "fewshot" else {"train": 1000}
        return estimate.seconds(trained.cell("jax", task, K, settings=settings, task_options=options)) - estimate.START

    assert seconds(iterations=900, every=900) == pytest.approx(3 * seconds(), rel=0.1)
    assert seconds(every=10) > 1.2 * seconds()
    assert 2 < seconds(100) / seconds(1) < 3
    assert seconds(task="fewshot", every=30) > 1.5 * seconds(task="fewshot")  # 700 held-out episodes
    one = estimate.seconds(trained.cell("jax", "hypercleaning", 5, kind="hypergradient", settings={}))
    assert one < estimate.seconds(trained.cell("jax", "hypercleaning", 5))


def test_the_estimate_is_of_the_right_size():
    """300 iterations at 1000 examples took 31 to 56 s for K = 1 and 62 to 100 s for K = 100 on one core."""
    cifar10 = {"dataset": "cifar10", "rho": 0.03}
    for task, K, options, iterations, every, took in (
        ("hypercleaning", 1, trained.CLEANING, 300, 100, 42.0),
        ("hypercleaning", 100, trained.CLEANING, 300, 100, 80.0),
        ("hypercleaning_l1", 100, trained.CLEANING, 100, 10, 41.0),
        ("feature_decay", 100, {}, 100, 10, 26.0),
        ("task_interaction", 1, cifar10, 120, 12, 19.2),
        ("task_interaction", 100, cifar10, 120, 12, 31.9),
    ):
        settings = {**trained.SETTINGS, "iterations": iterations, "every": every}
        found = estimate.seconds(trained.cell("jax", task, K, task_options=options, settings=settings))
        assert took / 3 < found < 3 * took, task


def test_the_estimate_knows_how_many_hyperparameters_there_are():
    """FMD carries N columns: at N of two problems of one size its time is as N."""

    def seconds(task, **options):
        c = trained.cell("jax", task, None, kind="hypergradient", settings={}, method="fmd", task_options=options)
        return estimate.seconds(c) - estimate.START

    assert seconds("hypercleaning", train=1000) == pytest.approx(10 * seconds("hypercleaning", train=1000, groups=100))
    assert seconds("hypercleaning_l1", train=1000) == pytest.approx(seconds("hypercleaning", train=1000))
    assert seconds("task_interaction") == pytest.approx(46 * seconds("task_interaction", interaction=False))
    # N = words, and a step is as long as there are words
    assert seconds("feature_decay", words=2000) == pytest.approx(4 * seconds("feature_decay", words=1000))


@pytest.mark.parametrize("command", ["methods", "tasks", "--help", "--version"])
def test_lists(monkeypatch, capsys, command):
    code, out, _ = call(monkeypatch, capsys, command)
    assert code == 0
    assert out


def test_every_command_has_an_example():
    from bench.commands import cli

    for name, command in cli.commands.items():
        assert "Example: python -m bench" in (command.help or ""), name


def test_as_a_program():
    """The exit code of the real thing."""
    result = subprocess.run(
        [sys.executable, "-m", "bench", "run", "nope"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: unknown preset 'nope'")


def test_a_sweep_of_which_nothing_could_run(monkeypatch, capsys, tmp_path):
    """Its exit code says so, its report has the reasons, and a rehearsal names the file that is not there."""
    file, out = tmp_path / "s.toml", str(tmp_path / "out")
    file.write_text(GOOD + f'lam = "{tmp_path}/none.npz"\n')
    code, told, _ = call(monkeypatch, capsys, "run", str(file), "--dry-run")
    assert "none.npz: cannot be read now" in told.replace("\n", "")
    code, told, _ = call(monkeypatch, capsys, "run", str(file), "--out", out)
    assert code == 1
    assert "1 × unavailable" in told
    assert call(monkeypatch, capsys, "report", out)[0] == 0
    assert "there is no file" in (tmp_path / "out" / "report.html").read_text()


def test_a_part_of_a_sweep_does_not_forget_the_rest(monkeypatch, capsys, tmp_path):
    file, out = tmp_path / "s.toml", str(tmp_path / "out")
    file.write_text(GOOD.replace("horizon = 10", "horizon = [4, 5]\ntimed = false"))
    assert call(monkeypatch, capsys, "run", str(file), "--out", out)[0] == 0
    assert call(monkeypatch, capsys, "run", str(file), "--only", "horizon=4", "--out", out)[0] == 0
    assert "2 cells, 0 missing" in call(monkeypatch, capsys, "status", out)[1]
    for horizon in ("4", "5"):
        call(monkeypatch, capsys, "run", str(file), "--only", f"horizon={horizon}", "--device", "cuda:7", "--out", out)
    assert "4 cells, 0 missing" in call(monkeypatch, capsys, "status", out)[1]
    file.write_text(file.read_text().replace("[4, 5]", "[4, 6]"))
    assert call(monkeypatch, capsys, "run", str(file), "--only", "horizon=4", "--out", out)[0] == 0
    assert "2 cells, 0 missing" in call(monkeypatch, capsys, "status", out)[1]  # 5 is of this sweep no more


def test_one_cell_is_run_again_as_it_was(monkeypatch, capsys, tmp_path):
    """With the threads of its record; a store that holds the cell keeps its sweep."""
    file, out, again = tmp_path / "s.toml", tmp_path / "out", tmp_path / "again"
    file.write_text(GOOD.replace("horizon = 10", "horizon = [4, 5]\ntimed = false"))
    assert call(monkeypatch, capsys, "run", str(file), "--threads", "2", "--out", str(out))[0] == 0
    record = str(next((out / "records").glob("*T4*.json")))
    assert call(monkeypatch, capsys, "run", "--cell", record, "--out", str(again))[0] == 0
    told = call(monkeypatch, capsys, "compare", str(out), str(again))[1]
    assert "time B/A" not in told  # they are not timed
    assert "1 cells equal, 0 differ, 1 only in A, 0 only in B" in told
    assert "OMP_NUM_THREADS=2" in call(monkeypatch, capsys, "status", str(again))[1].replace("\n", "")
    code, told, _ = call(monkeypatch, capsys, "compare", str(out), str(again), "--common")
    assert code == 0
    assert told.strip() == "1 cells equal, 0 differ, 1 only in A, 0 only in B"
    assert call(monkeypatch, capsys, "compare", str(out), str(again))[0] == 1
    other = str(next((out / "records").glob("*T5*.json")))
    assert call(monkeypatch, capsys, "run", "--cell", other, "--out", str(again))[0] == 0
    assert "sweep cell: 2 cells, 0 missing" in call(monkeypatch, capsys, "status", str(again))[1]
    assert call(monkeypatch, capsys, "run", "--cell", record, "--threads", "1", "--out", str(out))[0] == 0
    told = call(monkeypatch, capsys, "status", str(out))[1].replace("\n", "")
    assert "2 cells, 0 missing" in told
    assert "OMP_NUM_THREADS=1" in told
    assert "OMP_NUM_THREADS=2" in told


def test_status_says_what_is_stale_where_it_ran_and_what_the_harness_took(monkeypatch, capsys, tmp_path):
    file, out = tmp_path / "s.toml", str(tmp_path / "out")
    more = '{ name = "rmd" }, { name = "krmd", truncation = 2 }'  # the second has its reference already
    file.write_text(GOOD.replace("horizon = 10", "horizon = 4\ntimed = false").replace('{ name = "rmd" }', more))
    assert call(monkeypatch, capsys, "run", str(file), "--out", out)[0] == 0
    told = call(monkeypatch, capsys, "status", out)[1]
    assert "stale: 0\n" in told
    assert re.search(r"harness share: \d+ % of all seconds; \d+ ms a warm cell \(median\)", told)
    (machine,) = told.replace("\n", " ").split("machine: ")[1:]
    assert all(fact in machine for fact in ("core(s) used", "GiB", "OMP_NUM_THREADS=1", "glibc", "Python", "jax"))
    monkeypatch.setattr(stamp, "contents", lambda cell: {"backends/jax_backend.py": "other"})
    assert "stale: 2 (the next run computes them again), because of" in call(monkeypatch, capsys, "status", out)[1]
    assert "2 × backends/jax_backend.py has changed" in call(monkeypatch, capsys, "status", out)[1]


def test_who_only_looks_moves_nothing(monkeypatch, capsys, tmp_path):
    """A rehearsal names a bad file and leaves it; what cannot be read may be good and is left by all."""
    file, out = tmp_path / "s.toml", tmp_path / "out"
    file.write_text(GOOD.replace("horizon = 10", "horizon = [4, 5]\ntimed = false"))
    assert call(monkeypatch, capsys, "run", str(file), "--out", str(out))[0] == 0
    cut = next((out / "records").glob("*T4*.json"))
    cut.write_text(cut.read_text()[:-100])
    code, told, _ = call(monkeypatch, capsys, "run", str(file), "--out", str(out), "--dry-run")
    assert code == 0
    assert "not a whole record; a run would set it aside" in told.replace("\n", " ")
    assert "1 to compute" in told
    assert cut.exists()
    cut.unlink()
    cut.mkdir()
    assert "cannot be read: Is a directory" in refused(monkeypatch, capsys, "status", str(out))


def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys, tmp_path):
    file = tmp_path / "s.toml"
    file.write_text(GOOD)

    def stop(self, cells):
        raise KeyboardInterrupt

    monkeypatch.setattr(executor.Executor, "run", stop)
    run = ("run", str(file), "--out", str(tmp_path / "out"))
    code, _, err = call(monkeypatch, capsys, *run)
    assert code == 130
    assert "stopped; every finished cell is kept, and the same command goes on from there" in err
    assert (
        "the same command begins anew; the other cells have the records that they had"
        in call(monkeypatch, capsys, *run, "--fresh")[2]
    )
