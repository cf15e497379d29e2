"""The master's books: which trials are counted, open or lost, and why. It touches no files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from foldertune.confirm import confirmed_by
from foldertune.protocol import Proposal, Trial, TrialName
from foldertune.strategies import History


@dataclass(frozen=True)
class Loss:
    """An attempt that ended without a result and has no successor yet."""

    attempt: int
    proposal: Proposal | None  # None: its file could not be read


@dataclass
class Ledger:
    """Every known trial, by number. A trial is counted, open or withdrawn.

    A counted trial is one of the results. An open trial has an attempt in the folder, or its latest attempt is lost: it
    ended without a result. Then the master must publish the next attempt, or record the trial as failed. A withdrawn
    trial is open again when the budget is raised.
    """

    counted: dict[int, Trial] = field(default_factory=dict)  # without epochs
    open: dict[int, Proposal | None] = field(default_factory=dict)  # None: not known
    attempts: dict[int, int] = field(default_factory=dict)  # the latest attempt of each open trial
    losses: dict[int, Loss] = field(default_factory=dict)  # open trials that need a next attempt, or have failed
    withdrawn: dict[int, Loss] = field(default_factory=dict)  # neither counted nor open, until the budget is raised
    reasons: dict[int, list[str]] = field(default_factory=dict)  # why attempts were lost, also those of counted trials
    confirmations: set[int] = field(default_factory=set)  # the known trials that are no part of the search
    dropped: dict[int, str] = field(default_factory=dict)  # the trials that persons have taken out of the ranking
    forgiven: dict[int, int] = field(default_factory=dict)  # how many of them do not count, because a person said retry

    @property
    def history(self) -> History:
        """The history that a strategy is given: the search, without confirmations and the results of dropped trials."""
        if not self.confirmations and not self.dropped:
            return History(self.counted, self.open)
        counted = {
            number: each.without_result() if each.dropped else each
            for number, each in self.counted.items()
            if number not in self.confirmations
        }
        return History(
            counted, {number: each for number, each in self.open.items() if number not in self.confirmations}
        )

    @property
    def is_searching(self) -> bool:
        """Is a trial open that is part of the search?"""
        return not self.open.keys() <= self.confirmations

    def confirming(self) -> Iterator[Trial | Proposal]:
        """The confirmations, counted and open."""
        for number in self.confirmations:
            if each := self.counted.get(number) or self.open.get(number):
                yield each

    @property
    def ended(self) -> int:
        """The number of trials counted and attempts lost so far."""
        return len(self.counted) + sum(map(len, self.reasons.values()))

    def knows(self, number: int) -> bool:
        """Is there such a trial?"""
        return number in self.counted or number in self.open

    def beyond(self, budget: float) -> int:
        """The number of trials that were queued by hand, with numbers outside the budget."""
        return sum(number >= budget for trials in (self.counted, self.open) for number in trials)

    def in_order(self) -> list[Trial]:
        """The counted trials by number."""
        return [self.counted[number] for number in sorted(self.counted)]

    def count(self, trial: Trial) -> None:
        """Note that this trial is one of the results: its file is `.seen`."""
        number = trial.name.number
        self.counted[number], trial.dropped = trial, self.dropped.get(number)
        if trial.why and confirmed_by(trial.why) is not None:
            self.confirmations.add(number)
        for entries in (self.open, self.attempts, self.losses, self.withdrawn):
            entries.pop(number, None)

    def double_of(self, trial: Trial) -> TrialName | None:
        """If this trial is counted already: the file that counts no more. A result counts more than a failure.

        A master that was followed while it was suspended may have recorded that failure late.
        """
        earlier = self.counted.get(trial.name.number)
        if earlier is None:
            return None
        return earlier.name if earlier.result is None and trial.result is not None else trial.name

    def is_news(self, name: TrialName) -> bool:
        """Is this an attempt that we don't know? A worker gave its trial back, or a person queued it."""
        return name.number not in self.counted and name.attempt > self.attempts.get(name.number, -1)

    def note(self, name: TrialName, proposal: Proposal | None = None) -> None:
        """Note that this attempt is in the folder, and is the trial's latest."""
        number = name.number
        self.attempts[number] = name.attempt
        self.open[number] = self.open.get(number) if proposal is None else proposal
        if proposal and proposal.why and confirmed_by(proposal.why) is not None:
            self.confirmations.add(number)
        self.losses.pop(number, None)
        self.withdrawn.pop(number, None)

    def withdraw(self, name: TrialName, proposal: Proposal | None, *, skipped: int = 0) -> None:
        """Note that nobody is to begin this trial, of which this is the latest attempt."""
        number = name.number
        self.open.pop(number, None)
        self.losses.pop(number, None)
        self.attempts[number] = name.attempt
        self.withdrawn[number] = Loss(name.attempt + skipped, proposal)

    def lose(self, name: TrialName, reason: str, proposal: Proposal | None, *, skipped: int = 0) -> None:
        """Note that this attempt has ended without a result. If it is the latest, the trial must be followed up.

        Args:
            skipped: the number of attempts to skip, because their files may exist without being seen.
        """
        number = name.number
        if number in self.counted:
            return
        self.reasons.setdefault(number, []).append(reason)
        if name.attempt >= self.attempts.get(number, 0):
            self.reopen(name, proposal, skipped=skipped)

    def forgive(self, name: TrialName, failed: Trial, *, skipped: int = 0) -> None:
        """Note that this trial was counted as failed, and has its attempts back. The file now has this name."""
        number = name.number
        self.counted.pop(number, None)
        self.forgiven[number] = len(self.reasons.setdefault(number, list(failed.lost)))
        if name.attempt >= self.attempts.get(number, 0):
            self.reopen(name, failed.proposal, skipped=skipped)

    def failures(self, number: int) -> int:
        """The number of lost attempts that count against this trial."""
        return len(self.reasons.get(number, ())) - self.forgiven.get(number, 0)

    def all_have_failed(self) -> bool:
        """Are there counted trials, and none that has succeeded?"""
        return bool(self.counted) and all(trial.result is None for trial in self.counted.values())

    def reopen(self, name: TrialName, proposal: Proposal | None, *, skipped: int = 0) -> None:
        """Note that this attempt is the latest, and that its trial must be followed up."""
        self.note(name, proposal)
        self.losses[name.number] = Loss(name.attempt + skipped, proposal)
