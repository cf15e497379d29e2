"""One attempt at a trial: it passes reports from the training code to the folder. Also the exceptions that end it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

from foldertune.protocol import Claim, LeaseLost, Record, Trial
from foldertune.running.report import Listener


class Stopped(BaseException):
    """A signal asks this worker to stop. A BaseException, so that no objective's `except Exception` swallows it."""


class TimedOut(BaseException):
    """The attempt took longer than the study allows."""


class Attempt(Listener):
    """A claim in training. It writes the objective's reports to the trial's file, and keeps its checkpoints.

    Args:
        checkpoint_every: seconds between two checkpoints; 0: only when the worker must stop.
        patiently: performs an action, and repeats it while the filesystem is in trouble.
        say: called with each line for the worker's output.
        is_lost: has the claim been given to another worker?
        is_stopping: has this worker been asked to stop?
    """

    def __init__(
        self,
        claim: Claim,
        trial: Trial,
        checkpoint_every: float,
        patiently: Callable[[Callable[[], None]], None],
        say: Callable[[str], None],
        *,
        is_lost: Callable[[], bool],
        is_stopping: Callable[[], bool],
    ) -> None:
        self.claim, self.trial, self.checkpoint_every = claim, trial, checkpoint_every
        self.saves_state = False  # does this training save checkpoints?
        self._is_lost, self._is_stopping, self._patiently, self._say = is_lost, is_stopping, patiently, say
        self._plan_checkpoint()

    def epoch(self, record: Record) -> None:
        """Add a line to the trial's file. Raises LeaseLost."""
        self._check_lease()
        self._patiently(lambda: self.claim.append(record))

    def checkpoints(self) -> Iterator[tuple[str, bytes]]:
        """Path and contents of the checkpoints of this attempt and earlier ones, the latest first."""
        self.saves_state = True
        return self.claim.load_checkpoints(self.trial.settings)

    def checkpoint_is_due(self) -> bool:
        """Is it time to save the state, or must the worker stop? Raises LeaseLost."""
        self.saves_state = True
        self._check_lease()
        return self._is_stopping() or time.monotonic() >= self._next_checkpoint

    def keep(self, data: bytes) -> None:
        """Save the state in the folder. Raises Stopped if the worker must stop."""
        try:
            self.claim.save_checkpoint(self.trial.settings, data)
        except OSError as error:  # a checkpoint is not a result: train on without it
            self.say(f"no checkpoint: {error}")
        self._plan_checkpoint()
        if self._is_stopping():
            raise Stopped

    def say(self, message: str) -> None:
        """Print a line about this trial."""
        self._say(f"trial {self.claim.name.label}: {message}")

    def _plan_checkpoint(self) -> None:
        self._next_checkpoint = time.monotonic() + (self.checkpoint_every or math.inf)

    def _check_lease(self) -> None:
        if self._is_lost():
            raise LeaseLost(self.claim.path)
