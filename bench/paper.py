"""The paper's numbers, each with how well it is known: `paper/reference.toml`, read strictly.

    tag   paper restated recalled computed open      what they mean stands at the top of the file

An *open* number has no value, every other has one.  No verdict rests on a *recalled* number.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import UserError

REFERENCE = Path(__file__).resolve().parent.parent / "paper" / "reference.toml"

Tag = Literal["paper", "restated", "recalled", "computed", "open"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Line(_Strict):
    row: str
    column: str
    value: float | list[float] | None = None
    spread: float | None = None
    unit: str
    tag: Tag
    source: str


class _Table(_Strict):
    section: int
    problem: str
    kind: Literal["results", "settings"]
    title: str
    number: list[_Line]


class _File(_Strict):
    source: dict[str, str]
    table: dict[str, _Table]


class Number(_Strict):
    """One number.  `value` in `unit` ("1": none), ± `spread` as printed; a list for a set or a vector."""

    id: str  # table/row/column
    section: int  # of PAPER.md
    table: str
    problem: str  # a task's name, or "any"
    kind: Literal["results", "settings"]
    row: str
    column: str
    value: float | list[float] | None
    spread: float | None
    unit: str
    tag: Tag
    source: str  # the text it was taken from


def numbers(path: Path = REFERENCE) -> tuple[Number, ...]:
    """All numbers in the order of the file; `UserError`, in one line, for anything that the schema does not know."""
    try:
        file = _File.model_validate(tomllib.loads(path.read_bytes().decode()))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path.name} cannot be read as TOML: {error}") from error
    except ValidationError as error:
        raise UserError(f"{path.name}: {_first(error)}") from error
    made: dict[str, Number] = {}
    for name, table in file.table.items():
        shared = {**table.model_dump(exclude={"title", "number"}), "table": name}
        for line in table.number:
            key = f"{name}/{line.row}/{line.column}"
            if key in made:
                raise UserError(f"{path.name}: {key} stands there twice")
            if line.source not in file.source:
                known = ", ".join(file.source)
                raise UserError(f"{path.name}: {key}: unknown source {line.source!r}; allowed are {known}")
            if (line.value is None) != (line.tag == "open"):
                raise UserError(f"{path.name}: {key}: a number that is open has no value, every other has one")
            read = {**shared, **line.model_dump(), "id": key, "source": file.source[line.source]}
            made[key] = Number.model_validate(read)
    return tuple(made.values())


def _first(error: ValidationError) -> str:
    """The first complaint of pydantic in one line."""
    e = error.errors()[0]
    where = ".".join(str(part) for part in e["loc"])
    if e["type"] == "extra_forbidden":
        return f"unknown key {where}"
    if e["type"] == "missing":
        return f"key {where} is missing"
    return f"{where} = {e['input']!r} is not allowed: {e['msg']}"
