"""Samples of λ: figures against closed forms, what is shared between cells, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from backends.hypergradient import METHODS
from bench import sample, stamp
from bench.cell import Cell
from bench.compare import compare
from bench.errors import UserError
from bench.runner import Runner
from tasks import TASKS
from tasks.quadratic import closed_form
from tests.test_cli import refused
from tests.test_mutants import MUTANTS, _load

EXACT = 1e-12  # closed form against recursion
PAIR = 1e-10  # one framework against the other


def _cell(task: str, K: int, T: int, backend: str = "jax", points: int = 6, **more) -> Cell:
    more = {"method": "krmd", "method_options": {"truncation": K}, "dtype": "float64", "timed": False} | more
    return Cell(kind="sample", settings={"points": points}, task=task, backend=backend, horizon=T, **more)


def _sample(*args, runner: Runner | None = None, **more):
    record = (runner or Runner()).compute(_cell(*args, **more))
    assert (record.status, record.reason) == ("ok", "")
    return record.sample


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_toy_is_its_closed_form(backend):
    s = _sample("quadratic", 5, 100, backend)
    assert s.seeds == [0, 1, 2, 3, 4, 5]
    lam = np.stack([TASKS["quadratic"]().hparams(seed) for seed in s.seeds])
    h, dF = closed_form(lam, 5, 100), closed_form(lam, 100, 100)
    assert s.norm == pytest.approx(np.linalg.norm(h, axis=1), rel=EXACT)
    assert s.exact_norm == pytest.approx(np.linalg.norm(dF, axis=1), rel=EXACT)
    assert s.exact_error == pytest.approx(np.linalg.norm(h - dF, axis=1), rel=EXACT)
    assert s.descent == pytest.approx(np.sum(h * dF, axis=1) / np.sum(dF * dF, axis=1), rel=EXACT)
    assert s.cosine == pytest.approx(
        np.sum(h * dF, axis=1) / np.linalg.norm(h, axis=1) / np.linalg.norm(dF, axis=1), rel=EXACT
    )
    assert (s.alpha, s.beta, s.gamma, s.M, s.N, s.horizon) == (0.5, 1.0, 0.1, 2, 2, 100)
    assert s.alpha_tail == [None] * 6


@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("coupling", ["-I", "dense"])
def test_the_spectrum_is_its_closed_form(backend, coupling):
    """Also against the implicit hypergradient, and in the energy norm where the coupling is −I."""
    options = {"dimension": 6, "kappa": 20.0, "coupling": coupling, "direct": 0.3}
    task, K, T = TASKS["spectrum"](**options), 4, 30
    s = _sample("spectrum", K, T, backend, task_options=options, seed=2)
    assert s.seeds[:3] == [2, 20_001, 20_002]
    data = task.context(2, 0, T)[0]
    H, C = data["H"], data["C"]
    A, series = np.eye(6) - H, lambda k: sum(np.linalg.matrix_power(np.eye(6) - H, i) for i in range(k))
    for i, seed in enumerate(s.seeds):
        lam = task.hparams(seed)
        w = np.linalg.matrix_power(A, T) @ data["start"] + series(T) @ C @ lam
        direct = 0.3 * (lam - data["anchor"])
        h, dF = (direct + C.T @ series(k) @ (w - data["target"]) for k in (K, T))
        implicit = direct + C.T @ np.linalg.solve(H, np.linalg.solve(H, C @ lam) - data["target"])
        assert s.exact_error[i] == pytest.approx(np.linalg.norm(h - dF), rel=EXACT)
        assert s.implicit_error[i] == pytest.approx(np.linalg.norm(h - implicit), rel=1e-11)
        assert s.implicit_norm[i] == pytest.approx(np.linalg.norm(implicit), rel=1e-11)
        assert s.f_w[i] == pytest.approx(np.linalg.norm(w - data["target"]), rel=EXACT)
        if coupling == "-I":
            e = h - implicit
            assert s.energy_error[i] == pytest.approx(np.sqrt(e @ H @ e), rel=1e-11)
            assert s.energy_norm[i] == pytest.approx(np.sqrt(implicit @ H @ implicit), rel=1e-11)
    if coupling == "dense":
        assert s.energy_error == s.energy_norm == [None] * 6


def test_the_cell_s_own_lambda_comes_first():
    """There the task starts at the optimum, and K-RMD with all T steps is CG's limit."""
    options = {"dimension": 5, "kappa": 3.0, "start": "optimum"}
    s = _sample("spectrum", 80, 80, seed=3, task_options=options, points=3)
    assert s.implicit_error[0] < 1e-12 * s.implicit_norm[0]
    assert s.seeds == [3, 30_001, 30_002]


def test_on_the_scalar_problem_one_pull_back_less_is_seen(monkeypatch):
    def ratio() -> np.ndarray:
        s = _sample("scalar", 10, 400, task_options={"direct": 0.0})
        bound = (1 - s.gamma * s.alpha) ** 10 / (s.gamma * s.alpha)
        return np.array(s.exact_error) / (bound * np.array(s.f_w) * np.array(s.B_max))

    assert np.abs(ratio() - 1).max() < 1e-9
    broken = _load(*MUTANTS["K-RMD: one pull-back too few"])
    monkeypatch.setattr("bench.plugins.method_class", lambda name: broken)
    monkeypatch.setattr("bench.plugins.options", lambda cls: [])
    assert ratio().min() > 1.1


def test_the_local_case_has_its_own_curvature():
    s = _sample("doublewell", 3, 20, task_options={"dimension": 4})
    assert s.alpha < 0
    assert min(a for a in s.alpha_tail if a is not None) > 0
    assert s.implicit_error == s.implicit_norm == s.energy_error == [None] * 6
    assert _sample("doublewell", 0, 20, task_options={"dimension": 4}).alpha_tail == [None] * 6


@pytest.mark.parametrize("task", ["logistic", "doublewell", "counterexample", "spectrum"])
def test_the_frameworks_agree(task):
    a, b = (_sample(task, 5, 20, name) for name in ("jax", "torch"))
    assert a.seeds == b.seeds
    for name in ("f_w", "B_max", "norm", "exact_norm", "exact_error", "cosine", "descent"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=PAIR), name
    assert a.rank == b.rank


def test_a_zero_reference_has_no_direction(monkeypatch):
    """At the minimum dF is rounding beside its two terms.  The error is kept, angle and descent are not."""
    a = 0.9**20
    lam = np.array([(1 - 2 * a * (1 - a)) / (1 + (1 - a) ** 2)])
    monkeypatch.setattr(TASKS["scalar"], "hparams", lambda self, seed, point="init": lam * (1 + seed))
    s = _sample("scalar", 1, 20, points=2)
    assert s.exact_norm[0] < 1e-15 < 0.1 < s.exact_error[0]
    assert (s.descent[0], s.cosine[0]) == (None, None)
    assert None not in (s.descent[1], s.cosine[1])


def test_what_no_method_changes_is_made_once(tmp_path, monkeypatch):
    made = []
    make = sample._make
    monkeypatch.setattr(sample, "_make", lambda *args: made.append(1) or make(*args))
    sample._fixed.cache_clear()
    first = [_sample("scalar", K, 50, runner=Runner(tmp_path)) for K in (1, 2)]
    assert len(made) == 1
    sample._fixed.cache_clear()  # another process
    again = _sample("scalar", 1, 50, runner=Runner(tmp_path))
    assert len(made) == 1
    assert again == first[0]
    for file in tmp_path.glob("*.npz"):
        file.write_bytes(file.read_bytes()[:100])
    sample._fixed.cache_clear()
    assert _sample("scalar", 1, 50, runner=Runner(tmp_path)) == first[0]
    _sample("scalar", 1, 51, runner=Runner(tmp_path))
    assert len(made) == 3
    monkeypatch.setattr("bench.stamp._content", lambda path: "other")
    _sample("scalar", 1, 50, runner=Runner(tmp_path))
    assert len(made) == 4


def test_its_stamp_holds_its_files():
    names = {path.name for path in stamp.files(_cell("scalar", 1, 5))}
    assert {"sample.py", "constants.py", "reference.py", "scalar.py", "spectrum.py", "krmd.py"} <= names


def test_a_nan_is_a_row(bk):
    """At one λ of many."""
    cell = _cell("scalar", 1, 5, bk.name)
    lam = [float(TASKS["scalar"]().hparams(seed)[0]) for seed in range(6)]

    def broken(bk, problem, lam, data, xs):
        result = METHODS["rmd"]()(bk, problem, lam, data, xs)
        return result._replace(grad=bk.xp.where(lam == max_lam, np.nan, result.grad))

    max_lam = max(lam)
    found = sample.measure(bk, TASKS["scalar"](), broken, cell)
    reason = f"h has NaN or infinite entries at the λ of seed {int(np.argmax(lam))}"
    assert found == {"status": "nonfinite", "reason": reason}


def test_a_figure_that_differs_is_named():
    record = Runner().compute(_cell("scalar", 1, 20, points=2))
    other = record.model_copy(deep=True)
    other.sample.exact_error[1] *= 1 + 1e-6
    assert compare([record], [record]).same
    assert [d.what for d in compare([record], [other], 1e-9).differences] == ["sample exact_error[1]"]
    assert compare([record], [other], 1e-5).same


SWEEP = """title = "t"
[[grid]]
kind = "sample"
task = "scalar"
backend = "jax"
dtype = "float64"
horizon = 10
method = [{ name = "krmd", truncation = 1 }]
"""
BAD = {
    "points": ("settings = { points = 0 }\n", "points = 0 is not allowed; it is a whole number"),
    "half": ("settings = { points = 2.5 }\n", "points = 2.5 is not allowed"),
    "unknown": ("settings = { pts = 3 }\n", "no option 'pts'; allowed are points"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings(monkeypatch, capsys, tmp_path, name):
    line, says = BAD[name]
    file = tmp_path / "sweep.toml"
    file.write_text(SWEEP + line)
    assert says in refused(monkeypatch, capsys, "run", str(file), "--out", str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("float64", "float32", "dtype = 'float32' is not allowed"),
        ("scalar", "hypercleaning", "has no curvature_bounds"),
    ],
)
def test_cells_that_the_theory_cannot_judge(monkeypatch, capsys, tmp_path, old, new, says):
    file = tmp_path / "sweep.toml"
    file.write_text(SWEEP.replace(old, new))
    assert says in refused(monkeypatch, capsys, "run", str(file), "--out", str(tmp_path / "out"))
    single = _cell("scalar", 1, 5, dtype="float32")
    with pytest.raises(UserError, match="sample"):
        sample.measure(None, TASKS["scalar"](), None, single)
