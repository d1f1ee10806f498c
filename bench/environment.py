"""The machine and the software that a number was measured on."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "scipy", "torch", "jax", "jaxlib", "optree", "array-api-compat")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "XLA_FLAGS")
NOW = ("clock_mhz", "gpu_clock_mhz", "tf32")
"""Told beside the fingerprint: the clocks change from cell to cell, TF32's setting is each framework's own."""
NVIDIA = Path("/proc/driver/nvidia")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
NVML_CLOCK_SM = 1
USUAL, KEPT = 128 << 10, 1 << 30  # bytes

_allocator = "default"  # of this process


def keep_freed_memory() -> None:
    """Let the C allocator keep what is freed, for every contestant alike.

    By default glibc hands blocks of 128 KiB and more back to the system at once.  The page faults when they are asked
    for again cost an eager step at the paper's sizes up to a fifth, and come and go with what the process freed before.
    """
    global _allocator
    with suppress(OSError, AttributeError):
        if _set_thresholds(KEPT):
            _allocator = "glibc, freed memory kept"


@contextmanager
def usual_allocator() -> Iterator[None]:
    """For a while the C allocator keeps no more of what is freed than it usually does."""
    with suppress(OSError, AttributeError):
        _set_thresholds(USUAL)
    try:
        yield
    finally:
        if _allocator != "default":
            _set_thresholds(KEPT)


def give_back_freed_memory() -> None:
    """To the system: it comes anew, page by page, when it is touched."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _set_thresholds(size: int) -> bool:
    """Bytes from which a free block goes back to the system, and from which a block is one of its own there."""
    libc = ctypes.CDLL("libc.so.6")
    return bool(libc.mallopt(M_TRIM_THRESHOLD, size) and libc.mallopt(M_MMAP_THRESHOLD, size))


def describe(device: str = "cpu") -> dict[str, Any]:
    """Machine, packages, threads, and a fingerprint of all that decides a time or a resident size.

    What `NOW` names is no part of the fingerprint: one machine has one fingerprint, whatever the cell and the hour.
    """
    on_gpu = device.startswith("cuda")
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
        "gpu": _gpu() if on_gpu else None,
        "clock_mhz": _clock(),
        "gpu_clock_mhz": _gpu_clock(int(device.partition(":")[2] or 0)) if on_gpu else None,
        "tf32": _tf32() if on_gpu else None,
    }
    return facts | {"fingerprint": fingerprint(facts)}


def fingerprint(facts: dict[str, Any]) -> str:
    """Twelve digits over a description, but for what `NOW` names and a fingerprint that it has already."""
    lasting = {name: fact for name, fact in facts.items() if name not in (*NOW, "fingerprint")}
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()[:12]


def threads(facts: dict[str, Any]) -> int:
    """How many threads the processes of a description were given."""
    return int(facts.get("threads", {}).get("OMP_NUM_THREADS") or 1)


def told(facts: dict[str, Any]) -> str:
    """A description in one line: its fingerprint, and what that stands for."""
    gpu = facts.get("gpu")
    given = ", ".join(f"{name}={value}" for name, value in facts.get("threads", {}).items() if value)
    packages = ", ".join(f"{name} {version}" for name, version in sorted(facts.get("packages", {}).items()))
    parts = (
        f"{facts['fingerprint']}: {facts['cpu']}, {facts['cores']} core(s) used, {facts['ram_gib']} GiB",
        f"{gpu['model']}, driver {gpu['driver']}" if gpu else "",
        facts.get("system"),
        f"governor {facts['governor']}" if facts.get("governor") else "",
        given,
        facts.get("allocator"),
        f"Python {facts['python']}, {packages}",
    )
    return "; ".join(part for part in parts if part)


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


def _clock() -> int | None:
    """MHz at this moment, the mean over the cores that this process may use; None where the system does not tell."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 0)
    told = [_read(f"/sys/devices/system/cpu/cpu{n}/cpufreq/scaling_cur_freq", "") for n in cores]
    clocks = [int(khz) / 1000 for khz in told if khz.isdecimal()]
    if not clocks:  # a virtual machine
        info = _read("/proc/cpuinfo", "")
        numbers, mhz = (re.findall(rf"^{name}\s*:\s*([\d.]+)", info, re.M) for name in ("processor", "cpu MHz"))
        clocks = [float(value) for n, value in zip(numbers, mhz) if int(n) in cores]
    return round(sum(clocks) / len(clocks)) if clocks else None


@cache  # of one process it is one, and nvidia-smi takes a second
def _gpu() -> dict[str, str] | None:
    """Model (of several different ones all) and driver; None without a GPU."""
    version = re.search(r"\s(\d+(?:\.\d+)+)\s", _read(f"{NVIDIA}/version", ""))
    told = (_read(str(path), "") for path in sorted(NVIDIA.glob("gpus/*/information")))
    models = [line[1] for text in told if (line := re.search(r"^Model:\s*(.*\S)", text, re.M))]
    driver = version[1] if version else ""
    if not (models and driver):  # a container may hide these files
        command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        with suppress(OSError, subprocess.SubprocessError):
            lines = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
            rows = [line.split(", ") for line in lines if ", " in line]
            models, driver = [row[0] for row in rows] or models, rows[0][1] if rows else driver
    return {"model": ", ".join(sorted(set(models))) or "unknown", "driver": driver} if models or driver else None


def _gpu_clock(number: int) -> int | None:
    """MHz of a GPU's multiprocessors now, of those that this process sees; None where the driver does not tell."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else []
    name = names[number].strip() if number < len(names) else str(number)  # the driver's number, or a UUID
    with suppress(OSError, AttributeError):
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        handle, mhz = ctypes.c_void_p(), ctypes.c_uint()
        by_number, by_uuid = nvml.nvmlDeviceGetHandleByIndex_v2, nvml.nvmlDeviceGetHandleByUUID
        find, which = (by_number, int(name)) if name.isdecimal() else (by_uuid, name.encode())
        told = (
            nvml.nvmlInit_v2() == 0
            and find(which, ctypes.byref(handle)) == 0
            and nvml.nvmlDeviceGetClockInfo(handle, NVML_CLOCK_SM, ctypes.byref(mhz)) == 0
        )
        return mhz.value if told else None
    return None


def _tf32() -> dict[str, Any]:
    """What decides whether a float32 product may be TF32, as set now in the frameworks that are loaded already."""
    switches = {
        "torch": ("backends.cuda.matmul.allow_tf32", "backends.cudnn.allow_tf32"),
        "jax": ("config.jax_default_matmul_precision",),  # "highest" is float32; by default a GPU may take TF32
    }
    found: dict[str, Any] = {}
    for name in sorted(switches.keys() & sys.modules.keys()):
        for switch in switches[name]:
            with suppress(AttributeError, RuntimeError):  # torch raises where its newer switch was used as well
                found[f"{name}.{switch}"] = attrgetter(switch)(sys.modules[name])
    return found


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
