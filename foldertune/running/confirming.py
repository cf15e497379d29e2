"""Trains the best settings again when the search is over."""

from __future__ import annotations

from collections.abc import Iterator

from foldertune.confirm import CONFIRMS, REPEAT, confirmed_by, number_of, told_by
from foldertune.finalists import finalists, settings_key
from foldertune.protocol import Proposal, Trial, TrialName
from foldertune.running.ledger import Ledger
from foldertune.strategies import reseeded
from foldertune.study import Study
from foldertune.text import counted


class Confirming:
    """Names and proposals of the confirmations, by what the ledger knows.

    Each is a function of the study, of the trial that it confirms and of its repeat, its number included. So a master
    that is started again, or does not see one in a listing, makes no other one.
    """

    def __init__(self, study: Study, ledger: Ledger) -> None:
        self.study, self.ledger = study, ledger
        self._unseen = 0  # confirmations below this number may have a first attempt that no listing has shown us
        self._finalists: tuple[object, list[Trial]] = None, []  # and what they depend on
        self._has_told = False

    def take_stock(self) -> None:
        """Start from what the ledger found in the folder."""
        self._unseen = max(self.ledger.confirmations, default=0)

    def missing(self) -> Iterator[tuple[TrialName, Proposal]]:
        """The confirmations that nobody has begun, in the order of their numbers. Each is made when it is asked for."""
        if self.study.confirm is None:
            return
        begun = {self._key(each) for each in self.ledger.confirming()}
        used = set[int]()
        for trial in sorted(self._best(), key=lambda trial: trial.name.number):
            for repeat in range(1, self.study.confirm.repeats + 1):
                proposal = self._proposal(trial, repeat)
                if self._key(proposal) not in begun:
                    name = self._name(number_of(trial.name.number, repeat), used)
                    used.add(name.number)
                    yield name, proposal

    def again(self, number: int) -> Proposal | None:
        """The proposal of a confirmation whose file could not be read; None if there is no such one."""
        trial, repeat = told_by(number)
        known = self.ledger.counted.get(trial)
        return self._proposal(known, repeat) if known and number == number_of(trial, repeat) else None

    def announce(self) -> str:
        """A line that says what comes, once; later it is empty."""
        if self._has_told:
            return ""
        self._has_told = True
        numbers, more = [trial.name.number for trial in self._best()], sum(1 for _ in self.missing())
        return (
            f"{counted(more, 'more trial')} to confirm the best {len(numbers)}, with new seeds: "
            f"trial{'s' * (len(numbers) != 1)} {', '.join(map(str, numbers))}"
        )

    def _best(self) -> list[Trial]:
        known = self.ledger.ended, frozenset(self.ledger.dropped)
        if self._finalists[0] != known:
            self._finalists = known, finalists(self.study, self.ledger.counted.values())
        return self._finalists[1]

    def _proposal(self, trial: Trial, repeat: int) -> Proposal:
        number = trial.name.number
        settings = reseeded(self.study, trial.settings, f"{CONFIRMS}/{number}/{repeat}")
        return Proposal(settings, why={CONFIRMS: number, REPEAT: repeat})

    def _key(self, each: Trial | Proposal) -> tuple[object, object]:
        repeat = each.why.get(REPEAT)
        return settings_key(self.study, each.settings), repeat if isinstance(repeat, int) else None

    def _name(self, number: int, used: set[int]) -> TrialName:
        while self.ledger.knows(number) or number in used:  # a person has used it
            number += 1
        withdrawn = self.ledger.withdrawn.get(number)
        return TrialName(number, withdrawn.attempt + 1 if withdrawn else 2 if number < self._unseen else 1)


def is_confirmation(proposal: Proposal | None) -> bool:
    """Does this trial confirm another? False if we don't know."""
    return proposal is not None and confirmed_by(proposal.why) is not None
