"""Regularization learning: task interaction, its features and its permutation test; decay a feature on text."""

from __future__ import annotations

from functools import partial
from itertools import permutations

import numpy as np
import pytest

import backends
from backends.hypergradient import METHODS
from bench import stamp
from bench.cell import Cell
from bench.grouping import assignments, grouping
from bench.reference import flat
from bench.report import interaction
from bench.runner import Runner
from tasks import TASKS, TaskError, task_interaction
from tasks.data import DataError, load
from tasks.features import images, patches, store
from tasks.features.splits import stratified
from tests import oracles
from tests.grid import relative
from tests.problems import Case

PAIR = 1e-10
T = 4
SMALL = {"dataset": "digits", "train_each": 3, "validation_each": 4, "test_each": 5, "components": 20}
OPTIONS = {
    "C": ("task_interaction", SMALL | {"start": 0.01, "rho": 0.02}),
    "C = 0": ("task_interaction", SMALL | {"rho": 0.02}),
    "baseline": ("task_interaction", SMALL | {"interaction": False, "rho": 0.02}),
    "decay": (
        "feature_decay",
        {"words": 60, "classes": 3, "topical": 5, "train_each": 4, "validation_each": 5, "test_each": 6, "rate": 1.0},
    ),
}


def _task(name: str, **more):
    key, options = OPTIONS[name]
    return TASKS[key](**options | more)


def _case(name: str, seed: int = 0, **more) -> Case:
    """λ is the seed's, moved off the point where all C_jk, and all λ_j, are equal."""
    task = _task(name, **more)
    data, xs = task.context(seed, 0, T)
    lam, rng = task.hparams(seed), np.random.default_rng([seed, 7])
    if name == "C":
        lam = lam | {"C": lam["C"] * rng.uniform(0, 2, lam["C"].shape)}
    if name == "decay":
        lam = lam + rng.standard_normal(lam.shape)
    return Case(name, task.problem, lam, data, xs)


def _estimate(bk, method: str, case: Case, **options) -> np.ndarray:
    problem, *args = case.at(bk)
    return flat(bk, bk.compile(partial(METHODS[method](**options), bk, problem))(*args).grad)


def _random_w(bk, case: Case):
    return bk.asarray(np.random.default_rng(8).standard_normal(case.data["zero"].shape))


# both tasks as problems


@pytest.mark.parametrize("name", OPTIONS)
def test_step_is_a_gradient_step_on_the_inner_loss(bk, name):
    case, rate = _case(name, rate=0.25), 0.25
    problem, lam, data, xs = case.at(bk)
    theta, w = problem.embed(lam, data), _random_w(bk, case)
    grad = bk.to_numpy(bk.value_and_grad(lambda w: problem.inner_loss(w, theta, data))(w)[1])
    moved = bk.to_numpy(w) - bk.to_numpy(problem.step(w, theta, data, xs[0]))
    assert relative(moved, rate * grad) < 1e-12


def _cross_entropy(w: np.ndarray, X: np.ndarray, labels: np.ndarray) -> float:
    z = X @ w.T
    return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), labels]))


@pytest.mark.parametrize("name", OPTIONS)
def test_losses_are_those_of_the_docstrings(bk, name):
    case = _case(name)
    problem, lam, data, _ = case.at(bk)
    d, given = case.data, case.hparams
    w = bk.asarray(0.1 * bk.to_numpy(_random_w(bk, case)))
    v = bk.to_numpy(w)
    if name == "decay":
        penalty = sum(np.exp(given[j]) * v[c, j] ** 2 for c in range(3) for j in range(60)) / 180
    else:
        C = np.zeros((10, 10))
        if name != "baseline":
            C[np.triu_indices(10, 1)] = given["C"]
        C = C + C.T
        apart = sum(C[j, k] * np.sum((v[j] - v[k]) ** 2) for j in range(10) for k in range(10))
        penalty = apart + given["rho"] * np.sum(v**2)
    theta = problem.embed(lam, data)
    g = _cross_entropy(v, d["X"], np.argmax(d["Y"], axis=1)) + penalty
    assert float(problem.inner_loss(w, theta, data)) == pytest.approx(g, rel=1e-12)
    f = _cross_entropy(v, d["X_val"], np.argmax(d["Y_val"], axis=1))
    assert float(problem.outer_loss(w, theta, data)) == pytest.approx(f, rel=1e-12)


@pytest.mark.parametrize("name", ["C", "decay"])
def test_estimators_are_the_native_ones(bk, name):
    case = _case(name)
    exact = _estimate(bk, "native-rmd", case)
    for method in ("rmd", "fmd"):
        assert relative(_estimate(bk, method, case), exact) < 1e-12, method
    for method in ("krmd", "cg"):
        ours, native = (_estimate(bk, m, case, truncation=3) for m in (method, f"native-{method}"))
        assert relative(ours, native) < 1e-11, method


@pytest.mark.parametrize("name", OPTIONS)
def test_hypergradient_is_the_slope_of_F(name):
    """C = 0 too: clipping is no part of F."""
    case, bk = _case(name), backends.load("jax", "float64")
    dF = _estimate(bk, "rmd", case)
    assert np.linalg.norm(dF) > 1e-6
    assert relative(dF, oracles.central_differences(case)) < 1e-7


@pytest.mark.parametrize("name", ["C", "decay"])
def test_frameworks_agree(name):
    bks = [backends.load(framework, "float64") for framework in ("torch", "jax")]
    for method, options in (("krmd", {"truncation": 3}), ("cg", {"truncation": 5})):
        a, b = (_estimate(bk, method, _case(name), **options) for bk in bks)
        assert relative(a, b) < PAIR, method


def test_no_interaction_is_C_at_zero(bk):
    zero, baseline = _case("C = 0"), _case("baseline")
    assert np.array_equal(zero.data["X"], baseline.data["X"])
    assert set(baseline.hparams) == {"rho"}
    found = {}
    for case in (zero, baseline):
        problem, *args = case.at(bk)
        found[case.name] = bk.compile(partial(METHODS["rmd"](), bk, problem))(*args)
    a, b = found["C = 0"], found["baseline"]
    assert float(a.value) == pytest.approx(float(b.value), rel=1e-14)
    assert float(a.grad["rho"]) == pytest.approx(float(b.grad["rho"]), rel=1e-12)
    assert np.linalg.norm(bk.to_numpy(a.grad["C"])) > 1e-6  # so C would move


def test_projection_clips(bk):
    problem = _task("C").problem(bk)
    lam = bk.asarray({"C": np.array([-1.0, 0.0, 2.0]), "rho": np.array(-3.0)})
    found = bk.to_numpy(problem.project(lam))
    assert found["C"].tolist() == [0.0, 0.0, 2.0]
    assert float(found["rho"]) == 1e-6
    kept = {"C": np.array([0.5]), "rho": np.array(0.25)}
    again = bk.to_numpy(problem.project(bk.asarray(kept)))
    assert (float(again["C"][0]), float(again["rho"])) == (0.5, 0.25)
    assert set(_task("baseline").problem(bk).project(bk.asarray({"rho": np.array(1.0)}))) == {"rho"}
    decay = bk.to_numpy(_task("decay", bound=2.0).problem(bk).project(bk.asarray(np.array([-5.0, 1.0, 7.0]))))
    assert decay.tolist() == [-2.0, 1.0, 2.0]


def test_matrix_is_the_C_of_the_penalty():
    task = _task("C")
    lam = {"C": np.arange(1.0, 46.0), "rho": np.array(0.1)}
    C = task.matrix(lam)
    assert np.array_equal(C, C.T)
    assert (C[0, 1], C[0, 9], C[1, 2], C[8, 9]) == (1.0, 9.0, 10.0, 45.0)
    assert not np.diagonal(C).any()
    with pytest.raises(TaskError, match="there is no C"):
        _task("baseline").matrix({"rho": 1.0})


@pytest.mark.parametrize("name", ["C", "decay"])
def test_metrics(bk, name):
    task = _task(name)
    problem = task.problem(bk)
    for held in (task.evaluation(0), task.selection(0)):
        assert set(held) == {"X", "Y", "labels"}
        w = np.random.default_rng(1).standard_normal((held["Y"].shape[1], held["X"].shape[1]))
        found = problem.metrics(bk.asarray(w), bk.asarray(task.hparams(0)), bk.asarray(held))
        assert float(found["accuracy"]) == pytest.approx(np.mean(np.argmax(held["X"] @ w.T, axis=1) == held["labels"]))
        assert float(found["loss"]) == pytest.approx(_cross_entropy(w, held["X"], held["labels"]), rel=1e-12)


@pytest.mark.parametrize("name", ["C", "decay"])
def test_splits_are_balanced_disjoint_and_the_seed_s(name):
    task = _task(name)
    data, _ = task.context(0, 0, 1)
    parts = [data["X"], task.selection(0)["X"], task.evaluation(0)["X"]]
    assert np.array_equal(parts[1], data["X_val"])
    rows = [{row.tobytes() for row in part} for part in parts]
    assert sum(map(len, rows)) == len(set.union(*rows)) == sum(map(len, parts))
    k = data["Y"].shape[1]
    sizes = (task.train_each, task.validation_each, task.test_each)
    for Y, size in zip((data["Y"], data["Y_val"], task.evaluation(0)["Y"]), sizes):
        assert Y.sum(axis=0).tolist() == [size] * k
    assert np.array_equal(_task(name).context(0, 0, 1)[0]["X"], data["X"])
    assert not np.array_equal(task.context(1, 0, 1)[0]["X"], data["X"])


@pytest.mark.parametrize("apart", [False, True])
def test_noise_in_place_of_test_data_changes_nothing_else(monkeypatch, apart):
    """Training rows, their scaling and validation rows come from training and validation examples alone."""
    rng = np.random.default_rng(0)
    X, y, chosen = rng.standard_normal((60, 5)), np.repeat([0, 1, 2], 20), []
    other = (rng.standard_normal((30, 5)), np.repeat([0, 1, 2], 10))

    def split(*args):
        chosen.append(stratified(*args))
        return chosen[-1]

    def found() -> tuple:
        task_interaction._draw.cache_clear()
        task = TASKS["task_interaction"](dataset="cifar10", train_each=6, validation_each=5, test_each=9)
        return task.context(3, 0, 1)[0], task.selection(3), task.evaluation(3)

    classes = task_interaction.Classes(("a", "b", "c"), None)
    monkeypatch.setattr(task_interaction, "stratified", split)
    monkeypatch.setattr(task_interaction, "_source", lambda *_: ((X, y), other if apart else None, classes))
    before = found()
    noise = X if not apart else other[0]
    rows = chosen[-1][-1]
    assert len(rows) == 27
    noise[rows] = 1e3 * rng.standard_normal((27, 5))
    after = found()
    task_interaction._draw.cache_clear()
    for was, now in zip(before[:2], after[:2]):
        assert all(np.array_equal(was[name], now[name]) for name in was)
    assert not np.array_equal(before[2]["X"], after[2]["X"])


def test_points():
    task = _task("C")
    lam, other = task.hparams(0), task.hparams(0, "random")
    assert lam["C"].shape == (45,)
    assert set(lam["C"]) == {0.01}
    assert float(lam["rho"]) == float(other["rho"]) == 0.02
    assert other["C"].min() >= 0.01
    assert not np.array_equal(other["C"], task.hparams(1, "random")["C"])
    decay = _task("decay")
    informed, data = decay.hparams(0, "informed"), decay.context(0, 0, 1)[0]
    assert (informed < 0).sum() == 15
    # The words of low decay are those by which the classes' documents differ.
    mean = np.stack([data["X"][data["Y"][:, c] == 1].mean(axis=0) for c in range(3)])
    spread = np.ptp(mean, axis=0)
    assert spread[informed < 0].mean() > 2 * spread[informed > 0].mean()


def test_bad_options_are_refused(tmp_path):
    for key, bad, allowed in (
        ("task_interaction", {"dataset": "svhn"}, "cifar10, cifar100, digits, file"),
        ("task_interaction", {"dataset": "file"}, "path of an .npz"),
        ("task_interaction", {"features": "x.npz"}, "empty with the others"),
        ("task_interaction", {"train_each": -1}, "from 1, or 0"),
        ("task_interaction", {"test_each": 1.5}, "from 1, or 0"),
        ("task_interaction", {"components": -2}, "0 for all"),
        ("task_interaction", {"interaction": 1}, "true or false"),
        ("task_interaction", {"start": -0.1}, "from 0"),
        ("task_interaction", {"rho": 0.0}, "from 1e-06"),
        ("task_interaction", {"rate": -1.0}, "above 0, or 0"),
        ("feature_decay", {"classes": 1}, "from 2"),
        ("feature_decay", {"train_each": 0}, "from 1"),
        ("feature_decay", {"words": 100}, "at least 2 × classes × topical = 400"),
        ("feature_decay", {"rate": 0.0}, "above 0"),
        ("feature_decay", {"bound": float("nan")}, "above 0"),
    ):
        with pytest.raises(TaskError, match=allowed):
            TASKS[key](**bad)
    for name in OPTIONS:
        with pytest.raises(TaskError, match="allowed are init, "):
            _task(name).hparams(0, "nowhere")
    with pytest.raises(TaskError, match="asked were 200 \\+ 4 \\+ 5 = 209"):
        _task("C", train_each=200).context(0, 0, 1)
    with pytest.raises(TaskError, match="there are 64"):
        _task("C", components=65).context(0, 0, 1)


# a user's features


def _file(tmp_path, **arrays) -> str:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npz"
    np.savez(path, **arrays)
    return str(path)


def test_a_user_s_features(bk, tmp_path):
    rng = np.random.default_rng(0)
    y = np.array(["cat", "oak", "dog", "elm"] * 30)
    tree = np.isin(y, ["oak", "elm"]).astype(int)
    path = _file(tmp_path, X=rng.standard_normal((120, 6)).astype(np.float32), y=y, superclass=tree)
    task = TASKS["task_interaction"](dataset="file", features=path, train_each=10, validation_each=10, test_each=10)
    assert task.datasets == ()
    assert task.classes().names == ("cat", "dog", "elm", "oak")
    superclass = task.classes().superclass
    assert superclass is not None
    assert superclass.tolist() == [0, 0, 1, 1]
    case = Case("file", task.problem, task.hparams(0), *task.context(0, 0, T))
    assert case.data["X"].shape == (40, 7)
    assert relative(_estimate(bk, "rmd", case), _estimate(bk, "native-rmd", case)) < 1e-12
    decay = TASKS["feature_decay"](features=path, train_each=10, validation_each=10, test_each=10)
    assert decay.hparams(0).shape == (6,)
    assert np.allclose(np.linalg.norm(decay.context(0, 0, 1)[0]["X"], axis=1), 1)
    with pytest.raises(TaskError, match="nobody knows it there"):
        decay.hparams(0, "informed")


def test_bad_files_are_refused(tmp_path):
    X, y = np.zeros((6, 2)), np.array([0, 0, 0, 1, 1, 1])
    (tmp_path / "text.npz").write_text("no arrays")
    for path, allowed in (
        (str(tmp_path / "none.npz"), "cannot be read"),
        (str(tmp_path / "text.npz"), "cannot be read"),
        (_file(tmp_path, X=X), "lacks y"),
        (_file(tmp_path, X=X, y=y[:5]), r"expected \(n, d\)"),
        (_file(tmp_path, X=X.astype(str), y=y), r"expected \(n, d\)"),
        (_file(tmp_path, X=X + np.nan, y=y), "finite"),
        (_file(tmp_path, X=X, y=0 * y), "at least 2"),
        (_file(tmp_path, X=X, y=y, superclass=np.arange(6)), "differs among examples"),
        (_file(tmp_path, X=X, y=y, superclass=np.arange(2)), "one value an example"),
    ):
        task = TASKS["task_interaction"](dataset="file", features=path)
        with pytest.raises(TaskError, match=allowed) as caught:
            task.context(0, 0, 1)
        assert "\n" not in str(caught.value)


# features of images

TINY = patches.Recipe(atoms=12, patch=3, sample=400, rounds=4, components=8)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HYPERGRAD_BENCH_CACHE", str(tmp_path))
    return tmp_path / "features"


def _images(n: int, seed: int = 0) -> np.ndarray:
    """Two kinds: horizontal and vertical stripes of random colour and phase."""
    rng = np.random.default_rng(seed)
    wave = 100 + 60 * np.sin(np.arange(10)[None, :] + rng.uniform(0, 6, (n, 1)))
    image = np.repeat(wave[:, :, None], 10, axis=2)
    image[1::2] = image[1::2].transpose(0, 2, 1)
    return (image[..., None] * rng.uniform(0.5, 1.2, (n, 1, 1, 3))).astype(np.uint8)


def test_features_are_deterministic_and_tell_images_apart():
    fit = _images(60)
    encoder = patches.fit(fit, TINY)
    again = patches.fit(fit, TINY)
    assert all(np.array_equal(a, b) for a, b in zip(encoder, again))
    F = patches.encode(fit, encoder, TINY)
    assert (F.shape, F.dtype) == ((60, 8), np.float32)
    assert np.allclose(F.mean(axis=0), 0, atol=1e-3)
    assert np.mean(F**2) == pytest.approx(1, rel=1e-3)
    other = patches.encode(_images(40, 1), encoder, TINY)
    nearest = np.argmin(np.linalg.norm(other[:, None] - F[None], axis=2), axis=1)
    assert np.mean(nearest % 2 == np.arange(40) % 2) > 0.9
    assert not np.array_equal(patches.fit(fit, patches.Recipe(**{**vars(TINY), "seed": 1})).atoms, encoder.atoms)


def test_triangle_code_by_hand():
    """One image, patch by patch."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 10, 10, 3)).astype(np.uint8)
    mean, whiten = rng.standard_normal(27).astype(np.float32), rng.standard_normal((27, 27)).astype(np.float32)
    atoms = rng.standard_normal((5, 27)).astype(np.float32)
    total = np.zeros((2, 2, 5))
    for i in range(8):
        for j in range(8):
            p = image[0, i : i + 3, j : j + 3].transpose(2, 0, 1).reshape(-1).astype(np.float64)
            p = (p - p.mean()) / np.sqrt(p.var() + 10)
            z = np.linalg.norm((p - mean) @ whiten - atoms, axis=1)
            total[i // 4, j // 4] += np.maximum(0, z.mean() - z)
    assert patches._pooled(image, mean, whiten, atoms, 3)[0] == pytest.approx(total.reshape(-1), rel=1e-4, abs=1e-4)


def test_features_come_from_the_cache(cache, monkeypatch):
    fit, test = _images(60), _images(20, 1)
    first = images.encoded("tiny", fit, {"test": test}, TINY)
    files = sorted(cache.glob("*.npz"))
    assert [f.name.partition("-")[0] for f in files] == ["encoder", "tiny"]
    monkeypatch.setattr(patches, "encode", None)  # a second computation would raise
    monkeypatch.setattr(patches, "fit", None)
    assert np.array_equal(images.encoded("tiny", fit, {"test": test}, TINY)["test"], first["test"])
    for change in ({"fit": _images(60, 5)}, {"recipe": patches.Recipe(**{**vars(TINY), "rounds": 5})}):
        with pytest.raises(TypeError):
            images.encoded("tiny", change.get("fit", fit), {"test": test}, change.get("recipe", TINY))


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "other arrays"])
def test_a_damaged_cache_is_computed_again(cache, damage):
    made = []

    def make():
        made.append(1)
        return {"a": np.arange(5000, dtype=np.float32)}

    whole = store.kept("x", make)
    path = cache / "x.npz"
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        sum_ = np.load(path)["sha256"] if damage == "changed" else np.asarray("0")
        np.savez(path, a=whole["a"] + 1, sha256=sum_)
    for _ in range(2):
        assert np.array_equal(store.kept("x", make)["a"], whole["a"])
    assert len(made) == 2
    assert not list(cache.glob(".*.npz"))


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HYPERGRAD_BENCH_CACHE", str(tmp_path / "file"))
    assert store.kept("x", lambda: {"a": np.ones(2)})["a"].tolist() == [1, 1]


def test_test_images_do_not_shape_the_features(cache):
    """The encoder knows the images that it was fitted on alone: others change their own features only."""
    fit, test = _images(60), _images(20, 1)
    a = images.encoded("tiny", fit, {"train": fit, "test": test}, TINY)
    b = images.encoded("tiny", fit, {"train": fit, "test": _images(20, 9)}, TINY)
    assert np.array_equal(a["train"], b["train"])
    assert not np.array_equal(a["test"], b["test"])


# the permutation test


def _grouped(k: int, lift: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    superclass = rng.permutation(np.arange(k) // 5)
    C = rng.exponential(size=(k, k)) + lift * (superclass[:, None] == superclass[None, :])
    C = np.triu(C, 1)
    return C + C.T, superclass


def test_grouping_finds_what_is_there():
    C, superclass = _grouped(50, 1.0, 0)
    found = grouping(C, superclass, 999)
    same = (superclass[:, None] == superclass[None, :]) & ~np.eye(50, dtype=bool)
    assert found.within == pytest.approx(C[same].mean())
    assert found.between == pytest.approx(C[~same & ~np.eye(50, dtype=bool)].mean())
    assert found.p == 1 / 1000
    assert grouping(C, superclass, 999) == found
    assert grouping(C.max() * (1 - np.eye(50)) - C, superclass, 999).p > 0.99  # one-sided


def test_grouping_has_its_level():
    """Under the hypothesis p is uniform."""
    p = [grouping(*_grouped(20, 0.0, seed), permutations=99, seed=seed).p for seed in range(300)]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.05)
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)


def test_grouping_permutes_classes_not_pairs():
    """One class that is close to all others is no grouping, though its pairs are."""
    C = np.zeros((20, 20))
    C[0, 1:] = C[1:, 0] = 1.0
    assert grouping(C, np.arange(20) // 5, 199).p == 1.0


def test_assignments_are_counted_once():
    """All orders of the classes, and which pairs each has within."""
    for superclass in ([0, 0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1, 2], [0, 0, 0]):
        orders = permutations(superclass)
        pairs = {tuple(a[j] == a[k] for j in range(len(a)) for k in range(j)) for a in orders}
        assert assignments(superclass) == len(pairs), superclass


def test_no_p_is_far_below_the_share_of_one_assignment():
    superclass = np.array([0, 0, 1, 1, 1, 1, 1, 1, 0, 0])
    C = 1.0 * (superclass[:, None] == superclass[None, :]) * (1 - np.eye(10))
    assert assignments(superclass.tolist()) == 210
    assert grouping(C, superclass, 1999).p == pytest.approx(1 / 210, rel=0.5)


def test_grouping_refuses_what_it_cannot_test():
    C, superclass = _grouped(10, 0.0, 0)
    for bad, groups, message in (
        (C[:5], superclass, "expected"),
        (C, superclass[:5], "expected"),
        (C + np.eye(10), superclass, "zero diagonal"),
        (C + np.triu(C), superclass, "symmetric"),
        (C * np.nan, superclass, "finite"),
        (C, np.zeros(10), "some and not all"),
        (C, np.arange(10), "some and not all"),
    ):
        with pytest.raises(ValueError, match=message):
            grouping(bad, groups)
    with pytest.raises(ValueError, match="from 1"):
        grouping(C, superclass, 0)


# the house


def test_records_are_stamped_with_the_features():
    for key, wanted in (
        ("task_interaction", {"file.py", "splits.py", "images.py", "patches.py", "store.py"}),
        ("feature_decay", {"file.py", "splits.py"}),
    ):
        names = {path.name for path in stamp.files(Cell(task=key, method="rmd", backend="jax", horizon=5))}
        assert {f"{key}.py", *wanted} <= names


@pytest.mark.parametrize("name", ["C", "decay"])
def test_a_cell(name):
    key, options = OPTIONS[name]
    cell = Cell(
        task=key,
        task_options=options,
        method="krmd",
        method_options={"truncation": T},
        backend="jax",
        dtype="float64",
        horizon=T,
        timed=False,
    )
    record = Runner().compute(cell)
    assert (record.status, record.reason) == ("ok", "")
    assert record.result is not None
    assert record.result.exact.relative is not None
    assert record.result.exact.relative < 1e-10
    assert record.result.implicit.relative is not None
    assert set(record.result.metrics) == {"accuracy", "loss"}


# real images


@pytest.fixture(scope="session")
def cifar():
    """Skips a test where CIFAR-10 or CIFAR-100 is neither on disk nor to be downloaded."""
    try:
        load("cifar10"), load("cifar100")
    except DataError as error:
        pytest.skip(f"CIFAR: {error}")  # neither on disk nor to be had


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "classes", "groups"), [("cifar10", 10, 2), ("cifar100", 100, 20)])
def test_cifar(cifar, dataset, classes, groups):
    """Minutes where the features are not in the cache."""
    task = TASKS["task_interaction"](dataset=dataset)
    names, superclass = task.classes()
    assert len(names) == classes
    assert superclass is not None
    assert tuple(superclass) == interaction.SUPERCLASS[dataset]
    assert interaction.NAMES.get(dataset, names) == names
    assert len(set(superclass)) == groups
    if dataset == "cifar100":
        assert set(np.bincount(superclass)) == {5}
        assert superclass[names.index("apple")] == superclass[names.index("orange")]
    data, _ = task.context(0, 0, 1)
    train, validation, test = task.sizes
    assert data["X"].shape == (classes * train, 257)
    assert len(data["X_val"]) == classes * validation
    held = task.evaluation(0)
    assert len(held["X"]) == classes * test
    # By the nearest class mean: far above chance.
    means = data["Y"].T @ data["X"] / train
    away = np.linalg.norm(held["X"][:2000, None] - means[None], axis=2)
    assert np.mean(np.argmin(away, axis=1) == held["labels"][:2000]) > {"cifar10": 0.35, "cifar100": 0.15}[dataset]
