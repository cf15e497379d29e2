"""Draws the importance of hyperparameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from foldertune.reading.figures.style import (
    GREY,
    INK,
    KINDS,
    PAGE,
    PALE,
    SMALL,
    TEXT,
    TITLE,
    new_figure,
    plain,
)
from foldertune.reading.importance import Importance
from foldertune.study import Study
from foldertune.text import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BELOW = "below 0: worse than the mean rank"


def draw_importance(study: Study, importance: Importance) -> Figure:
    """Bars of each hyperparameter's share of the variance, and of how well one, two or all of them predict.

    Scores below 0 are drawn as they are. If nothing predicts anything, the bars are pale, and the figure says that
    there are too few trials.
    """
    from matplotlib.patches import Patch

    doubtful = importance.predicts_nothing
    shares = sorted(importance.shares.items(), key=lambda item: item[1])
    predicted = sorted(importance.predicted.items(), key=lambda item: item[1])
    rows = max(len(predicted), len(shares), 3)
    figure, (left, right) = new_figure(PAGE, 1.3 + 0.19 * rows, 1, 2, width_ratios=(2, 3))
    blue, orange, grey = (PALE,) * 3 if doubtful else (KINDS[0], KINDS[1], GREY)
    _draw_bars(left, [study.quantity(name).label for name, _ in shares], [v for _, v in shares], [blue] * len(shares))
    left.set_xlabel("share of the variance of ranks\n(fANOVA)", fontsize=TEXT, color=INK)
    names = [_joined(study, chosen, len(importance.shares)) for chosen, _ in predicted]
    colours = [
        orange if {*chosen} & importance.derived.keys() else blue if len(chosen) == 1 else grey
        for chosen, _ in predicted
    ]
    _draw_bars(right, names, [value for _, value in predicted], colours)
    right.set_xlabel(f"R² for ranks of trials not seen (out of bag)\n{BELOW}", fontsize=TEXT, color=INK)
    for axes, bars in ((left, len(shares)), (right, len(predicted))):
        axes.set_ylim(bars - rows - 0.6, bars - 0.4)  # so bars of both sides are equally thick
    if doubtful:
        warning = (
            f"{counted(importance.trials, 'trial')}: too few to tell. Nothing predicts the rank of a trial not seen."
        )
        figure.suptitle(warning, fontsize=TITLE, color=KINDS[1])
        return figure
    kinds = [Patch(color=blue, label="one alone"), Patch(color=grey, label="several")]
    if importance.derived:
        kinds.append(Patch(color=orange, label="with a derived quantity"))
    figure.legend(handles=kinds, fontsize=TEXT, frameon=False, loc="outside upper right", ncols=3)
    return figure


def _draw_bars(axes: Axes, names: Sequence[str], values: Sequence[float], colours: Sequence[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.barh(range(len(names)), values, color=colours, height=0.66)
    axes.set_yticks(range(len(names)), [plain(name) for name in names], fontsize=TEXT)
    low, high = min(*values, 0.0), max(*values, 0.1)
    room = 0.22 * (high - low)  # for a number
    for position, value in enumerate(values):
        side = {"ha": "left" if value >= 0 else "right", "va": "center", "fontsize": SMALL, "color": INK}
        text = f"{value:.2f}".replace("-", "−")
        axes.annotate(text, (value, position), (3 if value >= 0 else -3, 0), textcoords="offset points", **side)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlim(low - room if low < 0 else 0, high + room)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y", visible=False)


def _joined(study: Study, chosen: Sequence[str], of: int) -> str:
    """The names of the hyperparameters that a forest was told."""
    if len(chosen) == of and of > 2:
        return f"all {of}"
    return " + ".join(study.quantity(name).label for name in chosen)
