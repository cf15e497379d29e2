"""Notes the signals that ask a program to stop, and wakes it up when one comes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from types import FrameType

from foldertune.trainer.guardian import STOPPING

SETTLE, LONG_SETTLE = 0.2, 2.0  # seconds after a training's end in which the signal that caused it may reach us, too
TIME_IS_UP = (signal.SIGALRM, signal.SIGUSR1)  # our own alarm, and Slurm's warning
MOMENT = 2.0  # seconds: a signal so soon after the first is the same one, from a supervisor that got it, too


class StopSignals:
    """SIGTERM, SIGINT, SIGHUP, SIGUSR1 or SIGUSR2 asks us to stop; another one, a moment later, asks to stop at once.

    So does SIGALRM, which a worker sets for itself where its machine is taken away at a known time.

    Handlers only take notes, so no signal ever comes between two steps of the protocol.

    Attributes:
        number: the first signal that came; 0: none.
        impatient: has another one come?
    """

    def __init__(self) -> None:
        self.number = 0
        self.impatient = False
        self._since = 0.0
        self._ear, self._mouth = os.pipe()
        os.set_blocking(self._ear, False)
        os.set_blocking(self._mouth, False)

    def listen(self) -> None:
        """Note signals from now on, also those of children that end. Main thread only."""
        signal.set_wakeup_fd(self._mouth, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in (*STOPPING, signal.SIGALRM):
            if signal.getsignal(number) != signal.SIG_IGN:  # under nohup, SIGHUP stays ignored
                signal.signal(number, self.note)

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """Note a signal. The third one ends the process as if nobody had listened."""
        if number == signal.SIGHUP:
            let_go_of_terminal()
        now = time.monotonic()
        self.number = self.number or number
        if not self._since:
            self._since = now
        elif now - self._since > MOMENT:
            self.impatient, self._since = True, now
            signal.signal(number, signal.SIG_DFL)

    @property
    def name(self) -> str:
        """The signal's name; empty while none has come."""
        return signal.Signals(self.number).name if self.number else ""

    @property
    def reason(self) -> str:
        """Why we stop, in words; empty while no signal has come."""
        if self.number == signal.SIGALRM:
            return "its time is nearly up"
        return f"stopped by {self.name}" if self.number else ""

    @property
    def is_time_up(self) -> bool:
        """Has a signal said that this machine is soon taken away?"""
        return self.number in TIME_IS_UP

    @property
    def exit_code(self) -> int:
        """That of a program that has ended for the signal: 128 + its number; 0 without one, and for our own alarm."""
        return 128 + self.number if self.number not in (0, signal.SIGALRM) else 0

    def ask(self) -> None:
        """Ask to stop, from any thread, as a first signal does. The first real signal after it is none too many."""
        self.number = self.number or signal.SIGTERM
        with contextlib.suppress(BlockingIOError):
            os.write(self._mouth, b".")

    def fileno(self) -> int:
        """A descriptor that becomes readable when a signal comes. `wait` empties it."""
        return self._ear

    def wait(self, seconds: float) -> bool:
        """Wait, but no longer than until a signal comes. Has one asked us to stop?"""
        deadline = time.monotonic() + seconds
        while not self.number and (left := deadline - time.monotonic()) > 0:
            select.select([self._ear], [], [], left)
            self.clear()
        return self.number != 0

    def clear(self) -> None:
        """Forget what made the descriptor readable, but not which signal it was."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._ear, 4096)


def let_go_of_terminal() -> None:
    """If the terminal is gone, print into nothing: who must still end in good order must not fail for a message."""
    for output in (1, 2):
        try:
            os.write(output, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), output)
