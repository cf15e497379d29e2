"""A worker that fails trial after trial finds out whether its machine is to blame: do the trials succeed elsewhere?

A broken GPU fails fast, so it would take one trial after another, and burn their attempts. After some failures in a
row, the worker gives the last of these trials back, which costs it no attempt, and takes no other until one of its
failed trials has ended in another worker's hands:

    with a result   it is this machine: the worker ends, as one that can't train, and says so
    in failure      it is the trial: the worker goes on

A failure on the same machine says nothing while others train elsewhere: both may share its fault.

It also goes on if nobody else is at work: then nobody can tell, and `Fault` ends a search in which all trials fail.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum, auto

from foldertune.errors import UserError
from foldertune.protocol import BrokenFile, Claim, Folder, Record, TrialName, is_here
from foldertune.text import clipped, counted

FEWEST = 3  # failures in a row, at least
UNLIKELY = 0.05  # where so many attempts fail anyway that as many in a row are more likely than this, they say nothing
LONGEST_ERROR = 300  # characters
LOOK_EVERY = 2.0  # seconds between two looks at what became of the trials


class Verdict(Enum):
    """What another worker's attempts tell."""

    OPEN = auto()
    MACHINE = auto()  # they succeed where ours have failed
    TRIAL = auto()  # they fail, too


class Doubts:
    """One worker's doubts about its machine. Between failures they cost nothing."""

    def __init__(self, folder: Folder, owner: str) -> None:
        self._folder, self._owner = folder, owner
        self._failed: list[TrialName] = []  # in a row
        self._error = ""
        self._waits, self._next_look = False, 0.0

    def put_down(self, claim: Claim, last_word: Record, say: Callable[[str], None]) -> bool:
        """Note how a trial has ended. If that raises doubts, give it back: True. Raises OSError; then call it again."""
        if "error" not in last_word:
            if self._failed:
                self._failed = []
            return False
        self._error = str(last_word["error"])
        if claim.name not in self._failed:
            self._failed.append(claim.name)
        if len(self._failed) < FEWEST or not self._others_work() or self._is_usual():
            return False
        claim.give_back(f"failed, as others before it: {clipped(self._error, LONGEST_ERROR)}")
        self._waits = True
        say(f"trial {claim.name.label}: given back: {clipped(self._error, LONGEST_ERROR)}")
        say(f"{len(self._failed)} trials in a row have failed here; waiting until one has ended with another worker")
        return True

    def hold_back(self) -> bool:
        """Is the worker to take no trial now? Raises UserError if its machine is broken, and OSError."""
        if self._waits and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_EVERY
            verdict = self._verdict()
            if verdict is Verdict.MACHINE:
                failed = counted(len(self._failed), "trial")
                raise UserError(
                    f"{failed} in a row failed here, and not with another worker, so this machine seems to be broken: "
                    f"{clipped(self._error, LONGEST_ERROR)}"
                )
            if verdict is Verdict.TRIAL or not self._others_work():
                self._waits, self._failed = False, []
        return self._waits

    def _others_work(self, *, elsewhere: bool = False) -> bool:
        """Do others train, or others on other machines?"""
        taken = [name.owner or "" for name in self._folder.names() if name.state == "taken"]
        return any(not is_here(owner) if elsewhere else owner != self._owner for owner in taken)

    def _is_usual(self) -> bool:
        """Do so many attempts fail in this study that this row is no wonder?"""
        states = [name.state for name in self._folder.settled()]
        lost = max(states.count("lost") - len(self._failed), 0)
        share = (lost + 1) / (lost + states.count("seen") + 4)  # with nothing known, failures are rare
        return bool(share ** len(self._failed) > UNLIKELY)

    def _verdict(self) -> Verdict:
        """How the first of our failed trials has ended with another worker."""
        numbers, is_elsewhere = {name.number for name in self._failed}, self._others_work(elsewhere=True)
        ended = [
            name for name in (*self._folder.names(), *self._folder.settled()) if name.state in ("done", "seen", "lost")
        ]
        for name in ended:
            if name.number in numbers:
                try:
                    trial = self._folder.read(name, epochs=False)
                except (OSError, BrokenFile):  # it has moved, or says nothing
                    continue
                owner = str(trial.claim.get("claimed")) if trial.is_over and trial.claim else self._owner
                if owner == self._owner or (trial.result is None and is_here(owner) and is_elsewhere):
                    continue  # on the same machine it may have failed for the same reason
                return Verdict.TRIAL if trial.result is None else Verdict.MACHINE
        return Verdict.OPEN
