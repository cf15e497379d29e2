"""Draws the first two metrics against each other, with the Pareto front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foldertune.reading.facts import Trade
from foldertune.reading.figures.style import GREY, INK, KINDS, MANY, MARKER, SMALL, TEXT, dress, new_figure, sample_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMED = 8  # trials on the front whose numbers have room
ROOM = (18, 9)  # points that a number takes, across and up


def draw_front(trade: Trade) -> Figure:
    """All trials in grey, those on the front in colour, with the numbers of some of them."""
    figure, (axes,) = new_figure(4.6, 3.3)
    others = [(x, y) for x, y, on in zip(trade.x.values, trade.y.values, trade.is_on_front, strict=True) if not on]
    if others:
        look = {"marker": "o", "color": GREY, "markersize": MARKER, "linestyle": "", "markeredgewidth": 0, "alpha": 0.8}
        across, up = zip(*sample_of(others), strict=True)
        axes.plot(across, up, label="another trial", rasterized=len(others) > MANY, **look)
    _, xs, ys = zip(*trade.front, strict=True)
    if trade.is_flat:  # with more metrics, its shadow is no line
        axes.step(xs, ys, where="post", color=KINDS[1], linewidth=1.2, zorder=4)
    axes.plot(xs, ys, "s", color=KINDS[1], markersize=MARKER, zorder=5, label="on the Pareto front")
    dress(axes, "x", trade.x)
    dress(axes, "y", trade.y)
    figure.legend(loc="outside upper left", ncols=2, fontsize=TEXT, frameon=False, handletextpad=0.2)
    _name(figure, axes, trade)
    return figure


def _name(figure: Figure, axes: Axes, trade: Trade) -> None:
    """Write the numbers of trials at both ends of the front and evenly between them, where there is room."""
    engine = figure.get_layout_engine()
    assert engine
    engine.execute(figure)  # not the whole drawing: only where things stand counts
    points = axes.transData.transform([(x, y) for _, x, y in trade.front]) * 72 / figure.dpi
    last, count = len(trade.front) - 1, min(len(trade.front), MOST_NAMED)
    named: list[int] = []
    for place in dict.fromkeys([0, last, *(round(k * last / max(count - 1, 1)) for k in range(count))]):
        if any((abs(points[place] - points[other]) < ROOM).all() for other in named):
            continue
        named.append(place)
        number, x, y = trade.front[place]
        axes.annotate(
            f"{number}", (x, y), (4, 4), textcoords="offset points", fontsize=SMALL, color=INK, zorder=6,
        )  # fmt: skip
