"""MNIST: 60000 training and 10000 test images of handwritten digits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tasks.data import idx


def read(contents: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    """Return images, uint8 (n, 28, 28) with ink = 255, and labels, int64 (n,), of both parts."""
    arrays = {}
    for part, prefix, count in (("train", "train", 60000), ("test", "t10k", 10000)):
        for kind, suffix, shape in (
            ("images", "images-idx3-ubyte.gz", (count, 28, 28)),
            ("labels", "labels-idx1-ubyte.gz", (count,)),
        ):
            path = f"MNIST/raw/{prefix}-{suffix}"
            array = idx.parse(contents[path], shape, path)
            arrays[f"{part}_{kind}"] = array if kind == "images" else array.astype(np.int64)
    return arrays
