"""The interface of a strategy: what the master tells it, what it answers, and its methods."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from foldertune.metrics import Known
from foldertune.protocol import Proposal, Trial
from foldertune.study import Study


class Answer(enum.Enum):
    """The answer of a strategy that proposes no trial."""

    WAIT = "wait"  # for more results
    EXHAUSTED = "exhausted"  # there is nothing left to try


@dataclass(frozen=True)
class History:
    """What the master knows when it asks a strategy: counted and open trials, by number."""

    counted: Mapping[int, Trial] = field(default_factory=dict)
    open: Mapping[int, Proposal | None] = field(default_factory=dict)  # None: not read
    others: History | None = None  # all trials, if these are only those that can be compared
    behind: Sequence[Trial] = ()  # trials that a schedule has left behind: worse than all that are counted here
    known: Sequence[Known] = ()  # results of another study that can be compared with these

    @property
    def whole(self) -> History:
        """All trials."""
        return self.others or self

    def without(self, number: int) -> History:
        """The same, as if this open trial were not there."""
        others = self.others and self.others.without(number)
        return replace(self, open={n: each for n, each in self.open.items() if n != number}, others=others)

    def before(self, number: int) -> History:
        """The same, as if this counted trial still ran."""
        others = self.others and self.others.before(number)
        counted = {n: trial for n, trial in self.counted.items() if n != number}
        return replace(self, counted=counted, open={**self.open, number: self.counted[number].proposal}, others=others)


class Strategy(Protocol):
    """Chooses the settings of a study's trials.

    is_reproducible: the settings depend on the study and the number alone. Then a torn file can be written again, so
        the master need not sync it.
    is_adaptive: the settings depend on the results so far. Then the master asks late, so that each proposal knows as
        many results as possible; but no worker should have to wait.

    A strategy may also have `is_exhaustive`. If it is true, each of its trials must be tried: one that a person queued
    under the same number does not replace it. And `enough`, if it is a model: so many results it needs, and until then
    it draws at random.
    """

    is_reproducible: bool
    is_adaptive: bool

    def propose(self, number: int, history: History) -> Proposal | Answer:
        """The proposal for the trial with this number, or an answer. If the trial's file is lost, it is asked again."""
        ...

    def needs(self, history: History) -> Collection[int]:
        """The counted trials with whose training a later proposal may go on, the most promising first."""
        ...


class NamedStrategy(Strategy, Protocol):
    """A strategy that a study's file names. A schedule has such a one inside."""

    def __init__(self, study: Study) -> None: ...

    @classmethod
    def plan(cls, study: Study, source: str, trials: int | None, repeats: int | None) -> Study:
        """The study with the command line's `trials` and `repeats`, and with a number of trials in any case.

        Raises StudyError, naming `source` or the option, if this strategy can't search the study.
        """
        ...


def ask(
    strategy: Strategy, number: int, history: History, fits: Callable[[Proposal], bool] = lambda proposal: True
) -> Proposal | Answer:
    """The strategy's answer for the trial with this number.

    The trial before it still runs, as a rule, when the master asks. If it has ended already, its result counts only if
    nothing can be proposed without it: so how soon the master looks changes nothing, and one worker's search repeats
    itself.

    Args:
        fits: is enough of the budget left for this proposal?
    """
    if strategy.is_adaptive and number - 1 in history.counted:
        answer = strategy.propose(number, history.before(number - 1))
        if isinstance(answer, Proposal) and fits(answer):
            return answer
    return strategy.propose(number, history)
