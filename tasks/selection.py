"""What a choice may look at: a task's validation data in the shape of its held-out data.

A task says it itself with `selection(seed)`.  Hyper-cleaning's validation images are part of what f reads; which
training labels are wrong is the same for both.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.hypercleaning import Hypercleaning

Tree = Any


def selection(task: Any, seed: int) -> Tree | None:
    """A tree for `Problem.metrics`; None for a task without validation data beyond what f is."""
    if isinstance(task, Hypercleaning):
        data, _ = task.context(seed, 0, 1)
        return task.evaluation(seed) | {"X": data["X_val"], "labels": np.argmax(data["Y_val"], axis=1)}
    return task.selection(seed) if hasattr(task, "selection") else None
