"""The course of a search: the best so far, and simulated searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from foldertune.reading.facts import Column, Course
from foldertune.reading.figures.style import (
    COLUMN,
    GREY,
    KINDS,
    MANY,
    MARKER,
    PAGE,
    TEXT,
    dress,
    in_units,
    new_figure,
)
from foldertune.study import Quantity

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_best_so_far(course: Course, metric: Quantity) -> Figure:
    """The metric of every trial, and the best so far, over ended trials, over time and over trained epochs.

    Epochs that nobody reported have no panel.
    """
    timed = [(at, k) for k, at in enumerate(course.seconds) if at is not None]
    seconds, unit = in_units(max((at for at, _ in timed), default=0.0))
    has_epochs = bool(course.epochs and course.epochs[-1])
    figure, axes = new_figure(PAGE, 2.8, 1, 3 if has_epochs else 2, sharey=True)
    over: Any = [([*range(1, len(course.values) + 1)], [*range(len(course.values))])]
    over.append(([at / seconds for at, _ in timed], [k for _, k in timed]))
    over += [(course.epochs, [*range(len(course.values))])] if has_epochs else []
    trials = "trials that have ended" if has_epochs else "trials with a value that have ended"
    texts = (trials, f"{unit} since the first claim", *(["epochs trained, of all trials"] if has_epochs else []))
    for each, (xs, chosen), text in zip(axes, over, texts, strict=True):
        values, best = [course.values[k] for k in chosen], [course.best[k] for k in chosen]
        crowded = len(values) > MANY
        each.plot(
            xs, values, "o", color=GREY, markersize=MARKER, markeredgewidth=0, rasterized=crowded, label="a trial"
        )
        each.step(xs, best, where="post", color=KINDS[0], linewidth=1.8, label="best so far")
        dress(each, "y", Column(metric, course.values))
        dress(each, "x", Column(Quantity(text, scale="linear"), []))
        each.label_outer()
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=TEXT, frameon=False
    )
    return figure


def draw_simulated_searches(
    searches: Sequence[Sequence[float]], median: Sequence[float], of: int, metric: Quantity
) -> Figure:
    """The best so far over evaluations, for some simulated searches, and the median of many.

    Args:
        of: the number of searches over which the median is taken.
    """
    figure, (axes,) = new_figure(COLUMN, 2.8)
    for k, search in enumerate(searches):
        label = f"{len(searches)} simulated searches" if k == 0 else None
        axes.step(range(1, len(search) + 1), search, where="post", color=GREY, linewidth=0.7, alpha=0.8, label=label)
    median_label = f"median of {of:,}"
    axes.step(range(1, len(median) + 1), median, where="post", color=KINDS[0], linewidth=2, label=median_label)
    values = [value for search in searches for value in search]
    dress(axes, "y", Column(replace(metric, label=f"best {metric.label} so far"), values))
    dress(axes, "x", Column(Quantity("evaluations", scale="log"), [1, len(median)]))
    axes.legend(fontsize=TEXT, frameon=False)
    return figure
