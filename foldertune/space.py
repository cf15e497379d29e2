"""The search space: one dimension per hyperparameter, with the values it may take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


def identity(value: Any) -> Any:
    """What makes two values the same: 1 and 1.0 are; 1, true and "1" are three values, also within lists."""
    if isinstance(value, dict):
        return dict, tuple((key, identity(item)) for key, item in sorted(value.items()))
    if isinstance(value, list | tuple):
        return list, tuple(map(identity, value))
    return type(value) if isinstance(value, bool | str) else None, value


@dataclass(frozen=True)
class Float:
    """A real number from `low` to `high`; with `log`, uniform in its logarithm."""

    low: float
    high: float
    log: bool = False

    def contains(self, value: Any) -> bool:
        """Is `value` a number in the range?"""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def at(self, u: float) -> float:
        """The value at the share u of the range, 0 <= u < 1: for 0.01 … 0.316 on a log scale, 10^(-2 + 1.5u)."""
        value = self.low * (self.high / self.low) ** u if self.log else self.low + (self.high - self.low) * u
        return min(max(value, self.low), self.high)


@dataclass(frozen=True)
class Int:
    """A whole number from `low` to `high`, both included; with `log`, uniform in its logarithm, rounded down."""

    low: int
    high: int
    log: bool = False

    def contains(self, value: Any) -> bool:
        """Is `value` a whole number in the range?"""
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def at(self, u: float) -> int:
        """The value at the share u of the range, 0 <= u < 1.

        For 16 … 255 on a log scale this is int(2^(4 + 4u)); for 10 … 99 it is 10 + int(90u).
        """
        end = self.high + 1
        value: int
        if self.log:
            value = math.floor(self.low * (end / self.low) ** u)
        else:
            value = self.low + math.floor((end - self.low) * u)
        return min(max(value, self.low), self.high)


@dataclass(frozen=True)
class Categorical:
    """One of a list of values."""

    choices: tuple[Any, ...]

    def contains(self, value: Any) -> bool:
        """Is `value` one of the choices? 1 and true are not the same choice."""
        return identity(value) in map(identity, self.choices)

    def at(self, u: float) -> Any:
        """The choice at the share u of the list, 0 <= u < 1."""
        return self.choices[min(int(u * len(self.choices)), len(self.choices) - 1)]


Dimension = Float | Int | Categorical
TYPES = ("float", "int", "categorical")  # as a study's file names them


def is_table_of_values(value: Any) -> bool:
    """Is this a table inside of [fixed]? A range is none: it was meant for [space]."""
    return isinstance(value, dict) and bool(value) and str(value.get("type")) not in TYPES


def is_table_of_dimensions(value: Any) -> bool:
    """Is this a table inside of [space]? A range or `choices` is none, even if a part of it is missing or wrong."""
    if not isinstance(value, dict) or not value or set(value) == {"choices"}:
        return False
    told = (value.get(part, []) for part in ("type", "low", "high", "log"))
    return all(isinstance(part, list | dict) for part in told)
