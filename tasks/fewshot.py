"""Few-shot learning: a conv net that is shared by all episodes is λ, a linear head of each episode is w.

    θ = (S_e, Q_e) = features of support and query images under λ, with a last column of ones for the bias
    g_e = mean CE of W_e on (S_e, support labels),    Φ: W_e ← W_e − γ ∇g_e,    W_e = 0 at the start
    f = mean over the episodes e of the mean CE of W_e on (Q_e, query labels)

The E episodes of a meta-batch are one bilevel problem whose lower level is block-diagonal, so that an estimator gives
the mean of their hypergradients from products over a leading axis E.  f reads λ through Q_e: ∇_θ f ≠ 0.  Without decay
CE has no minimiser where the support is separable, as it is here: there is no `inner_loss`.

λ enters once, by `embed`.  With `inside` the net is run in every Φ, as the paper's timings have it: the same F and dF.

Batch statistics are those of the images at hand, an episode's own, with no running averages, at the test too: so the
source problem has it (Finn et al. 2017).  "together" takes support and queries as one batch, so that a head is fitted
and read under one normalisation; with the net inside, Φ has to run the queries as well.  "apart" makes two batches of
them, as that paper's code does; with one shot the support's is then of `ways` images.  Both are transductive.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from backends.hypergradient.protocol import Problem, identity, whole
from tasks import convnet, episodes
from tasks.protocol import TaskError

Tree = Any

STATISTICS = ("together", "apart")
COUNTS = ("ways", "shots", "queries", "episodes", "filters", "blocks", "validation_episodes", "test_episodes", "steps")
CHUNK = 10  # held-out episodes in one product
SEED = 11


@dataclass(frozen=True)
class FewShot:
    """`ways` classes with `shots` examples each; sizes default to the paper's, and where it is silent to its source's.

    dataset      "omniglot", or "digits" (scikit-learn's 8 × 8 digits, a named stand-in: 0–4 against 5–9); the pools
                 of classes are those of `tasks.episodes`
    queries      of each class in an episode
    episodes     E, of a meta-batch
    filters, blocks    of the net
    rate         γ
    statistics   "together" or "apart": what batch norm takes for a batch
    rotations    quarter turns of a training character are characters of their own; held-out ones are never turned
    inside       the net is inside Φ
    steps        T on a held-out episode, where `metrics` adapts a head to it
    validation_episodes, test_episodes    how many `selection` and `evaluation` give
    """

    dataset: str = "omniglot"
    ways: int = 5
    shots: int = 1
    queries: int = 15
    episodes: int = 4
    filters: int = 64
    blocks: int = 4
    rate: float = 0.1
    statistics: str = "together"
    rotations: bool = False
    inside: bool = False
    steps: int = 50
    validation_episodes: int = 100
    test_episodes: int = 600

    points: ClassVar[tuple[str, ...]] = ("init",)
    stochastic: ClassVar[bool] = False
    convex: ClassVar[bool] = False
    episodic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, allowed in (("dataset", episodes.DATASETS), ("statistics", STATISTICS)):
            if getattr(self, name) not in allowed:
                raise TaskError(f"fewshot: unknown {name} {getattr(self, name)!r}; allowed are {', '.join(allowed)}")
        for name in COUNTS:
            value = getattr(self, name)
            if not (type(value) is int and value >= 1):
                raise TaskError(f"fewshot: {name} = {value!r} is not allowed; it is a whole number from 1")
        if not 0 < self.rate < np.inf:
            raise TaskError(f"fewshot: rate = {self.rate!r} is not allowed; it is a number above 0")
        most = episodes.MOST_WAYS[self.dataset]
        if not 2 <= self.ways <= most:
            raise TaskError(f"fewshot: ways = {self.ways!r} is not allowed; with {self.dataset} it is from 2 to {most}")
        drawings = episodes.FEWEST_DRAWINGS[self.dataset]
        if self.shots + self.queries > drawings:
            raise TaskError(
                f"fewshot: shots + queries = {self.shots + self.queries} is not allowed; "
                f"a class of {self.dataset} has at least {drawings} drawings"
            )
        if self.rotations and self.dataset != "omniglot":
            raise TaskError("fewshot: rotations = True is not allowed with digits, whose 0 turned by 180° is a 0")

    @property
    def datasets(self) -> tuple[str, ...]:
        return (self.dataset,)

    @property
    def shape(self) -> episodes.Shape:
        return episodes.Shape(self.ways, self.shots, self.queries)

    @property
    def width(self) -> int:
        """d, the number of features."""
        return convnet.width(episodes.SIDES[self.dataset], self.blocks, self.filters)

    def problem(self, bk: Any) -> Problem:
        xp, together = bk.xp, self.statistics == "together"

        def features(lam: Tree, images: Any) -> Any:
            x = convnet.features(bk, lam, images)
            return xp.concat([x, xp.ones_like(x[..., :1])], axis=-1)

        def both(lam: Tree, data: Tree) -> Tree:
            if not together:
                return {name: features(lam, data[name]) for name in ("support", "query")}
            n = data["support"].shape[1]
            x = features(lam, xp.concat([data["support"], data["query"]], axis=1))
            return {"support": x[:, :n], "query": x[:, n:]}

        def one(name: str, theta: Tree, data: Tree) -> Any:
            """S or Q, out of θ or, with the net inside, from the images."""
            if not self.inside:
                return theta[name]
            return both(theta, data)[name] if together else features(theta, data[name])

        def logits(w: Any, X: Any) -> Any:
            return X @ xp.matrix_transpose(w)  # (E, n, ways)

        def losses(z: Any, Y: Any) -> Any:
            return bk.logsumexp(z) - xp.sum(Y * z, axis=-1)

        def descend(w: Any, S: Any, Y: Any) -> Any:
            z = logits(w, S)
            residual = xp.exp(z - bk.logsumexp(z)[..., None]) - Y
            return w - xp.matrix_transpose((self.rate / Y.shape[1]) * residual) @ S

        def outer(w: Any, theta: Tree, data: Tree) -> Any:
            return xp.mean(losses(logits(w, one("query", theta, data)), data["query_labels"]))

        def adapted(carry: Tree, held: Tree) -> tuple:
            """Accuracy and loss of each episode of a chunk, its head fitted to its support."""
            lam, (S, Q) = carry, (both(carry, held)[name] for name in ("support", "query"))
            Y, Y_query = held["support_labels"], held["query_labels"]
            w = xp.zeros_like(xp.matrix_transpose(Y) @ S)
            w, _ = bk.scan(lambda w, _: (descend(w, S, Y), None), w, None, length=self.steps)
            z = logits(w, Q)
            right = xp.where(xp.argmax(z, axis=-1) == xp.argmax(Y_query, axis=-1), 1.0, 0.0)
            return lam, (xp.mean(xp.astype(right, z.dtype), axis=-1), xp.mean(losses(z, Y_query), axis=-1))

        def metrics(w: Any, lam: Tree, held: Tree) -> dict:
            # w is the training episodes' and says nothing about others.
            n = held["support"].shape[0]
            chunk = max(size for size in range(1, CHUNK + 1) if n % size == 0)
            chunks = bk.map(lambda x: xp.reshape(x, (n // chunk, chunk, *x.shape[1:])), held)
            _, (accuracy, loss) = bk.scan(adapted, lam, chunks)
            spread = xp.sum((accuracy - xp.mean(accuracy)) ** 2) / max(n - 1, 1)
            return {"accuracy": xp.mean(accuracy), "accuracy_sd": xp.sqrt(spread), "loss": xp.mean(loss)}

        return Problem(
            embed=identity if self.inside else both,
            init=lambda theta, data: 0.0 * data["zero"],
            step=lambda w, theta, data, x: descend(w, one("support", theta, data), data["support_labels"]),
            outer_loss=outer,
            metrics=metrics,
            lower=whole if self.inside else lambda theta: theta["support"],
        )

    def hparams(self, seed: int, point: str = "init") -> Tree:
        if point not in self.points:
            raise TaskError(f"fewshot: unknown point {point!r}; allowed are {', '.join(self.points)}")
        return convnet.initial(np.random.default_rng([SEED, seed, 0]), self.blocks, self.filters)

    def context(self, seed: int, index: int, horizon: int) -> tuple[Tree, Tree]:
        """Meta-batch `index` of training episodes, the same whatever was drawn before."""
        rng = np.random.default_rng([SEED, seed, 1, index])
        drawn = episodes.draw(rng, self.dataset, "train", self.episodes, self.shape, self.rotations)
        data = {name: array.astype(np.float64) for name, array in drawn.items()}
        return data | {"zero": np.zeros((self.episodes, self.ways, self.width + 1))}, np.arange(horizon)

    def selection(self, seed: int) -> Tree:
        """Episodes of the validation pool, to choose settings by; shaped as `evaluation`."""
        return _held(self.dataset, "validation", self.validation_episodes, self.shape, seed)

    def evaluation(self, seed: int) -> Tree:
        """Episodes of the test pool.  The 95 % interval of `metrics` is accuracy ± 1.96 accuracy_sd/√episodes."""
        return _held(self.dataset, "test", self.test_episodes, self.shape, seed)


@lru_cache(maxsize=2)
def _held(dataset: str, pool: str, number: int, shape: episodes.Shape, seed: int) -> Tree:
    return episodes.draw(
        np.random.default_rng([SEED, seed, 1 + episodes.POOLS.index(pool)]), dataset, pool, number, shape
    )
