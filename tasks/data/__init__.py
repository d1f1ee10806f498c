"""Real data sets as NumPy arrays, checked by SHA-256.

Files are looked for in `$HYPERGRAD_BENCH_DATA` (laid out as torchvision does it), then in the user cache
(`$HYPERGRAD_BENCH_CACHE`), and otherwise downloaded into the cache. `HYPERGRAD_BENCH_OFFLINE=1` forbids downloading;
`HYPERGRAD_BENCH_MIRROR` is the address of a server to use instead of the authors', with the layout of a data folder.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tasks.data import cifar, digits, mnist, omniglot
from tasks.data.catalogue import DATASETS, DataError, DataFile, Dataset
from tasks.data.download import download
from tasks.data.integrity import content_fault, file_fault
from tasks.data.locate import DATA_VARIABLE, cache_folder, data_folder, locate, looked_in, needed

__all__ = ["DATASETS", "DataError", "DataFile", "Dataset", "fetch", "listing", "load", "verify"]

_READERS: dict[str, Callable[[Mapping[str, bytes]], dict[str, np.ndarray]]] = {
    "digits": digits.read,
    "mnist": mnist.read,
    "cifar10": cifar.read_cifar10,
    "cifar100": cifar.read_cifar100,
    "omniglot": omniglot.read,
}


def load(name: str) -> dict[str, np.ndarray]:
    """Return the arrays of a data set, read-only; the readers' docstrings give keys, shapes and dtypes.

    Downloads what is missing, unless offline. Raises DataError, one line, when a file is missing or not as published.
    """
    return dict(_load(_dataset(name), data_folder(), cache_folder()))


def fetch(names: Iterable[str]) -> list[Path]:
    """Make all files of the data sets be at hand and as published; return where they lie.

    A damaged file in the cache is replaced; one in `$HYPERGRAD_BENCH_DATA` is the user's: DataError.
    """
    paths: list[Path] = []
    for dataset in map(_dataset, names):
        if dataset.package:
            continue
        missing = []
        for file in needed(dataset):
            found = locate(file)
            reason = file_fault(found.path, file) if found else "missing"
            if found and reason and found.source == DATA_VARIABLE:
                raise _refusal(dataset, found.path, reason)
            if reason:
                missing.append(file)
        download(missing, cache_folder())
        paths += [found.path for file in needed(dataset) if (found := locate(file))]
    _load.cache_clear()
    return paths


def verify(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return (file, 'ok' or what is wrong) for the files `load` needs and any other that is at hand."""
    results = []
    for dataset in map(_dataset, names):
        if dataset.package:
            file = dataset.files[0]
            try:
                results.append((file.path, content_fault(digits.table(), file) or "ok"))
            except DataError as error:
                results.append((file.path, str(error)))
            continue
        wanted = needed(dataset)
        for file in (*dataset.files, *dataset.instead):
            found = locate(file)
            if found:
                reason = file_fault(found.path, file)
                results.append((file.path, f"{reason} ({found.path})" if reason else "ok"))
            elif file in wanted and not file.optional:
                results.append(
                    (file.path, f"missing in {looked_in()}: run `python -m bench data fetch {dataset.name}`")
                )
    return results


def listing() -> list[dict[str, Any]]:
    """Return one dict for each file: name, file, bytes, sha256, present, where, source, terms. Nothing is checked."""
    rows = []
    for dataset in DATASETS.values():
        for file in (*dataset.files, *dataset.instead):
            if dataset.package:
                where = _package_folder()
                source = dataset.package
            else:
                found = locate(file)
                where = str(found.path) if found else ""
                source = found.source if found else "missing"
            rows.append(
                {
                    "name": dataset.name,
                    "file": file.path,
                    "bytes": file.bytes,
                    "sha256": file.sha256,
                    "present": bool(where),
                    "where": where,
                    "source": source if where else "missing",
                    "terms": dataset.terms,
                }
            )
    return rows


def _dataset(name: str) -> Dataset:
    if name not in DATASETS:
        raise DataError(f"unknown data set {name!r}: choose one of {', '.join(DATASETS)}")
    return DATASETS[name]


# The folders are part of the key: changed environment variables must not give the arrays of another folder.
@lru_cache(maxsize=8)
def _load(dataset: Dataset, folder: Path | None, cache: Path) -> dict[str, np.ndarray]:
    arrays = _READERS[dataset.name](_contents(dataset, cache))
    for array in arrays.values():
        array.flags.writeable = False  # shared by everyone who loads the set
    return arrays


def _contents(dataset: Dataset, cache: Path) -> dict[str, bytes]:
    """Return the checked contents of the files at hand, by path; what is checked is the very bytes that are parsed."""
    if dataset.package:
        file, content = dataset.files[0], digits.table()
        reason = content_fault(content, file)
        if reason:
            raise DataError(
                f"{file.path} of the installed {dataset.package} is refused: {reason}; install another version"
            )
        return {file.path: content}
    wanted = needed(dataset)
    missing = [file for file in wanted if not locate(file)]
    if any(not file.optional for file in missing):
        try:
            download(missing, cache)
        except DataError as error:
            raise DataError(
                f"{dataset.name} is not in {looked_in()}: {error}"
                f" (set {DATA_VARIABLE}, or run `python -m bench data fetch {dataset.name}`)"
            ) from None
    contents = {}
    for file in wanted:
        found = locate(file)
        if found is None:
            continue
        try:
            content = found.path.read_bytes()
        except OSError as error:
            raise _refusal(dataset, found.path, f"cannot be read: {error.strerror}") from None
        reason = content_fault(content, file)
        if reason:
            raise _refusal(dataset, found.path, reason)
        contents[file.path] = content
    return contents


def _refusal(dataset: Dataset, path: Path, reason: str) -> DataError:
    return DataError(f"{path} is refused: {reason}; delete it, then run `python -m bench data fetch {dataset.name}`")


def _package_folder() -> str:
    spec = importlib.util.find_spec("sklearn")
    return str(Path(spec.origin).parent) if spec is not None and spec.origin else ""
