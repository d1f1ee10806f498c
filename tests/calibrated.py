"""Calibration records with ratios that are known."""

from __future__ import annotations

import numpy as np

from bench.cell import Cell
from bench.record import Calibration, Record

ROUNDS = 11
DRIFT = np.linspace(1.0, 3.0, ROUNDS)  # the machine's own, alike for all of a round


def calibrated(seed: int, ratio: float, again: float = 1.0, K: int = 5, machine: str = "here", **given) -> Record:
    """The native idiom takes `ratio` times as long as krmd's better stash, and its second call `again` times as long.

    Every contestant has its own jitter: only ratios within a round have these medians.
    """
    fields = {"kind": "calibration", "task": "hypercleaning", "method": "krmd", "backend": "jax", "horizon": 100}
    options = {"method_options": {"truncation": K}, "lam": "informed", "seed": seed}
    cell = Cell.model_validate({**fields, **options, **given})
    times = {
        "krmd iterates": 1.5 / ratio,
        "krmd residuals": 1 / ratio,
        "native-krmd": 1.0,
        "native-krmd again": again,
        "one step": 0.01,
        "one vjp": 0.01,
        "floor: steps": 0.9,
        "floor: pull-backs": 0.05,
        "floor: both": 0.1,
    }
    seconds = {}
    for number, (name, t) in enumerate(times.items()):
        jitter = np.ones(ROUNDS)
        jitter[9 * number % ROUNDS] = 5.0  # a round that something else disturbed
        seconds[name] = [float(x) for x in t * DRIFT * jitter]
    plain = {"status": "ok", "environment": {"fingerprint": machine}, "code": {"stamp": ""}, "started": ""}
    return Record(key=cell.key, cell=cell, seconds=0.0, calibration=Calibration(lane="jit", seconds=seconds), **plain)
