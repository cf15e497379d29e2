"""Ends what does not end by itself: an attempt past its time, a training that does not heed the signal to stop."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Collection


class Watchdog(threading.Thread):
    """At the deadline it sends this process SIGALRM, whose handler raises in the main thread.

    A main thread that is stuck in a call that never returns to Python (a driver, a library) runs no handler. Then, a
    little later, `last_resort` is called, in this thread. It hears of signals although the main thread does not:
    Python's own handler in C writes their numbers to a pipe (`signal.set_wakeup_fd`).

    Args:
        stopping: the signals after which the process is to end.
        grace: seconds from such a signal to the alarm, and from any alarm to the last resort.
        last_resort: ends the process; is given the signal that asked for it, or 0 for a deadline set by `allow`.
    """

    def __init__(self, stopping: Collection[int], grace: float, last_resort: Callable[[int], None]) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._stopping, self._grace, self._last_resort = stopping, grace, last_resort
        self._deadline = math.inf
        self._signal = 0
        self._ear, mouth = os.pipe()
        os.set_blocking(mouth, False)
        signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
        self._mouth = mouth

    def allow(self, seconds: float | None) -> None:
        """From now on there is this much time; None: without limit."""
        self._deadline = math.inf if seconds is None else time.monotonic() + seconds
        with contextlib.suppress(OSError):  # full: then it wakes up all the same
            os.write(self._mouth, b"\0")

    def run(self) -> None:
        """Until the process ends."""
        while True:
            deadline = self._deadline
            left = deadline - time.monotonic()
            if left > 0:
                self._listen(None if left == math.inf else left)
                continue
            os.kill(os.getpid(), signal.SIGALRM)
            time.sleep(self._grace)
            if self._deadline == deadline:
                self._last_resort(self._signal)

    def _listen(self, seconds: float | None) -> None:
        if not select.select([self._ear], [], [], seconds)[0]:
            return
        for number in os.read(self._ear, 512):
            if number in self._stopping and not self._signal:
                self._signal = number
                self._deadline = min(self._deadline, time.monotonic() + self._grace)
