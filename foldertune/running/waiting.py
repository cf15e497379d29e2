"""Waits: for work, and for a folder that can't be reached: its mount is stale, not connected, or not permitted now."""

from __future__ import annotations

import contextlib
import errno
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from foldertune.errors import UserError
from foldertune.protocol import Folder, WorkerRecords, lack_of_rights
from foldertune.running.remote import ENDS_WORKERS
from foldertune.running.signals import StopSignals
from foldertune.trouble import Trouble

MISTAKES = {  # waiting mends none of them
    errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ENXIO, errno.EROFS,
}  # fmt: skip
FIRST_WAIT, LONG_WAIT, LONGEST_WAIT = 0.02, 1.0, 20.0  # seconds between two looks for work: first, later, in a crowd
PART = 9.0  # seconds of a wait, until we see whether a person asks us to end: that is to be obeyed within ten
FEW_NAMES, LONGEST_IF_FEW = 400, 6.0  # a listing of so few costs no more than that look; and the longest wait then
NAMES_PER_SECOND = 100  # of waiting, in a crowd: of trials in a listing, or of workers
COUNT_AFTER, COUNT_EVERY = 10.0, 300.0  # seconds without work until a worker counts all workers: first, and again
T = TypeVar("T")


class Interrupted(Exception):
    """A signal has come while we waited."""


def once_reachable(
    logs: Path, action: Callable[[], T], say: Callable[[str], None], pause: Callable[[float], None] = time.sleep
) -> T:
    """Begin something in the folder, once it can be reached.

    Raises UserError if the path is a mistake, or if the folder is another user's and closed to us.
    """

    def begin() -> T:
        check_rights(Folder(logs))
        try:
            return action()
        except OSError as error:
            if error.errno not in MISTAKES:
                raise
            raise UserError(f"{error.filename2 or error.filename or logs}: {error.strerror}") from None

    return Trouble(say).patiently(begin, pause)


def check_rights(folder: Folder) -> None:
    """Raise UserError if another user's folder does not let us work in it."""
    for place in (folder.path, folder.seen, folder.checkpoints):
        if lack := lack_of_rights(place):
            raise UserError(lack)


def lack_of_study(logs: Path) -> str:
    """What is missing in a folder without a study. Raises OSError."""
    return "THERE IS NO STUDY YET, no study.json" if logs.is_dir() else "THERE IS NO SUCH DIRECTORY YET"


class Waits:
    """The waits of a worker without work, from look to look: each twice as long as the last, up to a limit.

    The more names a listing has, the larger it is; and the more workers there are, the more of them ask for it. So the
    longer is this limit: a thousand workers that ask once a second keep a file server from all else (bench/crowd.py).
    A worker that has waited for a while counts the others, which is a larger listing, and a rare one.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder, self._last, self._workers = folder, 0.0, 0
        self._next_count = time.monotonic() + COUNT_AFTER

    def wait(self, pause: Callable[[float], None]) -> None:
        """Wait until it is time to look for work, the study is complete, or a person asks workers to end.

        Args:
            pause: waits for so many seconds, or raises what ends the wait.
        """
        seconds = self._next() * random.uniform(0.5, 1.5)  # not all workers at the same moment
        while seconds > PART:
            pause(PART)
            seconds -= PART
            with contextlib.suppress(OSError):
                self._folder.look_for(*ENDS_WORKERS, self._folder.study_done.name)
            if self._folder.halt in ENDS_WORKERS or self._folder.is_complete:
                return
        pause(seconds)

    def _next(self) -> float:
        if time.monotonic() >= self._next_count:
            self._next_count = time.monotonic() + COUNT_EVERY * random.uniform(0.5, 1.5)
            with contextlib.suppress(OSError):  # who can't look will see that at the next claim
                self._workers = WorkerRecords(self._folder).count_living()
        crowded = max(self._folder.names_listed, self._workers) / NAMES_PER_SECOND
        limit = LONGEST_WAIT if self._folder.names_listed > FEW_NAMES else LONGEST_IF_FEW
        longest = min(max(LONG_WAIT, crowded), limit)
        self._last = min(max(2 * self._last, FIRST_WAIT, crowded / 10 if crowded > LONG_WAIT else 0.0), longest)
        return self._last


def outlast(folder: Folder, action: Callable[[], T], signals: StopSignals, say: Callable[[str], None]) -> T:
    """Perform an action; while the folder is in trouble, say so once and try again. Raises Interrupted."""

    def pause(seconds: float) -> None:
        if signals.wait(seconds):
            raise Interrupted

    return Trouble(say, partial(lack_of_rights, folder.path)).patiently(action, pause)
