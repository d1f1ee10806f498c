"""Backends of the tests, and the real data where they lie."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import pytest

import backends
from tasks.data import DataError, load


@pytest.fixture(params=["torch", "jax"])
def bk(request):
    """A backend in float64."""
    return backends.load(request.param, "float64")


@pytest.fixture(scope="session")
def mnist():
    """Skips a test where MNIST is neither on disk nor to be downloaded."""
    try:
        load("mnist")
    except DataError as error:
        pytest.skip(f"MNIST: {error}")  # neither on disk nor to be had
