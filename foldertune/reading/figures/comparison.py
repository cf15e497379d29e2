"""The best so far of several studies, over trials, over time and over epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from foldertune.reading.comparison import Comparison, Step, steps_of
from foldertune.reading.content import Picture
from foldertune.reading.facts import Column
from foldertune.reading.figures.style import KINDS, ORDERED, PAGE, TEXT, cut, dress, looks, new_figure
from foldertune.study import Quantity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OVER: dict[str, Callable[[Step], float | None]] = {
    "trials that have ended": lambda step: step.trials,
    "seconds at work": lambda step: step.seconds,
    "epochs": lambda step: step.epochs,
}


def picture_of_comparison(comparison: Comparison) -> Picture | None:
    """The picture; None if the studies have different metrics, or none has two results."""
    courses = {entry.name: steps_of(entry.results) for entry in comparison.ordered[: len(ORDERED)]}
    if not comparison.is_fair or all(len(steps) < 2 for steps in courses.values()):
        return None
    study = comparison.entries[0].results.study
    left_out = len(comparison.ordered) - len(courses)
    most = f"; the best {len(courses)} of {len(comparison.ordered)} studies" if left_out else ""
    caption = (
        f"The best {study.quantity(study.metric).label} so far, over trials, over time at work and over epochs{most}."
    )
    return Picture("comparison", caption, lambda: draw_comparison(courses, study.quantity(study.metric)))


def draw_comparison(courses: dict[str, list[Step]], metric: Quantity) -> Figure:
    """One line per study. A panel without any numbers, such as epochs that nobody reported, is left out."""
    styles = looks(list(courses))
    points = {
        over: {
            name: [(x, step.best) for step in steps if (x := place(step)) is not None]
            for name, steps in courses.items()
        }
        for over, place in OVER.items()
    }
    there = {over: lines for over, lines in points.items() if any(lines.values())}
    figure, axes = new_figure(PAGE, 2.6, 1, len(there), sharey=True)
    for each, (over, lines) in zip(axes, there.items(), strict=True):
        for name, line in lines.items():
            look = {
                "marker": "o" if len(line) == 1 else "",
                "label": cut(name, 40),
                "linewidth": 1.6,
                **styles[name].line,
            }
            each.step([x for x, _ in line], [y for _, y in line], where="post", **look)
        best = replace(metric, label=f"best {metric.label} so far")
        dress(each, "y", Column(best, [y for line in lines.values() for _, y in line]))
        dress(each, "x", Column(Quantity(over, scale="linear"), [x for line in lines.values() for x, _ in line]))
        each.label_outer()
    columns = 3 if len(courses) <= len(KINDS) else 4
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, fontsize=TEXT, frameon=False)
    return figure
