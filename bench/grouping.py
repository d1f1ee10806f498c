"""Does a learned C group related classes?  A permutation test over superclasses that no problem has seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import factorial, prod
from typing import NamedTuple

import numpy as np


class Grouping(NamedTuple):
    """What the test found.

    within, between   mean C_jk over pairs of one superclass, and over pairs of two
    p                 share of assignments of superclasses to classes with a mean within at least as large:
                      (1 + hits)/(1 + n)
    permutations      n
    """

    within: float
    between: float
    p: float
    permutations: int


def assignments(superclass: Sequence[int]) -> int:
    """How many ways there are to part the classes into superclasses of these sizes: p is hardly below 1 over it."""
    sizes = Counter(superclass).values()
    # Superclasses of one size change places without a change of what is within.
    orders = prod(factorial(n) for n in sizes) * prod(factorial(n) for n in Counter(sizes).values())
    return factorial(len(superclass)) // orders


def grouping(C: np.ndarray, superclass: np.ndarray, permutations: int = 9999, seed: int = 0) -> Grouping:
    """One-sided test of "C is larger within superclasses" against "superclasses are assigned to classes at random".

    C (k, k) symmetric with a zero diagonal; superclass (k,).  Whole classes are permuted, not pairs: the k − 1 entries
    of a class hang together.  The statistic is the mean of C within; the mean over all pairs does not change.
    Raises ValueError where C is no such matrix or no pair, or every pair, is within.
    """
    C, superclass = np.asarray(C, np.float64), np.asarray(superclass)
    if C.ndim != 2 or superclass.shape != C.shape[:1] or C.shape[0] != C.shape[1]:
        raise ValueError(f"C of shape {C.shape} and superclass of {superclass.shape}; expected (k, k) and (k,)")
    if not np.isfinite(C).all() or not np.array_equal(C, C.T) or np.diagonal(C).any():
        raise ValueError("C is not a finite symmetric matrix with a zero diagonal")
    if permutations < 1:
        raise ValueError(f"permutations = {permutations}; expected a number from 1")
    upper = np.triu_indices(len(C), 1)
    same = superclass[upper[0]] == superclass[upper[1]]
    if same.all() or not same.any():
        raise ValueError(f"{same.sum()} of {same.size} pairs are within a superclass; expected some and not all")
    values = C[upper]
    observed = values[same].mean()
    rows, columns = upper[0][same], upper[1][same]  # a permuted class takes the place of another in these pairs
    rng, hits = np.random.default_rng([41, seed]), 0
    margin = 1e-12 * np.abs(values).max()  # sums in another order: the observed assignment must count as reached
    for _ in range(permutations):
        at = rng.permutation(len(C))
        hits += bool(C[at[rows], at[columns]].mean() >= observed - margin)
    return Grouping(float(observed), float(values[~same].mean()), (1 + hits) / (1 + permutations), permutations)
