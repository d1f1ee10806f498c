"""Every array lives on the backend's device, as far as a machine without a GPU can tell.

JAX splits this CPU into two devices and computes on the second; PyTorch computes on `meta`, where an array made on the
CPU by mistake meets one that is not, and raises.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backends.hypergradient import METHODS
from tasks import TASKS
from tests.grid import CONVEX, GENERIC

ROOT = Path(__file__).resolve().parent.parent
TAKES_K = ("krmd", "cg", "neumann")


def _backend(framework: str) -> tuple[Any, Any, str]:
    """The backend, how to read an array's device, and the name that it must have."""
    if framework == "jax":
        from backends.jax_backend import JaxBackend

        return JaxBackend("float64", "cpu:1"), lambda x: str(next(iter(x.devices())).id), "1"
    from backends.torch_backend import TorchBackend

    return TorchBackend("float64", "meta"), lambda x: str(x.device), "meta"


def compute(framework: str) -> None:
    """All methods on the test problems and on digits; raises where an array is elsewhere."""
    bk, device, expected = _backend(framework)
    digits = TASKS["hypercleaning"](dataset="digits", train=20, validation=20, test=20)
    cases = [case.at(bk) for case in (GENERIC["M < N"], CONVEX["away"])]
    cases.append((digits.problem(bk), *(bk.asarray(x) for x in (digits.hparams(0), *digits.context(0, 0, 5)))))
    for problem, *args in cases:
        for name, cls in METHODS.items():
            if problem.inner_loss is None and name.endswith("cg"):
                continue
            if name == "native-cg" and framework == "torch":
                continue  # its loop ends on the value of a residual, which `meta` does not have
            options: dict[str, Any] = {"truncation": 3} if name.removeprefix("native-") in TAKES_K else {}
            stashes = [{"stash": s} for s in ("iterates", "residuals")] if name in ("rmd", "krmd") else [{}]
            for stash in stashes:
                result = bk.compile(partial(cls(**options, **stash), bk, problem))(*args)
                where = {device(leaf) for leaf in bk.leaves(result)}
                assert where == {expected}, (name, stash, where)


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_every_array_is_on_the_device(framework):
    """In a process of its own: how many devices a CPU has is decided before JAX is imported."""
    code = f"from tests.test_device import compute; compute({framework!r}); print('all there')"
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-1500:]
    assert result.stdout.strip() == "all there"
