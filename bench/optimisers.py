"""Upper optimisers in NumPy: from the estimates h_0, h_1, … to λ_{τ+1} = project(λ_τ − η_τ d_τ).

    gd         d = h
    momentum   m ← .9 m + h,  d = m
    adam       m ← .9 m + .1 h,  v ← .999 v + .001 h²,  d = m̂/(√v̂ + 1e-8), both without their bias to zero

    constant   η_τ = η
    sqrt       η_τ = η/√(τ+1)
    cosine     η_τ = η (1 + cos(πτ/R))/2 over R iterations

Arrays have a row a start.  Hypergradients of hyper-cleaning fall to 1e-10, so that Adam's 1e-8 decides what becomes of
them: it is fixed here and not an option.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

MOMENTUM = 0.9  # of `momentum`
MEAN, SQUARE, EPS = 0.9, 0.999, 1e-8  # Adam's β_1, β_2, ε


class Moments(NamedTuple):
    """What an optimiser remembers of the estimates so far: m and v, zero at the start."""

    mean: np.ndarray
    square: np.ndarray


def gd(h: np.ndarray, moments: Moments, tau: int) -> tuple[np.ndarray, Moments]:
    """Gradient descent."""
    return h, moments


def momentum(h: np.ndarray, moments: Moments, tau: int) -> tuple[np.ndarray, Moments]:
    """Heavy ball, undamped: an estimate that does not change is worth ten."""
    mean = MOMENTUM * moments.mean + h
    return mean, Moments(mean, moments.square)


def adam(h: np.ndarray, moments: Moments, tau: int) -> tuple[np.ndarray, Moments]:
    """Kingma and Ba 2015, algorithm 1."""
    mean = MEAN * moments.mean + (1 - MEAN) * h
    square = SQUARE * moments.square + (1 - SQUARE) * h**2
    d = mean / (1 - MEAN ** (tau + 1)) / (np.sqrt(square / (1 - SQUARE ** (tau + 1))) + EPS)
    return d, Moments(mean, square)


OPTIMISERS: dict[str, Callable[[np.ndarray, Moments, int], tuple[np.ndarray, Moments]]] = {
    "gd": gd,
    "momentum": momentum,
    "adam": adam,
}

SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "constant": lambda tau, iterations: 1.0,
    "sqrt": lambda tau, iterations: float(1 / np.sqrt(tau + 1)),
    "cosine": lambda tau, iterations: float((1 + np.cos(np.pi * tau / iterations)) / 2),
}
"""name → (τ, R) → η_τ/η."""
