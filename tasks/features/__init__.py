"""Feature vectors for linear models: computed from images by a documented recipe and cached, or from a user's file."""

from __future__ import annotations

from tasks.features.file import Table, read
from tasks.features.images import image_features

__all__ = ["Table", "image_features", "read"]
