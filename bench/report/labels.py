"""Names beside points, where none covers another name or a point."""

from __future__ import annotations

import math
from typing import NamedTuple

from matplotlib.axes import Axes

SIZE = 7.0  # points
WIDTH, HEIGHT = 0.61 * SIZE, 1.1 * SIZE  # of a character and of a line
POINT = 5.0  # half of what a point takes
STRANGE = 40.0  # the covered area that is as bad as to lie nearer to another point

_BESIDE = [(dx, dy, align) for dx, align in ((8, "left"), (-8, "right")) for dy in (-2.5, 6, -11, 14, -19)]
_PLACES = [(0, 9, "center"), (0, -15, "center"), *_BESIDE, (0, 18, "center"), (0, -24, "center"), (0, 27, "center")]
"""Offsets in points and how the name is aligned there, the best place first."""


class Box(NamedTuple):
    left: float
    bottom: float
    right: float
    top: float

    def shared(self, other: Box) -> float:
        """The area that both cover."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(wide, 0.0) * max(high, 0.0)

    def to(self, point: tuple[float, ...]) -> float:
        """The distance of its middle."""
        return math.dist(point, ((self.left + self.right) / 2, (self.bottom + self.top) / 2))


def label(ax: Axes, named: list[tuple[float, float, str]]) -> None:
    """Write the names of points (x, y, name), from the left.  The figure's layout must be final."""
    to_points = 72.0 / ax.figure.dpi
    at = [tuple(float(c) * to_points for c in ax.transData.transform((x, y))) for x, y, _ in named]
    left, bottom, right, top = (float(c) * to_points for c in ax.get_window_extent().extents)
    taken = [Box(u - POINT, v - POINT, u + POINT, v + POINT) for u, v in at]
    outside = [
        Box(-1e4, -1e4, left, 1e4),
        Box(right, -1e4, 1e4, 1e4),
        Box(-1e4, -1e4, 1e4, bottom),
        Box(-1e4, top, 1e4, 1e4),
    ]
    for i in sorted(range(len(named)), key=lambda i: (at[i], named[i][2])):
        x, y, name = named[i]

        def covered(place: tuple[int, float, str], i: int = i, name: str = name) -> float:
            box = _box(at[i], place, name)
            others = [*taken[:i], *taken[i + 1 :], *outside]
            strange = any(box.to(v) < box.to(at[i]) for v in at)
            return sum(box.shared(other) for other in others) + STRANGE * strange

        best = min(_PLACES, key=covered)  # of equals the first
        taken.append(_box(at[i], best, name))
        dx, dy, align = best
        ax.annotate(name, (x, y), xytext=(dx, dy), textcoords="offset points", ha=align, fontsize=SIZE, zorder=4)


def _box(at: tuple[float, ...], place: tuple[int, float, str], name: str) -> Box:
    dx, dy, align = place
    wide = WIDTH * len(name)
    left = at[0] + dx - {"left": 0.0, "center": wide / 2, "right": wide}[align]
    return Box(left, at[1] + dy, left + wide, at[1] + dy + HEIGHT)
