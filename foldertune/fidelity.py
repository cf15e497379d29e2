"""The fidelity: how long a trial trains, and the schedule by which some train longer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SCHEDULES = ("screening", "asha", "one-epoch", "halving", "hyperband")  # the default first; see strategies/schedules.py


@dataclass(frozen=True)
class Fidelity:
    """The setting that says how long a trial trains, such as its number of epochs.

    Attributes:
        lowest: its least useful value; a first try trains no longer.
        highest: that of a whole training; None: the settings say how long each trial trains.
        factor: each rung is so many times as high as the one below; where it is not said otherwise, one of so many
            trials goes on to it.
        schedule: which trials go on, and when; one of `SCHEDULES`.
        disk_gb: gigabytes of checkpoints that are kept for trials that may go on; the least promising are given up.
    """

    setting: str
    lowest: float = 2
    highest: float | None = None
    factor: int = 3
    schedule: str = SCHEDULES[0]
    disk_gb: float = 10.0

    def to_record(self) -> dict[str, Any]:
        """As in a study's file."""
        record = {key: value for key, value in asdict(self).items() if value is not None}
        return record if self.highest is not None else {key: record[key] for key in ("setting", "lowest")}

    def shorten(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a training that is as short as possible."""
        value = settings.get(self.setting)
        return {**settings, self.setting: min(value, self.lowest) if isinstance(value, int | float) else self.lowest}

    def trained(self, settings: Mapping[str, Any], parent: Mapping[str, Any]) -> float:
        """How long a trial trains: its own value, less that of the trial with whose training it goes on, if any."""
        value, before = settings.get(self.setting), parent.get(self.setting)
        begun = before if isinstance(before, int | float) else 0.0
        return max(value - begun, 0.0) if isinstance(value, int | float) else 0.0
