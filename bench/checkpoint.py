"""What a killed cell had done, in one file beside the records."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench import arrays

INTERVAL = 10.0  # seconds between two writes


class Checkpoint:
    """Named arrays, written once in a while; those of another code are not taken up."""

    def __init__(self, file: Path | None, made_by: str) -> None:
        self.file, self.made_by, self.last = file, made_by, time.monotonic()

    def read(self) -> dict[str, np.ndarray] | None:
        """What was written last; None where there is nothing, half a file, or another code's."""
        parts = None if self.file is None else arrays.read(self.file)
        return None if parts is None or str(parts.pop("stamp")) != self.made_by else parts

    def write(self, parts: Callable[[], Mapping[str, Any]]) -> None:
        """Where it is time for it."""
        if self.file is not None and time.monotonic() - self.last >= INTERVAL:
            arrays.write(self.file, {"stamp": self.made_by, **parts()})
            self.last = time.monotonic()

    def remove(self) -> None:
        if self.file is not None:
            self.file.unlink(missing_ok=True)
