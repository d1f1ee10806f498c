"""Which files made a record: their SHA-256 decides whether it is stale."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from backends import BACKENDS
from bench.cell import Cell

ROOT = Path(__file__).resolve().parent.parent
VERSION = "0.1.0"

_COMMON: tuple[str, ...] = (
    "backends/protocol.py",
    "backends/hypergradient/protocol.py",
    "backends/counting.py",
    "tasks/protocol.py",
    "bench/runner.py",
    "bench/measure.py",
    "bench/reference.py",
    "backends/hypergradient/native.py",
)
_METHODS = {"rmd": "krmd", "krmd": "krmd", "fmd": "fmd", "cg": "cg", "neumann": "neumann"}
_KINDS = {"sample": ("constants",)}  # files beside the kind's own
_TASKS = {"counterexample": ("spectrum",), "scalar": ("spectrum",)}  # a task's file imports another's


def files(cell: Cell) -> list[Path]:
    """The files that a record of this cell depends on; not those of other methods, tasks or frameworks."""
    names = list(_COMMON)
    framework = cell.backend.partition(":")[0]
    if cell.backend in BACKENDS:
        names += [f"backends/{framework}_backend.py", f"backends/hypergradient/native_{framework}.py"]
    if cell.method in _METHODS:
        names.append(f"backends/hypergradient/{_METHODS[cell.method]}.py")
    if cell.kind != "hypergradient":
        names += [f"bench/{name}.py" for name in (cell.kind, *_KINDS.get(cell.kind, ()))]
    paths = [ROOT / name for name in names]
    tasks = (cell.task, *_TASKS.get(cell.task, ()))
    paths += [path for name in tasks if (path := ROOT / "tasks" / f"{name}.py").exists()]
    paths += sorted((ROOT / "tasks" / "data").glob("*.py"))
    if ":" in cell.method:
        paths.append(Path(cell.method.rpartition(":")[0]))
    return [path for path in paths if path.exists()]


def stamp(cell: Cell) -> str:
    """Twelve digits over the content of the cell's files."""
    digest = hashlib.sha256()
    for path in files(cell):
        digest.update(f"{path.name}\0{_content(path)}\n".encode())
    return digest.hexdigest()[:12]


@cache
def _content(path: Path) -> str:
    """Read once a process: a file that is edited during a run is not the one that the run has imported."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
