"""Features of colour images by k-means on patches: no labels, no network, NumPy alone.

    patch → contrast-normalised, ZCA-whitened x → triangle code → sums over the four quadrants → principal components

The recipe is that of Coates, Lee & Ng (AISTATS 2011), with the spherical k-means of Coates & Ng (2012):

1. Patches of 6×6×3 values of 0 … 255, each less its mean and divided by sqrt(variance + 10); ZCA with ε = 0.1.
2. k-means on the sphere: an atom is the unit sum of the patches that it fits best, weighted by their projections.
3. Patches at stride 1, each as max(0, mean_k z_k − z_k) with z_k the distance to atom k, summed over quadrants.
4. Standardised, projected on the leading principal components, each over (its standard deviation)^`whitening`, and
   scaled to a mean square of 1 a component.

Every constant of 1, 2 and 4 is fitted on the images given to `fit` and applied to others by `encode`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

VERSION = 1  # raised when the text below changes what it computes


@dataclass(frozen=True)
class Recipe:
    """Sizes of the recipe.

    atoms        number of k-means atoms; an image has 4·atoms sums before the projection
    patch        side of a patch in pixels
    sample       number of patches that the atoms are fitted on
    rounds       iterations of k-means
    components   number of principal components kept
    whitening    0 keeps the components' own variances, 1 makes them equal
    seed         of the drawn patches and of the first atoms
    """

    atoms: int = 800
    patch: int = 6
    sample: int = 200_000
    rounds: int = 15
    components: int = 256
    whitening: float = 0.5
    seed: int = 0


class Encoder(NamedTuple):
    """What `fit` found: arrays in float32."""

    mean: np.ndarray  # (patch values,)
    whiten: np.ndarray  # (patch values, patch values)
    atoms: np.ndarray  # (atoms, patch values)
    centre: np.ndarray  # (4·atoms,)
    basis: np.ndarray  # (4·atoms, components)


def fit(images: np.ndarray, recipe: Recipe) -> Encoder:
    """The encoder of a recipe from unlabelled images, uint8 (n, height, width, 3)."""
    rng = np.random.default_rng([31, recipe.seed])
    drawn = _normalised(_draw(images, recipe, rng))
    mean = drawn.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(drawn - mean, rowvar=False).astype(np.float64))
    whiten = ((vectors / np.sqrt(values + 0.1)) @ vectors.T).astype(np.float32)
    atoms = _atoms((drawn - mean) @ whiten, recipe, rng)
    pooled = _pooled(images, mean, whiten, atoms, recipe.patch)
    centre, spread = pooled.mean(axis=0), pooled.std(axis=0) + 1e-8
    basis = _basis((pooled - centre) / spread, recipe)
    return Encoder(mean, whiten, atoms, centre, (basis / spread[:, None]).astype(np.float32))


def encode(images: np.ndarray, encoder: Encoder, recipe: Recipe) -> np.ndarray:
    """Features of images, float32 (n, components)."""
    pooled = _pooled(images, encoder.mean, encoder.whiten, encoder.atoms, recipe.patch)
    return (pooled - encoder.centre) @ encoder.basis


def _draw(images: np.ndarray, recipe: Recipe, rng: np.random.Generator) -> np.ndarray:
    """Patches at random places of random images, flat."""
    windows = _windows(images, recipe.patch)
    at = [rng.integers(0, size, recipe.sample) for size in windows.shape[:3]]
    return windows[at[0], at[1], at[2]].reshape(recipe.sample, -1).astype(np.float32)


def _windows(images: np.ndarray, side: int) -> np.ndarray:
    """(n, rows, columns, 3, side, side): a view."""
    return np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(1, 2))


def _normalised(patches: np.ndarray) -> np.ndarray:
    centred = patches - patches.mean(axis=1, keepdims=True)
    return centred / np.sqrt(np.mean(centred**2, axis=1, keepdims=True) + 10)


def _atoms(x: np.ndarray, recipe: Recipe, rng: np.random.Generator) -> np.ndarray:
    atoms = _unit(rng.standard_normal((recipe.atoms, x.shape[1])).astype(np.float32))
    for _ in range(recipe.rounds):
        total = np.zeros_like(atoms)
        for part in np.array_split(x, -(-len(x) // 5000)):
            projection = part @ atoms.T
            nearest = np.argmax(np.abs(projection), axis=1)
            weight = np.zeros_like(projection)
            rows = np.arange(len(part))
            weight[rows, nearest] = projection[rows, nearest]
            total += weight.T @ part
        empty = np.linalg.norm(total, axis=1) == 0
        total[empty] = x[rng.integers(0, len(x), empty.sum())]
        atoms = _unit(total)
    return atoms


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _pooled(images: np.ndarray, mean: np.ndarray, whiten: np.ndarray, atoms: np.ndarray, side: int) -> np.ndarray:
    """Sums of the triangle code over quadrants, (n, 4·atoms).  One image at a time stays in the processor's cache."""
    project = np.concatenate([whiten, -2 * whiten @ atoms.T], axis=1)  # x and −2⟨x, atom⟩ by one product
    square, values = np.sum(atoms**2, axis=1), len(mean)
    out = np.empty((len(images), 4 * len(atoms)), np.float32)
    for image, row in zip(_windows(images, side), out):
        high, wide = image.shape[:2]
        product = (_normalised(image.reshape(high * wide, -1).astype(np.float32)) - mean) @ project
        z = product[:, values:]
        z += square
        z += np.sum(product[:, :values] ** 2, axis=1, keepdims=True)
        np.sqrt(np.maximum(z, 0, out=z), out=z)
        np.subtract(z.mean(axis=1, keepdims=True), z, out=z)
        code = np.maximum(z, 0, out=z).reshape(high, wide, -1)
        top, left = -(-high // 2), -(-wide // 2)
        halves = (code[:top].sum(axis=0), code[top:].sum(axis=0))
        row[:] = np.concatenate([part.sum(axis=0) for half in halves for part in (half[:left], half[left:])])
    return out


def _basis(x: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Leading principal directions of centred rows, scaled so that a component has a mean square of 1."""
    values, vectors = np.linalg.eigh((x.T @ x / len(x)).astype(np.float64))
    kept = slice(None, -recipe.components - 1, -1)
    values, vectors = np.maximum(values[kept], 1e-12), vectors[:, kept]
    vectors = vectors * np.sign(vectors[np.argmax(np.abs(vectors), axis=0), np.arange(vectors.shape[1])])
    scale = values ** (-recipe.whitening / 2)
    return vectors * scale / np.sqrt(np.mean(values * scale**2))
