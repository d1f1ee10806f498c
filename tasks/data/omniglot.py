"""Omniglot: 1623 handwritten characters, each drawn by 20 people."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np

from tasks.data.catalogue import DataError

_DRAWERS = 20
_SIDE = 105
# The centres of 28 cells over 105 pixels: nearest-neighbour sampling, which is what resizing the published 1-bit
# images with PIL gives. Written out, so that the arrays do not depend on the PIL release.
_CENTRES = ((np.arange(28) + 0.5) * _SIDE / 28).astype(int)


def read(contents: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    """Return background, uint8 (964, 20, 28, 28), and evaluation (659, 20, 28, 28), ink = 1, and the characters' names.

    A name is `<alphabet>/character<number>`; characters are in order of name, drawings in order of drawer.
    """
    arrays = {}
    for part in ("background", "evaluation"):
        images, names = _characters(contents[f"omniglot-py/images_{part}.zip"], f"images_{part}")
        arrays[part], arrays[f"{part}_names"] = images, names
    return arrays


def _characters(zipped: bytes, top: str) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        members = sorted(name for name in archive.namelist() if name.startswith(f"{top}/") and name.endswith(".png"))
        names = [name.split("/", 1)[1].rsplit("/", 1)[0] for name in members[::_DRAWERS]]
        if [name.split("/", 1)[1].rsplit("/", 1)[0] for name in members] != [n for n in names for _ in range(_DRAWERS)]:
            raise DataError(f"{top}.zip is refused: not every character has {_DRAWERS} drawings")
        images = np.empty((len(members), 28, 28), np.uint8)
        for image, name in zip(images, members):
            paper = np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("1"))
            if paper.shape != (_SIDE, _SIDE):
                raise DataError(f"{top}.zip is refused: {name} is {paper.shape}, expected {(_SIDE, _SIDE)}")
            image[:] = ~paper[np.ix_(_CENTRES, _CENTRES)]
    return images.reshape(len(names), _DRAWERS, 28, 28), np.asarray(names)
