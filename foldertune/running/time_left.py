"""How long a worker may go on where its machine is taken away at a known time, as a scheduler does."""

from __future__ import annotations

import math
import signal
import time

from foldertune.errors import UserError

RESERVE = 10.0  # seconds, besides the grace, to write a checkpoint, give a trial back and end


class TimeLeft:
    """The time until a machine is taken away, and what a worker can do in it.

    A trial that saves its state can be begun at any time: before the end an alarm, SIGALRM, asks the worker to save it.
    One that saves nothing must end before. It may take as long as the longest that this worker has seen.

    Args:
        seconds: until the machine is taken away; None: it is ours.
        grace: seconds that a training has to save its state.
    """

    def __init__(self, seconds: float | None, grace: float) -> None:
        self._reserve = grace + RESERVE
        self._seconds = (math.inf if seconds is None else seconds) - self._reserve  # for trials
        self._end = time.monotonic() + self._seconds
        self._longest = self._longest_cut = 0.0  # seconds of a training that saved nothing; of one without an end
        if self._seconds <= 0:
            raise UserError(
                f"--time-left: {seconds:.0f} s are too short: --grace and {RESERVE:.0f} s are needed to save a trial"
            )

    @property
    def seconds(self) -> float:
        """Until the machine is taken away, from now on; infinite if it is ours."""
        return self._end - time.monotonic() + self._reserve

    def set_alarm(self) -> None:
        """Have SIGALRM come when it is time to save the trial and end."""
        if self._end < math.inf:
            signal.setitimer(signal.ITIMER_REAL, max(self._end - time.monotonic(), 0.001))

    def learn(self, seconds: float, *, saves_state: bool, is_over: bool) -> None:
        """A training has taken that long, and came to its end, also in failure, or was cut off."""
        if not saves_state:
            self._longest = max(self._longest, seconds)
            self._longest_cut = max(self._longest_cut, 0.0 if is_over else seconds)

    def is_short(self) -> bool:
        """Is it too late to begin a trial, because it could be neither finished nor saved?"""
        return time.monotonic() + self._longest >= self._end

    def check(self) -> None:
        """Raise UserError if most of the time went into a training that was neither finished nor saved.

        The worker says so when its time is up without a result: the next one would fare no better.
        """
        if self._longest_cut > self._seconds / 2:
            raise UserError(
                f"no trial ends within the {self._seconds:.0f} s that there are for it, and its training saves no "
                "state; give it more time (launch slurm --time), or let it save checkpoints (docs/objectives.md)"
            )
