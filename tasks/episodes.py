"""Episodes of few-shot learning: a few classes, a few labelled examples of each, and queries; drawn by NumPy alone.

A set has three pools of classes, split by rules that no seed changes:

    omniglot   train: 25 of the 30 background alphabets;  validation: the other five, every sixth by name;
               test: the evaluation alphabets.  No character is in two pools
    digits     train: three quarters of the drawings of 0–4;  validation: the other quarter of these, for there are few
               classes;  test: 5–9.  No drawing is in two pools, and no class of test in another.  Five classes
               teach little about others: validation shows that a net has learnt, test hardly does
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from tasks.data import load

DATASETS = ("omniglot", "digits")
POOLS = ("train", "validation", "test")
SIDES = {"omniglot": 28, "digits": 8}
MOST_WAYS = {"omniglot": 20, "digits": 5}
FEWEST_DRAWINGS = {"omniglot": 20, "digits": 44}  # of a class, over all pools
TURNS = 4  # by 0°, 90°, 180°, 270°


class Shape(NamedTuple):
    """What an episode consists of: `ways` classes, `shots` support examples and `queries` queries of each."""

    ways: int
    shots: int
    queries: int


def draw(
    rng: np.random.Generator, dataset: str, pool: str, number: int, shape: Shape, rotations: bool = False
) -> dict[str, np.ndarray]:
    """`number` episodes: support and query images, ink 1 and paper 0, and their labels one-hot.

        support (number, ways·shots, side, side), support_labels (number, ways·shots, ways), query …, query_labels …

    Images are float16, which holds every grey level of both sets.  With rotations every class turned by a quarter, a
    half or three quarters is another class.
    """
    classes = classes_of(dataset, pool)
    ways, shots, queries = shape
    pictures = {"support": [], "query": []}
    for _ in range(number):
        chosen = rng.choice(len(classes) * (TURNS if rotations else 1), ways, replace=False)
        support, query = [], []
        for one in chosen:
            drawings = classes[one % len(classes)]
            picked = rng.choice(len(drawings), shots + queries, replace=False)
            turned = np.rot90(drawings[picked], one // len(classes), axes=(1, 2))
            support.append(turned[:shots])
            query.append(turned[shots:])
        pictures["support"].append(np.concatenate(support))
        pictures["query"].append(np.concatenate(query))
    labels = {name: np.repeat(np.eye(ways), n, axis=0) for name, n in (("support", shots), ("query", queries))}
    return {name: np.stack(images).astype(np.float16) for name, images in pictures.items()} | {
        f"{name}_labels": np.tile(rows, (number, 1, 1)) for name, rows in labels.items()
    }


@lru_cache(maxsize=6)
def classes_of(dataset: str, pool: str) -> list[np.ndarray]:
    """The drawings of every class of a pool, each (drawings, side, side)."""
    raw = load(dataset)
    if dataset == "omniglot":
        if pool == "test":
            return list(raw["evaluation"])
        alphabets = [name.split("/")[0] for name in raw["background_names"]]
        held = set(sorted(set(alphabets))[5::6])
        return [
            drawings
            for drawings, alphabet in zip(raw["background"], alphabets)
            if (alphabet in held) == (pool == "validation")
        ]
    images = raw["images"].reshape(-1, 8, 8)
    drawings = [images[raw["labels"] == label] for label in (range(5, 10) if pool == "test" else range(5))]
    if pool == "test":
        return drawings
    later = [np.arange(len(d)) % 4 == 3 for d in drawings]
    return [d[late if pool == "validation" else ~late] for d, late in zip(drawings, later)]
