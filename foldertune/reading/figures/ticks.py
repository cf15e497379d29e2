"""The numbers at the ticks of an axis."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

from matplotlib.ticker import Formatter

from foldertune.study import Quantity

WIDTH = 0.6  # of a letter, in sizes of its font


class Numbers(Formatter):  # type: ignore[misc]  # matplotlib's types are not read: see pyproject.toml
    """Writes the numbers in the unit of the axis's label. Where they would touch, every second one stands, or fewer."""

    def __init__(self, quantity: Quantity, size: float) -> None:
        """Of this quantity, in a font of this size in points."""
        self.quantity, self.size = quantity, size

    def __call__(self, value: float, position: int | None = None) -> str:
        """One number."""
        return self.quantity.tick(value)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """Those of all ticks; empty for one that is left out. Of equally many, the shortest numbers stand."""
        texts = [self(value) for value in values]
        if self.axis is None or self.axis.axis_name != "x":
            return texts
        low, high = sorted(self.axis.get_view_interval())
        seen = [place for place, value in enumerate(values) if low <= value <= high]
        for step in range(1, len(seen) + 1):
            chosen = [seen[first::step] for first in range(step)]
            if fitting := [places for places in chosen if self._fit(places, values, texts)]:
                best = min(fitting, key=lambda places: statistics.mean(len(texts[place]) for place in places))
                return [text if place in best else "" for place, text in enumerate(texts)]
        return texts

    def _fit(self, places: Sequence[int], values: Sequence[float], texts: Sequence[str]) -> bool:
        """Is a letter's width left between each number at these places and the next?"""
        assert self.axis is not None
        axes = self.axis.axes
        letter = WIDTH * self.size * axes.figure.dpi / 72
        middles = [float(axes.transData.transform((values[place], 1))[0]) for place in places]
        widths = [letter * (len(texts[place]) + 1) for place in places]
        gaps = itertools.pairwise(zip(middles, widths, strict=True))
        return all(abs(right - left) >= (before + after) / 2 for (left, before), (right, after) in gaps)


def marks(low: float, high: float) -> list[float]:
    """Round numbers for the ticks of a logarithmic axis, three to seven of them if the values allow it."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    for parts in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        found = [float(f"{part}e{decade}") for decade in decades for part in parts]
        inside = sum(low <= mark <= high for mark in found)
        if inside >= 3:
            step = math.ceil(inside / 7)
            return [mark for mark in found if step == 1 or round(math.log10(mark)) % step == 0]
    return found
