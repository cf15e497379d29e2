"""What a master publishes: the settings of a trial, the trial that it goes on with, and why it is tried."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from foldertune.nesting import nest, tables_in

Record = dict[str, Any]
SECONDS = "seconds"  # how long a training took: a metric of every result, computed if the training returns none


@dataclass(frozen=True)
class Parent:
    """The trial whose training another one goes on with."""

    number: int
    attempt: int
    settings: Record  # its values of those settings in which it differs, such as {"epochs": 3}
    first: int  # the trial with which this training has begun
    seconds: float | None = field(default=None, compare=False)  # that the training had taken until then, if known

    def to_record(self) -> Record:
        """As a trial's file has it."""
        known = {} if self.seconds is None else {SECONDS: self.seconds}
        return {"trial": self.number, "attempt": self.attempt, "settings": self.settings, "first": self.first, **known}

    @classmethod
    def from_record(cls, record: Any) -> Parent | None:
        """The parent that a trial's file names; None if it names none."""
        if not isinstance(record, dict) or not isinstance(record.get("settings"), dict):
            return None
        numbers = [number for key in ("trial", "attempt", "first") if type(number := record.get(key)) is int]
        if len(numbers) < 3 or min(numbers) < 0:
            return None
        seconds: Any = record.get(SECONDS)
        known = type(seconds) in (int, float) and 0 <= seconds < math.inf
        return cls(numbers[0], numbers[1], record["settings"], numbers[2], seconds if known else None)


@dataclass(frozen=True)
class Proposal:
    """A trial to publish: its settings, the trial that it goes on with, and why it is tried, for people."""

    settings: Record
    parent: Parent | None = None  # None: training starts from the beginning
    why: Record = field(default_factory=dict)

    def to_record(self) -> Record:
        """As the first line of a trial's file begins."""
        parent = {"parent": self.parent.to_record()} if self.parent else {}
        return {**settings_record(self.settings), **parent, **({"why": self.why} if self.why else {})}


def settings_record(settings: Record) -> Record:
    """Settings as the first line of a trial's file begins: nested, and which tables among them are values."""
    values = tables_in(settings)
    return {"settings": nest(settings), **({"values": values} if values else {})}
