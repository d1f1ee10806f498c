"""A sweep: a TOML file of grids, and the cells that it stands for."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from backends import BACKENDS, DTYPES
from bench import plugins, point
from bench.cell import Cell, Dtype, Kind, Option
from bench.errors import UserError
from bench.kinds import SETTINGS

PRESETS = Path(__file__).parent / "sweeps"
BOUND_BY_T = ("krmd", "neumann", "native-krmd", "native-neumann")  # K pull-backs belong to K of the T steps


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _lists(cls, value: Any, info: Any) -> Any:
        """One value stands for a list of one."""
        if info.field_name in LISTS and not isinstance(value, list):
            return [value]
        return value


TIMED = ("hypergradient", "calibration")  # they need the machine alone; no other kind can be `timed`
LISTS = ("backend", "device", "dtype", "horizon", "seed", "lam")


def _each(options: Mapping[str, Any]) -> list[dict[str, Option]]:
    """Every choice of one value an option, of those that have a list."""
    lists = [v if isinstance(v, list) else [v] for v in options.values()]
    return [dict(zip(options, values)) for values in itertools.product(*lists)]


class MethodRow(BaseModel):
    """A method and lists of values for its options."""

    model_config = ConfigDict(extra="allow")
    name: str

    def options(self) -> list[dict[str, Option]]:
        return _each(self.model_extra or {})


class Grid(_Strict):
    """A product of lists."""

    kind: Kind = "hypergradient"
    settings: dict[str, Option | list[Option]] = Field(default_factory=dict)
    task: str
    task_options: dict[str, Option | list[Option]] = Field(default_factory=dict)
    backend: list[str]
    device: list[str] = Field(default_factory=lambda: ["cpu"])
    dtype: list[str] = Field(default_factory=lambda: ["float32"])
    horizon: list[int]
    seed: list[int] = Field(default_factory=lambda: [0])
    lam: list[str] = Field(default_factory=lambda: ["init"])
    timed: bool = True
    method: list[MethodRow]


class Sweep(_Strict):
    """What a TOML file holds."""

    title: str
    grid: list[Grid] = Field(min_length=1)


@dataclass(frozen=True)
class Expanded:
    """The cells of a sweep, and how many were left out because K > T."""

    name: str
    title: str
    cells: tuple[Cell, ...]
    left_out: int

    def without(self, keys: set[str]) -> list[Cell]:
        """The cells that these are not the keys of."""
        return [c for c in self.cells if c.key not in keys]


def presets() -> list[str]:
    """Names of the presets."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def read(name: str) -> tuple[str, Sweep]:
    """A preset by its name, or a TOML file: (name, sweep)."""
    path = PRESETS / f"{name}.toml" if name in presets() else Path(name)
    if name not in presets() and path.suffix != ".toml":
        raise UserError(f"unknown preset {name!r}; allowed are {', '.join(presets())}, or a FILE.toml")
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise UserError(
            f"there is no file {name!r}; allowed are the presets {', '.join(presets())}, or a FILE.toml"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{name} cannot be read as TOML text: {error}") from error
    if not text.strip():
        raise UserError(f"{name} is empty; a sweep has a title and at least one [[grid]]")
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{name} is not valid TOML: {error}") from error
    try:
        return path.stem, Sweep.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{name}: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    """The first complaint of pydantic in one line; a misspelt key before the one that is missing for it."""
    found = error.errors()
    e = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
    loc = e["loc"]
    if loc == ("grid",) and e["type"] != "extra_forbidden":
        return "a sweep needs at least one [[grid]]"
    inside = f"grid {loc[1] + 1}: " if loc[0] == "grid" and len(loc) > 1 and isinstance(loc[1], int) else ""
    # A number in it is a place in a list of values: the message shows the value itself.
    key = ".".join(part for part in (loc[2:] if inside else loc) if isinstance(part, str))
    if e["type"] == "extra_forbidden":
        owner = Grid if inside else Sweep
        return f"{inside}unknown key {key!r}; allowed are {', '.join(owner.model_fields)}"
    if e["type"] == "missing":
        return f"{inside}key {key!r} is missing"
    return f"{inside}{key} = {e['input']!r} is not allowed: {e['msg']}"


def expand(name: str, sweep: Sweep) -> Expanded:
    """All cells, checked: names, options and sizes are refused here, before anything runs."""
    cells: dict[Cell, None] = {}
    left_out = 0
    for number, grid in enumerate(sweep.grid):
        where = f"{name}: grid {number + 1}"
        _check_names(where, grid)
        for settings, task_options in itertools.product(_each(grid.settings), _each(grid.task_options)):
            for cell in _cells(grid, _Place(where, settings, task_options)):
                if cell is None:
                    left_out += 1
                else:
                    cells[cell] = None
    return Expanded(name, sweep.title, tuple(cells), left_out)


class _Place(NamedTuple):
    """Where in a sweep cells are made: the words for messages, one choice of settings and one of the task's options."""

    where: str
    settings: dict[str, Option]
    task_options: dict[str, Option]


def _cells(grid: Grid, at: _Place) -> Iterator[Cell | None]:
    """None for a cell that is left out because K > T."""
    where = at.where
    task = plugins.build(plugins.task_class(grid.task), at.task_options, f"{where}: task {grid.task}")
    settings = plugins.build(SETTINGS[grid.kind], at.settings, f"{where}: kind {grid.kind}")
    _check_points(where, grid, task)
    for row in grid.method:
        cls = plugins.method_class(row.name)
        for options in row.options():
            plugins.build(cls, options, f"{where}: method {row.name}")
            axes = (grid.backend, grid.device, grid.dtype, grid.horizon, grid.seed, grid.lam)
            for backend, device, dtype, horizon, seed, lam in itertools.product(*axes):
                K = options.get("truncation")
                if row.name in BOUND_BY_T and isinstance(K, int) and horizon < K:
                    yield None
                    continue
                try:
                    cell = Cell(
                        kind=grid.kind,
                        settings=at.settings,
                        task=grid.task,
                        task_options=at.task_options,
                        method=row.name,
                        method_options=options,
                        backend=backend,
                        device=device,
                        dtype=cast(Dtype, dtype),
                        horizon=horizon,
                        seed=seed,
                        lam=lam,
                        timed=grid.timed and grid.kind in TIMED,
                    )
                except ValidationError as error:
                    raise UserError(f"{where}: {_first(error)}") from error
                settings.check(task, cell)
                yield cell


def _check_points(where: str, grid: Grid, task: Any) -> None:
    for lam in grid.lam:
        if wrong := point.check(lam, task.points):
            raise UserError(f"{where}: lam = {lam!r} is not a point of {grid.task}; {wrong}")
        if point.is_file(lam) and grid.kind not in point.KINDS:
            raise UserError(
                f"{where}: lam = {lam!r} is not allowed for kind {grid.kind}; it starts at a point of {grid.task}: "
                f"{', '.join(task.points)}"
            )


def _check_names(where: str, grid: Grid) -> None:
    given = {**{name: getattr(grid, name) for name in (*LISTS, "method")}, **grid.settings, **grid.task_options}
    for name, values in [*given.items(), *(pair for row in grid.method for pair in (row.model_extra or {}).items())]:
        if values == []:
            raise UserError(f"{where}: {name} = [] is not allowed; a list has at least one value")
    for backend in grid.backend:
        if backend not in BACKENDS:
            raise UserError(f"{where}: unknown backend {backend!r}; allowed are {', '.join(BACKENDS)}")
    for device in grid.device:
        check_device(device, where)
    for dtype in grid.dtype:
        if dtype not in DTYPES:
            raise UserError(f"{where}: unknown dtype {dtype!r}; allowed are {', '.join(DTYPES)}")
    for horizon in grid.horizon:
        if horizon < 1:
            raise UserError(f"{where}: horizon = {horizon} is not allowed; T is a whole number from 1")
    for seed in grid.seed:
        if seed < 0:
            raise UserError(f"{where}: seed = {seed} is not allowed; seeds are whole numbers from 0")


def check_device(device: str, where: str) -> None:
    """cpu, cuda, cuda:<number>."""
    platform, colon, index = device.partition(":")
    if platform not in ("cpu", "cuda") or (colon and not index.isdigit()) or (platform == "cpu" and colon):
        raise UserError(f"{where}: unknown device {device!r}; allowed are cpu, cuda, cuda:<number>")


def narrow(
    expanded: Expanded, only: list[str], backends: list[str], devices: list[str], methods: list[str]
) -> Expanded:
    """The sweep with `--backend`, `--device`, `--method` and `--only` applied."""
    cells = list(expanded.cells)
    for backend in backends:
        if backend not in BACKENDS:
            raise UserError(f"--backend {backend}: unknown backend; allowed are {', '.join(BACKENDS)}")
    if backends:
        # `torch:compiled` is asked for by name: it takes the place of the sweep's torch rows.
        base = {b: b.partition(":")[0] for b in backends}
        cells = [c.model_copy(update={"backend": b}) for b in backends for c in cells if c.backend in (b, base[b])]
    if devices:
        for device in devices:
            check_device(device, "--device")
        cells = [c.model_copy(update={"device": d}) for d in devices for c in cells]
    for name in methods:
        cells += _guest_cells(name, cells)
    for condition in only:
        cells = _filter(cells, condition)
    unique = tuple(dict.fromkeys(cells))
    if not unique:
        held = ", ".join(sorted({c.backend for c in expanded.cells}))
        if not held:
            raise UserError(f"{expanded.name}: no cell is left: all {expanded.left_out} have K > T; allowed is K ≤ T")
        raise UserError(f"{expanded.name}: no cell is left; allowed backends are {held}")
    left_out = 0 if only or backends else expanded.left_out  # nobody knows how many of those would have been asked for
    return Expanded(expanded.name, expanded.title, unique, left_out)


def _guest_cells(name: str, cells: list[Cell]) -> list[Cell]:
    """A guest method on every problem and lane of the sweep, with the sweep's K where it takes one."""
    cls = plugins.method_class(name)
    takes_K = "truncation" in plugins.options(cls)
    made: dict[Cell, None] = {}
    for cell in cells:
        if cell.kind != "hypergradient" or (takes_K and (cell.truncation is None or cell.truncation > cell.horizon)):
            continue
        options: dict[str, Option] = {"truncation": cell.truncation} if takes_K else {}
        plugins.build(cls, options, f"method {name}")
        made[cell.model_copy(update={"method": name, "method_options": options})] = None
    return list(made)


def _filter(cells: list[Cell], condition: str) -> list[Cell]:
    key, equals, value = condition.partition("=")
    if not equals:
        raise UserError(f"--only {condition}: expected KEY=VALUE, as in --only method=krmd")
    fields = ("kind", "task", "method", "backend", "device", "dtype", "horizon", "seed", "lam", "timed")
    known = sorted({*fields, *(k for c in cells for k in (*c.method_options, *c.task_options, *c.settings))})
    if key not in known:
        raise UserError(f"--only {condition}: unknown key {key!r}; allowed are {', '.join(known)}")
    wanted = {_as_json(v) for v in value.split(",")}
    have = {c: _text(c, key) for c in cells}
    missing = wanted - set(have.values())
    if missing:
        values = sorted({v for v in have.values() if v is not None}, key=lambda v: (len(v), v))
        raise UserError(
            f"--only {condition}: no cell has {key} = {sorted(missing)[0]!r}; allowed are {', '.join(values)}"
        )
    return [c for c in cells if have[c] in wanted]


def _text(cell: Cell, key: str) -> str | None:
    for holder in (cell.method_options, cell.task_options, cell.settings):
        if key in holder:
            return _as_json(str(holder[key]))
    return _as_json(str(getattr(cell, key))) if key in Cell.model_fields else None


def _as_json(value: str) -> str:
    """A boolean as TOML and JSON write it: tables show Python's."""
    return value.lower() if value in ("True", "False") else value
