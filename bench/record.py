"""A record: what a cell gave, on which machine, made by which code.

    status        ok diverged nonfinite unsupported      final: what the method did; only `ok` is ranked
                  unavailable timeout oom error          tried again by the next run
    reason        one line, empty for `ok`
    result        None unless the estimate could be computed

A record never says more than was measured: what could not be formed is None and has its reason.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bench.cell import Cell

SCHEMA = 1
FINAL = ("ok", "diverged", "nonfinite", "unsupported")

Status = Literal["ok", "diverged", "nonfinite", "unsupported", "unavailable", "timeout", "oom", "error"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Bias(_Part):
    """h against a reference h*, on dF/dλ.  No relative figure where h* is rounding or does not exist."""

    relative: float | None = None  # ‖h − h*‖/‖h*‖
    absolute: float | None = None  # ‖h − h*‖
    reference_norm: float | None = None  # ‖h*‖
    cosine: float | None = None
    descent: float | None = None  # ⟨h, h*⟩/‖h*‖²
    reason: str = ""  # why figures are missing


class Time(_Part):
    """Seconds.  Compile and warm-up apart; `values` are the timed calls, device synchronised."""

    lane: Literal["eager", "compiled", "jit"]
    compile: float | None
    warmup: float
    values: list[float]
    median: float
    iqr_ratio: float
    flags: list[str] = Field(default_factory=list)  # "one value", "foreign load"


class Memory(_Part):
    """Bytes, three ways: the law (what the method must keep), the framework's plan, the process's resident set."""

    law: int | None
    plan: int | None
    resident: int | None  # growth of the resident set during one call


class Sketch(_Part):
    """h in at most 64 numbers, for certificates: exact for N ≤ 64, else seeded ±1 projections / √64."""

    exact: bool
    values: list[float]
    norm: float


class Result(_Part):
    sizes: dict[str, int]  # horizon M N P lower
    value: float | None  # f(w_T, θ); None where it is not finite, here and below
    norm: float | None  # ‖h‖
    exact: Bias  # against the exact finite-T hypergradient
    implicit: Bias  # against the implicit one at w*
    implicit_wT: Bias  # against the implicit one at w_T, CG's estimand
    sketch: Sketch
    time: Time | None
    memory: Memory
    counts: dict[str, dict[str, int]] | None  # counted
    cost: dict[str, dict[str, int]] | None  # by formula
    stats: dict[str, float | None]
    metrics: dict[str, float | None]
    estimand: str


class Landscape(_Part):
    """A K-RMD estimator against dF over a grid of λ in [−5, 5]², both by estimators; the closed form as oracle."""

    points: int
    largest_angle_deg: float  # between h and dF
    median_norm_ratio: float  # ‖h‖/‖dF‖
    bias_min: float  # ‖h − dF‖/‖dF‖
    bias_max: float
    bound: float  # (1−γα)^K
    closed_form_error: float  # largest ‖h − closed form‖ over the largest ‖dF‖
    axis: list[float]  # for the figure: every fifth point of each axis, and F, angle and ‖h‖/‖dF‖ there, [λ_1][λ_2]
    value: list[list[float]]
    angle_deg: list[list[float]]
    norm_ratio: list[list[float]]


class Calibration(_Part):
    """Seconds of an estimator, its native idiom and its floors, called in turn: index i of every list is round i."""

    lane: Literal["eager", "compiled", "jit"]
    seconds: dict[str, list[float]]
    flags: list[str] = Field(default_factory=list)  # "foreign load"


class Sample(_Part):
    """h_{T−K} at many λ of one problem; index i of every list is one λ, the cell's point of seed `seeds[i]`.

    The constants of the theory as `bench.constants` computes them; a claim forms bounds from them, the record does not.
    Where a figure does not exist (the reference is rounding, there is no implicit one, …) the entry is None.
    """

    seeds: list[int]
    horizon: int
    M: int
    N: int
    alpha: float  # α
    beta: float  # β
    gamma: float  # γ
    f_w: list[float]  # ‖∂f/∂w‖ at w_T
    B_max: list[float]  # max ‖B_t‖₂, t = 0 … T, with respect to λ
    rank: list[int]  # smallest rank of B_t
    commutator: list[float]  # ‖BBᵀH − HBBᵀ‖/(‖BBᵀ‖‖H‖)
    alpha_tail: list[float | None]  # smallest curvature over the last K segments, where α ≤ 0
    norm: list[float]  # ‖h‖
    exact_norm: list[float]  # ‖dF‖
    exact_error: list[float]  # ‖h − dF‖
    cosine: list[float | None]  # of h and dF
    descent: list[float | None]  # ⟨h, dF⟩/‖dF‖²
    implicit_norm: list[float | None]  # of the implicit hypergradient at w*
    implicit_error: list[float | None]
    energy_norm: list[float | None]  # ‖h*‖_H and ‖h − h*‖_H, h* the implicit one at w*: where ∂²g/∂w∂λ = −I, so h = v
    energy_error: list[float | None]


class Seconds(_Part):
    """Of one upper iteration's h, from λ in NumPy to h in NumPy; other cells may have shared the machine."""

    first: float  # with compilation
    median: float  # of the later ones, and the quartiles
    lower: float
    upper: float


class Training(_Part):
    """Upper iterations λ ← project(λ − η_τ d_τ) from `starts` values of λ; lists are [start][recorded iteration].

    Start i is the cell's point of seed `seeds[i]`.  Recorded are iteration 0, every E-th, and the last; `validation`
    and `held` are the task's metrics there, on the two kinds of data, of a single start.
    """

    seeds: list[int]
    iterations: list[int]  # recorded τ, the same for all starts
    value: list[list[float]]  # F(λ_τ)
    norm: list[list[float]]  # ‖h‖
    exact_norm: list[list[float]]  # ‖dF‖, by native autodiff in float64
    cosine: list[list[float | None]]
    descent: list[list[float | None]]
    lam: list[list[list[float]]] | None  # λ_τ, for N ≤ 4
    last: list[list[float]] | None  # λ at the end, for N ≤ 64
    rates: list[float]  # η_τ at the recorded iterations
    bias: list[list[float | None]]  # ‖h − dF‖/‖dF‖
    selected: list[int]  # by start: the recorded iteration of least validation loss
    chosen: list[float] | None  # λ there, six digits, of a single start, for N ≤ 5000
    validation: dict[str, list[float | None]]
    held: dict[str, list[float | None]]
    every_value: list[float] | None  # F(λ_τ), τ = 0, 1, …, of a single start
    every_norm: list[float] | None  # ‖h‖ likewise
    seconds: Seconds | None


class Baseline(_Part):
    """The model trained without hyperparameters, at the rate that validation data chose."""

    examples: int
    rates: list[float]
    losses: list[float | None]  # on validation data, by rate
    rate: float
    accuracy: float  # on held-out data


class Record(_Part):
    schema_version: int = SCHEMA
    key: str
    cell: Cell
    status: Status
    reason: str = ""
    result: Result | None = None
    landscape: Landscape | None = None
    calibration: Calibration | None = None
    sample: Sample | None = None
    training: Training | None = None
    baseline: Baseline | None = None
    environment: dict[str, Any]  # machine, packages, threads, fingerprint
    code: dict[str, str]  # version, stamp over the files that made it, and a digest of each of them
    started: str  # UTC, ISO 8601
    seconds: float  # the cell's own wall time in its worker
    overhead: dict[str, float] = Field(default_factory=dict)  # seconds of import, data, reference, timing, …

    @property
    def final(self) -> bool:
        """Whether the next run leaves it alone (as far as its code is current)."""
        return self.status in FINAL
