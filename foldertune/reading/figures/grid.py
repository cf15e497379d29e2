"""Draws the metric over a grid of two settings, as a table of means."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from foldertune.reading.facts import Column, Grid
from foldertune.reading.figures.style import INK, PAGE, SMALL, TEXT, cut, dress, is_log, new_figure
from foldertune.space import identity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure


def draw_grid(grid: Grid) -> Figure:
    """A cell for each combination of two settings, with the mean of the metric; better is darker."""
    lower_is_better = grid.direction == "minimize"
    columns, rows = grid.x.values, grid.y.values
    metric = Column(grid.metric, [mean for mean in grid.means.values() if mean is not None])
    figure, (axes,) = new_figure(min(2.0 + 0.75 * len(columns), PAGE), 1.2 + 0.4 * len(rows))
    norm, shades = _norm_of(metric), "viridis" if lower_is_better else "viridis_r"
    means = [[grid.means.get(identity((x, y))) for x in columns] for y in rows]
    heights = [[math.nan if mean is None else mean for mean in row] for row in means]
    image = axes.imshow(heights, norm=norm, cmap=shades, aspect="auto")
    for (j, x), (i, y) in ((across, down) for across in enumerate(columns) for down in enumerate(rows)):
        mean = means[i][j]
        text, colour = "collapsed" if identity((x, y)) in grid.means else "", INK
        if mean is not None:
            text, colour = grid.metric.show(mean), INK if (norm(mean) > 0.6) == lower_is_better else "white"
        axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=SMALL)
    for which, setting in (("x", grid.x), ("y", grid.y)):
        dress(axes, which, Column(setting.quantity, []))
        ticks = range(len(setting.values)), [cut(value) for value in setting.values]
        getattr(axes, f"set_{which}ticks")(*ticks)
    axes.grid(visible=False)
    if metric.values:
        _add_colour_bar(figure, image, axes, metric)
    return figure


def _norm_of(metric: Column) -> Normalize:
    """The norm that maps values to colours, logarithmic if the metric's axis is."""
    from matplotlib.colors import LogNorm, Normalize

    values = metric.places or [0.0, 1.0]
    return (LogNorm if is_log(metric.quantity, values) else Normalize)(min(values), max(values))


def _add_colour_bar(figure: Figure, drawn: Any, axes: Axes, column: Column) -> None:
    """Add a colour bar with the values that the colours stand for."""
    bar = figure.colorbar(drawn, ax=axes, pad=0.02, aspect=28)
    bar.ax.tick_params(labelsize=TEXT, colors=INK)
    bar.solids.set_edgecolor("face")  # otherwise an SVG shows seams
    bar.outline.set_visible(False)
    dress(bar.ax, "y", column)
