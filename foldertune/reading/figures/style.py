"""The common look of all figures: sizes, colours and axes. `labels.py` writes names at the ends of lines.

A figure is as wide as a column or a page of a paper, and its text has 7 to 9 points, so a paper need not scale it.
Colours are Okabe and Ito's and Paul Tol's, which colour-blind people can tell apart. Line styles and marker shapes
tell groups apart in grey. All markers of a figure have the same size.
"""

from __future__ import annotations

import math
import random
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foldertune.protocol import printable
from foldertune.reading.facts import Column
from foldertune.study import PERCENT, Quantity
from foldertune.tables import finite, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.5, 7.2  # inches
SMALL, TEXT, TITLE = 7, 8, 9  # points
MARKER = 4.5  # points: the diameter of every marker
KINDS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe and Ito
ORDERED = (  # Paul Tol's "muted", two of them darker; neighbours differ strongly
    "#332288", "#77bfe6", "#44aa99", "#117733", "#85852a", "#d9b93b", "#cc6677", "#882255", "#b455a8",
)  # fmt: skip
STYLES: tuple[Any, ...] = ("-", (0, (4, 1.2)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
MARKERS = ("o", "s", "^", "v", "P", "p")  # as large as each other
GREY, PALE, INK = "#9a9a9a", "#e0e0e0", "#262626"
HIGHLIGHTED = 4  # best trials that have a colour of their own
MANY = 500  # points or bars; more are stored as pixels, because an SVG would be too large
MOST_DRAWN = 500  # curves; if there are more, this many are chosen at random, because more would hide each other
MOST_TICKS = 12  # texts at an axis
WIDE = 10  # if the largest value is more than this many times the smallest, the axis is logarithmic


@dataclass(frozen=True)
class Look:
    """The look of the lines and points of one group."""

    colour: Any
    style: Any = "-"
    marker: str = "o"

    @property
    def line(self) -> dict[str, Any]:
        """Colour and style as matplotlib's options of a line."""
        return {"color": self.colour, "linestyle": self.style}


# ---------------------------------------------------------------- figures


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure of this size in inches, and its axes, row by row. Options such as `sharey` go to its subplots."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(wspace=0.05)
    axes = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.spines[["left", "bottom"]].set_color(INK)
        each.tick_params(labelsize=TEXT, colors=INK)
        each.grid(color=PALE, linewidth=0.6)
        each.set_axisbelow(True)
    return figure, axes


def plain(text: str) -> str:
    """Text from a file, safe for matplotlib: no formulas, no control characters."""
    return printable(text).replace("$", r"\$")


def wrapped(quantity: Quantity, most: int = 30) -> str:
    """The label of a quantity with its unit, in as few lines of `most` letters as possible, equally long."""
    text = plain(quantity.title)
    lines = len(textwrap.wrap(text, most))
    return next(textwrap.fill(text, width) for width in range(1, most + 1) if len(textwrap.wrap(text, width)) <= lines)


def cut(value: Any, most: int = 20) -> str:
    """A value as a text of at most `most` letters, for a tick or a name at a line."""
    return cut_text(short(value), most)


def cut_text(text: str, most: int) -> str:
    """The same of what is a text for people already."""
    return plain(text if len(text) <= most else f"{text[: most - 1]}…")


def in_units(seconds: float) -> tuple[float, str]:
    """A unit that suits this time: its length in seconds, and its name."""
    return (3600, "hours") if seconds > 7200 else (60, "minutes") if seconds > 120 else (1, "seconds")


def sample_of(items: Sequence[Any]) -> list[Any]:
    """All items in their order; if a figure can't show as many, a random sample of them."""
    if len(items) <= MOST_DRAWN:
        return list(items)
    return [items[k] for k in sorted(random.Random(0).sample(range(len(items)), MOST_DRAWN))]


# ---------------------------------------------------------------- colours


def looks(values: Sequence[Any]) -> dict[Any, Look]:
    """A look for each value: a colour, a line style and a marker of its own. Numbers are sorted first."""
    distinct = list(dict.fromkeys(values))
    if all(finite(value) is not None for value in distinct):
        distinct.sort()
    colours: Sequence[Any] = KINDS if len(distinct) <= len(KINDS) else ORDERED
    styles = STYLES if len(distinct) <= len(STYLES) else STYLES[:2]
    if len(distinct) > len(ORDERED):
        from matplotlib import colormaps

        colours, styles = [colormaps["viridis"](0.9 * k / (len(distinct) - 1)) for k in range(len(distinct))], STYLES
    return {
        value: Look(colours[k], styles[k % len(styles)], MARKERS[k % len(MARKERS)]) for k, value in enumerate(distinct)
    }


def best_looks() -> list[Look]:
    """The looks of the best trials, best first."""
    return [Look(KINDS[k], STYLES[k % len(STYLES)], MARKERS[k]) for k in range(HIGHLIGHTED)]


# ---------------------------------------------------------------- axes


def is_log(quantity: Quantity, values: Sequence[float]) -> bool:
    """Is the axis of these values logarithmic? With the scale "auto", it is if they are spread widely."""
    if not values or min(values) <= 0 or max(values) <= min(values) or quantity.scale == "linear":
        return False
    return quantity.scale == "log" or max(values) > WIDE * min(values)


def dress(axes: Axes, which: str, column: Column) -> None:
    """Label and scale one axis ("x" or "y") for these values, numbers or texts. Shares are shown in per cent."""
    getattr(axes, f"set_{which}label")(wrapped(column.quantity), fontsize=TITLE, color=INK)
    if column.texts:
        step = math.ceil(len(column.texts) / MOST_TICKS)
        shown = range(0, len(column.texts), step)
        slanted = {"rotation": 30, "ha": "right"} if which == "x" and len(column.texts) > 4 else {}
        getattr(axes, f"set_{which}ticks")(list(shown), [cut_text(column.texts[k], 18) for k in shown], **slanted)
    else:
        _number(axes, which, column.quantity, [at for at in column.places if math.isfinite(at)])


def _number(axes: Axes, which: str, quantity: Quantity, values: Sequence[float]) -> None:
    """Scale one axis for numbers, and put round numbers at its ticks."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter

    from foldertune.reading.figures.ticks import Numbers, marks

    axis = axes.xaxis if which == "x" else axes.yaxis
    if is_log(quantity, values):
        getattr(axes, f"set_{which}scale")("log")
        axis.set_major_locator(FixedLocator(marks(min(values), max(values))))
        axis.set_minor_formatter(NullFormatter())
    elif values and all(float(value).is_integer() for value in values) and quantity.unit != PERCENT:
        axis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    else:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(Numbers(quantity, TEXT))
