"""Samples of repeated runs: their mean, their deviation, and tests of their difference."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from foldertune.study import Quantity
from foldertune.tables import deviation, finite, mean

SIGNIFICANT = 0.05  # the largest p-value at which a difference counts as more than chance


@dataclass(frozen=True)
class Sample:
    """The values of one measure over runs of equal settings. `left_out` counts runs without one (diverged, failed)."""

    values: tuple[float, ...]
    left_out: int = 0

    @classmethod
    def of(cls, values: Iterable[Any]) -> Sample:
        """The sample of the finite values; the others are counted as left out."""
        numbers = [finite(value) for value in values]
        return cls(tuple(n for n in numbers if n is not None), numbers.count(None))

    @property
    def mean(self) -> float:
        """The arithmetic mean; infinite without a value, so that an empty sample is never the lowest."""
        return mean(self.values) if self.values else math.inf

    @property
    def deviation(self) -> float | None:
        """The standard deviation of a sample (n − 1); None for fewer than two values."""
        return deviation(self.values)

    def show(self, quantity: Quantity) -> str:
        """`0.031 ± 0.002 (3 runs)`, `0.031 (1 run)`, or `no value (2 runs)`."""
        runs = len(self.values) + self.left_out
        many = f"{runs} run{'s' * (runs != 1)}"
        if not self.values:
            return f"no value ({many})"
        if self.left_out:
            many += f", {self.left_out} of them left out"
        spread = "" if self.deviation is None else f" ± {quantity.show(self.deviation, 2)}"
        return f"{quantity.show(self.mean)}{spread} ({many})"


def chance_of_difference(a: Sample, b: Sample) -> float | None:
    """The probability that equal settings differ this much by chance: p of Welch's t-test, two-sided.

    None if one of the samples has fewer than two values.
    """
    if len(a.values) < 2 or len(b.values) < 2:
        return None
    if len({*a.values, *b.values}) == 1:
        return 1.0
    from scipy.stats import ttest_ind  # a second to import

    return float(ttest_ind(a.values, b.values, equal_var=False).pvalue)


def verdict(a: Sample, b: Sample) -> str:
    """Whether `a` differs from `b`, in words that can follow a comma."""
    chance = chance_of_difference(a, b)
    if chance is None:
        return "too few runs to tell whether that is more than chance"
    if chance < SIGNIFICANT:
        return f"more than chance (p = {chance:.2g})"
    return f"within noise (p = {chance:.2g})"
