"""What λ is called in tables and messages."""

from __future__ import annotations

from pathlib import Path

from bench.point import is_file


def short(lam: str) -> str:
    """For a table: the last eight characters of the run's key stand for its file."""
    path, at, iteration = lam.rpartition("@")
    return f"{run_of(lam)} @ {iteration}" if at and is_file(lam) and path.endswith(".json") else lam


def run_of(lam: str) -> str:
    """The last eight characters of the key of the run that λ is from; nothing where it is from none."""
    return Path(lam.rpartition("@")[0]).stem[-8:] if is_file(lam) and not lam.endswith(".npz") else ""
