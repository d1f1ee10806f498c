"""Few-shot learning: the conv net against PyTorch's own, the episodes, and the bilevel problem made of both."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

import backends
from backends.counting import count
from backends.hypergradient import METHODS
from backends.hypergradient.protocol import Sizes, size
from bench import stamp, training
from bench.cell import Cell
from bench.reference import flat
from bench.runner import Runner
from tasks import TASKS, TaskError, convnet, episodes
from tasks.data import DataError, load
from tests.grid import relative
from tests.problems import Case

BOUND = 1e-10
TINY = {
    "dataset": "digits",
    "ways": 3,
    "queries": 2,
    "episodes": 2,
    "filters": 3,
    "blocks": 2,
    "validation_episodes": 4,
    "test_episodes": 6,
    "steps": 5,
}
STATISTICS = ("together", "apart")
T = 4


@pytest.fixture(scope="session")
def omniglot():
    """Skips a test where Omniglot is neither on disk nor to be downloaded."""
    try:
        load("omniglot")
    except DataError as error:
        pytest.skip(f"Omniglot: {error}")  # neither on disk nor to be had


def _task(**options):
    return TASKS["fewshot"](**{**TINY, **options})


def _case(index: int = 0, horizon: int = T, **options) -> Case:
    task = _task(**options)
    return Case("fewshot", task.problem, _moved(task), *task.context(1, index, horizon))


def _moved(task):
    """λ away from gains of 1 and biases of 0, where a mistake in either would not show."""
    rng, net = np.random.default_rng(5), task.hparams(1)
    return {
        name: {part: x + 0.3 * rng.standard_normal(x.shape) for part, x in block.items()} for name, block in net.items()
    }


def _hypergradient(bk, method, case: Case) -> tuple[np.ndarray, float]:
    problem, *args = case.at(bk)
    found = bk.compile(partial(method, bk, problem))(*args)
    return flat(bk, found.grad), float(bk.to_numpy(found.value))


# the net


def _pytorch_s_own(net, images: np.ndarray) -> torch.Tensor:
    """One batch by PyTorch's convolution and batch norm."""
    x = torch.as_tensor(images)[:, None]
    for i in range(len(net)):
        block = {part: torch.as_tensor(value) for part, value in net[f"block{i}"].items()}
        kernel = block["weight"].reshape(3, 3, x.shape[1], -1).permute(3, 2, 1, 0)  # column, row, in, out
        x = torch.nn.functional.conv2d(x, kernel, stride=2, padding=1)
        x = torch.nn.functional.batch_norm(x, None, None, block["gain"], block["bias"], training=True, eps=1e-5)
        x = torch.relu(x)
    return x.permute(0, 2, 3, 1).reshape(len(images), -1)


@pytest.mark.parametrize("side", [5, 8, 28])
def test_the_net_is_pytorch_s_own(bk, side):
    """Odd sides too; every batch has statistics of its own."""
    net = _moved(_task(blocks=3))
    images = np.random.default_rng(0).random((2, 4, side, side))
    found = bk.to_numpy(bk.compile(partial(convnet.features, bk))(bk.asarray(net), bk.asarray(images)))
    assert found.shape == (2, 4, convnet.width(side, 3, 3))
    expected = np.stack([_pytorch_s_own(net, batch).numpy() for batch in images])
    assert np.allclose(found, expected, rtol=1e-11, atol=1e-12)


def test_the_net_under_every_transform(bk):
    """Push-forwards, pull-backs and vmap agree with differences of the plain call."""
    net = _moved(_task())
    images = bk.asarray(np.random.default_rng(0).random((1, 3, 8, 8)))
    rng = np.random.default_rng(1)
    ways = [bk.map(lambda x: rng.standard_normal(x.shape), net) for _ in range(3)]

    def features(net):
        return convnet.features(bk, net, images)

    at, d = bk.asarray(net), [bk.asarray(way) for way in ways]
    stacked = bk.map(lambda *leaves: bk.xp.stack(leaves), *d)
    moved = bk.vmap(lambda way: bk.jvp(features, (at,), (way,))[1])(stacked)
    _, pull = bk.vjp(features, at)
    for i, way in enumerate(d):
        step = 1e-6
        after, before = (features(bk.map(lambda x, v, s=s: x + s * v, at, way)) for s in (step, -step))
        assert relative(flat(bk, moved[i]), flat(bk, (after - before) / (2 * step))) < 1e-7
        assert float(bk.dot(pull(moved[i])[0], way)) == pytest.approx(float(bk.dot(moved[i], moved[i])), rel=1e-10)


def test_the_paper_s_net_has_256_features():
    task = TASKS["fewshot"]()
    assert task.width == 256
    shapes = [tuple(x.shape for x in block.values()) for block in task.hparams(0).values()]
    assert shapes == [((9, 64), (64,), (64,))] + 3 * [((576, 64), (64,), (64,))]
    weight = task.hparams(0)["block2"]["weight"]
    assert weight.std() == pytest.approx(np.sqrt(2 / 576), rel=0.02)


# episodes


def _pictures(array: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in array.reshape(-1, *array.shape[-2:]).astype(np.float16)}


def test_a_meta_batch_is_its_seed_and_its_index():
    task = _task()
    first, again, later, other = (task.context(s, i, T)[0] for s, i in ((0, 7), (0, 7), (0, 8), (1, 7)))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["support"], later["support"])
    assert not np.array_equal(first["support"], other["support"])
    assert np.array_equal(task.context(0, 7, 2)[0]["query"], task.context(0, 7, 50)[0]["query"])


def test_an_episode_s_images_and_labels():
    task = _task(shots=2)
    data, xs = task.context(0, 0, T)
    assert (data["support"].shape, data["query"].shape) == ((2, 6, 8, 8), (2, 6, 8, 8))
    assert data["support"].min() == 0
    assert data["support"].max() == 1
    assert np.array_equal(data["support_labels"], np.tile(np.repeat(np.eye(3), 2, axis=0), (2, 1, 1)))
    assert len(xs) == T
    of = {image.tobytes(): label for label in range(5) for image in episodes.classes_of("digits", "train")[label]}
    for e in range(2):
        classes = [[of[image.tobytes()] for image in data[name][e]] for name in ("support", "query")]
        assert classes[0] == classes[1]  # a label means one class, in the support and in the queries
        assert len(set(classes[0])) == 3
        assert not _pictures(data["support"][e]) & _pictures(data["query"][e])


def test_pools_of_digits_are_disjoint():
    pools = {pool: _pictures(np.concatenate(episodes.classes_of("digits", pool))) for pool in episodes.POOLS}
    assert len(set.union(*pools.values())) == sum(map(len, pools.values())) == 1797
    assert min(len(d) for pool in episodes.POOLS for d in episodes.classes_of("digits", pool)) == 44
    task = _task(ways=5, queries=15)
    drawn = {
        "train": [task.context(0, i, T)[0] for i in range(5)],
        "validation": [task.selection(0)],
        "test": [task.evaluation(0)],
    }
    for pool, sets in drawn.items():
        for name in ("support", "query"):
            assert set.union(*(_pictures(d[name]) for d in sets)) <= pools[pool]


def test_pools_of_omniglot_are_disjoint(omniglot):
    raw = load("omniglot")
    pools = {pool: np.stack(episodes.classes_of("omniglot", pool)) for pool in episodes.POOLS}
    assert {pool: len(classes) for pool, classes in pools.items()} == {"train": 806, "validation": 158, "test": 659}
    assert np.array_equal(pools["test"], raw["evaluation"])
    background = {drawings.tobytes(): name for drawings, name in zip(raw["background"], raw["background_names"])}
    names = {pool: [background[d.tobytes()] for d in pools[pool]] for pool in ("train", "validation")}
    assert sorted(names["train"] + names["validation"]) == sorted(raw["background_names"])
    alphabets = [{name.split("/")[0] for name in found} for found in names.values()]
    assert not alphabets[0] & alphabets[1]
    # What is drawn comes from its own pool.  A few drawings of other characters are the same picture by chance.
    task = TASKS["fewshot"](validation_episodes=20, test_episodes=20)
    for pool, drawn in (("validation", task.selection(0)), ("test", task.evaluation(0))):
        assert _pictures(drawn["query"]) <= _pictures(pools[pool])
    assert all(_pictures(task.context(0, i, 1)[0]["query"]) <= _pictures(pools["train"]) for i in range(5))


def test_rotations_are_classes_of_their_own(omniglot):
    upright = _pictures(np.stack(episodes.classes_of("omniglot", "train")))
    turned = set.union(*(_pictures(np.rot90(episodes.classes_of("omniglot", "train"), k, (2, 3))) for k in (1, 2, 3)))
    shape = episodes.Shape(20, 1, 3)
    drawn = episodes.draw(np.random.default_rng(0), "omniglot", "train", 20, shape, rotations=True)
    images = drawn["support"].reshape(-1, 28, 28)
    share = np.mean([image.tobytes() in upright for image in images])
    assert 0.15 < share < 0.4  # a quarter
    assert _pictures(images) <= upright | turned
    # All drawings of a class are turned alike: a mean over them is one of the turned means.
    plain = episodes.draw(np.random.default_rng(0), "omniglot", "train", 20, shape)
    assert _pictures(plain["support"]) <= upright
    for support, query in zip(images, drawn["query"].reshape(-1, 3, 28, 28)):
        if support.tobytes() not in upright:
            assert sum(image.tobytes() not in upright for image in query) >= 2


# the bilevel problem


@pytest.mark.parametrize("statistics", STATISTICS)
def test_phi_is_a_step_down_the_support_loss(bk, statistics):
    problem, lam, data, xs = _case(statistics=statistics).at(bk)
    xp, theta = bk.xp, problem.embed(lam, data)
    w = problem.init(theta, data)
    assert float(xp.sum(xp.abs(w))) == 0

    def support_loss(w):
        """Σ over the episodes of their mean CE."""
        z = theta["support"] @ xp.matrix_transpose(w)
        probability = xp.sum(xp.exp(z) * data["support_labels"], axis=-1) / xp.sum(xp.exp(z), axis=-1)
        return -xp.sum(xp.log(probability)) / data["support"].shape[1]

    for t in range(3):
        _, grad = bk.value_and_grad(support_loss)(w)
        after = problem.step(w, theta, data, xs[t])
        assert np.allclose(bk.to_numpy(after), bk.to_numpy(w - 0.1 * grad), rtol=1e-12, atol=1e-14)
        w = after


@pytest.mark.parametrize("options", [{}, {"statistics": "apart"}, {"inside": True}], ids=str)
def test_estimators_agree(bk, options):
    case = _case(**options)
    dF, value = _hypergradient(bk, METHODS["native-rmd"](), case)
    assert np.linalg.norm(dF) > 1e-3
    methods = [METHODS["rmd"](), METHODS["rmd"](stash="residuals"), METHODS["krmd"](truncation=T)]
    for method in methods if options else [*methods, METHODS["fmd"]()]:
        h, again = _hypergradient(bk, method, case)
        assert relative(h, dF) < BOUND, method
        assert again == pytest.approx(value, rel=1e-12)
    short = [_hypergradient(bk, METHODS[name](truncation=2), case)[0] for name in ("krmd", "native-krmd")]
    assert relative(*short) < BOUND
    assert relative(short[0], dF) > 1e-4


def test_the_hypergradient_is_the_slope_of_f(bk):
    problem, lam, data, xs = _case().at(bk)
    flat_lam, unravel = bk.ravel(lam)
    method = bk.compile(partial(METHODS["rmd"](), bk, problem))
    dF, rng = flat(bk, method(lam, data, xs).grad), np.random.default_rng(2)
    for _ in range(4):
        way = rng.standard_normal(len(dF))
        ahead, behind = (float(method(unravel(flat_lam + s * bk.asarray(way)), data, xs).value) for s in (1e-6, -1e-6))
        assert (ahead - behind) / 2e-6 == pytest.approx(float(dF @ way), rel=1e-6)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_a_meta_batch_is_the_mean_of_its_episodes(bk, statistics):
    case = _case(statistics=statistics, episodes=3)
    together = _hypergradient(bk, METHODS["krmd"](truncation=3), case)
    alone = []
    for e in range(3):
        data = {name: array[e : e + 1] for name, array in case.data.items()}
        one = Case("one", case.make, case.hparams, data, case.xs)
        alone.append(_hypergradient(bk, METHODS["krmd"](truncation=3), one))
    assert relative(together[0], np.mean([h for h, _ in alone], axis=0)) < BOUND
    assert together[1] == pytest.approx(np.mean([value for _, value in alone]), rel=1e-12)


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("K", [0, 1, T])
def test_inside_is_embed(bk, statistics, K):
    found = [
        _hypergradient(bk, METHODS["krmd"](truncation=K), _case(statistics=statistics, inside=inside))
        for inside in (False, True)
    ]
    assert relative(found[1][0], found[0][0]) < BOUND
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-12)


def test_statistics_differ():
    """Apart, no query moves another set's features; together, every image moves all."""
    bk = backends.load("jax", "float64")
    for statistics in STATISTICS:
        problem, lam, data, _ = _case(statistics=statistics).at(bk)
        changed = {**data, "query": data["query"].at[0, 0].add(1.0)}
        before, after = (bk.to_numpy(problem.embed(lam, d)) for d in (data, changed))
        assert np.array_equal(before["support"][0], after["support"][0]) == (statistics == "apart")
        assert not np.array_equal(before["query"][0], after["query"][0])
        assert np.array_equal(before["support"][1], after["support"][1])  # another episode's, never
        assert np.array_equal(before["query"][1], after["query"][1])


@pytest.mark.parametrize("statistics", STATISTICS)
def test_frameworks_agree(statistics):
    case = _case(statistics=statistics, ways=5)
    found = [
        _hypergradient(backends.load(name, "float64"), METHODS["krmd"](truncation=3), case) for name in ("torch", "jax")
    ]
    assert relative(found[0][0], found[1][0]) < BOUND
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-12)


def test_frameworks_walk_the_same_way():
    """Twenty upper iterations of Adam, every one on a meta-batch of its own."""
    rows = []
    for framework in ("torch", "jax"):
        cell = Cell(
            kind="training",
            task="fewshot",
            task_options=TINY,
            method="krmd",
            method_options={"truncation": 3},
            backend=framework,
            dtype="float64",
            horizon=T,
            settings={"iterations": 20, "rate": 1e-2, "every": 1, "optimiser": "adam"},
        )
        task = _task()
        found = training.measure(backends.load(framework, "float64"), task, METHODS["krmd"](truncation=3), cell)[
            "training"
        ]
        rows.append(np.array([found.value[0], found.norm[0], found.exact_norm[0]]))
    assert rows[0].shape == (3, 21)
    assert len(set(rows[0][0])) == 21
    assert np.allclose(rows[0], rows[1], rtol=1e-8, atol=0)


def test_lower_is_the_support(bk):
    task, (problem, lam, data, xs) = _task(), _case().at(bk)
    theta = problem.embed(lam, data)
    d = task.width + 1
    assert size(bk, problem.lower(theta)) == 2 * 3 * d
    sizes = Sizes(T, 2 * 3 * d, size(bk, lam), size(bk, theta), 2 * 3 * d)
    for method in (METHODS["fmd"](), METHODS["krmd"](truncation=2)):
        cost = {f: {k: n for k, n in kinds.items() if n} for f, kinds in method.cost(sizes).items()}
        assert count(bk, method, problem, lam, data, xs) == cost


# held-out episodes


def _by_hand(task, net, held) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy and loss of every episode, its head fitted in NumPy on PyTorch's own net."""
    accuracy, loss = [], []
    for e in range(len(held["support"])):
        sets = [held[name][e].astype(np.float64) for name in ("support", "query")]
        if task.statistics == "apart":
            S, Q = (_pytorch_s_own(net, images).numpy() for images in sets)
        else:
            both = _pytorch_s_own(net, np.concatenate(sets)).numpy()
            S, Q = both[: len(sets[0])], both[len(sets[0]) :]
        S, Q = (np.concatenate([x, np.ones((len(x), 1))], axis=1) for x in (S, Q))
        W, Y = np.zeros((task.ways, S.shape[1])), held["support_labels"][e]
        for _ in range(task.steps):
            p = np.exp(S @ W.T)
            W = W - task.rate / len(S) * (p / p.sum(axis=1, keepdims=True) - Y).T @ S
        z, labels = Q @ W.T, held["query_labels"][e].argmax(axis=1)
        accuracy.append(np.mean(z.argmax(axis=1) == labels))
        loss.append(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), labels]))
    return np.array(accuracy), np.array(loss)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("statistics", STATISTICS)
def test_metrics_are_those_of_heads_fitted_by_hand(bk, statistics, inside, monkeypatch):
    monkeypatch.setattr("tasks.fewshot.CHUNK", 4)  # does not divide the six episodes
    task = _task(statistics=statistics, inside=inside, queries=9)
    problem, lam, held = task.problem(bk), _moved(task), task.evaluation(3)
    metrics = bk.compile(lambda w, lam, held: problem.metrics(w, lam, held))
    w = bk.asarray(np.full((2, 3, task.width + 1), np.nan))  # never read
    found = {name: float(x) for name, x in metrics(w, bk.asarray(lam), bk.asarray(held)).items()}
    accuracy, loss = _by_hand(task, lam, held)
    assert found == pytest.approx(
        {"accuracy": accuracy.mean(), "accuracy_sd": accuracy.std(ddof=1), "loss": loss.mean()}, rel=1e-11
    )
    assert found["accuracy_sd"] > 0


def test_one_held_out_episode_has_no_spread():
    bk, task = backends.load("jax", "float32"), _task(test_episodes=1)
    found = task.problem(bk).metrics(None, bk.asarray(task.hparams(0)), bk.asarray(task.evaluation(0)))
    assert float(found["accuracy_sd"]) == 0


def test_training_on_digits_learns(bk):
    """Other drawings of the classes trained on are told apart: 68 % become 93 % and more."""
    task = _task(ways=5, queries=15, filters=16, episodes=4, steps=20, validation_episodes=20)
    bk = backends.load(bk.name, "float32")
    problem, held = task.problem(bk), bk.asarray(task.selection(0))
    step = bk.compile(partial(METHODS["krmd"](truncation=5), bk, problem))
    metrics = bk.compile(lambda lam, held: problem.metrics(None, lam, held))
    first = lam = bk.asarray(task.hparams(0))
    for index in range(60):
        data, xs = task.context(0, index, 20)
        grad = step(lam, bk.asarray(data), bk.asarray(xs)).grad
        lam = bk.map(lambda x, g: x - 0.3 * g, lam, grad)
    before, after = (float(metrics(x, held)["accuracy"]) for x in (first, lam))
    assert before < 0.8
    assert after > 0.93


# cells and refusals


@pytest.mark.slow
@pytest.mark.parametrize("inside", [False, True])
def test_a_cell_of_it_runs(inside):
    cell = Cell(
        task="fewshot",
        task_options={**TINY, "inside": inside},
        method="rmd",
        backend="jax",
        dtype="float64",
        horizon=T,
        timed=False,
    )
    record = Runner().compute(cell)
    assert (record.status, record.reason) == ("ok", "")
    assert record.result.exact.relative < BOUND
    assert record.result.counts == record.result.cost
    assert set(record.result.metrics) == {"accuracy", "accuracy_sd", "loss"}
    assert {"fewshot.py", "convnet.py", "episodes.py"} <= {path.name for path in stamp.files(cell)}


def test_without_a_minimiser_cg_is_unsupported():
    cell = Cell(
        task="fewshot", task_options=TINY, method="cg", method_options={"truncation": 2}, backend="jax", horizon=T
    )
    assert Runner().compute(cell).status == "unsupported"


def test_bad_options_are_refused():
    for bad, allowed in (
        ({"dataset": "mnist"}, "omniglot, digits"),
        ({"statistics": "running"}, "together, apart"),
        ({"filters": 0}, "from 1"),
        ({"steps": 2.5}, "from 1"),
        ({"episodes": True}, "from 1"),
        ({"rate": 0.0}, "above 0"),
        ({"rate": float("inf")}, "above 0"),
        ({"ways": 6}, "with digits it is from 2 to 5"),
        ({"ways": 1}, "from 2 to 5"),
        ({"dataset": "omniglot", "ways": 21}, "from 2 to 20"),
        ({"dataset": "omniglot", "queries": 20}, "at least 20 drawings"),
        ({"queries": 44}, "at least 44 drawings"),
        ({"rotations": True}, "not allowed with digits"),
    ):
        with pytest.raises(TaskError, match=allowed) as error:
            _task(**bad)
        assert "\n" not in str(error.value)
    with pytest.raises(TaskError, match="allowed are init"):
        _task().hparams(0, "nowhere")
