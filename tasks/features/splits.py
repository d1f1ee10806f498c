"""Random splits with the same number of examples of every class."""

from __future__ import annotations

import numpy as np

from tasks.protocol import TaskError


def stratified(rng: np.random.Generator, labels: np.ndarray, sizes: tuple[int, ...], what: str) -> list[np.ndarray]:
    """Disjoint index arrays, one a size, with `size` examples of each class, in shuffled order.

    Raises TaskError, one line beginning with `what`, where a class has too few examples.
    """
    parts: list[list[np.ndarray]] = [[] for _ in sizes]
    for k in range(int(labels.max()) + 1):
        members = rng.permutation(np.flatnonzero(labels == k))
        if len(members) < sum(sizes):
            asked = " + ".join(map(str, sizes))
            raise TaskError(f"{what}: class {k} has {len(members)} examples; asked were {asked} = {sum(sizes)}")
        ends = np.cumsum(sizes)
        for part, end, size in zip(parts, ends, sizes):
            part.append(members[end - size : end])
    return [rng.permutation(np.concatenate(part)) for part in parts]
