"""What has become of every trial of a study: bookkeeping alone, no files."""

from __future__ import annotations

from dataclasses import dataclass, field

from foldertune.protocol import Record, Trial, TrialName
from foldertune.strategies import History


@dataclass(frozen=True)
class Loss:
    """An attempt that ended without a result and has no successor yet."""

    attempt: int
    settings: Record | None  # None: its file could not be read


@dataclass
class Ledger:
    """Each trial that there is, by its number, is either counted or open.

    A counted trial is one of the results. An open one has an attempt somewhere in the folder, or that attempt is lost:
    it ended without a result, and must be followed up by the next attempt or recorded as failed.
    """

    counted: dict[int, Trial] = field(default_factory=dict)  # without epochs
    open: dict[int, Record | None] = field(default_factory=dict)  # settings; None: not known
    attempts: dict[int, int] = field(default_factory=dict)  # the latest attempt of each open trial
    losses: dict[int, Loss] = field(default_factory=dict)  # what must be followed up
    reasons: dict[int, list[str]] = field(default_factory=dict)  # why attempts were lost, also those of counted trials

    @property
    def history(self) -> History:
        """What a strategy is told."""
        return History(self.counted, self.open)

    @property
    def ended(self) -> int:
        """Trials counted and attempts lost, so far."""
        return len(self.counted) + sum(map(len, self.reasons.values()))

    def knows(self, number: int) -> bool:
        """Is there such a trial?"""
        return number in self.counted or number in self.open

    def beyond(self, budget: int) -> int:
        """How many trials were queued by hand, with numbers that the budget does not reach."""
        return sum(number >= budget for trials in (self.counted, self.open) for number in trials)

    def in_order(self) -> list[Trial]:
        """The counted trials by number."""
        return [self.counted[number] for number in sorted(self.counted)]

    def count(self, trial: Trial) -> None:
        """The trial's file is `.seen`: it is one of the results."""
        number = trial.name.number
        self.counted[number] = trial
        for entries in (self.open, self.attempts, self.losses):
            entries.pop(number, None)

    def is_news(self, name: TrialName) -> bool:
        """Does a listing show an attempt that we have not heard of? Its worker gave it back, or a person queued it."""
        return name.number not in self.counted and name.attempt > self.attempts.get(name.number, -1)

    def note(self, name: TrialName, settings: Record | None = None) -> None:
        """This attempt is in the folder, and the latest."""
        number = name.number
        self.attempts[number] = name.attempt
        self.open[number] = self.open.get(number) if settings is None else settings
        self.losses.pop(number, None)

    def lose(self, name: TrialName, reason: str, settings: Record | None, *, skipped: int = 0) -> None:
        """This attempt has ended without a result. If it is the latest, the trial must be followed up.

        Args:
            skipped: attempts to leave out, because their files may be there, unseen.
        """
        number = name.number
        if number in self.counted:
            return
        self.reasons.setdefault(number, []).append(reason)
        if name.attempt >= self.attempts.get(number, 0):
            self.reopen(name, settings, skipped=skipped)

    def reopen(self, name: TrialName, settings: Record | None, *, skipped: int = 0) -> None:
        """This attempt is the latest, and its trial must be followed up."""
        self.note(name, settings)
        self.losses[name.number] = Loss(name.attempt + skipped, settings)
