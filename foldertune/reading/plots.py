"""Pictures: every function here draws one matplotlib Figure from trials or numbers, and decides nothing else.

Colours stand for settings and stay the same in all figures of a study: Okabe and Ito's for a few kinds, matplotlib's
viridis for values that have an order. Both are told apart by the colour-blind; line styles tell in print as well.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foldertune.protocol import Trial, printable
from foldertune.reading.results import Results as Search
from foldertune.reading.importance import Importance, rank_all
from foldertune.reading.samples import Sample, finite
from foldertune.reading.spans import Span
from foldertune.rows import Row
from foldertune.space import Categorical
from foldertune.study import Study
from foldertune.tables import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter

HIGHLIGHTED = 4
EFFECTIVE_RATE, PERCENT = 'effective_rate', ('error', 'accuracy')
KINDS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")
GREY, PALE, INK = "#9a9a9a", "#e0e0e0", "#262626"
MANY = 500  # points or bars; more are kept as pixels, or an SVG would be too large
MOST_WORKERS = 60  # lines of a timeline
MOST_DRAWN = 500  # curves; of more, so many drawn at random: others would only hide each other
NOT_MEASURES = ("epoch", "seconds")


@dataclass(frozen=True)
class Look:
    """How the curves of one group are drawn."""

    colour: Any
    style: str = "-"


@dataclass(frozen=True)
class Panel:
    """One picture of a row: what over what. Measures are keys of an epoch's line, `validation_error` besides."""

    y: str
    x: str = "epoch"
    log_x: bool = False
    log_y: bool = True


# ---------------------------------------------------------------- style


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches and its axes, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.spines[["left", "bottom"]].set_color(INK)
        each.tick_params(labelsize=8, colors=INK)
        each.grid(color=PALE, linewidth=0.6)
        each.set_axisbelow(True)
    return figure, axes


def looks(values: Sequence[Any]) -> dict[Any, Look]:
    """A look for each value: kinds for up to three or for texts, else along viridis in their order."""
    distinct = list(dict.fromkeys(values))
    if all(finite(value) is not None for value in distinct):
        distinct.sort()
        if len(distinct) > 3:
            from matplotlib import colormaps

            steps = [0.88 * k / (len(distinct) - 1) for k in range(len(distinct))]
            return {value: Look(colormaps["viridis"](step)) for value, step in zip(distinct, steps, strict=True)}
    return {value: Look(KINDS[k % len(KINDS)], STYLES[k // len(KINDS) % 4]) for k, value in enumerate(distinct)}


def name_of(measure: str) -> str:
    """The text at an axis: with its unit."""
    known = {"seconds": "training time (s)", EFFECTIVE_RATE: "effective rate LR / (1 − M)"}
    return known.get(measure, plain(measure.replace("_", " ")))


def plain(text: str) -> str:
    """What a file says, as matplotlib shall show it: no formula, nothing unprintable."""
    return printable(text).replace("$", r"\$")


def dress(axes: Axes, which: str, measure: str, log: bool, values: Sequence[float]) -> None:
    """Label one axis; `log`: on a logarithmic scale, if the values allow it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    getattr(axes, f"set_{which}label")(name_of(measure), fontsize=9, color=INK)
    positive = [value for value in values if value > 0]
    formatter: Formatter = FuncFormatter(lambda value, _: _tick(value, measure))
    if log and positive and len(positive) == len(values):
        getattr(axes, f"set_{which}scale")("log")
        wide = max(positive) / min(positive)
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if wide < 300 else (1.0,)))
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(formatter)
    elif measure == "epoch" or all(float(value).is_integer() for value in values):
        axis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    elif measure.endswith(PERCENT):
        axis.set_major_formatter(formatter)


def _tick(value: float, measure: str) -> str:
    if measure.endswith(PERCENT):
        return f"{100 * value:.6g} %"
    return f"{value:.6g}" if 1e-4 <= abs(value) < 1e5 or value == 0 else f"{value:.0e}"


def wide(values: Sequence[float]) -> bool:
    """Do they ask for a logarithmic scale?"""
    return bool(values) and min(values) > 0 and max(values) > 20 * min(values)


# ---------------------------------------------------------------- learning curves


def measure_of(epoch: Mapping[str, Any], measure: str) -> float | None:
    """A measure of one epoch; the validation error where only the accuracy stands there."""
    value = finite(epoch.get(measure))
    if value is None and measure == "validation_error":
        accuracy = finite(epoch.get("validation_accuracy"))
        return None if accuracy is None else 1 - accuracy
    return value


def curve(trial: Trial, panel: Panel) -> tuple[list[float], list[float]]:
    """The points of a learning curve; where a value is missing there is none."""
    points = [(measure_of(epoch, panel.x), measure_of(epoch, panel.y)) for epoch in trial.epochs]
    there = [(x, y) for x, y in points if x is not None and y is not None]
    return [x for x, _ in there], [y for _, y in there]


def median_curve(trials: Sequence[Trial], panel: Panel) -> tuple[list[float], list[float]]:
    """The median of the runs at each epoch that all of them have reached."""
    curves = [points for points in (curve(trial, panel) for trial in trials) if points[0]]
    xs, ys = zip(*curves, strict=True) if curves else ((), ())
    return (
        [statistics.median(x) for x in zip(*xs, strict=False)],
        [statistics.median(y) for y in zip(*ys, strict=False)],
    )


def draw_groups(
    groups: Mapping[str, Sequence[Trial]], styles: Mapping[str, Look], panels: Sequence[Panel], title: str
) -> Figure:
    """Learning curves by groups of equal settings, one picture a panel: every run, and the median of many.

    Args:
        title: of the legend: what the groups' names are values of.
    """
    from matplotlib.lines import Line2D

    figure, axes = new_figure(3.5 * len(panels) + 1.4, 3.5, 1, len(panels))
    crowded = len(groups) > 1 and sum(map(len, groups.values())) > 24
    for each, panel in zip(axes, panels, strict=True):
        drawn: tuple[list[float], list[float]] = ([], [])
        for name, trials in groups.items():
            look = {"color": styles[name].colour, "linestyle": styles[name].style}
            for trial in trials:
                thin = {"linewidth": 0.6, "alpha": 0.3} if crowded else {"linewidth": 1.1, "alpha": 0.9}
                points = curve(trial, panel)
                each.plot(*points, marker="." if len(points[0]) == 1 else "", **look, **thin)
                for known, new in zip(drawn, points, strict=True):
                    known.extend(new)
            if crowded:
                each.plot(*median_curve(trials, panel), linewidth=1.6, **look)
        dress(each, "x", panel.x, panel.log_x, drawn[0])
        dress(each, "y", panel.y, panel.log_y, drawn[1])
    handles = [Line2D([], [], color=styles[n].colour, linestyle=styles[n].style, linewidth=1.6) for n in groups]
    add_legend(figure, handles, list(groups), title)
    return figure


def add_legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str], title: str = "") -> None:
    """A legend to the right of the pictures."""
    figure.legend(
        handles, [plain(label) for label in labels], title=plain(title), loc="outside right upper",
        fontsize=8, title_fontsize=8, frameon=False, handlelength=2.6,
    )  # fmt: skip


def measures(trials: Sequence[Trial]) -> list[str]:
    """What the trials reported after their epochs, in the order of its first appearance."""
    found: dict[str, None] = {}
    for trial in trials:
        for epoch in trial.epochs:
            if not epoch.keys() <= found.keys():
                found.update((key, None) for key, value in epoch.items() if finite(value) is not None)
    return [key for key in found if key not in NOT_MEASURES]


def draw_learning_curves(study: Study, trials: Sequence[Trial]) -> Figure:
    """One picture a measure, over epochs; the best trials so far in colour, and in the legend."""
    from matplotlib.lines import Line2D

    panels = [Panel(measure) for measure in measures(trials)[:4]]
    rows = {trial.name.number: Row.from_trial(trial) for trial in trials if trial.result is not None}
    ranked = [row for row in rank(rows.values(), study.metric, study.direction) if row.value(study.metric) is not None]
    best = {row.trial: position for position, row in enumerate(ranked[:HIGHLIGHTED])}
    shown = [trial for trial in trials if trial.name.number in best]
    shown = sample_of([trial for trial in trials if trial.name.number not in best]) + shown
    figure, axes = new_figure(max(3.3 * len(panels), 4.5), 3.5 + 0.18 * (len(best) + 1), 1, len(panels))
    for each, panel in zip(axes, panels, strict=True):
        curves = [(trial, curve(trial, panel)) for trial in shown]
        others = [points for trial, points in curves if trial.name.number not in best and points[0]]
        for points in others:
            each.plot(*points, color=GREY, linewidth=0.8, alpha=0.6, marker="." if len(points[0]) == 1 else "")
        for trial, points in curves:
            position = best.get(trial.name.number)
            if position is not None and points[0]:
                look = {"color": KINDS[position], "linestyle": STYLES[position], "zorder": 3 - position / 10}
                each.plot(*points, linewidth=1.8, marker="." if len(points[0]) == 1 else "", **look)
        values = [y for _, points in curves for y in points[1]]
        dress(each, "x", "epoch", False, [1])
        dress(each, "y", panel.y, ("loss" in panel.y or "error" in panel.y) and wide(values), values)
        each.margins(x=0.02)
    handles = [Line2D([], [], color=KINDS[k], linestyle=STYLES[k], linewidth=1.8) for k in best.values()]
    labels = [_described(study, rows[number]) for number in best]
    if len(trials) > len(best):
        handles.append(Line2D([], [], color=GREY, linewidth=0.8))
        labels.append("the others")
    figure.legend(handles, [plain(label) for label in labels], loc="outside lower left", fontsize=8, frameon=False)
    return figure


def sample_of(items: Sequence[Any]) -> list[Any]:
    """All of them, in their order, or as many as a figure can show, drawn at random."""
    if len(items) <= MOST_DRAWN:
        return list(items)
    return [items[k] for k in sorted(random.Random(0).sample(range(len(items)), MOST_DRAWN))]


def _described(study: Study, row: Row) -> str:
    searched = ", ".join(f"{key.replace('_', ' ')} {short(row.settings.get(key))}" for key in study.space)
    return f"trial {row.trial}: {study.metric.replace('_', ' ')} {short(row.value(study.metric))} ({searched})"


# ---------------------------------------------------------------- the course of a search


def draw_best_so_far(search: Search) -> Figure:
    """The metric of every trial in the order of its end, and the best so far: over trials, and over time."""
    study = search.study
    ended = sorted((s for s in spans(search) if s.state == "seen"), key=lambda s: s.end)
    values = {trial.name.number: finite((trial.result or {}).get(study.metric)) for trial in search.trials}
    known = [(span, value) for span in ended if (value := values.get(span.number)) is not None]
    numbers = [value for _, value in known]
    start = min((span.start for span in ended), default=0.0)
    seconds = [span.end - start for span, _ in known]
    unit, name = (3600, "hours") if seconds and seconds[-1] > 7200 else (60, "minutes")
    figure, axes = new_figure(7.2, 3.0, 1, 2)
    over = [list(range(1, len(numbers) + 1)), [second / unit for second in seconds]]
    texts = ("trials with a value that have ended", f"{name} since the first claim")
    for each, xs, text in zip(axes, over, texts, strict=True):
        each.plot(xs, numbers, ".", color=GREY, markersize=4, rasterized=len(numbers) > MANY, label="a trial")
        each.step(xs, best_so_far(numbers, study), where="post", color=KINDS[0], linewidth=1.8, label="best so far")
        dress(each, "y", study.metric, wide(numbers), numbers)
        each.set_xlabel(text, fontsize=9, color=INK)
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def best_so_far(values: Sequence[float], study: Study) -> list[float]:
    """The best of the first, of the first two, …"""
    result: list[float] = []
    for value in values:
        result.append(value if not result or study.is_better(value, result[-1]) else result[-1])
    return result


def draw_timeline(search: Search) -> Figure:
    """Who trained what when: a line a worker, a bar a trial; lost attempts hatched."""
    from matplotlib.patches import Patch

    found = spans(search)
    lost = {s.worker for s in found if s.state == "lost"}
    by_host = sorted(found, key=lambda s: (s.host, s.start))
    workers = list(dict.fromkeys(s.worker for s in by_host))
    if len(workers) > MOST_WORKERS:
        workers = sorted(workers, key=lambda worker: worker not in lost)[:MOST_WORKERS]
    start = min((s.start for s in found), default=0.0)
    length = max((s.end for s in found), default=1.0) - start
    unit, name = (3600, "hours") if length > 7200 else (60, "minutes") if length > 120 else (1, "seconds")
    figure, (axes,) = new_figure(7.6, 1.1 + 0.34 * max(len(workers), 2))
    kinds = {"seen": ((KINDS[0], "#7fb8d8"), ""), "lost": (("#f2b48a",), "////"), "taken": (("#bfe3d7",), "")}
    for line, worker in enumerate(workers):
        mine = [s for s in found if s.worker == worker]
        for state, (colours, hatch) in kinds.items():
            chosen = [s for s in mine if (s.state if s.state in kinds else "taken") == state]
            bars = [((s.start - start) / unit, max((s.end - s.start) / unit, length / unit / 2000)) for s in chosen]
            shades = [colours[k % len(colours)] for k in range(len(bars))]
            edge = KINDS[1] if state == "lost" else "white"
            options = {"facecolors": shades, "hatch": hatch, "edgecolor": edge, "linewidth": 0.4}
            axes.broken_barh(bars, (line - 0.36, 0.72), rasterized=len(found) > MANY, zorder=2, **options)
        for s in mine if len(found) <= 80 else []:
            if (s.end - s.start) > length / 45:
                dark = s.state == "seen" and [m for m in mine if m.state == "seen"].index(s) % 2 == 0
                middle = ((s.start + s.end) / 2 - start) / unit
                colour = "white" if dark else INK
                axes.text(middle, line, str(s.number), ha="center", va="center", fontsize=6.5, color=colour, zorder=3)
    axes.set_yticks(range(len(workers)), [plain(worker) for worker in workers], fontsize=8)
    axes.set_ylim(len(workers) - 0.4, -0.6)
    axes.set_xlim(-0.01 * length / unit, 1.01 * length / unit)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{name} since the first claim", fontsize=9, color=INK)
    patches = [Patch(facecolor=KINDS[0], label="a trial (shades alternate)")]
    if search.lost:
        patches.append(Patch(facecolor="#f2b48a", edgecolor=KINDS[1], hatch="////", label="a lost attempt"))
    if search.in_hand:
        patches.append(Patch(facecolor="#bfe3d7", label="being trained"))
    figure.legend(handles=patches, loc="outside upper left", ncols=3, fontsize=8, frameon=False)
    return figure


def draw_progress(searches: Mapping[str, Sequence[Span]]) -> Figure:
    """Trials ended over minutes since the first claim, a line a search."""
    figure, (axes,) = new_figure(5.6, 3.0)
    for k, (name, found) in enumerate(searches.items()):
        start = min(s.start for s in found)
        ends = [0.0, *sorted((s.end - start) / 60 for s in found)]
        axes.step(ends, range(len(ends)), where="post", color=KINDS[k % 6], linestyle=STYLES[k % 4], label=plain(name))
    axes.set_xlabel("minutes since the first claim", fontsize=9, color=INK)
    axes.set_ylabel("trials that have ended", fontsize=9, color=INK)
    axes.legend(fontsize=8, frameon=False)
    return figure


# ---------------------------------------------------------------- settings against the metric


def scored(search: Search) -> list[tuple[Trial, float]]:
    """The trials with a value of the metric, best first."""
    study = search.study
    found = [(t, v) for t in search.trials if (v := finite((t.result or {}).get(study.metric))) is not None]
    return sorted(found, key=lambda pair: pair[1], reverse=study.direction == "maximize")


def draw_hyperparameters(search: Search, names: Sequence[str]) -> Figure:
    """The metric over each hyperparameter (and the effective rate, if it is named), the best trials in colour."""
    study, found = search.study, scored(search)
    columns = min(len(names), 3)
    height = math.ceil(len(names) / columns)
    figure, axes = new_figure(2.7 * columns + 0.4, 2.5 * height, height, columns)
    for each, name in zip(axes, names, strict=False):
        xs, ticks = positions([setting(trial, name) for trial, _ in found])
        ys = [value for _, value in found]
        each.plot(xs[::-1], ys[::-1], ".", color=GREY, alpha=0.7, markersize=5, rasterized=len(xs) > MANY)
        for k, (x, y) in enumerate(list(zip(xs, ys, strict=True))[:HIGHLIGHTED]):
            each.plot(x, y, "o", color=KINDS[k], markersize=6, markeredgecolor="white", zorder=4)
        numeric = [x for x in xs if math.isfinite(x)]
        dress(each, "y", study.metric, wide(ys), ys)
        dress(each, "x", name, is_log(study, name, numeric), numeric)
        if ticks:
            each.set_xticks(range(len(ticks)), [plain(short(tick))[:16] for tick in ticks])
    for each in axes[len(names) :]:
        each.set_visible(False)
    return figure


def setting(trial: Trial, name: str) -> Any:
    """The value of a hyperparameter, the effective rate among them."""
    return effective_rate(trial.settings) if name == EFFECTIVE_RATE else trial.settings.get(name)


def positions(values: Sequence[Any]) -> tuple[list[float], list[Any]]:
    """Where values stand on an axis, and the texts of its ticks if they are no numbers."""
    if all(value is None or finite(value) is not None for value in values):
        return [math.nan if value is None else float(value) for value in values], []
    ticks = sorted({short(value) for value in values})
    return [float(ticks.index(short(value))) for value in values], ticks


def is_log(study: Study, name: str, values: Sequence[float]) -> bool:
    """Is it searched, or spread, in the logarithm?"""
    dimension = study.space.get(name)
    if dimension is None or isinstance(dimension, Categorical):
        return wide(values)
    return dimension.log


def draw_pair(search: Search, pair: tuple[str, str]) -> Figure:
    """Two hyperparameters and the metric: a table of means for a grid, else points; the best is marked."""
    study, found = search.study, scored(search)
    found = found[:HIGHLIGHTED] + sample_of(found[HIGHLIGHTED:])
    if all(setting(trial, name) in choices_of(study, name) for trial, _ in found for name in pair):
        return _draw_table(search, pair)
    from matplotlib.colors import LogNorm, Normalize

    figure, (axes,) = new_figure(5.2, 3.8)
    (xs, x_ticks), (ys, y_ticks) = (positions([setting(t, name) for t, _ in found]) for name in pair)
    values = [value for _, value in found]
    norm = (LogNorm if wide(values) else Normalize)(min(values), max(values))
    colours = "viridis" if study.direction == "minimize" else "viridis_r"
    options = {"c": values[::-1], "norm": norm, "cmap": colours, "s": 26, "edgecolors": "white", "linewidths": 0.4}
    points = axes.scatter(xs[::-1], ys[::-1], zorder=3, **options)  # the best on top
    axes.plot(xs[0], ys[0], "*", color=KINDS[1], markersize=13, markeredgecolor="white", zorder=5, label="best")
    for which, name, there, ticks in (("x", pair[0], xs, x_ticks), ("y", pair[1], ys, y_ticks)):
        dress(axes, which, name, not ticks and is_log(study, name, there), there)
        if ticks:
            getattr(axes, f"set_{which}ticks")(range(len(ticks)), [plain(tick)[:16] for tick in ticks])
    add_colour_bar(figure, points, axes, study.metric, values)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(0, 1.12))
    return figure


def choices_of(study: Study, name: str) -> tuple[Any, ...]:
    """The values that a hyperparameter may take, if they are listed; else none."""
    dimension = study.space.get(name)
    return dimension.choices if isinstance(dimension, Categorical) else ()


def add_colour_bar(figure: Figure, drawn: Any, axes: Axes, metric: str, values: Sequence[float]) -> None:
    """What the colours mean."""
    bar = figure.colorbar(drawn, ax=axes)
    bar.ax.tick_params(labelsize=8, colors=INK)
    dress(bar.ax, "y", metric, wide(values), values)


def _draw_table(search: Search, pair: tuple[str, str]) -> Figure:
    from matplotlib.colors import LogNorm, Normalize

    study, found = search.study, scored(search)
    columns, rows = (choices_of(study, name) for name in pair)
    cells = [
        [
            Sample.of([value for t, value in found if (t.settings[pair[0]], t.settings[pair[1]]) == (x, y)])
            for x in columns
        ]
        for y in rows
    ]
    means = [[cell.mean if cell.values else math.nan for cell in line] for line in cells]
    values = [mean for line in means for mean in line if math.isfinite(mean)]
    figure, (axes,) = new_figure(2.2 + 0.85 * len(columns), 1.3 + 0.5 * len(rows))
    norm = (LogNorm if wide(values) else Normalize)(min(values), max(values))
    colours = "viridis" if study.direction == "minimize" else "viridis_r"
    image = axes.imshow(means, norm=norm, cmap=colours, aspect="auto")
    for i, line in enumerate(means):
        for j, mean in enumerate(line):
            if math.isfinite(mean):
                light = (norm(mean) > 0.6) == (study.direction == "minimize")
                colour = INK if light else "white"
                axes.text(
                    j, i, _tick(float(f"{mean:.3g}"), study.metric), ha="center", va="center", color=colour, fontsize=8
                )
    axes.set_xticks(range(len(columns)), [plain(short(x)) for x in columns])
    axes.set_yticks(range(len(rows)), [plain(short(y)) for y in rows])
    axes.set_xlabel(name_of(pair[0]), fontsize=9)
    axes.set_ylabel(name_of(pair[1]), fontsize=9)
    axes.grid(visible=False)
    add_colour_bar(figure, image, axes, study.metric, values)
    return figure


def draw_parallel_coordinates(search: Search) -> Figure:
    """One line a trial through its hyperparameters to the metric; the better, the darker and the more on top."""
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection

    study, found = search.study, scored(search)
    found = found[:HIGHLIGHTED] + sample_of(found[HIGHLIGHTED:])
    names = [name for name in study.space if len({short(t.settings.get(name)) for t, _ in found}) > 1]
    values = [value for _, value in found]
    figure, (axes,) = new_figure(max(1.7 * (len(names) + 1), 5.0), 3.6)
    heights: list[list[float]] = []
    for name in names:
        xs, ticks = positions([t.settings.get(name) for t, _ in found])
        heights.append(_scale(axes, len(heights), name, xs, ticks, not ticks and is_log(study, name, xs)))
    heights.append(_scale(axes, len(heights), study.metric, values, [], wide(values)))
    order = rank_all(values if study.direction == "minimize" else [-value for value in values])
    shades = [0.97 * ((position - 1) / max(len(values) - 1, 1)) ** 0.7 for position in order]
    lines = [list(enumerate(column)) for column in zip(*heights, strict=True)][::-1]
    colours = [(*colormaps["viridis"](shade)[:3], 0.9 - 0.6 * shade) for shade in shades][::-1]
    widths = [2.0 if k >= len(lines) - HIGHLIGHTED else 0.8 for k in range(len(lines))]
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=widths))
    axes.set_xlim(-0.15, len(heights) - 0.55)
    axes.set_ylim(-0.04, 1.04)
    axes.set_xticks(range(len(heights)), [name_of(name) for name in (*names, study.metric)], fontsize=9)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    return figure


def _scale(axes: Axes, x: int, name: str, values: Sequence[float], ticks: Sequence[Any], log: bool) -> list[float]:
    """One vertical axis with its numbers; returns where the values stand on it, from 0 to 1."""
    there = [value for value in values if math.isfinite(value)]
    low, high = min(there), max(there)
    log = log and low > 0

    def height(value: float) -> float:
        if not high > low:
            return 0.5
        if log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def value_at(share: float) -> float:
        return low * (high / low) ** share if log else low + (high - low) * share

    axes.axvline(x, color=INK, linewidth=0.8, zorder=4)
    texts = {height(k): short(tick)[:14] for k, tick in enumerate(ticks)}
    if not ticks:
        marks = [value_at(share) for share in (0, 0.25, 0.5, 0.75, 1)]
        whole = all(float(value).is_integer() for value in there)
        marks = [float(round(mark)) if whole else float(f"{mark:.2g}") for mark in marks] if high > low else [low]
        texts = {height(end): _tick(float(f"{end:.3g}"), name) for end in (low, high)}
        texts |= {at: _tick(mark, name) for mark in marks if low <= mark <= high and 0.06 < (at := height(mark)) < 0.94}
    for at, text in texts.items():
        axes.text(x + 0.03, at, plain(text), fontsize=7.5, va="center", zorder=5,
                  bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6})  # fmt: skip
    return [height(value) if math.isfinite(value) else math.nan for value in values]


def draw_importance(importance: Importance) -> Figure:
    """Bars: each hyperparameter's share of the variance, and what one, two or all of them predict."""
    figure, (left, right) = new_figure(7.6, 1.3 + 0.22 * max(len(importance.predicted), 3), 1, 2)
    shares = sorted(importance.shares.items(), key=lambda item: item[1])
    left.barh([name_of(name) for name, _ in shares], [share for _, share in shares], color=KINDS[0], height=0.62)
    left.set_xlabel("share of the variance\n(fANOVA)", fontsize=9, color=INK)
    predicted = sorted(importance.predicted.items(), key=lambda item: item[1])
    names = [_joined(chosen, len(importance.shares)) for chosen, _ in predicted]
    kinds = [
        KINDS[1] if EFFECTIVE_RATE in chosen else KINDS[0] if len(chosen) == 1 else GREY for chosen, _ in predicted
    ]
    right.barh(names, [max(share, 0.0) for _, share in predicted], color=kinds, height=0.62)
    right.set_xlabel("share of the variance predicted\nfor trials not seen", fontsize=9, color=INK)
    for axes, values in ((left, [s for _, s in shares]), (right, [s for _, s in predicted])):
        for position, value in enumerate(values):
            axes.text(max(value, 0.0) + 0.01, position, f"{max(value, 0.0):.2f}", va="center", fontsize=7.5, color=INK)
        axes.set_xlim(0, max([*values, 0.1]) * 1.18)
        axes.grid(axis="y", visible=False)
    return figure


def _joined(chosen: Sequence[str], all_names: int) -> str:
    if len(chosen) == all_names and all_names > 2:
        return "all"
    return " + ".join(name_of(name) for name in chosen)


def draw_simulated_searches(searches: Sequence[Sequence[float]], median: Sequence[float], metric: str) -> Figure:
    """The best so far over evaluations: some searches that could have been, and the median of many."""
    figure, (axes,) = new_figure(5.6, 3.4)
    for k, search in enumerate(searches):
        label = f"{len(searches)} simulated searches" if k == 0 else None
        axes.step(range(1, len(search) + 1), search, where="post", color=GREY, linewidth=0.7, alpha=0.8, label=label)
    axes.step(range(1, len(median) + 1), median, where="post", color=KINDS[0], linewidth=2.2, label="median of 1,000")
    values = [value for search in searches for value in search]
    dress(axes, "y", metric, True, values)
    axes.set_ylabel(f"best {name_of(metric)} so far", fontsize=9, color=INK)
    axes.set_xlabel("evaluations", fontsize=9, color=INK)
    axes.set_xscale("log")
    dress(axes, "x", "evaluations", True, [1, len(median)])
    axes.legend(fontsize=8, frameon=False)
    return figure


def draw_points(
    groups: Mapping[str, Sequence[tuple[float, Sample]]],
    styles: Mapping[str, Look],
    x: str,
    y: str,
    title: str,
    which: str,
) -> Figure:
    """A measure over a number, a line a group, with the deviation over runs as bars; both axes logarithmic.

    Args:
        which: of its values the measure is: `final`, or `best`.
    """
    figure, (axes,) = new_figure(5.4, 3.3)
    drawn: tuple[list[float], list[float]] = ([], [])
    handles = []
    for k, (name, points) in enumerate(groups.items()):
        there = sorted(((at, sample) for at, sample in points if sample.values), key=lambda pair: pair[0])
        xs, ys = [at for at, _ in there], [sample.mean for _, sample in there]
        errors = [sample.deviation or 0.0 for _, sample in there]
        look = {"color": styles[name].colour, "linestyle": styles[name].style}
        mark = {"marker": MARKERS[k % len(MARKERS)], "markersize": 8 - 1.7 * (k % 3)}  # what lies below shows
        handles.append(axes.errorbar(xs, ys, errors, capsize=2, linewidth=1.4, **look, **mark))
        drawn[0].extend(xs)
        drawn[1].extend(ys)
    dress(axes, "x", x, True, drawn[0])
    dress(axes, "y", y, True, drawn[1])
    axes.set_ylabel(f"{which} {name_of(y)}", fontsize=9, color=INK)
    marks = {_tick(float(f"{value:.3g}"), x): value for value in sorted(drawn[0])}
    if len(marks) <= 10:
        axes.set_xticks(list(marks.values()), list(marks))
        axes.minorticks_off()
    add_legend(figure, handles, list(groups), title)
    return figure


def look_of_pairs(labels):
    """Curves of two settings: the first is the line's style, the second its colour."""
    from dataclasses import replace
    groups = list(labels.values())
    first = list(dict.fromkeys(group.key[0] for group in groups))
    second = looks([group.key[1] for group in groups])
    styles = {
        label: replace(second[group.key[1]], style=STYLES[first.index(group.key[0]) % 4])
        for label, group in labels.items()
    }
    return {label: group.trials for label, group in labels.items()}, styles
