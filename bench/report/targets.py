"""What this project set out to reach, beside what its committed records give: ratios within a round or a record."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from bench import stamp
from bench.account import account
from bench.cell import Cell
from bench.record import Record
from bench.report import memory, native, speed
from bench.report.frame import certificates, frame, problem
from bench.report.table import Table
from bench.stats import interval

LANES = ("jax", "torch")
HELD = (5, 100)  # the K at which ours is held against the native idiom
FRACTION, MINUTES, MILLISECONDS = 100, 60, 1e3
PEERS = "peers"  # the source that is no store
GATED = "a test"  # what is no figure of a record, but a gate in the suite


class Row(NamedTuple):
    """`least` is what counts as reached; `reached` is None where nothing was measured."""

    what: str
    least: str
    aim: str
    measured: str
    reached: bool | Literal["a tie"] | None
    source: str
    marks: str | None = None  # None: stale, if anything of the source is


def table(
    stores: Mapping[str, list[Record]],
    peers: Mapping[str, Any] | None = None,
    stale: frozenset[str] = frozenset(),
) -> Table:
    """Of the stores by name, as far as there are any, and of the peers' own file."""
    rows = [*_agreement(stores), *_over_floors(stores, stale), *_native(stores, stale)]
    rows += [*_peers(peers, stale), *_standalone(peers, stale), *_slopes(stores)]
    rows += [*_embedded(stores), *_harness(stores)]
    rows += [Row(*g, GATED, True, source) for g, source in GATES]
    words = {True: "yes", False: "no", None: "not measured", "a tie": "a tie"}
    machines = {name: ", ".join(sorted({r.environment["fingerprint"] for r in of})) for name, of in stores.items()}
    machines |= {} if peers is None else {PEERS: peers["environment"]["fingerprint"]}
    return Table(
        "targets",
        "What was to be reached, and what the committed records give. Times are ratios of calls in turn in one "
        "process, medians over rounds; against the native idiom means over seeds with their 95 % interval. A machine's "
        "fingerprint is of its hardware, its packages and its settings.",
        pd.DataFrame(
            [
                row._asdict()
                | {"reached": words[row.reached], "machine": machines.get(row.source, "")}
                | {"marks": _stale(row.source, stores, stale) if row.marks is None else row.marks}
                for row in rows
            ]
        ).rename(columns={"least": "at least"}),
    )


def _stale(source: str, stores: Mapping[str, list[Record]], stale: frozenset[str]) -> str:
    """Of the store, or the peers, that a figure is of."""
    keys = {PEERS} if source == PEERS else {r.key for r in stores.get(source, [])}
    return "stale" if keys & stale else ""


GATES = (
    (("recompilations on new λ, data, episode", "0", "0"), "tests/test_counts.py"),
    (("frameworks that importing our packages imports", "none", "none"), "tests/test_architecture.py"),
)


def stale_keys(stores: Mapping[str, list[Record]], peers: Mapping[str, Any] | None) -> frozenset[str]:
    """Of the records whose code has changed, and `peers`, if theirs has."""
    found = {r.key for of in stores.values() for r in of if stamp.changed(r.code, r.cell)}
    if peers is not None and stamp.of_files(peers["code"]) != peers["code"]:
        found.add(PEERS)
    return frozenset(found)


def read_peers(folder: Path) -> Mapping[str, Any] | None:
    file = folder / PEERS / "peers.json"
    return json.loads(file.read_text()) if file.is_file() else None


def _agreement(stores: Mapping[str, list[Record]]) -> Iterator[Row]:
    found = [d for d, _ in certificates(stores.get("quick", [])).values() if d is not None]
    told = f"{max(found):.1e}, the largest of {len(found)}" if found else ""
    yield Row("float64 agreement torch/JAX", "1e-10", "1e-13", told, max(found) <= 1e-10 if found else None, "quick")


def _speed(stores: Mapping[str, list[Record]], framework: str) -> list[Record]:
    """Hyper-cleaning at the paper's size, K-RMD and RMD, one cell a K."""
    found = [r for r in stores.get("speed", []) if r.calibration is not None and r.cell.method in ("krmd", "rmd")]
    found = [r for r in found if (r.cell.backend, r.cell.dtype, r.cell.seed) == (framework, "float32", 0)]
    return [r for r in found if problem(r.cell) == "hypercleaning"]


def _over_floors(stores: Mapping[str, list[Record]], stale: frozenset[str]) -> Iterator[Row]:
    what = "hyper-cleaning 5000 × 785 × 10, T = 100, over its floor"
    jax, torch = (_speed(stores, name) for name in LANES)
    for stash, least, aim in (("iterates", 1.15, "1.03"), ("residuals", 1.3, "1.1")):
        found = [float(np.median(over[stash])) for r in jax if stash in (over := speed.over_floor(r))]
        yield _largest(f"JAX, {what}, {stash}", least, aim, found, speed.calibrated_marks(jax, stale))
    better = [min(float(np.median(ratios)) for ratios in over.values()) for r in torch if (over := speed.over_floor(r))]
    yield _largest(f"torch, {what}, the better stash", 1.15, "1.02", better, speed.calibrated_marks(torch, stale))


def _largest(what: str, least: float, aim: str, found: list[float], marks: str) -> Row:
    told = f"{min(found):.2f} to {max(found):.2f} over K" if found else ""
    return Row(what, f"≤ {least:g}", aim, told, max(found) <= least if found else None, "speed", marks)


def _native(stores: Mapping[str, list[Record]], stale: frozenset[str]) -> Iterator[Row]:
    """native/ours beside native/native, means over seeds."""
    found = [c for c in native.against_native(stores.get("speed", [])) if _at_that_size(c.of[0].cell)]
    for name in LANES:
        at = {c.of[0].cell.truncation: c for c in found if c.of[0].cell.backend == name}
        words = [f"K = {K}: {at[K].ours.text(3)}, native/native {at[K].control.text(3)}" for K in HELD if K in at]
        reached = _not_slower([at[K] for K in HELD]) if len(words) == len(HELD) else None
        what = f"{name}, native idiom / ours, the better stash, at that size, over seeds"
        marks = "; ".join(sorted({m for c in at.values() if (m := speed.calibrated_marks(c.of, stale))}))
        yield Row(what, "≥ 1.0", "> 1.2", "; ".join(words), reached, "speed", marks)


def _at_that_size(cell: Cell) -> bool:
    plain = (cell.method, cell.device, cell.dtype, cell.horizon) == ("krmd", "cpu", "float32", 100)
    return plain and problem(cell) == "hypercleaning"


def _not_slower(found: list[native.AgainstNative]) -> bool | Literal["a tie"]:
    """Shown to be at least as fast at every K is reached; not shown to be slower at any is a tie."""
    if all(c.ours.low >= 1 and c.trusted for c in found):
        return True
    return "a tie" if all(c.ours.high >= 1 for c in found) else False


def _peers(peers: Mapping[str, Any] | None, stale: frozenset[str]) -> Iterator[Row]:
    ratios: dict[str, float] = {}
    used: list[dict[str, Any]] = []
    rows = [] if peers is None else [r for r in peers["rows"] if r["status"] == "ok"]
    for row in (r for r in rows if r["package"]):
        same = [r for r in rows if all(r[k] == row[k] for k in ("framework", "estimator", "K"))]
        ours = min((r["seconds"] for r in same if r["contestant"].startswith("ours")), key=np.median)
        label = f"{row['framework']}, {row['contestant']}, {row['estimator']}, K = {row['K']}"
        ratios[label] = float(np.median(np.divide(row["seconds"], ours)))  # round by round, as peers.md has it
        used += same
    least = min(ratios, key=lambda name: ratios[name], default="")
    told = f"{ratios[least]:.2f} ({least}), of {len(ratios)}" if ratios else ""
    reached = ratios[least] >= 1 if ratios else None
    yield Row("fastest peer / ours", "≥ 1.0", "≥ 2", told, reached, PEERS, _raced(used, stale))


def _raced(rows: list[dict[str, Any]], stale: frozenset[str]) -> str:
    """The marks of rows of a race."""
    flags = sorted({flag for r in rows for flag in r["flags"]})
    return ", ".join([*flags, *(["stale"] if PEERS in stale else [])])


def _standalone(peers: Mapping[str, Any] | None, stale: frozenset[str]) -> Iterator[Row]:
    """Is the native idiom, as the protocol calls it, as fast as a script that imports nothing of ours?"""
    rows = [] if peers is None else [r for r in peers["rows"] if r["status"] == "ok" and r["estimator"] == "rmd"]
    for name in LANES:
        mine = [r for r in rows if r["framework"] == name]
        seconds = {r["contestant"]: r["seconds"] for r in mine}
        what = f"{name}, native RMD / a stand-alone script, T = 100"
        if not {"native idiom", "stand-alone script"} <= seconds.keys():
            yield Row(what, "≤ 1.05", "1.0", "", None, PEERS)
            continue
        found = interval(np.divide(seconds["native idiom"], seconds["stand-alone script"]), np.median)
        yield Row(what, "≤ 1.05", "1.0", found.text(), found.middle <= 1.05, PEERS, _raced(mine, stale))


def _slopes(stores: Mapping[str, list[Record]]) -> Iterator[Row]:
    of = stores.get("cleaning", [])
    made = [t.rows for t in (memory.tables(frame(of)) if of else []) if t.name == "memory-slopes"]
    rows = made[0].to_dict("records") if made else []
    for name in LANES:
        mine = [row for row in rows if (row["over"], row["series"], row["framework"]) == ("K", "krmd iterates", name)]
        found = [float(row["plan slope (M·itemsize)"]) for row in mine]
        told = f"{max(found):.3f}" if found else ""
        reached = max(found) <= 1.1 if found else None
        yield Row(f"{name}, memory an extra K, iterates, in M·itemsize", "≤ 1.1", "1.0", told, reached, "cleaning")


def _embedded(stores: Mapping[str, list[Record]]) -> Iterator[Row]:
    for name, least, aim in (("jax", 8, "15"), ("torch", 4, "7")):
        seconds: dict[bool, float] = {}
        for r in stores.get("paper", []):
            c = r.cell
            if (c.task, c.backend, c.method) == ("fewshot", name, "rmd") and r.result is not None and r.result.time:
                seconds[bool(c.task_options.get("inside"))] = r.result.time.median
        ratio = seconds[True] / seconds[False] if len(seconds) == 2 else None
        what, told = f"{name}, few-shot RMD(50), net in Φ / with embed", "" if ratio is None else f"{ratio:.0f}"
        yield Row(what, f"≥ {least}", f"≥ {aim}", told, None if ratio is None else ratio >= least, "paper")


def _harness(stores: Mapping[str, list[Record]]) -> Iterator[Row]:
    records = stores.get("quick", [])
    spent = account(records)
    minutes = math.fsum([*spent.measured.values(), *spent.harness.values()]) / MINUTES
    share = FRACTION * spent.share
    warm = None if spent.warm_cell is None else MILLISECONDS * spent.warm_cell
    for what, least, aim, told, reached in (
        ("quick, on one core", "≤ 5 min on two", "≤ 3 min on two", f"{minutes:.1f} min", minutes <= 5),
        ("harness's own share of quick", "≤ 25 %", "≤ 10 %", f"{share:.0f} %", share <= 25),
        (
            "harness's own time, a warm cell",
            "≤ 50 ms",
            "10 ms",
            "" if warm is None else f"{warm:.0f} ms",
            None if warm is None else warm <= 50,
        ),
    ):
        yield Row(what, least, aim, told if records else "", reached if records else None, "quick")
