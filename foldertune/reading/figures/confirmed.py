"""The spread of confirmed settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from foldertune.reading.confirmed import Confirmed
from foldertune.reading.facts import Column
from foldertune.reading.figures.style import GREY, INK, KINDS, MARKER, PAGE, TEXT, dress, new_figure
from foldertune.study import Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SHOWN = 20  # settings


def draw_confirmed(ranked: Sequence[Confirmed], metric: Quantity) -> Figure:
    """A line for each of these settings, the best mean on top: every value, their mean and standard deviation."""
    shown = [each for each in ranked if each.sample.values][:MOST_SHOWN]
    figure, (axes,) = new_figure(PAGE, 1.2 + 0.3 * max(len(shown), 2))
    drawn = [value for line, each in enumerate(shown) for value in _draw_line(axes, line, each)]
    axes.set_yticks(range(len(shown)), [f"trial {each.number}" for each in shown], fontsize=TEXT, color=INK)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    dress(axes, "x", Column(replace(metric, scale="auto"), drawn))  # so near each other, a log scale has no marks
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    figure.legend(once.values(), once, loc="outside upper left", ncols=3, fontsize=TEXT, frameon=False)
    return figure


def _draw_line(axes: Axes, line: int, each: Confirmed) -> list[float]:
    """Draw one line. Returns all values on it."""
    values, mean, deviation = each.sample.values, each.sample.mean, each.sample.deviation or 0.0
    low = mean - deviation if mean > deviation or mean <= 0 else mean  # an axis may be logarithmic
    axes.plot([low, mean + deviation], [line, line], color=KINDS[0], linewidth=1.6, solid_capstyle="butt", zorder=3)
    mark = {"color": KINDS[0], "markersize": MARKER, "zorder": 4}
    axes.plot([mean], [line], "D-", linewidth=1.6, label="mean ± standard deviation", **mark)
    point = {"color": GREY, "markersize": MARKER, "markeredgewidth": 0}
    axes.plot(values, [line + 0.25] * len(values), "o", label="a confirmation", **point)
    if each.value is None:
        return [*values, low, mean + deviation]
    look = {"markersize": MARKER, "markerfacecolor": "white", "markeredgecolor": KINDS[1], "zorder": 5}
    axes.plot([each.value], [line], "s", label="in the search, for which it was chosen", **look)
    return [*values, low, mean + deviation, each.value]
