"""Learning curves of groups of equal settings, and of all trials of a study."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foldertune.reading.facts import Column, Curve, Runs
from foldertune.reading.figures.labels import End, fit, head, label_ends
from foldertune.reading.figures.style import (
    COLUMN,
    GREY,
    MARKER,
    MOST_TICKS,
    PAGE,
    TEXT,
    Look,
    best_looks,
    cut,
    dress,
    looks,
    new_figure,
    plain,
)
from foldertune.reading.samples import Sample
from foldertune.study import Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

APART = 0.11  # the least distance between ticks at values, as a share of the axis
CROWDED = 24  # curves; a panel with more draws single runs thin and their median thick
MOST_LETTERS = 400  # of a trial in a legend
NO_BREAK = "\u00a0"
LETTERS = 13  # that fit into an inch of a legend


# ---------------------------------------------------------------- groups of equal settings


def draw_groups(groups: Sequence[Runs], names: Sequence[Quantity], x: Quantity, y: Quantity) -> Figure:
    """The curves of every run, by one or two settings: a panel per value of the first, a colour per value of the last.

    Args:
        names: the settings by which the runs are grouped; a group's key holds their values.
    """
    first = len(names) > 1
    by_panel = [list(members) for _, members in itertools.groupby(groups, key=lambda g: g.key[0] if first else None)]
    styles = looks([group.key[-1] for group in groups])
    width = COLUMN if len(by_panel) == 1 else min(2.3 * len(by_panel) + 0.5, PAGE)
    figure, axes = new_figure(width, 2.8, 1, len(by_panel), sharex=True, sharey=True)
    panels = [(each, _draw_panel(each, members, styles)) for each, members in zip(axes, by_panel, strict=True)]
    curves = [curve for group in groups for curve in group.curves]
    across, up = Column(x, [x for c in curves for x in c.xs]), Column(y, [y for c in curves for y in c.ys])
    for each, members in zip(axes, by_panel, strict=True):
        if first:
            each.set_title(plain(f"{names[0].label} {cut(members[0].key[0])}"), fontsize=TEXT, loc="left")
        dress(each, "x", across)
        dress(each, "y", up)
        each.label_outer()
    _name_lines(figure, panels, styles, names[-1].label)
    return figure


def _draw_panel(axes: Axes, groups: Sequence[Runs], styles: Mapping[Any, Look]) -> list[End]:
    """Draw the groups of one panel and return the ends of their lines."""
    crowded = len(groups) > 1 and sum(len(group.curves) for group in groups) > CROWDED
    thin = {"linewidth": 0.6, "alpha": 0.35} if crowded else {"linewidth": 1.1}
    ends = []
    for group in groups:
        look = styles[group.key[-1]]
        for curve in group.curves:
            _draw_curve(axes, curve, **look.line, **thin)
        if crowded:
            _draw_curve(axes, group.median, linewidth=1.6, **look.line)
        named = [group.median] if crowded else group.curves
        ends += [End(cut(group.key[-1]), c.xs[-1], c.ys[-1], look.colour) for c in named if c.xs]
    return ends


def _draw_curve(axes: Axes, curve: Curve, **look: Any) -> None:
    """Draw a curve as a line, or as a point if it has a single epoch."""
    axes.plot(curve.xs, curve.ys, marker="o" if len(curve.xs) == 1 else "", markersize=MARKER, **look)


def _name_lines(
    figure: Figure, panels: Sequence[tuple[Axes, Sequence[End]]], styles: Mapping[Any, Look], title: str
) -> None:
    """Name the lines at their ends; or in a legend at the right of the panels, if the names don't fit there."""
    from matplotlib.lines import Line2D

    if fit([cut(value) for value in styles]):
        head(panels[-1][0], plain(title))
        label_ends(figure, panels)
        return
    handles = [Line2D([], [], linewidth=1.6, **look.line) for look in styles.values()]
    figure.legend(
        handles, [cut(value, 24) for value in styles], title=plain(title), loc="outside right upper",
        fontsize=TEXT, title_fontsize=TEXT, frameon=False, handlelength=2.6,
    )  # fmt: skip


# ---------------------------------------------------------------- a measure over a setting


def draw_points(lines: Mapping[Any, Sequence[tuple[float, Sample]]], x: Quantity, y: Quantity, title: str) -> Figure:
    """A measure over a number, one line per group: means over runs, with bars for their standard deviation.

    Each line is moved sideways a little, so that points of several lines don't cover each other.

    Args:
        title: the quantity by which the lines are named.
    """
    figure, (axes,) = new_figure(COLUMN, 2.8)
    styles = looks(list(lines))
    drawn: tuple[list[float], list[float]] = ([], [])
    ends = []
    for k, (name, points) in enumerate(lines.items()):
        known = sorted(((at, sample) for at, sample in points if sample.values), key=lambda pair: pair[0])
        if known:
            aside = 3 * (k - (len(lines) - 1) / 2)  # points
            reach = _draw_means(axes, known, styles[name], aside)
            drawn[0].extend(at for at, _ in known)
            drawn[1].extend(reach)
            ends.append(End(cut(name), known[-1][0], known[-1][1].mean, styles[name].colour, aside))
    dress(axes, "x", Column(x, drawn[0]))
    dress(axes, "y", Column(y, drawn[1]))
    axes.autoscale_view()
    _mark_values(axes, x, drawn[0])
    _name_lines(figure, [(axes, ends)], styles, title)
    return figure


def _draw_means(axes: Axes, points: Sequence[tuple[float, Sample]], look: Look, aside: float) -> list[float]:
    """Draw one line, moved to the right by `aside` points, and return the values at the ends of its bars."""
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D
    from matplotlib.transforms import offset_copy

    bars = []
    for at, sample in points:
        mean, spread = sample.mean, sample.deviation or 0.0
        bars.append([(at, mean - spread if mean > spread else mean), (at, mean + spread)])
    ends = [end for bar in bars for end in bar]
    style = {"transform": offset_copy(axes.transData, axes.get_figure(), x=aside, units="points")}
    axes.add_artist(LineCollection(bars, colors=[look.colour], linewidths=1, **style))
    mark = {"marker": look.marker, "markersize": MARKER, "linewidth": 1.2}
    means = [sample.mean for _, sample in points]
    axes.add_artist(Line2D([at for at, _ in points], means, **look.line, **mark, **style))
    axes.update_datalim(ends)
    return [height for _, height in ends]


def _mark_values(axes: Axes, quantity: Quantity, values: Sequence[float]) -> None:
    """Put ticks at the values themselves, if they are few and far enough apart."""
    known = sorted(set(values))
    shares = [float(axes.transLimits.transform(axes.transScale.transform((value, 1)))[0]) for value in known]
    if 1 < len(known) <= MOST_TICKS and min(b - a for a, b in itertools.pairwise(shares)) > APART:
        axes.set_xticks(known, [quantity.tick(float(f"{value:.3g}")) for value in known])
        axes.minorticks_off()


# ---------------------------------------------------------------- all trials


@dataclass(frozen=True)
class Panel:
    """The curves of one measure: of the best trials, best first, and of the others."""

    measure: Quantity
    best: list[Curve]
    others: list[Curve]


def draw_learning_curves(panels: Sequence[Panel], epoch: Quantity, names: Sequence[str]) -> Figure:
    """One panel per measure, over epochs. The best trials are in colour.

    Args:
        names: the legend's texts for the best trials, and one for the others if there are any.
    """
    from matplotlib.lines import Line2D

    width = PAGE if len(panels) > 1 else 5.0
    labels = [_in_lines(name, round(LETTERS * width)) for name in names]
    lines = sum(1 + label.count("\n") for label in labels)
    figure, axes = new_figure(width, 2.9 + 0.15 * lines, 1, len(panels))
    for each, panel in zip(axes, panels, strict=True):
        for curve in panel.others:
            _draw_curve(each, curve, color=GREY, linewidth=0.7, alpha=0.6)
        best = list(enumerate(zip(panel.best, best_looks(), strict=False)))
        for k, (curve, look) in reversed(best):  # the best on top
            _draw_curve(each, curve, linewidth=1.6, zorder=4 - k / 10, **look.line)
        dress(each, "x", Column(epoch, [1]))
        dress(each, "y", Column(panel.measure, [y for curve in (*panel.others, *panel.best) for y in curve.ys]))
        each.margins(x=0.02)
    handles = [
        Line2D([], [], linewidth=1.6, **look.line) for look, _ in zip(best_looks(), panels[0].best, strict=False)
    ]
    handles.append(Line2D([], [], color=GREY, linewidth=0.8))
    figure.legend(
        handles[: len(labels)], labels, loc="outside lower left", fontsize=TEXT, frameon=False, handlelength=2.6
    )
    return figure


def _in_lines(name: str, letters: int) -> str:
    """A trial with its settings, for a legend, in lines of at most so many letters. No setting is broken."""
    text = cut(name, MOST_LETTERS).replace(" ", NO_BREAK).replace(f",{NO_BREAK}", ", ")
    return "\n".join(textwrap.wrap(text, letters)).replace(NO_BREAK, " ")
