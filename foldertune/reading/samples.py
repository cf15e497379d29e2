"""Samples of repeated runs: their mean, their deviation, tests of their difference, and tables of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from foldertune.study import Quantity
from foldertune.tables import Cells, finite, is_number

SMALL = 2.0**-600  # a factor that makes any float small enough to be squared and added up
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
        return mean_of(self.values) if self.values else math.inf

    @property
    def deviation(self) -> float | None:
        """The standard deviation of a sample (n − 1); None for fewer than two values."""
        return deviation_of(self.values)

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


def mean_of(numbers: Sequence[float]) -> float:
    """The arithmetic mean of at least one number."""
    return _within_range(lambda ns: math.fsum(ns) / len(ns), numbers)


def deviation_of(numbers: Sequence[float]) -> float | None:
    """The standard deviation of a sample (n − 1); None for fewer than two numbers, or if it is beyond all floats."""
    import statistics  # takes a tenth of a second

    return finite(_within_range(statistics.stdev, numbers)) if len(numbers) > 1 else None


def _within_range(average: Callable[[Sequence[float]], float], numbers: Sequence[float]) -> float:
    """An average, also of numbers with a sum or with squares that no float can hold."""
    try:
        value = average(numbers)
    except OverflowError:
        value = math.inf
    return value if math.isfinite(value) else average([number * SMALL for number in numbers]) / SMALL


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


def verdict(chance: float | None) -> str:
    """A chance of difference in words that can follow a comma."""
    if chance is None:
        return "too few runs to tell whether that is more than chance"
    if chance < SIGNIFICANT:
        return f"more than chance (p = {chance:.2g})"
    return f"within noise (p = {chance:.2g})"


# ---------------------------------------------------------------- tables


def group_by(
    cells: Iterable[Cells], keys: Sequence[str], values: Sequence[str], counts: Callable[[Cells], bool]
) -> list[Cells]:
    """One row for each group of rows that agree in `keys`, in the order in which the groups first appear.

    `group_columns` names the columns. Means and deviations are those of the rows for which `counts` is true. The
    deviation is that of a sample (n − 1), and None for a single value.
    """
    groups: dict[tuple[Any, ...], list[Cells]] = {}
    for row in cells:
        agreed = (row.get(key) for key in keys)  # 1 and 1.0 agree; 1, true and "1" do not
        groups.setdefault(tuple(v if is_number(v) else (type(v), json.dumps(v)) for v in agreed), []).append(row)
    return [_summary(rows, keys, values, list(filter(counts, rows))) for rows in groups.values()]


def group_columns(keys: Sequence[str], values: Sequence[str]) -> list[str]:
    """The columns of grouped rows: the keys, the number of trials, the number left out of the means, and the mean and
    deviation of each value.

    A column that would have the name of a key gets `_` appended.
    """
    others = ["trials", "left_out", *(f"{value}_{what}" for value in values for what in ("mean", "deviation"))]
    return [*keys, *(_unlike(name, keys) for name in others)]


def _unlike(name: str, others: Sequence[str]) -> str:
    while name in others:
        name += "_"
    return name


def _summary(members: Sequence[Cells], keys: Sequence[str], values: Sequence[str], averaged: Sequence[Cells]) -> Cells:
    summary = [*(members[0].get(key) for key in keys), len(members), len(members) - len(averaged)]
    for value in values:
        sample = Sample.of(row.get(value) for row in averaged)
        summary += [finite(sample.mean), sample.deviation]
    return dict(zip(group_columns(keys, values), summary, strict=True))
