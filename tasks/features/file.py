"""A user's own features: one `.npz` of arrays X and y, and the names or superclasses of the classes."""

from __future__ import annotations

import zipfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.protocol import TaskError


class Table(NamedTuple):
    """Feature vectors with labels.

    X           (n, d), floating
    y           (n,), whole numbers from 0 to classes − 1
    names       of the classes
    superclass  (classes,), whole numbers; None where there is none
    """

    X: np.ndarray
    y: np.ndarray
    names: tuple[str, ...]
    superclass: np.ndarray | None

    @property
    def classes(self) -> int:
        return len(self.names)


@lru_cache(maxsize=2)
def read(path: str) -> Table:
    """The table of a file.  Labels y may be numbers or text; `superclass`, if given, is one value an example.

    Raises TaskError, one line, on anything else.
    """
    try:
        with np.load(Path(path).expanduser()) as stored:
            arrays = dict(stored)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise TaskError(f"features: {path!r} cannot be read as .npz arrays: {' '.join(str(error).split())}") from None
    if missing := {"X", "y"} - set(arrays):
        raise TaskError(f"features: {path!r} lacks {', '.join(sorted(missing))}; expected X (n, d) and y (n,)")
    X, y = arrays["X"], arrays["y"]
    if X.ndim != 2 or y.shape != X.shape[:1] or X.dtype.kind not in "fiu":
        raise TaskError(
            f"features: X of shape {X.shape} {X.dtype} and y of shape {y.shape}; expected (n, d) numbers and (n,)"
        )
    if not np.isfinite(X).all():
        raise TaskError("features: X has NaN or infinite entries; expected finite numbers")
    names, labels = np.unique(y, return_inverse=True)
    if len(names) < 2:
        raise TaskError(f"features: y has {len(names)} class; expected at least 2")
    superclass = None
    if "superclass" in arrays:
        superclass = _of_classes(arrays["superclass"], labels, len(names))
    return Table(X.astype(np.float64), labels.astype(np.int64), tuple(map(str, names)), superclass)


def _of_classes(given: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    if given.shape != labels.shape:
        raise TaskError(f"features: superclass of shape {given.shape}; expected one value an example, {labels.shape}")
    number = np.unique(given, return_inverse=True)[1]
    found = np.array([number[np.argmax(labels == k)] for k in range(classes)], np.int64)
    if not np.array_equal(found[labels], number):
        raise TaskError("features: superclass differs among examples of one class; expected one superclass a class")
    return found
