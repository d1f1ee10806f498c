"""Features of CIFAR images: fitted without labels on CIFAR-10's first training batch, which no test set shares."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np

from tasks.data import load
from tasks.data.locate import cache_folder
from tasks.features import patches, store
from tasks.features.patches import Encoder, Recipe

FITTED_ON = 10_000  # CIFAR-10's data_batch_1: the same images whatever other batches are at hand
Arrays = dict[str, np.ndarray]


def image_features(dataset: str) -> Arrays:
    """Features of "cifar10" (train, test) or "cifar100" (test), float32 (n, components), rows in the data set's order.

    Training features are those of CIFAR-10's first 10000 images.  Computed once (minutes), then read from the cache;
    raises DataError where the images are missing.
    """
    return dict(_image_features(dataset, Recipe(), cache_folder()))


# The cache's folder is part of the key, as in `tasks.data`.
@lru_cache(maxsize=4)
def _image_features(dataset: str, recipe: Recipe, cache: Path) -> Arrays:
    fit = load("cifar10")["train_images"][:FITTED_ON]
    raw = load(dataset)
    parts = {"test": raw["test_images"]} | ({"train": fit} if dataset == "cifar10" else {})
    return encoded(dataset, fit, parts, recipe)


def encoded(name: str, fit: np.ndarray, parts: Arrays, recipe: Recipe) -> Arrays:
    """Features of each part, by an encoder fitted on `fit`; encoder and features come from the cache where they can."""

    def encode() -> Arrays:
        found = store.kept(_key("encoder", recipe, {"fit": fit}), lambda: patches.fit(fit, recipe)._asdict())
        encoder = Encoder(**found)
        return {part: patches.encode(images, encoder, recipe) for part, images in parts.items()}

    arrays = store.kept(_key(name, recipe, {"fit": fit, **parts}), encode)
    for array in arrays.values():
        array.flags.writeable = False  # shared by everyone who asks
    return arrays


def _key(name: str, recipe: Recipe, images: Arrays) -> str:
    """Changes with the recipe's text, its sizes and the images themselves."""
    made_of = json.dumps([patches.VERSION, asdict(recipe), store.digest(images)])
    return f"{name}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"
