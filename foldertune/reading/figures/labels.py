"""Names at the ends of lines, so that nobody has to look them up in a legend; they never lie on each other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foldertune.reading.figures.style import INK, TEXT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST, LONGEST = 9, 14  # names at the ends of lines, and characters of one; for more there is a legend
GAP = 4  # points from the end of a line to its name
LINE = 1.15 * TEXT  # points: the height of a name
APART = 2.5 * LINE  # ends of one group that are further apart than this have a name each


@dataclass
class End:
    """The end of a line, with its name."""

    text: str
    x: float
    y: float
    colour: Any


def fit(texts: Sequence[str]) -> bool:
    """Is there room for these names at the ends of lines?"""
    return len(texts) <= MOST and max(map(len, texts), default=0) <= LONGEST


def label_ends(figure: Figure, panels: Sequence[tuple[Axes, Sequence[End]]]) -> None:
    """Write the names in each panel, once everything is drawn: where they would lie on each other they move apart."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2, foreground="white")]
    drafts = []
    for axes, ends in panels:  # the layout makes room for them, at the right of the axes
        axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
        drafts.append([_write(axes, end, 0.0, halo) for end in ends])
    figure.draw_without_rendering()  # type: ignore[no-untyped-call]
    points = 72 / figure.dpi
    for (axes, ends), texts in zip(panels, drafts, strict=True):
        corners = [axes.transData.transform((end.x, end.y)) * points for end in ends]
        widths = [text.get_window_extent().width * points for text in texts]
        _, low, _, high = axes.bbox.extents * points
        for text in texts:
            text.remove()
        named = _merge(ends, corners)
        heights = spread([(corners[k][0], corners[k][1], widths[k]) for k in named], low, high)
        for k, height in zip(named, heights, strict=True):
            _write(axes, ends[k], height - corners[k][1], halo)


def _write(axes: Axes, end: End, up: float, halo: Any) -> Any:
    return axes.annotate(
        end.text, (end.x, end.y), (GAP, up), textcoords="offset points", va="center", fontsize=TEXT,
        color=end.colour, annotation_clip=False, path_effects=halo, zorder=6, label="end",
    )  # fmt: skip


def _merge(ends: Sequence[End], corners: Sequence[Any]) -> list[int]:
    """One name for ends of a group that lie near each other: the middle one's."""
    named: list[int] = []
    order = sorted(range(len(ends)), key=lambda k: (ends[k].text, corners[k][1]))
    for _, group in itertools.groupby(order, key=lambda k: ends[k].text):
        near: list[int] = []
        for k in group:
            if near and abs(corners[k][1] - corners[near[-1]][1]) > APART:
                named.append(near[len(near) // 2])
                near = []
            near.append(k)
        named.append(near[len(near) // 2])
    return named


def spread(boxes: Sequence[tuple[float, float, float]], low: float, high: float) -> list[float]:
    """The heights at which names of a width, from x on, do not lie on each other; as near to their own as can be.

    Args:
        boxes: x, height and width of each, in points.
        low, high: they stay between these.
    """
    heights = [min(max(y, low), high) for _, y, _ in boxes]
    order = sorted(range(len(boxes)), key=lambda k: (boxes[k][1], k))
    for _ in range(300):
        moved = False
        for i, j in itertools.combinations(order, 2):  # i belongs below j
            (x, _, w), (u, _, v) = boxes[i], boxes[j]
            lack = LINE - (heights[j] - heights[i])
            if x < u + v + GAP and u < x + w + GAP and lack > 0.01:
                heights[i], heights[j] = heights[i] - lack / 2, heights[j] + lack / 2
                moved = True
        heights = [min(max(height, low), high) for height in heights]
        if not moved:
            break
    return heights


def head(axes: Axes, text: str) -> None:
    """What the names at the ends of lines are values of, above them."""
    axes.annotate(
        text, (1, 1), (GAP, 5), xycoords="axes fraction", textcoords="offset points", ha="right", va="bottom",
        fontsize=TEXT, color=INK, annotation_clip=False, fontstyle="italic",
    )  # fmt: skip
