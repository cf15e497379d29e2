"""The timeline of the workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from foldertune.reading.figures.style import INK, KINDS, MANY, PAGE, SMALL, TEXT, TITLE, cut, in_units, new_figure
from foldertune.reading.spans import GIVEN_BACK, Span, Work

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


def draw_timeline(work: Work) -> Figure:
    """The timeline: one line per worker, one bar per trial; lost attempts are hatched."""
    from matplotlib.patches import Patch

    lines = work.timeline(MOST_WORKERS)
    start, length, bars = work.began or 0.0, work.seconds or 1.0, sum(map(len, lines.values()))
    seconds, unit = in_units(length)
    figure, (axes,) = new_figure(PAGE, 1.1 + (0.34 if len(lines) < 20 else 0.2) * max(len(lines), 2))
    for line, spans in enumerate(lines.values()):
        _draw_worker(axes, line, spans, start, seconds, length, bars)
    axes.set_yticks(range(len(lines)), [cut(worker, 32) for worker in lines], fontsize=TEXT)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_xlim(-0.01 * length / seconds, 1.01 * length / seconds)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{unit} since the first claim", fontsize=TITLE, color=INK)
    patches = [Patch(facecolor=KINDS[0], label="a trial (shades alternate)")]
    states = {_look_of(span) for spans in lines.values() for span in spans}
    if "lost" in states:
        patches.append(Patch(facecolor="#f2b48a", edgecolor=KINDS[1], hatch="////", label="a lost attempt"))
    if GIVEN_BACK in states:
        patches.append(Patch(facecolor="#c9ced4", label="given back"))
    if "taken" in states:
        patches.append(Patch(facecolor="#bfe3d7", label="being trained"))
    figure.legend(handles=patches, loc="outside upper left", ncols=4, fontsize=TEXT, frameon=False)
    return figure


def _look_of(span: Span) -> str:
    """The key of its bar: a trial that is handed in is a trial, and nobody trains it any more."""
    return "seen" if span.state == "done" else span.state


def _draw_worker(
    axes: Axes, line: int, spans: Sequence[Span], start: float, unit: float, length: float, of: int
) -> None:
    """The bars of one worker; `of` is the number of bars in the whole figure."""
    for state, (shades, edge, hatch) in BARS.items():
        chosen = [span for span in spans if _look_of(span) == state]
        bars = [((s.start - start) / unit, max(s.seconds, length / 2000) / unit) for s in chosen]
        colours = [shades[k % len(shades)] for k in range(len(bars))]
        edges = [edge if s.seconds > length / 200 else colours[k] for k, s in enumerate(chosen)]  # it must not hide all
        look = {"facecolors": colours, "hatch": hatch, "edgecolor": edges, "linewidth": 0.4}
        axes.broken_barh(bars, (line - 0.36, 0.72), rasterized=of > MANY, zorder=2, **look)
        for k, span in enumerate(chosen if of <= MOST_NUMBERED else []):
            if span.seconds > length / 45:
                middle = ((span.start + span.end) / 2 - start) / unit
                colour = "white" if colours[k] == KINDS[0] else INK
                text = {"ha": "center", "va": "center", "fontsize": SMALL, "color": colour, "zorder": 3}
                axes.text(middle, line, str(span.number), **text)
