"""What a cell will take, from its sizes alone: seconds on one core, and bytes.

Training on real tasks for a minute or more is told to about a factor of three.  What takes seconds is not: the first
cell of a process compiles, reads data and computes a reference and may take tens of times as long, others a hundredth.
"""

from __future__ import annotations

from bench.cell import Cell

SPEED = 5e10  # products and sums a second that a step's matrix products reach on one core
CONVOLUTIONS = 4e10  # and a net's convolutions
EPISODES = {"episodes": 4, "ways": 5, "shots": 1, "queries": 15, "filters": 64, "blocks": 4}
WORDS = {"classes": 10, "train_each": 50, "words": 2000}
HELD = {"validation_episodes": 100, "test_episodes": 600}
FEATURES = {"mnist": 785, "digits": 65, "cifar10": 1601, "cifar100": 1601}
CLASSES = {"cifar100": 100}
EACH = {"cifar10": 50, "cifar100": 40, "digits": 20}
REGRESSIONS = ("hypercleaning", "hypercleaning_l1", "task_interaction", "feature_decay")
START = 1.5  # seconds of compilation and of the harness
CALIBRATED, CONTESTANTS = 30.0, 9  # seconds of calls, and who is called; 5 to 200 rounds
BASELINES = 10  # trainings, a rate each and the last


def seconds(cell: Cell) -> float:
    """All of the cell: calls that are timed, or upper iterations with dF and metrics at every E-th."""
    h = _call(cell, _pulled(cell))
    if cell.kind == "baseline":
        return START + BASELINES * _call(cell, 0)
    if cell.kind == "calibration":
        return START + min(max(CALIBRATED, 5 * CONTESTANTS * h), 200 * CONTESTANTS * h)
    if cell.kind != "training":
        return START + (6 if cell.timed else 1) * h
    iterations, every = (
        int(cell.settings.get(name) or default) for name, default in (("iterations", 1), ("every", 10))
    )
    recorded = iterations // every + 1
    twice = 1 if cell.dtype == "float64" else 2  # dF is in float64
    starts = int(cell.settings.get("starts") or 1)
    return START + starts * (iterations * h + recorded * (twice * _call(cell, cell.horizon) + _metrics(cell)))


def memory(cell: Cell) -> float:
    """Bytes of data, and of what the longest reverse pass keeps."""
    item = 8 if cell.dtype == "float64" or cell.kind == "training" else 4
    if cell.task == "fewshot":
        images = _images(cell)
        return item * 4.0 * images * _size(cell, "filters", EPISODES) * 28 * 28
    if cell.task not in REGRESSIONS:
        return 1e5
    n, features, classes = _sizes(cell)
    return item * (2 * n * features + 2.0 * classes * n * cell.horizon + features * classes * float(cell.horizon))


def _pulled(cell: Cell) -> int:
    return cell.horizon if cell.truncation is None else cell.truncation


def _call(cell: Cell, pulled: int) -> float:
    """T steps and the pull-backs, each of them as much as two steps."""
    passes = cell.horizon + 2.0 * pulled
    if cell.method.endswith("fmd"):
        passes = cell.horizon * float(_hyperparameters(cell))
    if cell.task == "fewshot":
        net = 3 * _net(cell, _images(cell))
        return net * (passes if cell.task_options.get("inside") else 1) + passes * 1e-4
    if cell.task not in REGRESSIONS:
        return passes * 200.0 / SPEED
    n, features, classes = _sizes(cell)
    return passes * 4.0 * n * features * classes / SPEED


def _hyperparameters(cell: Cell) -> int:
    """N; 2 where the sizes do not say it."""
    if cell.task not in REGRESSIONS:
        return 2
    n, features, classes = _sizes(cell)
    if cell.task == "feature_decay":
        return features
    if cell.task == "task_interaction":
        return 1 if cell.task_options.get("interaction") is False else classes * (classes - 1) // 2 + 1
    return int(cell.task_options.get("groups") or n)


def _sizes(cell: Cell) -> tuple[int, int, int]:
    """Training examples, features and classes of a softmax regression."""
    if cell.task == "feature_decay":
        classes, each, words = (_size(cell, name, WORDS) for name in ("classes", "train_each", "words"))
        return classes * each, words, classes
    interaction = cell.task == "task_interaction"
    dataset = str(cell.task_options.get("dataset") or ("cifar10" if interaction else "mnist"))
    classes = CLASSES.get(dataset, 10)
    each = int(cell.task_options.get("train_each") or EACH.get(dataset, 40))
    n = each * classes if interaction else int(cell.task_options.get("train") or 5000)
    return n, int(cell.task_options.get("components") or 0) or FEATURES.get(dataset, 1601), classes


def _size(cell: Cell, name: str, defaults: dict[str, int]) -> int:
    return int(cell.task_options.get(name) or defaults[name])


def _images(cell: Cell) -> int:
    """Of a meta-batch."""
    episodes, ways, shots, queries = (_size(cell, n, EPISODES) for n in ("episodes", "ways", "shots", "queries"))
    return episodes * ways * (shots + queries)


def _net(cell: Cell, images: int) -> float:
    """Seconds of the net on images: 3 × 3 convolutions on 28², 14², 7², 3² places."""
    filters, blocks = _size(cell, "filters", EPISODES), _size(cell, "blocks", EPISODES)
    side = 8 if cell.task_options.get("dataset") == "digits" else 28
    depths = (1, *[filters] * (blocks - 1))
    products = sum((side // 2**i) ** 2 * 9 * depth * filters for i, depth in enumerate(depths))
    return 2.0 * images * products / CONVOLUTIONS


def _metrics(cell: Cell) -> float:
    """Few-shot adapts to every held-out episode; elsewhere a forward product is nothing."""
    if cell.task != "fewshot":
        return 0.0
    episodes = sum(_size(cell, name, HELD) for name in HELD)
    return _net(cell, _images(cell) * episodes // _size(cell, "episodes", EPISODES))
