"""The budget of a study: limits, of which the first that is reached ends it. `spending.py` says when that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from foldertune.errors import did_you_mean
from foldertune.text import amount, counted

TABLE = "budget"  # its table in a study's file
KEYS = ("trials", "epochs", "hours", "target", "patience")


@dataclass(frozen=True)
class Budget:
    """The limits besides the number of trials, which is `Study.trials`. None: no such limit.

    Attributes:
        epochs: of the fidelity's setting, summed over all trials; no trial begins that would exceed it.
        hours: time at work, see `spending.seconds_at_work`.
        target: a value of the metric; the study ends when a whole training has it, or a better one.
        patience: the study ends after so many whole trainings without a better value.
    """

    epochs: float | None = None
    hours: float | None = None
    target: float | None = None
    patience: int | None = None

    def __bool__(self) -> bool:
        """Is there any limit?"""
        return any(limit is not None for limit in vars(self).values())

    def changed(self, other: Budget) -> Budget:
        """This budget with the limits that the other one has."""
        return Budget(**{**self.to_record(), **other.to_record()})

    def to_record(self) -> dict[str, Any]:
        """The limits that there are, as in a study's file."""
        return {key: value for key, value in vars(self).items() if value is not None}

    def in_words(self, trials: int, metric: str, unit: str) -> str:
        """All limits, for people. `trials` is 0 if that is none of them; `unit` is the fidelity's setting."""
        parts = [counted(trials, "trial")] if trials else []
        parts += [f"{amount(self.epochs)} {unit}"] if self.epochs is not None else []
        parts += [f"{self.hours:g} hour{'s' * (self.hours != 1)}"] if self.hours is not None else []
        parts += [f"until {metric} is {self.target:g} or better"] if self.target is not None else []
        parts += [f"until {counted(self.patience, 'trial')} bring no better value"] if self.patience is not None else []
        return ", ".join(parts)


def read_budget(record: Mapping[str, Any], fail: Callable[[str, str], NoReturn]) -> tuple[int, Budget]:
    """The number of trials (0: no such limit) and the other limits in a study's definition.

    `trials` may stand in the table [budget] or above all tables: it means the same.
    """
    table = record.get(TABLE, {})
    if not isinstance(table, dict):
        fail(TABLE, f"must be a table, [{TABLE}], not {table!r}")
    for key in table:
        if key not in KEYS:
            fail(f"{TABLE}.{key}", f"unknown key{did_you_mean(key, KEYS)}; known: {', '.join(KEYS)}")
    if "trials" in table and "trials" in record:
        fail(f"{TABLE}.trials", "stands above the tables as well; remove one of them")
    trials = _whole("trials", record["trials"], fail) if "trials" in record else 0
    limits = {key: _limit(f"{TABLE}.{key}", key, value, fail) for key, value in table.items()}
    return limits.pop("trials", trials), Budget(**limits)


def _limit(name: str, key: str, value: Any, fail: Callable[[str, str], NoReturn]) -> Any:
    if key in ("trials", "patience"):
        return _whole(name, value, fail)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        fail(name, f"must be a number, not {value!r}")
    if key != "target" and value <= 0:
        fail(name, f"must be above 0, not {value}")
    return value


def _whole(name: str, value: Any, fail: Callable[[str, str], NoReturn]) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        fail(name, f"must be a whole number, not {value!r}")
    if value < 1:
        fail(name, f"must be at least 1, not {value}")
    return value
