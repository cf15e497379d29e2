"""Writes names at the ends of lines, so that nobody has to look them up in a legend. Names never overlap."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from foldertune.reading.figures.style import INK, TEXT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NARROW = 12  # characters in a line of a name
MOST, LONGEST = 9, 20  # the most names at the ends of lines, and characters in one; beyond that, a legend is used
GAP = 6  # points from the end of a line to its name
LINE = 1.15 * TEXT  # points: the height of a name
APART = 2.5 * LINE  # points; if two ends of a group are further apart than this, each gets a name


@dataclass
class End:
    """The end of a line, with its name."""

    text: str
    x: float
    y: float
    colour: Any
    aside: float = 0.0  # points to the right of x, where the line is drawn


@dataclass(frozen=True)
class Box:
    """The room that a name takes, in points: its left end, the height of its middle, and its size."""

    x: float
    y: float
    width: float
    height: float


def fit(texts: Sequence[str]) -> bool:
    """Do these names fit at the ends of lines?"""
    return len(texts) <= MOST and max(map(len, texts), default=0) <= LONGEST


def label_ends(figure: Figure, panels: Sequence[tuple[Axes, Sequence[End]]]) -> None:
    """Write the names in each panel, and move them apart where they would overlap. Call it when everything is drawn."""
    import numpy as np
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2, foreground="white")]
    drafts = []
    for axes, ends in panels:  # the layout makes room for them, at the right of the axes
        axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
        drafts.append([_write(axes, end, 0.0, halo) for end in ends])
    figure.get_layout_engine().execute(figure)  # not the whole drawing: only where things stand counts
    points = 72 / figure.dpi
    for (axes, ends), texts in zip(panels, drafts, strict=True):
        corners = [axes.transData.transform((end.x, end.y)) * points + (end.aside + GAP, 0) for end in ends]
        sizes = [text.get_window_extent() for text in texts]
        _, low, _, high = axes.bbox.extents * points
        for text in texts:
            text.remove()
        lines = [line.get_transform().transform_path(line.get_path()) for line in axes.lines]
        drawn = [np.asarray(line.interpolated(4).vertices) * points for line in lines if len(line.vertices)]
        named = _merge(ends, corners)
        boxes = [
            Box(corners[k][0], corners[k][1], sizes[k].width * points, max(sizes[k].height * points, LINE))
            for k in named
        ]
        heights = spread([replace(box, y=_free(box, drawn)) for box in boxes], low, high)
        for k, height in zip(named, heights, strict=True):
            _write(axes, ends[k], height - corners[k][1], halo)


def _free(box: Box, lines: Sequence[Any]) -> float:
    """The height, near its own, at which a name covers least of the lines."""

    def hidden(up: float) -> float:
        inside = (
            (abs(xs - box.x - box.width / 2) < box.width / 2) & (abs(ys - box.y - up) < box.height / 2)
            for xs, ys in (points.T for points in lines)
        )
        return float(sum(each.sum() for each in inside)) + abs(up) / LINE

    return box.y + min((0.0, LINE, -LINE, 2 * LINE, -2 * LINE), key=hidden)


def _write(axes: Axes, end: End, up: float, halo: Any) -> Any:
    return axes.annotate(
        textwrap.fill(end.text, NARROW), (end.x, end.y), (GAP + end.aside, up), textcoords="offset points",
        va="center", fontsize=TEXT, color=end.colour, annotation_clip=False, path_effects=halo, zorder=6, label="end",
    )  # fmt: skip


def _merge(ends: Sequence[End], corners: Sequence[Any]) -> list[int]:
    """The ends that get a name: of a group's ends that lie near each other, only the middle one."""
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


def spread(boxes: Sequence[Box], low: float, high: float) -> list[float]:
    """The heights at which names don't overlap, between `low` and `high`, and as near to their own as possible."""
    heights = [min(max(box.y, low), high) for box in boxes]
    order = sorted(range(len(boxes)), key=lambda k: (boxes[k].y, k))
    for _ in range(300):
        moved = False
        for i, j in itertools.combinations(order, 2):  # i belongs below j
            a, b = boxes[i], boxes[j]
            lack = (a.height + b.height) / 2 - (heights[j] - heights[i])
            if a.x < b.x + b.width + GAP and b.x < a.x + a.width + GAP and lack > 0.01:
                heights[i], heights[j] = heights[i] - lack / 2, heights[j] + lack / 2
                moved = True
        heights = [min(max(height, low), high) for height in heights]
        if not moved:
            break
    return heights


def head(axes: Axes, text: str) -> None:
    """Write a heading above the names at the ends of lines."""
    axes.annotate(
        text, (1, 1), (GAP, 5), xycoords="axes fraction", textcoords="offset points", ha="right", va="bottom",
        fontsize=TEXT, color=INK, annotation_clip=False, fontstyle="italic",
    )  # fmt: skip
