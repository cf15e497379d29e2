"""What is to be tried next: the strategy, asked for one trial after another."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from foldertune.protocol import Record, TrialName
from foldertune.running.ledger import Ledger
from foldertune.strategies import Answer, Proposal, new_strategy
from foldertune.study import Study


class Supply:
    """Names and settings of the trials to publish.

    Attributes:
        exhausted: the strategy had nothing left to try when it was last asked.
    """

    def __init__(self, study: Study, ledger: Ledger) -> None:
        self.study, self.ledger = study, ledger
        self.strategy = new_strategy(study)
        self.exhausted = False
        self._next = 0  # all trials below this number are known
        self._unseen = 0  # of trials below this number a first attempt may be there that no listing has shown us

    def take_stock(self) -> None:
        """The ledger holds what was found in the folder. If nothing is open, see whether there is anything to do."""
        self._unseen = max((*self.ledger.counted, *self.ledger.open), default=0)
        if not self.ledger.open:
            self.next()

    def next(self) -> tuple[TrialName, Record] | None:
        """The next trial; None if the budget is spent or the strategy waits for results or has nothing left."""
        while self.ledger.knows(self._next):
            self._next += 1
        ahead = self.strategy.ahead
        if self._next >= self.study.trials or (ahead is not None and len(self.ledger.open) >= ahead):
            return None
        answer = self.strategy.propose(self._next, self.ledger.history)
        self.exhausted = answer is Answer.EXHAUSTED
        if not isinstance(answer, Proposal):
            return None
        return TrialName(self._next, 2 if self._next < self._unseen else 1), answer.settings

    def again(self, number: int) -> Record | Answer:
        """The settings of a trial whose file could not be read: known all the same, or proposed once more."""
        known = self.ledger.open[number]
        if known is not None:
            return known
        if number >= self.study.trials:
            return Answer.EXHAUSTED  # a person chose them
        answer = self.strategy.propose(number, self.ledger.history)
        return answer.settings if isinstance(answer, Proposal) else answer

    @property
    def is_reproducible(self) -> bool:
        """Can settings be computed again, so that the folder need not keep them at all costs?"""
        return self.strategy.is_reproducible

    @property
    def finished(self) -> Container[int]:
        """The counted trials whose checkpoints no later trial goes on from."""
        return _Finished(self.ledger.counted, self.strategy.needs(self.ledger.history))


@dataclass(frozen=True)
class _Finished(Container[int]):
    counted: Container[int]
    needed: Container[int]

    def __contains__(self, number: object) -> bool:
        return number in self.counted and number not in self.needed
