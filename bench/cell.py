"""A cell: one point of a sweep, frozen, hashable, JSON."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Dtype = Literal["float32", "float64"]
Option = bool | int | float | str | None
Kind = Literal["hypergradient", "landscape", "calibration", "sample", "training", "baseline"]


class Cell(BaseModel):
    """What is measured: task and sizes, method and options, lane, T, seed, and where λ stands.

    kind     "hypergradient": one λ, with bias, time, memory, counts; "landscape": the toy's λ over a 201 × 201 grid;
             "calibration": the estimator's time beside its floors and its native idiom; "sample": many λ at once,
             with the constants of the theory; "training": upper iterations from one start or more;
             "baseline": the task's model without hyperparameters
    settings of the kind: how many λ, how many iterations, the upper rate, …
    timed    whether the clock runs; timed cells run alone, the others may share the machine

    The key is a readable name and eight hexadecimal digits of the SHA-256 of the canonical JSON, so that two cells
    never share a file and a person finds one by eye.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Kind = "hypergradient"
    settings: dict[str, Option] = Field(default_factory=dict)
    task: str
    task_options: dict[str, Option] = Field(default_factory=dict)
    method: str
    method_options: dict[str, Option] = Field(default_factory=dict)
    backend: str
    device: str = "cpu"
    dtype: Dtype = "float32"
    horizon: int = Field(ge=1)
    seed: int = Field(default=0, ge=0)
    lam: str = "init"
    timed: bool = True

    @field_validator("task_options", "method_options", "settings")
    @classmethod
    def _sorted(cls, options: dict) -> dict:
        return dict(sorted(options.items()))

    def __hash__(self) -> int:
        return hash(self.canonical())

    def canonical(self) -> str:
        """The JSON that identifies the cell."""
        fields = self.model_dump()
        if not self.settings:  # most kinds have none
            del fields["settings"]
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))

    @property
    def truncation(self) -> int | None:
        """K, for the methods that have one."""
        k = self.method_options.get("truncation")
        return k if isinstance(k, int) else None

    @property
    def key(self) -> str:
        """The name of the cell's record."""
        parts = [self.task, *_short(self.task_options), self.method, *_short(self.method_options)]
        parts += [self.backend, self.device, self.dtype, f"T{self.horizon}", f"s{self.seed}", self.lam]
        if self.kind != "hypergradient":
            parts = [self.kind, *parts, *_short(self.settings)]
        readable = re.sub(r"[^A-Za-z0-9.+=-]+", "-", "_".join(parts))[:150]
        return f"{readable}_{hashlib.sha256(self.canonical().encode()).hexdigest()[:8]}"

    def problem_key(self) -> str:
        """What the exact hypergradient depends on: the cell without its method, dtype and device."""
        return json.dumps(
            [self.task, self.task_options, self.horizon, self.seed, self.lam], sort_keys=True, separators=(",", ":")
        )

    def pair_key(self) -> str:
        """What a certificate compares: the cell without its backend."""
        return json.dumps(self.model_dump(exclude={"backend"}), sort_keys=True, separators=(",", ":"))


def _short(options: dict[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in options.items()]
