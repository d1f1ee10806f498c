"""Where data files are looked for: `$HYPERGRAD_BENCH_DATA`, then the user cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from tasks.data.catalogue import DataError, DataFile, Dataset

DATA_VARIABLE = "HYPERGRAD_BENCH_DATA"
CACHE_VARIABLE = "HYPERGRAD_BENCH_CACHE"


class Found(NamedTuple):
    """A file at hand (not yet checked) and who keeps it: 'HYPERGRAD_BENCH_DATA' or 'cache'."""

    path: Path
    source: str


def data_folder() -> Path | None:
    """Return the folder of `$HYPERGRAD_BENCH_DATA`, None when unset. Raises DataError when it is no folder."""
    value = os.environ.get(DATA_VARIABLE, "")
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise DataError(f"{DATA_VARIABLE}={value} is not a folder: correct it or unset it")
    return folder


def cache_folder() -> Path:
    """Return the folder downloads go to; it may not exist yet."""
    value = os.environ.get(CACHE_VARIABLE, "")
    if value:
        return Path(value).expanduser()
    import pooch

    return Path(pooch.os_cache("hypergrad-bench"))


def locate(file: DataFile) -> Found | None:
    """Return where `file` is at hand, None when nowhere."""
    folder = data_folder()
    if folder is not None and os.path.isfile(folder / file.path):
        return Found(folder / file.path, DATA_VARIABLE)
    path = cache_folder() / file.path
    return Found(path, "cache") if os.path.isfile(path) else None


def needed(dataset: Dataset) -> tuple[DataFile, ...]:
    """Return the files to read `dataset` from: the stand-ins when they are all at hand, else the published ones."""
    if dataset.instead and all(locate(file) for file in dataset.instead):
        return dataset.instead
    return dataset.files


def looked_in() -> str:
    """Say, for an error line, where files are looked for."""
    folder = data_folder()
    return f"{DATA_VARIABLE} ({folder or 'unset'}) or the cache ({cache_folder()})"
