"""The figures of any study. (Interim: the colleague "figures" writes this package.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

from foldertune.reading.content import Picture
from foldertune.reading.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def pictures(results: Results) -> list[Picture]:
    """The pictures that the data allow, the most telling first."""
    names = ["learning-curves", "best-so-far", "hyperparameters", "parallel-coordinates", "importance", "pair"]
    drawn = [Picture(name, f"{name}.", _interim) for name in names] if len(results.scored) > 1 else []
    return [*drawn, *([timeline_picture(results)] if results.spans else [])]


def timeline_picture(results: Results) -> Picture:
    """Who trained what when."""
    return Picture("timeline", "Who trained what when.", _interim)


def _interim() -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4))
    figure.subplots().plot([1, 2], [2, 1])
    return figure
