"""Which files made a record: the SHA-256 of their code decides whether it is stale.

Comments, docstrings and empty lines are left out of it: they change no number.  `bench/runner.py` is no such file: it
builds task and method, hands them to the kind of cell, and turns what is raised into a status; it computes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from backends import BACKENDS
from backends.hypergradient import METHODS
from bench import plugins, point, source
from bench.cell import Cell
from tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
VERSION = "0.1.0"
LAM = "λ"  # the name of what is no file of code

_COMMON: tuple[str, ...] = (
    "backends/protocol.py",
    "backends/hypergradient/protocol.py",
    "tasks/protocol.py",
    "bench/reference.py",
    "backends/hypergradient/native.py",
)
_METHODS = {"rmd": "krmd", "krmd": "krmd", "fmd": "fmd", "cg": "cg", "neumann": "neumann"}
_KINDS = {  # files beside the kind's own
    "hypergradient": ("backends/counting.py", "bench/measure.py", "bench/point.py", "bench/sketch.py"),
    "calibration": ("bench/measure.py",),
    "landscape": ("backends/hypergradient/krmd.py", "tasks/quadratic.py"),
    "sample": ("bench/constants.py",),
    "training": ("bench/upper.py", "bench/optimisers.py", "bench/checkpoint.py", "tasks/selection.py"),
}
_FILE = ("features/__init__", "features/file", "features/splits")
_TASKS = {  # what a task's file imports of `tasks`, beside the protocol and the loaders
    "counterexample": ("spectrum",),
    "scalar": ("spectrum",),
    "hypercleaning_l1": ("hypercleaning",),
    "task_interaction": (*_FILE, "features/images", "features/patches", "features/store"),
    "feature_decay": _FILE,
    "fewshot": ("convnet", "episodes"),
}


def files(cell: Cell) -> list[Path]:
    """The files that a record of this cell depends on; not those of other methods, tasks or frameworks."""
    names = list(_COMMON)
    framework = cell.backend.partition(":")[0]
    if cell.backend in BACKENDS:
        names += [f"backends/{framework}_backend.py", f"backends/hypergradient/native_{framework}.py"]
    if framework == "torch":
        names.append("backends/memory.py")
    if cell.method in _METHODS:
        names.append(f"backends/hypergradient/{_METHODS[cell.method]}.py")
    names += [f"bench/{cell.kind}.py", *_KINDS.get(cell.kind, ())]
    paths = [ROOT / name for name in names]
    tasks = (cell.task, *_TASKS.get(cell.task, ()))
    paths += [path for name in tasks if (path := ROOT / "tasks" / f"{name}.py").exists()]
    paths += sorted((ROOT / "tasks" / "data").glob("*.py"))
    return [path for path in [*paths, *_guests(cell)] if path.exists()]


def _guests(cell: Cell) -> list[Path]:
    """Files of the user's own: features, a method's file, and those of installed methods and tasks."""
    paths = []
    if cell.task_options.get("features"):
        paths.append(Path(str(cell.task_options["features"])).expanduser())
    if ":" in cell.method:
        paths.append(Path(cell.method.rpartition(":")[0]))
    for group, name, own in (("methods", cell.method, METHODS), ("tasks", cell.task, TASKS)):
        paths += [] if name in own or ":" in name else plugins.installed(f"hypergrad_bench.{group}", name)
    return paths


def stamp(cell: Cell) -> str:
    """Twelve digits over the code of the cell's files."""
    return _digest(contents(cell))


def contents(cell: Cell) -> dict[str, str]:
    """File → eight digits over its code; and over λ, where that is from a file."""
    lam = point.digest(cell.lam)
    return {_name(path): _content(path)[:8] for path in files(cell)} | ({LAM: lam[:8]} if lam else {})


def code(cell: Cell) -> dict[str, str]:
    """What a record says of the code that made it: version, stamp, and the files one by one."""
    made_by = contents(cell)
    return {"version": VERSION, "stamp": _digest(made_by), **made_by}


def changed(record_code: dict[str, str], cell: Cell) -> list[str]:
    """The files whose content is not the recorded one."""
    now = contents(cell)
    then = {name: digest for name, digest in record_code.items() if name not in ("version", "stamp")}
    for name in then.keys() - now.keys():
        if "/" not in name:  # λ or a file of the user's, not here: there is nothing to tell a change by
            then.pop(name)
    return sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))


def of_files(names: Iterable[str]) -> dict[str, str]:
    """File → eight digits over its code now; none of what is not there."""
    return {name: _content(ROOT / name)[:8] for name in sorted(set(names)) if (ROOT / name).is_file()}


def _digest(made_by: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:12]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


@cache
def _content(path: Path) -> str:
    """Read once a process: a file that is edited during a run is not the one that the run has imported."""
    content = path.read_bytes()
    if path.suffix == ".py":
        with suppress(UnicodeDecodeError):  # in another encoding it counts whole
            content = source.code(content.decode("utf-8")).encode()
    return hashlib.sha256(content).hexdigest()
