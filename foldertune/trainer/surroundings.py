"""What a training may change in its process, and the next training expects as it was."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
from typing import TextIO


def flush() -> None:
    """Let what the training has printed reach the worker before its result does."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # the training may have closed or replaced it
            stream.flush()


class Surroundings:
    """What a training may change in its process, and the next training expects as it was."""

    def __init__(self) -> None:
        self._directory = os.getcwd()
        self._streams = sys.stdin, open_output(1), open_output(2)
        self._outputs = os.dup(1), os.dup(2)  # `dup` keeps them from the processes that the training starts
        faulthandler.enable(self._outputs[1])
        self.restore()

    def restore(self) -> None:
        """Go back to the first directory, with the first output."""
        signal.setitimer(signal.ITIMER_REAL, 0)  # an alarm that is left would end the next training
        with contextlib.suppress(OSError):  # the directory may be gone
            os.chdir(self._directory)
        for number, output in enumerate(self._outputs, start=1):
            os.dup2(output, number)
        sys.stdin, sys.stdout, sys.stderr = self._streams
        if sys.stdout.closed:
            sys.stdout = open_output(1)
        if sys.stderr.closed:
            sys.stderr = open_output(2)


def open_output(descriptor: int) -> TextIO:
    """A stream to our output. It is a pipe: line by line, so that a training that is killed keeps nothing back."""
    return open(descriptor, "w", buffering=1, errors="backslashreplace", closefd=False)
