"""Trials of equal settings, taken together."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from foldertune.protocol import Trial
from foldertune.reading.samples import Sample


class Known(Protocol):
    """What a group asks of the results that its trials belong to."""

    def has_collapsed(self, trial: Trial) -> bool:
        """Does the trial's result say that training collapsed?"""

    def value(self, trial: Trial, metric: str | None = None) -> float | None:
        """A metric of the trial's result."""

    def at_end(self, trial: Trial, name: str) -> float | None:
        """A measure after the trial's last epoch."""


@dataclass(frozen=True)
class Group:
    """The trials of equal settings; `key` holds the values that they share."""

    key: tuple[Any, ...]
    trials: list[Trial]
    known: Known = field(repr=False)

    @cached_property
    def trained(self) -> list[Trial]:
        """The trials that did not collapse."""
        return [trial for trial in self.trials if not self.known.has_collapsed(trial)]

    @property
    def collapsed(self) -> int:
        """The number of trials that collapsed."""
        return len(self.trials) - len(self.trained)

    def sample(self, measure: str) -> Sample:
        """A measure after the last epoch. Trials that collapsed say little of the others, and are left out."""
        values = [self.known.at_end(trial, measure) for trial in self.trained]
        return Sample.of([*values, *[None] * self.collapsed])

    def sample_of_all(self, measure: str) -> Sample:
        """A measure after the last epoch of all trials, with those that collapsed."""
        return Sample.of(self.known.at_end(trial, measure) for trial in self.trials)

    def sample_of_results(self, metric: str) -> Sample:
        """A metric of the results of the trials that did not collapse."""
        return Sample.of(self.known.value(trial, metric) for trial in self.trained)

    @cached_property
    def seconds(self) -> float:
        """The mean training time; infinite where none is known."""
        return Sample.of((trial.result or {}).get("seconds") for trial in self.trials).mean
