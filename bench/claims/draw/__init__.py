"""The claims' figures, from the records that the verdicts read.  Frameworks agree: a quality is drawn of one.

lines         what the figures share: looks, axes, one framework's records
bias          C1
descent       C2, C2′
convergence   C3 – C5, C6
implicit      C7, C8
cost          C9, C15a
toy           C10
training      C11 – C14, C15b
"""

from __future__ import annotations

import matplotlib as mpl

from bench.claims.draw import bias, convergence, cost, descent, implicit, toy, training
from bench.claims.protocol import PAIR
from bench.record import Record
from bench.report import style
from bench.report.figures import Picture

_FIGURES = (
    bias.draw,
    descent.draw,
    convergence.draw_floor,
    convergence.draw_wrong_end,
    implicit.draw,
    cost.draw_laws,
    cost.draw_half,
    toy.draw,
    training.draw_cleaning,
    training.draw_interaction,
    training.draw_fewshot,
    training.draw_horizons,
    training.draw_comparable,
)


def every(records: list[Record]) -> list[Picture]:
    """All figures that these records can fill."""
    ok = [r for r in records if r.status == "ok" and r.cell.backend in PAIR]
    with mpl.rc_context(style.RC):
        return [picture for draw in _FIGURES if (picture := draw(ok)) is not None]
