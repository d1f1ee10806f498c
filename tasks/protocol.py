"""A task: sizes, data and named points of one bilevel problem, in NumPy; the problem itself in any backend's arrays."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

from backends.hypergradient.protocol import Hypergrad, InvalidOption, Problem, Sizes

__all__ = ["Hypergrad", "InvalidOption", "Problem", "Sizes", "Task", "TaskError"]

Tree = Any


class TaskError(ValueError):
    """A size, an option or a named point that a task does not have.  One line."""


@runtime_checkable
class Task(Protocol):
    """A frozen dataclass of sizes; its defaults are the paper's sizes and data.

    points      the named values of λ that `hparams` knows, "init" first
    stochastic  whether the per-step inputs are minibatches (then there is no implicit reference)
    convex      whether the lower problem is strongly convex in w for every λ
    datasets    the data sets that it reads, by the names of `tasks.data`
    episodic    whether `context` draws other data for every `index`: a stochastic upper level.  Left out: no
    """

    points: ClassVar[tuple[str, ...]]
    stochastic: ClassVar[bool]
    convex: ClassVar[bool]

    @property
    def datasets(self) -> tuple[str, ...]: ...

    def problem(self, bk: Any) -> Problem:
        """The bilevel problem in the arrays of `bk`."""
        ...

    def hparams(self, seed: int, point: str = "init") -> Tree:
        """λ at a named point, as NumPy float64 arrays."""
        ...

    def context(self, seed: int, index: int, horizon: int) -> tuple[Tree, Tree]:
        """(data, xs): training and validation data, and the per-step inputs with leading axis T, in NumPy."""
        ...

    def evaluation(self, seed: int) -> Tree:
        """Held-out data, read by the runner alone."""
        ...
