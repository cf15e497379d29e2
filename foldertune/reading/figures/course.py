"""The course of a search: the best so far, the timeline of the workers, and simulated searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from foldertune.reading.figures.style import (
    COLUMN,
    GREY,
    INK,
    KINDS,
    MANY,
    MARKER,
    PAGE,
    SMALL,
    TEXT,
    TITLE,
    cut,
    dress,
    new_figure,
)
from foldertune.reading.results import Results
from foldertune.reading.spans import GIVEN_BACK, Span
from foldertune.study import Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_WORKERS = 60  # lines of a timeline
MOST_NUMBERED = 80  # bars; a timeline with more shows no numbers of trials
BARS = {  # by the state of an attempt: alternating shades, edge, hatch
    "seen": ((KINDS[0], "#7fb8d8"), "white", ""),
    "lost": (("#f2b48a",), KINDS[1], "////"),
    "taken": (("#bfe3d7",), "white", ""),
    GIVEN_BACK: (("#c9ced4",), "white", ""),
}


def draw_best_so_far(results: Results) -> Figure:
    """The metric of every trial, and the best so far, over the number of ended trials and over time."""
    course = results.course
    quantity = results.study.quantity(results.study.metric)
    timed = [(at, k) for k, at in enumerate(course.seconds) if at is not None]
    seconds, unit = _in_units(max((at for at, _ in timed), default=0.0))
    figure, axes = new_figure(PAGE, 2.8, 1, 2, sharey=True)
    over: Any = [([*range(1, len(course.values) + 1)], [*range(len(course.values))])]
    over.append(([at / seconds for at, _ in timed], [k for _, k in timed]))
    texts = ("trials with a value that have ended", f"{unit} since the first claim")
    for each, (xs, chosen), text in zip(axes, over, texts, strict=True):
        values, best = [course.values[k] for k in chosen], [course.best[k] for k in chosen]
        crowded = len(values) > MANY
        each.plot(
            xs, values, "o", color=GREY, markersize=MARKER, markeredgewidth=0, rasterized=crowded, label="a trial"
        )
        each.step(xs, best, where="post", color=KINDS[0], linewidth=1.8, label="best so far")
        dress(each, "y", quantity, course.values)
        dress(each, "x", Quantity(text, scale="linear"), [])
        each.label_outer()
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=TEXT, frameon=False
    )
    return figure


def _in_units(seconds: float) -> tuple[float, str]:
    """A unit that suits this time: its length in seconds, and its name."""
    return (3600, "hours") if seconds > 7200 else (60, "minutes") if seconds > 120 else (1, "seconds")


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
    dress(axes, "y", replace(metric, label=f"best {metric.label} so far"), values)
    dress(axes, "x", Quantity("evaluations", scale="log"), [1, len(median)])
    axes.legend(fontsize=TEXT, frameon=False)
    return figure


# ---------------------------------------------------------------- the timeline


def draw_timeline(results: Results) -> Figure:
    """The timeline: one line per worker, one bar per trial; lost attempts are hatched."""
    from matplotlib.patches import Patch

    spans, workers = results.spans, timeline_workers(results)
    start, length = results.began or 0.0, results.elapsed() or 1.0
    seconds, unit = _in_units(length)
    figure, (axes,) = new_figure(PAGE, 1.1 + (0.34 if len(workers) < 20 else 0.2) * max(len(workers), 2))
    for line, worker in enumerate(workers):
        _draw_worker(axes, line, [s for s in spans if s.worker == worker], start, seconds, length, len(spans))
    axes.set_yticks(range(len(workers)), [cut(worker, 32) for worker in workers], fontsize=TEXT)
    axes.set_ylim(len(workers) - 0.4, -0.6)
    axes.set_xlim(-0.01 * length / seconds, 1.01 * length / seconds)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{unit} since the first claim", fontsize=TITLE, color=INK)
    patches = [Patch(facecolor=KINDS[0], label="a trial (shades alternate)")]
    if results.lost:
        patches.append(Patch(facecolor="#f2b48a", edgecolor=KINDS[1], hatch="////", label="a lost attempt"))
    if results.in_hand:
        patches.append(Patch(facecolor="#bfe3d7", label="being trained"))
    if any(span.state == GIVEN_BACK for span in spans):
        patches.append(Patch(facecolor="#c9ced4", label="given back"))
    figure.legend(handles=patches, loc="outside upper left", ncols=4, fontsize=TEXT, frameon=False)
    return figure


def timeline_workers(results: Results) -> list[str]:
    """The workers that a timeline shows, by host. If there are too many, those that lost an attempt come first."""
    by_host = sorted(results.spans, key=lambda span: (span.host, span.start))
    workers = list(dict.fromkeys(span.worker for span in by_host))
    if len(workers) <= MOST_WORKERS:
        return workers
    lost = {span.worker for span in results.spans if span.state == "lost"}
    return sorted(workers, key=lambda worker: worker not in lost)[:MOST_WORKERS]


def _draw_worker(
    axes: Axes, line: int, spans: Sequence[Span], start: float, unit: float, length: float, of: int
) -> None:
    """The bars of one worker; `of` is the number of bars in the whole figure."""
    for state, (shades, edge, hatch) in BARS.items():
        chosen = [span for span in spans if (span.state if span.state in BARS else "taken") == state]
        bars = [((s.start - start) / unit, max(s.seconds, length / 2000) / unit) for s in chosen]
        colours = [shades[k % len(shades)] for k in range(len(bars))]
        look = {"facecolors": colours, "hatch": hatch, "edgecolor": edge, "linewidth": 0.4}
        axes.broken_barh(bars, (line - 0.36, 0.72), rasterized=of > MANY, zorder=2, **look)
        for k, span in enumerate(chosen if of <= MOST_NUMBERED else []):
            if span.seconds > length / 45:
                middle = ((span.start + span.end) / 2 - start) / unit
                colour = "white" if colours[k] == KINDS[0] else INK
                text = {"ha": "center", "va": "center", "fontsize": SMALL, "color": colour, "zorder": 3}
                axes.text(middle, line, str(span.number), **text)
