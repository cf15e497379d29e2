"""Learning curves of groups of equal settings, and of all trials of a study."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from foldertune.protocol import Trial
from foldertune.reading.facts import Curve, median_curve
from foldertune.reading.figures.labels import End, fit, head, label_ends
from foldertune.reading.figures.style import (
    COLUMN,
    GREY,
    HIGHLIGHTED,
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
    quantity_of,
    sample_of,
    tick,
)
from foldertune.reading.results import Group, Results
from foldertune.reading.samples import Sample
from foldertune.reading.words import described
from foldertune.study import Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

APART = 0.11  # the least distance between ticks at values, as a share of the axis
CROWDED = 24  # curves; a panel with more draws single runs thin and their median thick
MOST_MEASURES = 4
MOST_LETTERS = 400  # of a trial in a legend
NO_BREAK = "\u00a0"
LETTERS = 13  # that fit into an inch of a legend


# ---------------------------------------------------------------- groups of equal settings


def draw_groups(groups: Sequence[Group], names: Sequence[str], measure: str, over: str = "epoch") -> Figure:
    """The curves of every run, by one or two settings: a panel per value of the first, a colour per value of the last.

    Args:
        names: the settings by which the trials are grouped; a group's key holds their values.
        over: the measure on the x-axis, such as the seconds.
    """
    results = groups[0].results
    study, first = results.study, len(names) > 1
    by_panel = [list(members) for _, members in itertools.groupby(groups, key=lambda g: g.key[0] if first else None)]
    styles = looks([group.key[-1] for group in groups])
    direct = fit([cut(value) for value in styles])
    width = COLUMN if len(by_panel) == 1 else min(2.3 * len(by_panel) + 0.5, PAGE)
    figure, axes = new_figure(width, 2.8, 1, len(by_panel), sharex=True, sharey=True)
    panels: list[tuple[Axes, list[End]]] = []
    drawn: tuple[list[float], list[float]] = ([], [])
    for each, members in zip(axes, by_panel, strict=True):
        panels.append((each, _draw_panel(each, members, styles, measure, over, drawn)))
        if first:
            title = f"{study.quantity(names[0]).label} {cut(members[0].key[0])}"
            each.set_title(plain(title), fontsize=TEXT, loc="left")
    for each in axes:
        dress(each, "x", quantity_of(study, over), drawn[0])
        dress(each, "y", quantity_of(study, measure), drawn[1])
        each.label_outer()
    title = plain(study.quantity(names[-1]).label)
    if direct:
        head(axes[-1], title)
        label_ends(figure, panels)
    else:
        add_legend(figure, styles, title)
    return figure


def _draw_panel(
    axes: Axes, groups: Sequence[Group], styles: Mapping[Any, Look], measure: str, over: str, drawn: tuple[Any, Any]
) -> list[End]:
    """Draw the groups of one panel and return the ends of their lines. `drawn` collects all points."""
    crowded = len(groups) > 1 and sum(len(group.trials) for group in groups) > CROWDED
    thin = {"linewidth": 0.6, "alpha": 0.35} if crowded else {"linewidth": 1.1}
    ends = []
    for group in groups:
        look = styles[group.key[-1]]
        curves = [group.results.curve(trial, measure, over) for trial in group.trials]
        for curve in curves:
            _draw_curve(axes, curve, **look.line, **thin)
            for known, new in zip(drawn, (curve.xs, curve.ys), strict=True):
                known.extend(new)
        if crowded:
            curves = [median_curve(curves)]
            _draw_curve(axes, curves[0], linewidth=1.6, **look.line)
        ends += [End(cut(group.key[-1]), c.xs[-1], c.ys[-1], look.colour) for c in curves if c.xs]
    return ends


def _draw_curve(axes: Axes, curve: Curve, **look: Any) -> None:
    """Draw a curve as a line, or as a point if it has a single epoch."""
    axes.plot(curve.xs, curve.ys, marker="o" if len(curve.xs) == 1 else "", markersize=MARKER, **look)


def add_legend(figure: Figure, styles: Mapping[Any, Look], title: str) -> None:
    """Add a legend at the right of the panels, for names that don't fit at the lines."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linewidth=1.6, **look.line) for look in styles.values()]
    figure.legend(
        handles, [cut(value, 24) for value in styles], title=title, loc="outside right upper",
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
    dress(axes, "x", x, drawn[0])
    dress(axes, "y", y, drawn[1])
    axes.autoscale_view()
    _mark_values(axes, x, drawn[0])
    if fit([cut(name) for name in lines]):
        head(axes, plain(title))
        label_ends(figure, [(axes, ends)])
    else:
        add_legend(figure, styles, plain(title))
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
        axes.set_xticks(known, [tick(quantity, float(f"{value:.3g}")) for value in known])
        axes.minorticks_off()


# ---------------------------------------------------------------- all trials


def draw_learning_curves(results: Results) -> Figure:
    """One panel per measure, over epochs. The best trials are in colour, and in the legend with their settings."""
    from matplotlib.lines import Line2D

    begun = [trial for trial in (*results.trials, *results.in_hand) if trial.epochs]
    highlighted = [trial for trial, _ in results.scored[:HIGHLIGHTED]]
    best = dict(zip([trial.name.number for trial in highlighted], best_looks(), strict=False))
    others = sample_of([trial for trial in begun if trial.name.number not in best])
    names = results.measures[:MOST_MEASURES]
    width = PAGE if len(names) > 1 else 5.0
    labels = [_described(results, trial, round(LETTERS * width)) for trial in highlighted]
    lines = sum(1 + label.count("\n") for label in labels)
    figure, axes = new_figure(width, 2.9 + 0.15 * lines, 1, len(names))
    for each, name in zip(axes, names, strict=True):
        values: list[float] = []
        for trial in others:
            curve = results.curve(trial, name)
            _draw_curve(each, curve, color=GREY, linewidth=0.7, alpha=0.6)
            values += curve.ys
        for k, trial in reversed(list(enumerate(highlighted))):  # the best on top
            curve = results.curve(trial, name)
            _draw_curve(each, curve, linewidth=1.6, zorder=4 - k / 10, **best[trial.name.number].line)
            values += curve.ys
        dress(each, "x", quantity_of(results.study, "epoch"), [1])
        dress(each, "y", quantity_of(results.study, name), values)
        each.margins(x=0.02)
    handles = [Line2D([], [], linewidth=1.6, **look.line) for look in best.values()]
    if others:
        handles.append(Line2D([], [], color=GREY, linewidth=0.8))
        labels.append("the others")
    figure.legend(handles, labels, loc="outside lower left", fontsize=TEXT, frameon=False, handlelength=2.6)
    return figure


def _described(results: Results, trial: Trial, letters: int) -> str:
    """A trial with its settings, for a legend, in lines of at most so many letters."""
    study, value = results.study, results.value(trial)
    metric = study.quantity(study.metric)
    shown = "" if value is None else metric.show(value)
    text = f"trial {trial.name.number}: {metric.label} {shown} ({described(trial.settings, study.space)})"
    text = cut(text, MOST_LETTERS).replace(" ", NO_BREAK).replace(f",{NO_BREAK}", ", ")
    return "\n".join(textwrap.wrap(text, letters)).replace(NO_BREAK, " ")
