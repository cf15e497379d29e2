"""Prints lines, with the time of day or without. If they can't be printed, the program goes on."""

from __future__ import annotations

import contextlib
import functools
import sys
import time


def say(message: str, *, flush: bool = True) -> None:
    """Print a line with the time of day. Without `flush`, it comes with the next line, which follows at once."""
    with contextlib.suppress(OSError):  # the output may be on the disk that is full
        sys.stdout.write(f"{_time_of_day(int(time.time()))} {message}\n")  # one write: many share an output
        if flush:
            sys.stdout.flush()


def tell(message: str) -> None:
    """Print a line as it is."""
    with contextlib.suppress(OSError):
        print(message, flush=True)


@functools.lru_cache(maxsize=1)
def _time_of_day(seconds: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))
