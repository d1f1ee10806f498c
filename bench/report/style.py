"""Colour and marker say the method, line and filling say the framework: either pair is enough in black and white."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import fill
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# Okabe and Ito's palette: told apart with every common colour blindness.
_METHODS = {
    "rmd": ("#000000", "s"),
    "krmd": ("#0072B2", "o"),
    "fmd": ("#E69F00", "^"),
    "cg": ("#D55E00", "v"),
    "neumann": ("#009E73", "P"),
}
_GUEST = ("#CC79A7", "X")
_LINES = {"jax": "-", "torch": "--", "torch:compiled": ":"}

# Lines that differ in K alone.
LOOKS: tuple[dict[str, Any], ...] = (
    {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    {"color": "#009E73", "marker": "^", "linestyle": "-."},
    {"color": "#CC79A7", "marker": "D", "linestyle": ":"},
    {"color": "#E69F00", "marker": "v", "linestyle": (0, (6, 1.5))},
    {"color": "#000000", "marker": "P", "linestyle": (0, (3, 1, 1, 1))},
    {"color": "#56B4E9", "marker": "X", "linestyle": (0, (1, 1))},
    {"color": "#777777", "marker": "*", "linestyle": (0, (8, 2, 2, 2))},
)

PER_INCH = 12.5  # characters of a title

RC: Any = {
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "legend.fontsize": 8.0,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "hypergrad-bench",
    "figure.constrained_layout.use": True,
}


def method(series: str) -> dict[str, Any]:
    """Colour and marker of a method; a native idiom is ours in grey edges, a second stash has a diamond."""
    native = series.startswith("native-")
    base, _, stash = series.removeprefix("native-").partition(" ")
    colour, marker = _METHODS.get(base, _GUEST)
    if "residuals" in stash:
        colour, marker = {"krmd": "#56B4E9", "rmd": "#777777"}.get(base, colour), "D"
    if "once" in stash:
        colour, marker = "#7AC7A5", "p"
    return {"color": colour, "marker": {"o": "*", "s": "x"}.get(marker, "1") if native else marker}


def framework(name: str, colour: str) -> dict[str, Any]:
    """Line style and filling of a framework."""
    solid = name == "jax"
    return {
        "linestyle": _LINES.get(name, "-."),
        "markersize": 4.0 if solid else 7.5,
        "markerfacecolor": colour if solid else "none",
        "markeredgecolor": colour,
        "linewidth": 1.3,
    }


def title(figure: Figure, text: str) -> None:
    """Above all panels, in as many lines as the figure's width asks for."""
    figure.suptitle(fill(text, int(PER_INCH * figure.get_figwidth())), fontsize=9)


def legend(figure: Figure, series: Iterable[str], frameworks: Iterable[str], columns: int) -> None:
    """Below the panels: a handle a method, a handle a framework."""
    handles = []
    for name in series:
        looks: Any = method(name) | {"linewidth": 1.3}
        handles.append(Line2D([], [], label=name, **looks))
    for name in frameworks:
        looks = {"color": "#444444", "marker": "o"} | framework(name, "#444444")
        handles.append(Line2D([], [], label=name, **looks))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
