"""The tasks, by the names that cells, commands and tables use.  Importing this package imports no framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tasks.counterexample import Counterexample
from tasks.doublewell import DoubleWell
from tasks.feature_decay import FeatureDecay
from tasks.fewshot import FewShot
from tasks.hypercleaning import Hypercleaning
from tasks.hypercleaning_l1 import HypercleaningL1
from tasks.logistic import Logistic
from tasks.minibatch_ridge import MinibatchRidge
from tasks.protocol import Problem, Task, TaskError
from tasks.quadratic import Quadratic
from tasks.scalar import Scalar
from tasks.spectrum import Spectrum
from tasks.task_interaction import TaskInteraction

__all__ = ["TASKS", "Problem", "Task", "TaskError"]

TASKS: dict[str, Callable[..., Any]] = {
    "quadratic": Quadratic,
    "spectrum": Spectrum,
    "counterexample": Counterexample,
    "scalar": Scalar,
    "logistic": Logistic,
    "doublewell": DoubleWell,
    "minibatch_ridge": MinibatchRidge,
    "hypercleaning": Hypercleaning,
    "hypercleaning_l1": HypercleaningL1,
    "task_interaction": TaskInteraction,
    "feature_decay": FeatureDecay,
    "fewshot": FewShot,
}
