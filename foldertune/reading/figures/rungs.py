"""The rungs of a schedule: what each training had come to, and which went on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foldertune.reading.facts import Column
from foldertune.reading.figures.style import (
    GREY,
    HIGHLIGHTED,
    INK,
    MANY,
    MARKER,
    PAGE,
    TEXT,
    best_looks,
    dress,
    new_figure,
    sample_of,
)
from foldertune.study import Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WENT_ON: dict[str, Any] = {"color": INK, "markeredgewidth": 0}
ENDED: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": GREY}
DIVERGED: dict[str, Any] = {"marker": "x", "color": INK}


@dataclass(frozen=True)
class Climb:
    """One training through its rungs: how long it had trained, and the metric then."""

    number: int  # of its last trial
    levels: Sequence[float]
    values: Sequence[float]
    has_diverged: bool = False  # after the last of these


def draw_rungs(climbs: Sequence[Climb], fidelity: Quantity, metric: Quantity) -> Figure:
    """A line for each training, from rung to rung; the best in colour, which come first and have not diverged."""
    from matplotlib.lines import Line2D

    figure, (axes,) = new_figure(PAGE, 3.2)
    ranked = [climb for climb in climbs if not climb.has_diverged]
    diverged = [climb for climb in climbs if climb.has_diverged]
    _draw_others(axes, sample_of([*ranked[HIGHLIGHTED:], *diverged]))
    handles = []
    for place, (climb, look) in enumerate(zip(ranked, best_looks(), strict=False)):
        mark = {"marker": look.marker, "markersize": MARKER, "linewidth": 1.6, "zorder": 5 - place / 10}
        label = f"{'best: ' * (place == 0)}trial {climb.number}"
        handles += axes.plot(climb.levels, climb.values, label=label, **look.line, **mark)
    if len(ranked) > HIGHLIGHTED:
        mark = {"linestyle": "", "marker": "o", "markersize": MARKER}
        handles.append(Line2D([], [], label="went on", **mark, **WENT_ON))
        handles.append(Line2D([], [], label="ended there", **mark, **ENDED))
    if diverged:
        handles.append(Line2D([], [], label="diverged after it", linestyle="", markersize=MARKER, **DIVERGED))
    levels = sorted({level for climb in climbs for level in climb.levels})
    dress(axes, "x", Column(fidelity, levels))
    dress(axes, "y", Column(metric, [value for climb in climbs for value in climb.values]))
    axes.set_xticks(levels)
    axes.minorticks_off()
    figure.legend(handles=handles, loc="outside upper left", ncols=6, fontsize=TEXT, frameon=False, columnspacing=1.2)
    return figure


def _draw_others(axes: Axes, climbs: Sequence[Climb]) -> None:
    """Draw trainings in grey: full points where they went on, empty ones where they ended, crosses before no value."""
    crowded = sum(len(climb.levels) for climb in climbs) > MANY
    for climb in climbs:
        axes.plot(climb.levels, climb.values, color=GREY, linewidth=0.7, alpha=0.6, rasterized=crowded)
    ends = [(climb.levels[-1], climb.values[-1]) for climb in climbs if not climb.has_diverged]
    lost = [(climb.levels[-1], climb.values[-1]) for climb in climbs if climb.has_diverged]
    below = [point for climb in climbs for point in zip(climb.levels[:-1], climb.values[:-1], strict=True)]
    for points, look in ((ends, ENDED), (below, WENT_ON), (lost, DIVERGED)):
        xs, ys = [x for x, _ in points], [y for _, y in points]
        mark = {"marker": "o", "linestyle": "", "markersize": MARKER, **look}
        axes.plot(xs, ys, rasterized=crowded, zorder=3, **mark)
