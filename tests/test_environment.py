"""What a record says of its machine; what of it is the machine's fingerprint and what is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import environment
from bench.store import Store

ROOT = Path(__file__).resolve().parent.parent
STORES = sorted(p.parent for p in (ROOT / "results").glob("*/records"))
CPUFREQ = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq"


@pytest.fixture
def files(monkeypatch):
    """Path → content; what is not in it is not there."""
    found: dict[str, str] = {}
    monkeypatch.setattr(environment, "_read", lambda path, default=None: found.get(path, default))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 3}, raising=False)
    return found


@pytest.fixture
def nvidia(monkeypatch, tmp_path):
    """The driver's folder and the one folder of commands, both empty."""
    monkeypatch.setattr(environment, "NVIDIA", tmp_path / "nvidia")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    environment._gpu.cache_clear()
    yield tmp_path
    environment._gpu.cache_clear()


def _command(folder: Path, out: str, code: int = 0) -> None:
    file = folder / "bin" / "nvidia-smi"
    file.write_text(f"#!/bin/sh\necho '{out}'\nexit {code}\n")
    file.chmod(0o755)


def _driver(folder: Path, version: str, *models: str) -> None:
    (folder / "nvidia").mkdir()
    (folder / "nvidia" / "version").write_text(
        f"NVRM version: NVIDIA UNIX {version}  Release Build\nGCC version: 12.2.0\n"
    )
    for number, model in enumerate(models):
        information = folder / "nvidia" / "gpus" / f"0000:0{number}:00.0" / "information"
        information.parent.mkdir(parents=True)
        information.write_text(f"Model: \t\t {model}\nIRQ:   \t\t 0\n")


@pytest.mark.parametrize("store", STORES, ids=lambda p: p.name)
def test_committed_fingerprints_are_as_they_would_be_today(store):
    """By the same digest, over the same facts."""
    records = Store(store).load()[0]
    today = environment.describe().keys() - set(environment.NOW)
    for made in {json.dumps(r.environment, sort_keys=True) for r in records}:
        facts = json.loads(made)
        assert environment.fingerprint(facts) == facts["fingerprint"]
        assert facts.keys() - set(environment.NOW) == today


def test_clock_and_tf32_are_recorded_beside_the_fingerprint(monkeypatch):
    monkeypatch.setattr(environment, "_gpu", lambda: None)
    found = []
    for clock, tf32 in ((800, {"torch": False}), (3200, {})):
        monkeypatch.setattr(environment, "_clock", lambda clock=clock: clock)
        monkeypatch.setattr(environment, "_tf32", lambda tf32=tf32: tf32)
        found.append(environment.describe("cuda"))
    assert [e["clock_mhz"] for e in found] == [800, 3200]
    assert [e["tf32"] for e in found] == [{"torch": False}, {}]
    assert found[0]["fingerprint"] == found[1]["fingerprint"]
    monkeypatch.setattr(environment, "_gpu", lambda: {"model": "H", "driver": "1"})
    assert environment.describe("cuda")["fingerprint"] != found[0]["fingerprint"]


def test_the_clock_is_the_mean_of_the_cores_in_use(files):
    assert environment._clock() is None
    files["/proc/cpuinfo"] = "\n\n".join(f"processor\t: {n}\ncpu MHz\t\t: {1000 + 100 * n}.250" for n in range(4))
    assert environment._clock() == 1200
    files.update({CPUFREQ.format(n): str(1_000_000 * n) for n in range(4)})  # kHz
    assert environment._clock() == 2000
    files["/proc/cpuinfo"] = "processor\t: 0\nBogoMIPS\t: 50.00"
    for n in range(4):
        files[CPUFREQ.format(n)] = "<unknown>"
    assert environment._clock() is None


class _Driver:
    """The functions of NVIDIA's library that tell a clock; `refused` names one that does not."""

    def __init__(self, refused: str = "") -> None:
        self.refused, self.number = refused, None

    def __getattr__(self, name: str):
        def function(*args):
            if name in ("nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByUUID"):
                self.number = args[0]
            if name == "nvmlDeviceGetClockInfo":
                assert args[1] == 1  # multiprocessors
                args[2]._obj.value = 1980
            return int(name == self.refused)

        return function


@pytest.mark.parametrize("refused", ["", "nvmlInit_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetClockInfo"])
def test_the_gpu_s_clock_is_the_driver_s(monkeypatch, refused):
    driver = _Driver(refused)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(environment.ctypes, "CDLL", lambda name: driver)
    assert environment.describe("cuda:1")["gpu_clock_mhz"] == (None if refused else 1980)
    assert driver.number == (None if refused == "nvmlInit_v2" else 1)
    assert environment.describe("cpu")["gpu_clock_mhz"] is None


@pytest.mark.parametrize(
    ("visible", "number", "asked"),
    [("", 1, 1), ("3", 0, 3), ("2, 0", 1, 0), ("GPU-8f3a,1", 0, b"GPU-8f3a"), ("2", 1, 1)],
)
def test_the_gpu_is_one_that_the_process_sees(monkeypatch, visible, number, asked):
    driver = _Driver()
    monkeypatch.setattr(environment.ctypes, "CDLL", lambda name: driver)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert environment.describe(f"cuda:{number}")["gpu_clock_mhz"] == 1980
    assert driver.number == asked


def test_without_a_driver_there_is_no_clock(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(environment.ctypes, "CDLL", missing)
    assert environment.describe("cuda")["gpu_clock_mhz"] is None


@pytest.mark.parametrize("kind", ["x86_64 Kernel Module  535.104.05", "Open Kernel Module for x86_64  535.104.05"])
def test_gpu_from_the_driver_s_files(nvidia, kind):
    _driver(nvidia, kind, "NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3")
    assert environment.describe("cuda:1")["gpu"] == {"model": "NVIDIA H100 80GB HBM3", "driver": "535.104.05"}
    assert environment.describe("cpu")["gpu"] is None


def test_gpu_from_nvidia_smi(nvidia):
    _driver(nvidia, "x86_64 Kernel Module  535.104.05")  # the models are hidden
    _command(nvidia, "NVIDIA A100, 550.54\nNVIDIA H100, 550.54")
    assert environment._gpu() == {"model": "NVIDIA A100, NVIDIA H100", "driver": "550.54"}


def test_gpu_whose_model_nobody_tells(nvidia):
    _driver(nvidia, "x86_64 Kernel Module  535.104.05")
    assert environment._gpu() == {"model": "unknown", "driver": "535.104.05"}


@pytest.mark.parametrize("out", [None, ("No devices were found", 0), ("It has failed, as there is no driver", 9)])
def test_no_gpu(nvidia, out):
    if out:
        _command(nvidia, *out)
    assert environment._gpu() is None


def test_tf32_is_read_from_what_is_loaded_and_loads_nothing():
    code = """
import sys
from bench import environment
assert environment.describe()["tf32"] is None  # there is none on a CPU
assert environment.describe("cuda")["tf32"] == {}
assert not {"torch", "jax"} & sys.modules.keys()
import torch, jax
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # as our backends do
jax.config.update("jax_default_matmul_precision", "highest")
names = [f"torch.backends.{part}.allow_tf32" for part in ("cuda.matmul", "cudnn")]
off = {**dict.fromkeys(names, False), "jax.config.jax_default_matmul_precision": "highest"}
assert environment.describe("cuda")["tf32"] == off
torch.backends.cudnn.allow_tf32 = True
assert environment.describe("cuda")["tf32"] == off | {names[1]: True}
torch.backends.cudnn.allow_tf32 = False
torch.backends.cuda.matmul.fp32_precision = "tf32"  # the newer switch: torch does not answer for the older one now
found = environment.describe("cuda")["tf32"]
assert found.get(names[0]) is not False and found["jax.config.jax_default_matmul_precision"] == "highest"
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-1500:]
