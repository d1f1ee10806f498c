"""λ from a file: an array, or what a training run came to."""

from __future__ import annotations

import numpy as np
import pytest

from bench import naming, point, stamp
from bench.cell import Cell
from bench.errors import UserError
from bench.executor import Executor
from bench.report import tables_of
from bench.runner import Runner
from bench.store import Store, is_stale
from bench.sweep import expand, presets, read

DIGITS = {"dataset": "digits", "train": 30, "validation": 30, "test": 30}
PLAIN = {"task": "hypercleaning", "task_options": DIGITS, "dtype": "float64", "horizon": 8, "timed": False}
TRAINING = {"kind": "training", "settings": {"iterations": 4, "rate": 100.0, "every": 2}}
LANES = ("torch", "jax")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The file of a training run, and its record."""
    store = Store(tmp_path_factory.mktemp("store"))
    store.create()
    record = Runner().compute(Cell(method="rmd", backend="jax", **PLAIN, **TRAINING))
    assert record.status == "ok", record.reason
    store.write(record)
    return store.records_folder / f"{record.key}.json", record


def at(lam, backend="jax", method="rmd", **more):
    return Runner().compute(Cell(method=method, backend=backend, lam=str(lam), **PLAIN | more))


@pytest.mark.parametrize("backend", LANES)
def test_the_bias_there_is_the_one_that_the_run_recorded(run, backend, tmp_path):
    file, record = run
    t = record.training
    chosen = t.iterations.index(t.selected[0])
    assert t.selected[0] > 0  # so it is not λ_0 that is read
    here = at(f"{file}@chosen", backend)
    # λ is kept to six digits.
    assert here.result.norm == pytest.approx(t.norm[0][chosen], rel=1e-4)
    assert here.result.value == pytest.approx(t.value[0][chosen], rel=1e-5)
    assert here.result.norm != pytest.approx(at("init", backend).result.norm, rel=1e-2)
    by_number = at(f"{file}@{t.selected[0]}", backend)
    assert by_number.result.norm == pytest.approx(t.norm[0][chosen], rel=1e-12)  # all digits, since it is the last
    np.savez(tmp_path / "mine.npz", lam=np.array(t.chosen))
    assert at(tmp_path / "mine.npz", backend).result.sketch == here.result.sketch


def test_the_frameworks_agree_there(run):
    a, b = (at(f"{run[0]}@chosen", backend).result.sketch.values for backend in LANES)
    np.testing.assert_allclose(a, b, rtol=1e-12)


def test_lam_is_put_into_the_shape_of_the_task(tmp_path):
    """(C, ρ) in the order in which a run's flat λ has it."""
    import backends
    from bench.reference import flat
    from tasks import TASKS

    task = TASKS["task_interaction"](dataset="digits")
    for backend in LANES:
        bk = backends.load(backend, "float64")
        template = task.hparams(0, task.points[0])
        numbers = np.arange(len(flat(bk, bk.asarray(template)))) / 7
        np.savez(tmp_path / "c.npz", lam=numbers)
        cell = Cell(task="task_interaction", method="rmd", backend=backend, horizon=3, lam=str(tmp_path / "c.npz"))
        found = point.hparams_of(bk, task, cell)
        np.testing.assert_array_equal(flat(bk, found), numbers)
        assert [x.shape for x in bk.leaves(found)] == [x.shape for x in bk.leaves(bk.asarray(template))]


def test_other_numbers_make_the_record_stale(tmp_path):
    def made_by(lam):
        point._numbers.cache_clear()
        np.savez(tmp_path / "mine.npz", lam=lam)
        return stamp.code(Cell(method="rmd", backend="jax", lam=str(tmp_path / "mine.npz"), **PLAIN))

    first = made_by(np.zeros(30))
    assert made_by(np.zeros(30)) == first
    then = made_by(np.ones(30))
    assert then["stamp"] != first["stamp"]
    assert {k for k in then if then[k] != first[k]} == {"stamp", "λ"}
    point._numbers.cache_clear()


def test_what_does_not_fit_is_one_line(run, tmp_path):
    file, _ = run
    np.savez(tmp_path / "short.npz", lam=np.zeros(7))
    np.savez(tmp_path / "other.npz", x=np.zeros(30))
    np.savez(tmp_path / "text.npz", lam=np.array(["a"]))
    np.savez(tmp_path / "nan.npz", lam=np.full(30, np.nan))
    np.savez(tmp_path / "complex.npz", lam=np.full(30, 1j))
    np.save(tmp_path / "array.npy", np.zeros(30))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    np.savez_compressed(tmp_path / "broken.npz", lam=np.arange(30.0))
    whole = bytearray((tmp_path / "broken.npz").read_bytes())
    whole[60:70] = b"0123456789"
    (tmp_path / "broken.npz").write_bytes(whole)
    cut = tmp_path / file.name
    cut.write_text(file.read_text()[:-40])
    told = {
        f"{tmp_path}/none.npz": ("unavailable", "there is no file"),
        f"{tmp_path}/short.npz": ("error", "has 7 numbers; hypercleaning needs 30"),
        f"{tmp_path}/other.npz": ("error", "no array `lam`; it has x"),
        f"{tmp_path}/text.npz": ("error", "finite real numbers"),
        f"{tmp_path}/nan.npz": ("error", "finite real numbers"),
        f"{tmp_path}/complex.npz": ("error", "finite real numbers"),
        f"{tmp_path}/array.npz": ("error", "not a whole .npz"),
        f"{tmp_path}/broken.npz": ("error", "not a whole .npz"),
        f"{cut}@chosen": ("error", "not a whole record"),
        f"{file}@1": ("error", "the record keeps λ of chosen, "),
    }
    for lam, (status, says) in told.items():
        made = at(lam)
        assert (made.status, says in made.reason, "\n" in made.reason) == (status, True, False), (lam, made.reason)
    other = at(f"{file}@chosen", seed=1)
    assert (other.status, "was trained with seed = 0; the cell has 1" in other.reason) == ("error", True)


GRID = 'title = "t"\n[[grid]]\ntask = "hypercleaning"\nbackend = "jax"\nhorizon = 5\nmethod = [{ name = "rmd" }]\n'


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('lam = "x.json@last"', "after @ comes the number of an iteration, or chosen"),
        ('lam = "nowhere"', "allowed are init, informed, FILE.npz, RECORD.json@ITERATION"),
        (
            'lam = "x.npz"\nkind = "training"\nsettings = { iterations = 1, rate = 1.0 }',
            "not allowed for kind training",
        ),
    ],
)
def test_a_sweep_refuses_what_cannot_be(lines, says, tmp_path):
    (tmp_path / "s.toml").write_text(GRID + lines)
    with pytest.raises(UserError, match=says):
        expand(*read(str(tmp_path / "s.toml")))


def test_a_table_names_the_run(run):
    file, record = run
    one = {"method": "krmd", "method_options": {"truncation": 1}}
    records = [record, *(at(lam, backend, **one) for lam in ("init", f"{file}@chosen") for backend in LANES)]
    [table] = [t for t in tables_of(records) if t.name == "trained"]
    assert list(table.rows["framework"]) == ["jax", "torch"]
    assert set(table.rows["λ"]) == {f"run {record.key[-8:]} @ chosen"}
    assert set(table.rows["trained by"]) == {"rmd, jax"}
    there = records[3].result.exact
    assert table.rows["‖h − dF‖ there"][1] == there.absolute
    assert table.rows["‖h − dF‖ at init"][1] == records[1].result.exact.absolute != there.absolute


def test_files_of_one_name_are_two_points():
    assert naming.short("a/init.npz") != naming.short("b/init.npz") != "init"
    assert naming.run_of("a@b/init.npz") == naming.run_of("init") == ""


def test_a_file_that_has_gone_makes_nothing_stale(tmp_path):
    np.savez(tmp_path / "mine.npz", lam=np.zeros(30))
    record = at(tmp_path / "mine.npz")
    assert not is_stale(record)
    point._numbers.cache_clear()
    (tmp_path / "mine.npz").unlink()
    assert not is_stale(record)
    np.savez(tmp_path / "mine.npz", lam=np.ones(30))
    assert is_stale(record)
    point._numbers.cache_clear()


def test_all_digits_where_the_record_has_them():
    store = Runner().compute(
        Cell(task="quadratic", method="rmd", backend="jax", dtype="float64", horizon=5, timed=False, **TRAINING)
    )
    t = store.training
    kept = point._kept(t)
    np.testing.assert_array_equal(kept[str(t.selected[0])], t.lam[0][t.iterations.index(t.selected[0])])
    assert set(kept) == {"chosen", *map(str, t.iterations)}


SLOW = """
import time
from backends.hypergradient import METHODS

class Slow(METHODS["rmd"]):
    def __call__(self, bk, problem, hparams, data, xs):
        time.sleep(3)
        return super().__call__(bk, problem, hparams, data, xs)
"""


def test_cells_at_lam_of_a_run_wait_for_the_runs(tmp_path):
    """Also for the other framework's."""
    (tmp_path / "slow.py").write_text(SLOW)
    methods = {"jax": f"{tmp_path}/slow.py:Slow", "torch": "rmd"}
    runs = [Cell(method=name, backend=b, **PLAIN) for b, name in methods.items()]
    late = [Cell(method="rmd", backend=b, lam="x.json@chosen", **PLAIN) for b in LANES]
    with Executor(tmp_path / "cache", workers=2, timeout=60, threads=1) as executor:
        order = [r.cell.lam for r in executor.run([*late, *runs])]
    assert order == ["init", "init", "x.json@chosen", "x.json@chosen"]


def test_what_the_presets_name_is_there():
    """Every run that a preset takes λ from is committed, keeps that λ, and fits the cell."""
    named = {c for preset in presets() for c in expand(*read(preset)).cells if point.is_file(c.lam)}
    assert named
    for cell in named:
        assert point._read(cell).size > 0
