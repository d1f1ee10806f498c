"""Names beside points."""

from __future__ import annotations

import itertools

from matplotlib.figure import Figure

from bench.report.labels import label


def _written(points):
    figure = Figure(figsize=(5.0, 3.0))
    ax = figure.subplots()
    ax.plot([x for x, _, _ in points], [y for _, y, _ in points], "o", linestyle="none")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    figure.draw_without_rendering()
    label(ax, points)
    figure.draw_without_rendering()
    inside = ax.get_window_extent()
    return [(t.get_text(), t.get_window_extent()) for t in ax.texts], inside


def test_names_of_points_that_lie_together_do_not_cover_each_other():
    points = [(0.5, y, f"K = {i}") for i, y in enumerate((0.5, 0.52, 0.53, 0.5, 0.48))]
    written, _ = _written(points)
    assert sorted(name for name, _ in written) == sorted(name for _, _, name in points)
    assert not [(a[0], b[0]) for a, b in itertools.combinations(written, 2) if a[1].overlaps(b[1])]


def test_a_name_at_the_edge_stays_inside():
    for x, y in ((1.0, 0.5), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)):
        [(_, box)], inside = _written([(x, y, "T = 10, exact")])
        assert inside.x0 - 1 <= box.x0, (x, y)
        assert box.x1 <= inside.x1 + 1, (x, y)
        assert box.y1 <= inside.y1 + 1, (x, y)


def test_a_point_alone_has_its_name_above():
    [(_, box)], inside = _written([(0.5, 0.5, "K = 1")])
    assert box.y0 > (inside.y0 + inside.y1) / 2
