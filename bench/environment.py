"""The machine and the software that a number was measured on."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import json
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "scipy", "torch", "jax", "jaxlib", "optree", "array-api-compat")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "XLA_FLAGS")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
KEPT = 1 << 30

_allocator = "default"  # of this process


def keep_freed_memory() -> None:
    """Let the C allocator keep what is freed, for every contestant alike.

    By default glibc hands blocks of 128 KiB and more back to the system at once.  The page faults when they are asked
    for again cost an eager step at the paper's sizes up to a fifth, and come and go with what the process freed before.
    """
    global _allocator
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        if libc.mallopt(M_TRIM_THRESHOLD, KEPT) and libc.mallopt(M_MMAP_THRESHOLD, KEPT):
            _allocator = "glibc, freed memory kept"


def describe(device: str = "cpu") -> dict[str, Any]:
    """Machine, packages, threads, and a fingerprint of all that decides a time or a resident size."""
    facts: dict[str, Any] = {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "ram_gib": _ram(),
        "system": f"{platform.system()} {platform.machine()}",
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "threads": {name: os.environ.get(name, "") for name in THREAD_VARIABLES},
        "allocator": _allocator,
        "gpu": _gpu() if device.startswith("cuda") else None,
    }
    text = json.dumps(facts, sort_keys=True)
    return facts | {"fingerprint": hashlib.sha256(text.encode()).hexdigest()[:12]}


def _cpu() -> str:
    for line in _read("/proc/cpuinfo", "").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _ram() -> int | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (ValueError, OSError):
        return None


def _gpu() -> str | None:
    lines = _read("/proc/driver/nvidia/version", "").splitlines()
    return lines[0] if lines else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _read(path: str, default: Any = None) -> Any:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return default
