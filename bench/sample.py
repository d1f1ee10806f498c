"""An estimator at many λ of one problem, beside dF, the implicit hypergradient and the constants of the theory.

    λ_i = the task's point of seed s_i,   s_0 = the cell's seed,  s_i = 10 000 · seed + i;   data and xs are the cell's

All h come from one compiled call, mapped over λ; dF is the native idiom's, λ by λ.  What neither K nor the method
changes is made once for all cells of a problem.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from backends.hypergradient import METHODS
from bench import arrays, stamp
from bench.cell import Cell
from bench.constants import constants
from bench.errors import UserError
from bench.record import Sample
from bench.reference import Lower, direct, flat, floor_of, no_implicit

MOST = 10_000  # seeds between one cell's and the next one's
ROUNDING = 1e-12  # below this share of ‖∂f/∂λ‖ + ‖∂f/∂w‖ a hypergradient has no direction


@dataclass(frozen=True)
class Settings:
    """How many λ."""

    points: int = 50

    def __post_init__(self) -> None:
        if not (type(self.points) is int and 1 <= self.points <= MOST):
            raise UserError(f"kind sample: points = {self.points!r} is not allowed; it is a whole number, 1 to {MOST}")

    def check(self, task: Any, cell: Cell) -> None:
        """Refuse what the constants cannot be had for."""
        if cell.dtype != "float64":
            raise UserError(f"kind sample: dtype = {cell.dtype!r} is not allowed; the theory is held against float64")
        if not hasattr(type(task), "curvature_bounds"):
            raise UserError(f"kind sample: task {cell.task} has no curvature_bounds, so there is no α and no β")

    def seeds(self, seed: int) -> tuple[int, ...]:
        """The cell's own first: a task that starts at the optimum does so for the λ of that seed alone."""
        return seed, *(MOST * seed + i for i in range(1, self.points))


def measure(bk: Any, task: Any, method: Any, cell: Cell, cache: Path | None = None) -> dict[str, Any]:
    """Errors, angles and constants, a list each over the λ."""
    given: dict[str, Any] = dict(cell.settings)
    settings = Settings(**given)
    settings.check(task, cell)
    seeds, problem = settings.seeds(cell.seed), task.problem(bk)
    made_by = stamp.stamp(cell.model_copy(update={"method": "native-rmd", "method_options": {}}))
    fixed = _fixed(bk, task, cell.problem_key(), cell.seed, cell.horizon, cell.lam, seeds, cache, made_by)
    data, xs = (bk.asarray(x) for x in task.context(cell.seed, 0, cell.horizon))

    def at(lam: Any, data: Any, xs: Any) -> Any:
        return bk.ravel(method(bk, problem, lam, data, xs).grad)[0]

    lams = bk.asarray(bk.map(lambda *leaves: np.stack(leaves), *(task.hparams(s, cell.lam) for s in seeds)))
    h = np.asarray(bk.to_numpy(bk.compile(bk.vmap(at, (0, None, None)))(lams, data, xs)), np.float64)
    if not np.isfinite(h).all():
        first = seeds[int(np.argmin(np.isfinite(h).all(axis=1)))]
        return {"status": "nonfinite", "reason": f"h has NaN or infinite entries at the λ of seed {first}"}
    return {"status": "ok", "sample": _sample(h, fixed, seeds, cell)}


def _sample(h: np.ndarray, fixed: dict[str, np.ndarray], seeds: tuple[int, ...], cell: Cell) -> Sample:
    dF = fixed["exact"]
    nothing: list[Any] = [None] * len(seeds)
    norm, exact_norm, inner = np.linalg.norm(h, axis=1), np.linalg.norm(dF, axis=1), np.sum(h * dF, axis=1)
    exists = exact_norm > ROUNDING * fixed["floor"]
    implicit, H, tail = fixed.get("implicit"), fixed.get("H"), fixed["alpha_tail"]
    K = cell.truncation or 0
    return Sample(
        seeds=list(seeds),
        horizon=cell.horizon,
        M=int(fixed["M"]),
        N=h.shape[1],
        alpha=float(fixed["alpha"]),
        beta=float(fixed["beta"]),
        gamma=float(fixed["gamma"]),
        f_w=fixed["f_w"].tolist(),
        B_max=fixed["B_max"].tolist(),
        rank=fixed["rank"].tolist(),
        commutator=fixed["commutator"].tolist(),
        alpha_tail=tail[:, K - 1].tolist() if 0 < K <= tail.shape[1] else nothing,
        norm=norm.tolist(),
        exact_norm=exact_norm.tolist(),
        exact_error=np.linalg.norm(h - dF, axis=1).tolist(),
        cosine=_where(exists & (norm > 0), inner, norm * exact_norm),
        descent=_where(exists, inner, exact_norm**2),
        implicit_norm=nothing if implicit is None else np.linalg.norm(implicit, axis=1).tolist(),
        implicit_error=nothing if implicit is None else np.linalg.norm(h - implicit, axis=1).tolist(),
        energy_norm=nothing if H is None or implicit is None else _energy(H, implicit),
        energy_error=nothing if H is None or implicit is None else _energy(H, h - implicit),
    )


def _where(exists: np.ndarray, above: np.ndarray, below: np.ndarray) -> list[float | None]:
    return [float(a / b) if e else None for e, a, b in zip(exists, above, below)]


def _energy(H: np.ndarray, v: np.ndarray) -> list[Any]:
    """‖v‖_H, row by row."""
    return np.sqrt(np.einsum("im,imn,in->i", v, H, v)).tolist()


@lru_cache(maxsize=4)
def _fixed(
    bk: Any,
    task: Any,
    problem_key: str,
    seed: int,
    horizon: int,
    point: str,
    seeds: tuple[int, ...],
    cache: Path | None,
    made_by: str,
) -> dict[str, np.ndarray]:
    """`_make`'s arrays, from disk where the same code has left them."""
    key = f"sample {problem_key} {len(seeds)} {bk.name} {bk.device} {made_by}"
    file = None if cache is None else cache / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
    parts = None if file is None else arrays.read(file)
    if parts is None:
        data, xs = (bk.asarray(x) for x in task.context(seed, 0, horizon))
        parts = _make(bk, task, seed, [bk.asarray(task.hparams(s, point)) for s in seeds], data, xs)
        if file is not None:
            arrays.write(file, parts)
    return parts


def _make(bk: Any, task: Any, seed: int, lams: list[Any], data: Any, xs: Any) -> dict[str, np.ndarray]:
    """The constants, dF, the implicit hypergradient, and H at w* where ∂²g/∂w∂λ = −I; a row a λ."""
    problem = task.problem(bk)
    native = bk.compile(partial(METHODS["native-rmd"](), bk, problem))
    terms = bk.compile(partial(direct, bk, problem))
    at = constants(bk, task, problem, seed)
    results = [native(lam, data, xs) for lam in lams]
    found = [at(lam, data, xs) for lam in lams]
    parts = {
        "exact": [flat(bk, r.grad) for r in results],
        "floor": [floor_of(bk, terms(r.params, lam, data)) for r, lam in zip(results, lams)],
        **{name: [getattr(c, name) for c in found] for name in ("f_w", "B_max", "rank", "commutator", "alpha_tail")},
        "alpha": found[0].alpha,
        "beta": found[0].beta,
        "gamma": found[0].gamma,
        "M": found[0].size,
    }
    if not no_implicit(task, problem):
        lower = Lower(bk, problem)
        optima = [lower.minimiser(r.params, lam, data) for r, lam in zip(results, lams)]
        parts["implicit"] = [lower.implicit(w, lam, data) for w, lam in zip(optima, lams)]
        second = [lower.second(w, lam, data) for w, lam in zip(optima, lams)]
        if all(mixed.shape == H.shape and np.allclose(mixed, -np.eye(len(H)), atol=1e-12) for H, mixed in second):
            parts["H"] = [H for H, _ in second]
    return {name: np.asarray(values) for name, values in parts.items()}
