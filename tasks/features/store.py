"""Arrays that take minutes to compute, kept in the user cache; what is read is checked against its SHA-256."""

from __future__ import annotations

import fcntl
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tasks.data.locate import cache_folder

Arrays = dict[str, np.ndarray]
DIGEST = "sha256"


def kept(name: str, make: Callable[[], Arrays]) -> Arrays:
    """The arrays of `make`, from `features/<name>.npz` in the cache where they are whole; made and written otherwise.

    One process makes them while others wait.  Where the cache cannot be written they are made every time.
    """
    path = cache_folder() / "features" / f"{name}.npz"
    if (found := _read(path)) is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path.with_suffix(".lock")):
            if (found := _read(path)) is not None:
                return found
            arrays = make()
            _write(path, arrays)
            return arrays
    except OSError:
        return make()


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, shapes, types and values."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.shape} {array.dtype.str}\n".encode())
        total.update(array.data if array.size else b"")
    return total.hexdigest()


def _read(path: Path) -> Arrays | None:
    """None where there is no file, half of one, or another content than was written."""
    try:
        with np.load(path) as stored:
            arrays = dict(stored)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    written = arrays.pop(DIGEST, None)
    return arrays if written is not None and str(written) == digest(arrays) else None


def _write(path: Path, arrays: Arrays) -> None:
    """By atomic rename."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    content: dict[str, Any] = {**arrays, DIGEST: np.asarray(digest(arrays))}
    try:
        with open(temporary, "wb") as handle:
            np.savez(handle, **content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with open(lock, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
