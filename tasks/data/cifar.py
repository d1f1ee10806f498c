"""CIFAR-10 and CIFAR-100: pickled batches (and, for CIFAR-100, the same test images as PNG files in a zip)."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from tasks.data.catalogue import DataError

# What rebuilding a NumPy array needs, under its names before and since NumPy 2; nothing else may be called.
_RECONSTRUCT = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _RECONSTRUCT:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def unpickle(content: bytes, name: str) -> dict[str, Any]:
    """Return the dict in a Python 2 pickle of plain values and arrays; DataError, naming `name`, on anything else."""
    try:
        value = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a broken pickle may raise anything
        reason = " ".join(str(error).split())
        raise DataError(f"{name} is refused: not a pickle of plain values and NumPy arrays ({reason})") from None
    if not isinstance(value, dict):
        raise DataError(f"{name} is refused: it holds a {type(value).__name__}, expected a dict")
    return value


def _images(rows: np.ndarray) -> np.ndarray:
    """Turn rows of 1024 red, 1024 green, 1024 blue values into (n, 32, 32, 3)."""
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def read_cifar10(contents: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    """Return images, uint8 (n, 32, 32, 3), and labels, int64 (n,), of both parts, and the ten `names`.

    The training part holds the batches at hand, 10000 images each, in order; `train_batches` has their numbers.
    """
    folder = "cifar-10-batches-py/"
    numbers = [i for i in range(1, 6) if f"{folder}data_batch_{i}" in contents]
    train = [unpickle(contents[f"{folder}data_batch_{i}"], f"{folder}data_batch_{i}") for i in numbers]
    test = unpickle(contents[f"{folder}test_batch"], f"{folder}test_batch")
    meta = unpickle(contents[f"{folder}batches.meta"], f"{folder}batches.meta")
    return {
        "train_images": _images(np.concatenate([batch["data"] for batch in train])),
        "train_labels": np.concatenate([np.asarray(batch["labels"], np.int64) for batch in train]),
        "train_batches": np.asarray(numbers, np.int64),
        "test_images": _images(test["data"]),
        "test_labels": np.asarray(test["labels"], np.int64),
        "names": np.asarray(meta["label_names"]),
    }


def read_cifar100(contents: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    """Return test_images, uint8 (10000, 32, 32, 3), test_fine and test_coarse, int64, fine_names and coarse_names.

    Images are in order of `<fine class>/<file name>`: the same from the pickle and from the PNG files.
    """
    if "cifar-100-png/classes.tsv" in contents:
        return _cifar100_png(contents["cifar-100-png/cifar-100-test-png.zip"], contents["cifar-100-png/classes.tsv"])
    test = unpickle(contents["cifar-100-python/test"], "cifar-100-python/test")
    meta = unpickle(contents["cifar-100-python/meta"], "cifar-100-python/meta")
    fine = np.asarray(test["fine_labels"], np.int64)
    members = [f"{meta['fine_label_names'][label]}/{name}" for label, name in zip(fine, test["filenames"])]
    order = np.asarray(sorted(range(len(members)), key=members.__getitem__))
    return {
        "test_images": _images(test["data"][order]),
        "test_fine": fine[order],
        "test_coarse": np.asarray(test["coarse_labels"], np.int64)[order],
        "fine_names": np.asarray(meta["fine_label_names"]),
        "coarse_names": np.asarray(meta["coarse_label_names"]),
    }


def _cifar100_png(zipped: bytes, classes: bytes) -> dict[str, np.ndarray]:
    from PIL import Image

    rows = [line.split("\t") for line in classes.decode("ascii").splitlines()[1:]]
    fine = {fine_name: int(index) for index, fine_name, _, _ in rows}
    coarse = {fine_name: int(index) for _, fine_name, index, _ in rows}
    coarse_names = {int(index): name for _, _, index, name in rows}
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        members = sorted(name for name in archive.namelist() if name.endswith(".png"))
        images = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in members])
    folders = [name.split("/")[1] for name in members]
    return {
        "test_images": images,
        "test_fine": np.asarray([fine[folder] for folder in folders], np.int64),
        "test_coarse": np.asarray([coarse[folder] for folder in folders], np.int64),
        "fine_names": np.asarray(sorted(fine, key=fine.__getitem__)),
        "coarse_names": np.asarray([coarse_names[i] for i in sorted(coarse_names)]),
    }
