"""Draws trials in the colours of their ranks: over two settings, and over all of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from foldertune.reading.facts import Column, Scores
from foldertune.reading.figures.style import (
    HIGHLIGHTED,
    INK,
    KINDS,
    MANY,
    MARKER,
    PAGE,
    SMALL,
    TEXT,
    dress,
    new_figure,
    plain,
    sample_of,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_pair(scores: Scores, pair: tuple[str, str]) -> Figure:
    """The metric over two settings, or quantities derived from settings: points coloured by rank."""
    x, y = ((scores.settings | scores.derived)[name] for name in pair)
    figure, (axes,) = new_figure(4.6, 3.3)
    points = [(x.places[k], y.places[k], colour, scores.collapsed[k]) for k, colour in _coloured(scores)][::-1]
    size, many = (MARKER + 1) ** 2, len(points) > MANY
    if trained := [point[:3] for point in points if not point[3]]:  # the best on top
        across, up, shades = zip(*trained, strict=True)
        axes.scatter(across, up, size, list(shades), edgecolors="white", linewidths=0.4, zorder=3, rasterized=many)
    if crosses := [point[:2] for point in points if point[3]]:
        axes.scatter(*zip(*crosses, strict=True), size, INK, marker="x", linewidths=1.2, zorder=4, label="collapsed")
        axes.legend(fontsize=TEXT, frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    axes.annotate(
        "best", (x.places[0], y.places[0]), (7, 7), textcoords="offset points", fontsize=TEXT, color=KINDS[1], zorder=6,
        arrowprops={"arrowstyle": "-", "color": KINDS[1], "linewidth": 0.8, "shrinkA": 0, "shrinkB": 3},
    )  # fmt: skip
    _add_rank_bar(figure, axes, scores.metric)
    dress(axes, "x", x)
    dress(axes, "y", y)
    return figure


def draw_parallel_coordinates(scores: Scores) -> Figure:
    """One line per trial, through its settings to the metric. Colours are ranks; the colour bar explains them."""
    from matplotlib.collections import LineCollection

    columns, shown = [*scores.settings.values(), scores.metric], _coloured(scores)
    figure, (axes,) = new_figure(max(PAGE, 1.1 * (len(columns) + 1)), 3.4)
    heights = [_add_scale(axes, x, column) for x, column in enumerate(columns)]
    lines = [[(x, column[k]) for x, column in enumerate(heights)] for k, _ in shown]
    colours = [(*colour[:3], 0.9 - 0.5 * k / len(shown)) for k, (_, colour) in enumerate(shown)]
    look: dict[str, Any] = {"colors": colours[::-1], "linewidths": 1.1, "clip_on": False}
    axes.add_collection(LineCollection(lines[::-1], **look))  # the best on top
    axes.set(xlim=(-0.1, len(columns) - 0.6), ylim=(0, 1), yticks=[])  # where the scales, too, begin and end
    axes.set_xticks(range(len(columns)), [wrapped(column.quantity, 16) for column in columns], fontsize=TEXT)
    axes.tick_params(length=0, pad=7)
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    _add_rank_bar(figure, axes, scores.metric)
    return figure


def _add_scale(axes: Axes, x: int, column: Column) -> list[float]:
    """Add a vertical axis with its numbers. Returns the heights of the trials' values on it, from 0 to 1."""
    scale = axes.twinx()
    dress(scale, "y", column)
    there = [value for value in column.places if math.isfinite(value)] or [0.0]
    if min(there) == max(there):
        there = [there[0] - 0.5, there[0] + 0.5]
    scale.set_ylim(min(there), max(there))
    scale.vlines(x, min(there), max(there), color=INK, linewidth=0.8)
    scale.set_ylabel("")
    scale.spines[["left", "top", "bottom"]].set_visible(False)
    scale.spines["right"].set(position=("data", x), color=INK)
    scale.tick_params(labelsize=SMALL, colors=INK, length=3, pad=2)
    scale.set_zorder(3)
    for text in scale.get_yticklabels():
        text.set_bbox({"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.5})
    onto = scale.transScale + scale.transLimits
    return [float(onto.transform((0, value))[1]) if math.isfinite(value) else math.nan for value in column.places]


# ---------------------------------------------------------------- colours of ranks


def _coloured(scores: Scores) -> list[tuple[int, Any]]:
    """The places of the trials in the ranking, at most as many as a figure can show, each with its colour."""
    ranks = list(enumerate(_rank_colours(len(scores.numbers))))
    return ranks[:HIGHLIGHTED] + sample_of(ranks[HIGHLIGHTED:])


def _rank_colours(count: int) -> list[tuple[float, ...]]:
    """A colour for each rank, best first. Better is darker."""
    from matplotlib import colormaps

    shades = colormaps["viridis"]
    return [shades(0.95 * k / max(count - 1, 1)) for k in range(count)]


def _add_rank_bar(figure: Figure, axes: Axes, metric: Column) -> None:
    """Add a colour bar of ranks, with some of the values that have them, which come best first."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    count = len(metric.values)
    shades = ListedColormap(_rank_colours(min(count, 256)))
    drawn = ScalarMappable(Normalize(0.5, count + 0.5), shades)
    bar = figure.colorbar(drawn, ax=axes, pad=0.03, aspect=28)
    ranks = sorted({round(share * (count - 1)) for share in (0, 0.25, 0.5, 0.75, 1)})
    bar.set_ticks([k + 1 for k in ranks], labels=[f"{k + 1}: {metric.quantity.show(metric.values[k])}" for k in ranks])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=TEXT, colors=INK, length=2)
    bar.ax.invert_yaxis()
    bar.set_label(plain(f"rank: {metric.quantity.label}"), fontsize=TEXT, color=INK)
    bar.solids.set_edgecolor("face")  # otherwise an SVG shows seams
    bar.outline.set_visible(False)
