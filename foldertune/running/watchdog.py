"""Ends an attempt that takes too long, and a training that ignores the signal to stop."""

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
    """Sends this process SIGALRM at the deadline. The handler of SIGALRM raises an exception in the main thread.

    If the main thread is stuck in a call that never returns to Python (a driver, a library), no handler runs. Then,
    after `grace`, this thread calls `last_resort`. This thread notices signals even if the main thread is stuck:
    Python's own handler in C writes their numbers to a pipe (`signal.set_wakeup_fd`).

    Args:
        stopping: the signals that ask the process to end.
        grace: seconds from such a signal to the alarm, and from any alarm to the last resort.
        last_resort: ends the process. It is given the signal, or 0 for a deadline that `allow` set.
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
        """Set the deadline to this many seconds from now; None: no deadline."""
        self._deadline = math.inf if seconds is None else time.monotonic() + seconds
        with contextlib.suppress(OSError):  # if the pipe is full, the thread wakes up anyway
            os.write(self._mouth, b"\0")

    def run(self) -> None:
        """Wait for deadlines and signals until the process ends."""
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
