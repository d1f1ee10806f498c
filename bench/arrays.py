"""Named NumPy arrays in one file, whole or not at all: what cells share, and what a killed cell had done."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def read(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a file; None where there is none, or half of one."""
    try:
        stored = np.load(path)
        if not isinstance(stored, np.lib.npyio.NpzFile):
            return None
        with stored:
            return dict(stored)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def write(path: Path, parts: Mapping[str, Any]) -> None:
    """By atomic rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    np.savez(temporary, **parts)
    os.replace(temporary, path)
