"""Draws the metric over each setting, a panel for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from foldertune.reading.facts import Scores
from foldertune.reading.figures.style import (
    GREY,
    HIGHLIGHTED,
    MANY,
    MARKER,
    PAGE,
    TEXT,
    best_looks,
    dress,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 12


def draw_hyperparameters(scores: Scores) -> Figure:
    """The metric over each setting, and over what is derived from them. The best trials are in colour."""
    drawn = [*scores.settings.values(), *scores.derived.values()][:MOST_PANELS]
    columns = min(len(drawn), 3)
    rows = math.ceil(len(drawn) / columns)
    width = PAGE if columns == 3 else 2.6 * columns + 0.8
    figure, axes = new_figure(width, 2.2 * rows + 0.4, rows, columns, sharey=True)
    handles: dict[str, Any] = {}
    for k, (each, column) in enumerate(zip(axes, drawn, strict=False)):
        points = list(zip(column.places, scores.metric.values, scores.collapsed, strict=True))
        handles |= _draw_scatter(each, points[HIGHLIGHTED:])
        for (x, value, _), look, number in zip(points, best_looks(), scores.numbers, strict=False):
            mark = {"color": look.colour, "marker": look.marker, "markersize": MARKER, "zorder": 5}
            (point,) = each.plot(x, value, linestyle="", **mark)
            handles.setdefault(f"trial {number}", point)
        dress(each, "x", column)
        dress(each, "y", scores.metric)
        if k % columns:
            each.set_ylabel("")
    for each in axes[len(drawn) :]:
        each.set_visible(False)
    ordered = sorted(handles, key=lambda text: not text.startswith("trial "))
    figure.legend(
        [handles[text] for text in ordered], [_rank(k, text) for k, text in enumerate(ordered)],
        loc="outside upper left", ncols=6, fontsize=TEXT, frameon=False, handletextpad=0.2, columnspacing=1.2,
    )  # fmt: skip
    return figure


def _rank(position: int, text: str) -> str:
    return f"best: {text}" if position == 0 and text.startswith("trial ") else text


def _draw_scatter(axes: Axes, points: Sequence[tuple[float, float, bool]]) -> dict[str, Any]:
    """Draw trials in grey, collapsed ones as crosses. Returns the handles for the legend."""
    handles = {}
    for collapsed, marker, text in ((False, "o", "another trial"), (True, "x", "collapsed")):
        chosen = [(x, y) for x, y, bad in points if bad == collapsed]
        if chosen:
            look = {"marker": marker, "color": GREY, "markersize": MARKER, "linestyle": ""}
            if not collapsed:
                look |= {"markeredgewidth": 0, "alpha": 0.8}
            (drawn,) = axes.plot(*zip(*chosen, strict=True), rasterized=len(points) > MANY, **look)
            handles[text] = drawn
    return handles
