"""Frameworks behind one protocol.  Importing this package imports no framework; `load` does."""

from __future__ import annotations

import importlib
import importlib.util

from backends.protocol import Backend, Unavailable

__all__ = ["BACKENDS", "Backend", "Unavailable", "load", "unavailable"]

BACKENDS = {
    "jax": ("backends.jax_backend", "JaxBackend", "jax"),
    "torch": ("backends.torch_backend", "TorchBackend", "torch"),
    "torch:compiled": ("backends.torch_backend", "CompiledTorchBackend", "torch"),
}
DTYPES = ("float32", "float64")


def load(name: str, dtype: str = "float32", device: str = "cpu") -> Backend:
    """The backend `name` on `device` ("cpu", "cuda", "cuda:1") in `dtype` ("float32", "float64").

    Raises ValueError for a name or dtype that does not exist, and `Unavailable`, with what to do about it, for a
    framework or a device that this machine does not have.
    """
    if name not in BACKENDS:
        raise ValueError(f"unknown backend {name!r}; allowed are {', '.join(BACKENDS)}")
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; allowed are {', '.join(DTYPES)}")
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise ValueError(f"unknown device {device!r}; allowed are cpu, cuda, cuda:<number>")
    module, cls, framework = BACKENDS[name]
    try:
        backend = getattr(importlib.import_module(module), cls)
    except ImportError as error:
        raise Unavailable(f"{framework} cannot be imported ({error}); install it: {install(framework)}") from error
    return backend(dtype, device)


def install(framework: str) -> str:
    """The command that installs a framework."""
    return f"python -m pip install 'hypergrad-bench[{framework}]'"


def unavailable(name: str) -> str | None:
    """Why the backend's framework is not there, without importing it; None if it is."""
    framework = BACKENDS[name][2]
    if importlib.util.find_spec(framework) is None:
        return f"{framework} is not installed; install it: {install(framework)}"
    return None
