"""The search space: one dimension per hyperparameter, with the values it may take and when it is there.

Of all settings that the dimensions could have, `active` keeps those whose conditions hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

Conditions = Mapping[str, tuple[Any, ...]]  # names of settings, each with the values that it may have


def identity(value: Any) -> Any:
    """What makes two values the same: 1 and 1.0 are; 1, true and "1" are three values, also within lists."""
    if isinstance(value, dict):
        return dict, tuple((key, identity(item)) for key, item in sorted(value.items()))
    if isinstance(value, list | tuple):
        return list, tuple(map(identity, value))
    return type(value) if isinstance(value, bool | str) else None, value


@dataclass(frozen=True, kw_only=True)
class _Conditional:
    """A hyperparameter that is there only if other settings have one of the values in `when`."""

    when: Conditions = field(default_factory=dict)
    guess: tuple[Any, ...] = ()  # the value that a person would try first, or nothing

    def is_active(self, settings: Mapping[str, Any]) -> bool:
        """Does the condition hold in these settings? It does not if a setting that it names is absent."""
        return all(
            name in settings and identity(settings[name]) in map(identity, values) for name, values in self.when.items()
        )


@dataclass(frozen=True)
class Float(_Conditional):
    """A real number from `low` to `high`; with `log`, uniform in its logarithm; with `step`, low, low + step, …"""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def contains(self, value: Any) -> bool:
        """Is `value` a number in the range, and on a step?"""
        if not isinstance(value, int | float) or isinstance(value, bool) or not self.low <= value <= self.high:
            return False
        return self.step is None or value in (self.steps[k] for k in _near((value - self.low) / self.step, self.steps))

    def at(self, u: float) -> float:
        """The value at the share u of the range, 0 <= u < 1: for 0.01 … 0.316 on a log scale, 10^(-2 + 1.5u)."""
        if self.step is not None:
            return float(self.steps[min(int(u * len(self.steps)), len(self.steps) - 1)])
        value = self.low * (self.high / self.low) ** u if self.log else self.low + (self.high - self.low) * u
        return min(max(value, self.low), self.high)

    @property
    def steps(self) -> Steps:
        """The values of a range with a step."""
        return Steps(self.low, self.high, self.step or 0.0)


@dataclass(frozen=True)
class Int(_Conditional):
    """A whole number from `low` to `high`, both included; with `log`, uniform in its logarithm, rounded down."""

    low: int
    high: int
    log: bool = False
    step: int | None = None  # with it: low, low + step, …

    def contains(self, value: Any) -> bool:
        """Is `value` a whole number in the range, and on a step?"""
        is_in_range = isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high
        return is_in_range and (self.step is None or (value - self.low) % self.step == 0)

    def at(self, u: float) -> int:
        """The value at the share u of the range, 0 <= u < 1.

        For 16 … 255 on a log scale this is int(2^(4 + 4u)); for 10 … 99 it is 10 + int(90u).
        """
        if self.step is not None:
            return self.steps[min(int(u * len(self.steps)), len(self.steps) - 1)]
        end = self.high + 1
        value: int
        if self.log:
            value = math.floor(self.low * (end / self.low) ** u)
        else:
            value = self.low + math.floor((end - self.low) * u)
        return min(max(value, self.low), self.high)

    @property
    def steps(self) -> range:
        """The values of a range with a step."""
        return range(self.low, self.high + 1, self.step or 1)


@dataclass(frozen=True)
class Categorical(_Conditional):
    """One of a list of values: any that JSON has. If they are `ordered`, neighbours in the list are alike."""

    choices: tuple[Any, ...]
    ordered: bool = False

    def contains(self, value: Any) -> bool:
        """Is `value` one of the choices? 1 and true are not the same choice."""
        return identity(value) in map(identity, self.choices)

    def at(self, u: float) -> Any:
        """The choice at the share u of the list, 0 <= u < 1."""
        return self.choices[min(int(u * len(self.choices)), len(self.choices) - 1)]


@dataclass(frozen=True)
class Steps(Sequence[float]):
    """The numbers low, low + step, … up to high, as the decimals that a person would write: 0.3, not 0.1 + 2 · 0.1."""

    low: float
    high: float
    step: float

    def __len__(self) -> int:
        return int((_exact(self.high) - _exact(self.low)) / _exact(self.step)) + 1

    def __getitem__(self, k: Any) -> Any:
        if not 0 <= k < len(self):
            raise IndexError(k)
        return float(_exact(self.low) + k * _exact(self.step))


def _exact(number: float) -> Fraction:
    """The decimal number that stands in the study's file."""
    return Fraction(repr(number))


def _near(place: float, steps: Steps) -> list[int]:
    return [k for k in (math.floor(place), math.ceil(place)) if 0 <= k < len(steps)]


Dimension = Float | Int | Categorical
Space = Mapping[str, Dimension]
TYPES = ("float", "int", "categorical")  # as a study's file names them
_CATEGORICAL = {"choices", "ordered", "when", "guess"}


def active(space: Space, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those hyperparameters whose condition does not hold. A condition may lean on another."""
    kept = dict(settings)
    while gone := [name for name in space if name in kept and not space[name].is_active(kept)]:
        for name in gone:
            del kept[name]
    return kept


def values_of(dimension: Dimension) -> Sequence[Any] | None:
    """All values of a list, or of a range with a step; None for a range without one."""
    if isinstance(dimension, Categorical):
        return dimension.choices
    return None if dimension.step is None else dimension.steps


def share_of(dimension: Dimension, value: Any) -> float:
    """Where in the range or the list a value lies, from 0 to 1: the inverse of `dimension.at`."""
    if isinstance(dimension, Categorical):
        choices = [identity(choice) for choice in dimension.choices]
        return (choices.index(identity(value)) + 0.5) / len(choices)
    low, high = dimension.low, dimension.high
    if dimension.step is not None:
        return float((round((value - low) / dimension.step) + 0.5) / len(dimension.steps))
    if isinstance(dimension, Int):  # the middle of what is rounded down to it
        high, value = high + 1, value + 0.5
    return float(math.log(value / low, high / low) if dimension.log else (value - low) / (high - low))


def is_table_of_values(value: Any) -> bool:
    """Is this a table inside of [fixed]? A range is none: it was meant for [space]."""
    return isinstance(value, dict) and bool(value) and str(value.get("type")) not in TYPES


def is_table_of_dimensions(value: Any) -> bool:
    """Is this a table inside of [space]? A range or `choices` is none, even if a part of it is missing or wrong."""
    if not isinstance(value, dict) or not value or ("choices" in value and set(value) <= _CATEGORICAL):
        return False
    told = (value.get(part, []) for part in ("type", "low", "high", "log", "step"))
    return all(isinstance(part, list | dict) for part in told)


def dimension_record(dimension: Dimension) -> Any:
    """A dimension as a study's file has it."""
    more: dict[str, Any] = (
        {"when": {name: list(values) for name, values in dimension.when.items()}} if dimension.when else {}
    )
    if dimension.guess:
        more["guess"] = dimension.guess[0]
    if isinstance(dimension, Categorical):
        choices = list(dimension.choices)
        ordered = {"ordered": True} if dimension.ordered else {}
        return {"type": "categorical", "choices": choices, **ordered, **more} if ordered or more else choices
    step = {} if dimension.step is None else {"step": dimension.step}
    return {
        "type": type(dimension).__name__.lower(),
        "low": dimension.low,
        "high": dimension.high,
        "log": dimension.log,
        **step,
        **more,
    }
