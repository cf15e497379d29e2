"""Knows when the budget is spent, and withdraws the trials that nobody is to begin any more."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence

from foldertune.protocol import END, BrokenFile, Folder, Proposal, TrialName, parse_time, read_request
from foldertune.running.ledger import Ledger
from foldertune.spending import Spans, cost, hours_of, joined, spans_at_work, why_over
from foldertune.study import Study
from foldertune.text import amount, counted


class Spending:
    """What is spent of the budget, by the ledger and the claims of running trials.

    Attributes:
        ended: who has ended the study; empty if nobody has. Then no confirmation begins either.
        shortage: why the next trial is not to begin: it would cost more than is left. Empty if it may.
    """

    def __init__(self, study: Study, ledger: Ledger) -> None:
        self.study, self.ledger = study, ledger
        self.ended = self.shortage = ""
        self._since: dict[TrialName, float] = {}  # when the running trials were claimed
        self._spans: tuple[int, Spans] = -1, []  # when counted trials were trained, and how many they were
        self._why: tuple[tuple[int, bool, frozenset[int]], str] = (-1, False, frozenset()), ""  # the last answer, and
        # what it depends on

    def look(self, folder: Folder, in_hand: Iterable[TrialName]) -> None:
        """Note whether a person has ended the study and, if that matters, since when trials are running."""
        if folder.is_ended != bool(self.ended):
            self.ended = str(read_request(folder.path, END)) if folder.is_ended else ""
        if self.study.budget.hours is None:
            return
        others = self.ledger.counted.keys() | self.ledger.confirmations
        taken = [name for name in in_hand if name.state == "taken" and name.number not in others]
        self._since = {name: self._since[name] for name in taken if name in self._since}
        for name in taken:
            if name not in self._since:
                with contextlib.suppress(OSError, BrokenFile):  # it has gone on, or will be set aside
                    if (since := parse_time(folder.read(name, epochs=False).claim.get("time"))) is not None:
                        self._since[name] = since

    def why_over(self) -> str:
        """Why no further trial is to begin, whatever it would cost; empty if one may."""
        if self.ended or not self.study.budget:
            return self.ended
        known = len(self.ledger.counted), self._is_late(), frozenset(self.ledger.dropped)
        if self._why[0] != known:
            self._why = known, why_over(self.study, self.ledger.counted.values(), is_late=known[1])
        return self._why[1]

    def concerns(self, number: int) -> bool:
        """Is this trial not to begin either, if none is? The end of a budget does not concern confirmations."""
        return bool(self.ended) or number not in self.ledger.confirmations

    def _is_late(self) -> bool:
        """Are the hours of the budget over?"""
        if self.study.budget.hours is None:
            return False
        if self._spans[0] != len(self.ledger.counted):
            self._spans = len(self.ledger.counted), spans_at_work(self.ledger.counted.values())
        now = time.time()
        running = [(since, now) for since in self._since.values()]
        return hours_of(joined([*self._spans[1], *running])) >= self.study.budget.hours

    def fits(self, proposal: Proposal) -> bool:
        """Is enough left for this trial, as far as we know?"""
        limit = self.study.budget.epochs
        return limit is None or self._begun() + cost(self.study, proposal) <= limit

    def allows(self, proposal: Proposal) -> bool:
        """The same; not while we don't know what those in hand will cost. If not, note why the search ends."""
        limit = self.study.budget.epochs
        if limit is None:
            return True
        begun, wanted = self._begun(), cost(self.study, proposal)
        self.shortage = ""
        if begun + wanted > limit:
            unit = self.study.fidelity.setting if self.study.fidelity else ""
            self.shortage = (
                f"{amount(begun)} of {amount(limit)} {unit} are spent, and the next trial would need {amount(wanted)}"
            )
        return not self.shortage and None not in self.ledger.open.values()

    def exceeds(self, proposal: Proposal, number: int) -> bool:
        """Would this open trial cost more than the others have left, if it were this one?"""
        limit, own = self.study.budget.epochs, self.ledger.open[number]
        others = self._begun() - (cost(self.study, own) if own else 0.0)
        return limit is not None and others + cost(self.study, proposal) > limit

    def _begun(self) -> float:
        """The epochs of all trials that have begun, as far as we know them."""
        known = [*(trial.proposal for trial in self.ledger.counted.values()), *self.ledger.open.values()]
        return sum(cost(self.study, each) for each in known if each is not None)


class Ending:
    """Ends a study before all its trials have begun.

    Args:
        say: called once with a line that says why.
    """

    def __init__(self, folder: Folder, say: Callable[[str], None]) -> None:
        self.folder, self.say = folder, say
        self._has_told = False

    def withdraw(self, spending: Spending, in_hand: Sequence[TrialName]) -> None:
        """Take back the pending trials that no worker claims before us."""
        ledger, why = spending.ledger, spending.why_over()
        in_hand = [name for name in in_hand if spending.concerns(name.number)]
        for name in in_hand:
            if name.state == "pending" and name.number in ledger.open and self.folder.withdraw(name):
                ledger.withdraw(name, ledger.open[name.number])
        self.tell(why, running=sum(name.state == "taken" for name in in_hand))

    def tell(self, why: str, running: int = 0) -> None:
        """Say why the study ends, and what becomes of the trials that still run; nothing if `why` is empty."""
        if why and not self._has_told:
            self._has_told = True
            rest = f"; what runs now is finished and counted ({counted(running, 'trial')})" if running else ""
            self.say(f"no more trials begin: {why}{rest}")


def meet_withdrawn(folder: Folder, ledger: Ledger) -> None:
    """Learn from the folder which trials are withdrawn, when the ledger knows all others."""
    for name in sorted(folder.withdrawn(), key=lambda name: name.attempt):
        if name.number not in ledger.counted and name.attempt >= ledger.attempts.get(name.number, 0):
            proposal = None
            with contextlib.suppress(BrokenFile):
                proposal = folder.read(name).proposal
            ledger.withdraw(name, proposal, skipped=1)  # its successor may be hidden by a cache


def forgive_failed(folder: Folder, ledger: Ledger, say: Callable[[str], None]) -> None:
    """Give the trials that have failed for good their attempts back, and say how many they are."""
    failed = [trial for trial in ledger.in_order() if trial.result is None and not trial.dropped]
    for trial in failed:
        if lost := folder.retry(trial.name):
            ledger.forgive(lost, trial)
    say(f"{counted(len(failed), 'failed trial')} get{'s' * (len(failed) == 1)} new attempts")
