"""Draws the metric over settings: one at a time, two at a time, and all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from foldertune.protocol import Trial
from foldertune.reading.figures.style import (
    GREY,
    HIGHLIGHTED,
    INK,
    KINDS,
    MANY,
    MARKER,
    PAGE,
    SMALL,
    TEXT,
    add_colour_bar,
    add_rank_bar,
    best_is_dark,
    best_looks,
    cut,
    dress,
    new_figure,
    norm_of,
    place,
    quantity_of,
    rank_colours,
    sample_of,
    wrapped,
)
from foldertune.reading.results import Results
from foldertune.space import Categorical, identity
from foldertune.study import Study
from foldertune.tables import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 12


# ---------------------------------------------------------------- one at a time


def draw_hyperparameters(results: Results, names: Sequence[str]) -> Figure:
    """The metric over each setting, or quantity derived from settings. The best trials are in colour."""
    study, scored = results.study, results.scored
    names = names[:MOST_PANELS]
    columns = min(len(names), 3)
    rows = math.ceil(len(names) / columns)
    width = PAGE if columns == 3 else 2.6 * columns + 0.8
    figure, axes = new_figure(width, 2.2 * rows + 0.4, rows, columns, sharey=True)
    handles: dict[str, Any] = {}
    for k, (each, name) in enumerate(zip(axes, names, strict=False)):
        xs = place(each, "x", study, name, [results.setting(trial, name) for trial, _ in scored])
        points = [(x, value, results.has_collapsed(trial)) for x, (trial, value) in zip(xs, scored, strict=True)]
        handles |= _draw_scatter(each, points[HIGHLIGHTED:])
        for (x, value, _), look, (trial, _) in zip(points, best_looks(), scored, strict=False):
            mark = {"color": look.colour, "marker": look.marker, "markersize": MARKER, "zorder": 5}
            (drawn,) = each.plot(x, value, linestyle="", **mark)
            handles.setdefault(f"trial {trial.name.number}", drawn)
        dress(each, "y", study.quantity(study.metric), [value for _, value in scored])
        if k % columns:
            each.set_ylabel("")
    for each in axes[len(names) :]:
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


# ---------------------------------------------------------------- two at a time


def draw_pair(results: Results, pair: tuple[str, str]) -> Figure:
    """The metric over two settings: a table of means for a grid, otherwise points coloured by rank."""
    study = results.study
    if all(isinstance(study.space.get(name), Categorical) for name in pair):
        return _draw_table(results, pair)
    scored, colours = _coloured(results)
    figure, (axes,) = new_figure(4.6, 3.3)
    xs, ys = (
        place(axes, which, study, name, [results.setting(trial, name) for trial, _ in scored])
        for which, name in zip("xy", pair, strict=True)
    )
    points = list(zip(xs, ys, colours, (results.has_collapsed(trial) for trial, _ in scored), strict=True))[::-1]
    size, many = (MARKER + 1) ** 2, len(points) > MANY
    if trained := [point[:3] for point in points if not point[3]]:  # the best on top
        across, up, shades = zip(*trained, strict=True)
        axes.scatter(across, up, size, list(shades), edgecolors="white", linewidths=0.4, zorder=3, rasterized=many)
    if crosses := [point[:2] for point in points if point[3]]:
        axes.scatter(*zip(*crosses, strict=True), size, INK, marker="x", linewidths=1.2, zorder=4, label="collapsed")
        axes.legend(fontsize=TEXT, frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    axes.annotate(
        "best", (xs[0], ys[0]), (7, 7), textcoords="offset points", fontsize=TEXT, color=KINDS[1], zorder=6,
        arrowprops={"arrowstyle": "-", "color": KINDS[1], "linewidth": 0.8, "shrinkA": 0, "shrinkB": 3},
    )  # fmt: skip
    add_rank_bar(figure, axes, study.quantity(study.metric), [value for _, value in results.scored])
    return figure


def _coloured(results: Results) -> tuple[list[tuple[Trial, float]], list[Any]]:
    """The trials with a value, best first, at most as many as a figure can show, and the colours of their ranks."""
    ranked = list(zip(results.scored, rank_colours(len(results.scored)), strict=True))
    chosen = ranked[:HIGHLIGHTED] + sample_of(ranked[HIGHLIGHTED:])
    return [pair for pair, _ in chosen], [colour for _, colour in chosen]


def _draw_table(results: Results, pair: tuple[str, str]) -> Figure:
    """A table of means: for each combination, over the trials that did not collapse."""
    study = results.study
    metric = study.quantity(study.metric)
    columns, rows = (_choices(study, name) for name in pair)
    samples = {identity(group.key): group.sample_of_results(study.metric) for group in results.groups(*pair)}
    means = {key: sample.mean for key, sample in samples.items() if sample.values}
    figure, (axes,) = new_figure(min(2.0 + 0.75 * len(columns), PAGE), 1.2 + 0.4 * len(rows))
    norm = norm_of(metric, list(means.values()) or [0.0, 1.0])
    cells = [[means.get(identity((x, y)), math.nan) for x in columns] for y in rows]
    image = axes.imshow(cells, norm=norm, cmap=best_is_dark(study), aspect="auto")
    for (j, x), (i, y) in ((across, down) for across in enumerate(columns) for down in enumerate(rows)):
        mean = means.get(identity((x, y)))
        if mean is not None:
            light = (norm(mean) > 0.6) == (study.direction == "minimize")
            text, colour = metric.show(mean), INK if light else "white"
        else:
            text, colour = "collapsed" if identity((x, y)) in samples else "", INK
        axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=SMALL)
    for which, name, choices in (("x", pair[0], columns), ("y", pair[1], rows)):
        dress(axes, which, quantity_of(study, name), [])
        getattr(axes, f"set_{which}ticks")(range(len(choices)), [cut(choice) for choice in choices])
    axes.grid(visible=False)
    if means:
        add_colour_bar(figure, image, axes, metric, list(means.values()))
    return figure


def _choices(study: Study, name: str) -> tuple[Any, ...]:
    dimension = study.space[name]
    return dimension.choices if isinstance(dimension, Categorical) else ()


# ---------------------------------------------------------------- all of them


def draw_parallel_coordinates(results: Results) -> Figure:
    """One line per trial, through its settings to the metric. Colours are ranks; the colour bar explains them."""
    from matplotlib.collections import LineCollection

    study = results.study
    scored, shades = _coloured(results)
    names = [name for name in study.space if len({short(trial.settings.get(name)) for trial, _ in scored}) > 1]
    figure, (axes,) = new_figure(max(PAGE, 1.1 * (len(names) + 2)), 3.4)
    heights = [_add_scale(axes, k, study, name, scored) for k, name in enumerate([*names, study.metric])]
    lines = [list(enumerate(column)) for column in zip(*heights, strict=True)]
    colours = [(*colour[:3], 0.9 - 0.5 * k / len(lines)) for k, colour in enumerate(shades)]
    axes.add_collection(LineCollection(lines[::-1], colors=colours[::-1], linewidths=1.1))  # the best on top
    axes.set(xlim=(-0.1, len(heights) - 0.6), ylim=(-0.03, 1.03), yticks=[])
    titles = [wrapped(study.quantity(name), 16) for name in (*names, study.metric)]
    axes.set_xticks(range(len(heights)), titles, fontsize=TEXT)
    axes.tick_params(length=0, pad=7)
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    add_rank_bar(figure, axes, study.quantity(study.metric), [value for _, value in results.scored])
    return figure


def _add_scale(axes: Axes, x: int, study: Study, name: str, scored: Sequence[tuple[Trial, float]]) -> list[float]:
    """Add a vertical axis with its numbers. Returns the heights of the trials' values on it, from 0 to 1."""
    values: list[Any] = [value if name == study.metric else trial.settings.get(name) for trial, value in scored]
    scale = axes.twinx()
    places = place(scale, "y", study, name, values)
    there = [value for value in places if math.isfinite(value)] or [0.0]
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
    return [float(onto.transform((0, value))[1]) if math.isfinite(value) else math.nan for value in places]
