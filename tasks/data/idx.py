"""The IDX format of MNIST: a big-endian header (magic number, dimensions), then unsigned bytes."""

from __future__ import annotations

import gzip
import zlib
from math import prod

import numpy as np

from tasks.data.catalogue import DataError


def parse(content: bytes, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Return the uint8 array of `shape` in the gzip'd IDX `content`; DataError, naming `name`, when it is another."""
    try:
        raw = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name} is not a gzip file: {error}") from None
    header = 4 * (1 + len(shape))
    if len(raw) < header:
        raise DataError(f"{name} is not an IDX file: {len(raw)} bytes are shorter than its header of {header}")
    magic, *dimensions = (int(value) for value in np.frombuffer(raw, ">u4", count=1 + len(shape)))
    # 0x08 says unsigned bytes, the last byte how many dimensions follow: 2049 for labels, 2051 for images.
    expected = 0x0800 + len(shape)
    if magic != expected:
        raise DataError(f"{name} has the IDX magic number {magic}, expected {expected}")
    if tuple(dimensions) != shape:
        raise DataError(f"{name} has the dimensions {tuple(dimensions)}, expected {shape}")
    if len(raw) != header + prod(shape):
        raise DataError(f"{name} holds {len(raw) - header} bytes of data, expected {prod(shape)}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape).copy()
