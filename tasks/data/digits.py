"""The digits that come inside scikit-learn: 1797 real images of 8 x 8 pixels, no download."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tasks.data.catalogue import DataError


def table() -> bytes:
    """Return the 1797 rows of 64 pixels (0 to 16) and a label as unsigned bytes."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(f"digits comes with scikit-learn, which cannot be imported ({error}): install it") from None
    bunch: Any = load_digits()
    return np.column_stack([bunch.data, bunch.target]).astype(np.uint8).tobytes()


def read(contents: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    """Return images, float64 (1797, 64) in [0, 1], and labels, int64 (1797,)."""
    rows = np.frombuffer(contents["sklearn.datasets.load_digits"], np.uint8).reshape(1797, 65)
    return {"images": rows[:, :64] / 16.0, "labels": rows[:, 64].astype(np.int64)}
