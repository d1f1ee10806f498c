"""A vector in at most 64 numbers, so that records of two frameworks can be held against each other later."""

from __future__ import annotations

import numpy as np

from bench.record import Sketch

WIDTH = 64


def sketch(h: np.ndarray) -> Sketch:
    """h itself for N ≤ 64; otherwise 64 random ±1 projections / √64, whose distances are those of the vectors within
    about a fifth (Johnson–Lindenstrauss; the signs are the same for every vector of one length)."""
    norm = float(np.linalg.norm(h))
    if h.size <= WIDTH:
        return Sketch(exact=True, values=h.tolist(), norm=norm)
    rng = np.random.default_rng([3, h.size])
    values = [float(h @ rng.choice((-1.0, 1.0), h.size)) / np.sqrt(WIDTH) for _ in range(WIDTH)]
    return Sketch(exact=False, values=values, norm=norm)
