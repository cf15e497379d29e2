"""Asks the strategy for one trial after another."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Hashable, Iterator

from foldertune.confirm import FIRST
from foldertune.protocol import BrokenFile, Folder, TrialName
from foldertune.running.confirming import Confirming, is_confirmation
from foldertune.running.ending import Spending
from foldertune.running.ledger import Ledger
from foldertune.space import identity
from foldertune.spending import USED_UP
from foldertune.strategies import Answer, Proposal, ask, new_strategy
from foldertune.study import Study

FEWEST_AHEAD, MOST_AHEAD = 8, 1000  # limits of the number of pending trials kept ready for workers
AHEAD_PER_CHANGE = 4  # pending trials per trial claimed or collected in one step
AHEAD_PER_RUNNING, ENOUGH_AHEAD = 2, 100  # pending trials per running trial; but more than so many for changes only
PATIENCE = 10.0  # seconds in which a lone worker has not handed in what it must have ended
AHEAD_PER_CLAIM = 2  # instead, if results help to choose the next trial: per trial claimed or collected in one step


class Supply:
    """Names and settings of the trials to publish.

    Attributes:
        exhausted: the strategy had nothing left to try when we last asked.
    """

    def __init__(self, study: Study, ledger: Ledger) -> None:
        self.study, self.ledger = study, ledger
        self.spending, self.confirming = Spending(study, ledger), Confirming(study, ledger)
        self.strategy = new_strategy(study)
        self.exhausted = False
        self._running: int | None = None  # workers, when we were asked last how many trials are lacking
        self._here: list[list[str]] = []  # those that trained or handed in, in the last two steps with any
        self._held_since: float | None = None  # when a lone worker was first seen with two trials, of a monotonic clock
        self._next = 0  # all trials below this number are known
        self._unseen = 0  # trials below this number may have a first attempt that no listing has shown us
        self._is_exhaustive: bool = getattr(self.strategy, "is_exhaustive", False)
        self._replaced: dict[int, Proposal] = {}  # that of each number under which a person has queued another
        self._others: set[Hashable] = set()  # the settings of trials that have not those of their number

    def take_stock(self) -> None:
        """Start from what the ledger found in the folder. If no trial is open, ask whether there is anything to do."""
        self._unseen = max((n for n in (*self.ledger.counted, *self.ledger.open) if n < FIRST), default=0)
        self.confirming.take_stock()
        if not self.ledger.open:
            self.next()

    def next(self) -> tuple[TrialName, Proposal] | None:
        """Name and proposal of the next trial: of the search, or of the confirmations that follow it. None: not now."""
        return self._next_of_search() or next(self.unconfirmed(), None)

    def unconfirmed(self) -> Iterator[tuple[TrialName, Proposal]]:
        """The confirmations to publish: none before the search is over, and none of a study that a person has ended."""
        return self.confirming.missing() if self.is_over() and not self.spending.ended else iter(())

    def has_more(self) -> bool:
        """Will the next steps publish trials, if all that are known are counted or withdrawn?"""
        return bool(self.ledger.withdrawn and not self.why_over()) or any(self.unconfirmed())

    def remark(self, name: TrialName, proposal: Proposal) -> str:
        """A line about what is special about a trial that is about to be published; usually empty."""
        if is_confirmation(proposal):
            return self.confirming.announce()
        if name.number >= self.study.most_trials:
            return f"trial {name.number}: has settings whose number a person has used; they are tried, too"
        return ""

    def is_over(self) -> bool:
        """Are all trials of the search counted, and does no further one begin?"""
        if self.ledger.is_searching:
            return False
        if self.spending.why_over() or self.spending.shortage:
            return True
        return not self.ledger.withdrawn and (self.exhausted or (self._has_all_numbers() and not self.missing))

    def why_over(self) -> str:
        """Why no more trial of the search begins, although the number of trials allows it; empty if one may."""
        return self.spending.why_over() or self.spending.shortage or (USED_UP if self.exhausted else "")

    def _next_of_search(self) -> tuple[TrialName, Proposal] | None:
        if self.spending.why_over():
            return None
        if self.ledger.withdrawn:  # they come first: see `reinstate`
            self.spending.allows(min(self.ledger.withdrawn.items())[1].proposal or Proposal({}))
            return None
        trial = self._propose()
        return trial if trial and self.spending.allows(trial[1]) else None

    def reinstate(self) -> bool:
        """Take up withdrawn trials again, as far as the budget allows it: each gets its next attempt. True if any."""
        before = len(self.ledger.withdrawn)
        for number, loss in sorted(self.ledger.withdrawn.items()):
            if not self.spending.allows(loss.proposal or Proposal({})):
                break
            self.ledger.reopen(TrialName(number, loss.attempt), loss.proposal)
        return len(self.ledger.withdrawn) < before

    def _propose(self) -> tuple[TrialName, Proposal] | None:
        if self._has_all_numbers():
            return self._replacement()
        answer = ask(self.strategy, self._next, self.ledger.history, self.spending.fits)
        self.exhausted = answer is Answer.EXHAUSTED
        if not isinstance(answer, Proposal):
            return None
        return TrialName(self._next, 2 if self._next < self._unseen else 1), answer

    def _has_all_numbers(self) -> bool:
        """Does the ledger know a trial for each number of the search?"""
        while self.ledger.knows(self._next):
            self._next += 1
        return self._next >= self.study.most_trials

    def lacking(self, in_hand: Collection[TrialName], collected: int) -> int:
        """How many trials to publish, so that no worker waits until the next step.

        Args:
            in_hand: the attempts in the folder.
            collected: the trials collected in this step.
        """
        pending = sum(name.state == "pending" for name in in_hand)
        workers = {name.owner for name in in_hand if name.state == "taken"}  # one claims before it has handed in
        before = len(workers) if self._running is None else self._running  # nothing was claimed before we looked
        claimed, self._running = len(workers) - before + collected, len(workers)
        if not self.strategy.is_adaptive or (self.is_over() and any(self.unconfirmed())):
            most = min(AHEAD_PER_RUNNING * len(workers), ENOUGH_AHEAD)
            return min(max(FEWEST_AHEAD, most, AHEAD_PER_CHANGE * max(claimed, collected)), MOST_AHEAD) - pending
        handed_in = itertools.islice(reversed(self.ledger.counted.values()), max(collected, 0))
        if here := workers | {str(trial.claim["claimed"]) for trial in handed_in if "claimed" in trial.claim}:
            self._here = [*self._here[-1:], sorted(here)]
        if len({name for names in self._here for name in names}) <= 1:
            return self._for_one_worker(pending)
        return max(1, AHEAD_PER_CLAIM * claimed) - pending

    def _for_one_worker(self, pending: int) -> int:
        """A trial, when the one that it trains is the only open one; or, in case something is wrong, after a while.

        With two of them it would take either first, and its search would not repeat itself.
        """
        if pending or len(self.ledger.open) <= 1:
            self._held_since = None
            return int(len(self.ledger.open) <= 1) - pending
        self._held_since = self._held_since or time.monotonic()
        return int(time.monotonic() - self._held_since > PATIENCE)

    def note(self, number: int, proposal: Proposal | None) -> None:
        """Note the settings of a trial: a person may have queued it under a number of the grid's."""
        if not self._is_exhaustive or not proposal or not proposal.settings or is_confirmation(proposal):
            return
        own = self.strategy.propose(number, self.ledger.history) if number < self.study.most_trials else None
        if isinstance(own, Proposal) and identity(own.settings) == identity(proposal.settings):
            return
        self._others.add(identity(proposal.settings))
        if isinstance(own, Proposal):
            self._replaced[number] = own

    @property
    def missing(self) -> list[Proposal]:
        """The trials of an exhaustive search whose settings none has, because a person has used their numbers."""
        return [own for _, own in sorted(self._replaced.items()) if identity(own.settings) not in self._others]

    def _replacement(self) -> tuple[TrialName, Proposal] | None:
        """Missing settings, under the first number that nobody uses."""
        number = int(self.study.most_trials)  # a grid always has so many
        while self.ledger.knows(number):
            number += 1
        return next(((TrialName(number, 1), proposal) for proposal in self.missing), None)

    def again(self, number: int) -> Proposal | Answer:
        """The proposal of a trial with a file that could not be read: from the ledger, or proposed once more.

        EXHAUSTED if they are unknown, because a person chose them, or if the budget does not allow for others.
        """
        known = self.ledger.open[number]
        if known is not None:
            return known
        if confirmation := self.confirming.again(number):
            return confirmation
        if number >= self.study.most_trials:
            return Answer.EXHAUSTED  # a person chose them
        answer = self.strategy.propose(number, self.ledger.history.without(number))
        is_too_much = isinstance(answer, Proposal) and self.spending.exceeds(answer, number)
        return Answer.EXHAUSTED if is_too_much else answer

    @property
    def needs_settings(self) -> bool:
        """Must the settings of trials that we meet be read?"""
        chosen = self._is_exhaustive or not self.is_reproducible
        return chosen or self.study.budget.epochs is not None or self.study.confirm is not None

    def proposal_in(self, folder: Folder, name: TrialName) -> Proposal | None:
        """The proposal in a file, if we need it; None if we don't, or if the file can't be read."""
        if not self.needs_settings:
            return None
        try:
            return folder.read(name, epochs=False).proposal
        except (OSError, BrokenFile):
            return None

    @property
    def is_reproducible(self) -> bool:
        """Can settings be computed again? Then the master need not sync them."""
        return self.strategy.is_reproducible

    @property
    def needed(self) -> Collection[int]:
        """The counted trials with checkpoints from which a later trial may go on, the most promising first."""
        waited_for = [each.parent.number for each in self.ledger.open.values() if each and each.parent]
        return [*dict.fromkeys([*waited_for, *self.strategy.needs(self.ledger.history)])]
