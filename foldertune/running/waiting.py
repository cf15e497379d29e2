"""Waits: for work, and for a folder that can't be reached: its mount is stale, not connected, or not permitted now."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from foldertune.errors import UserError
from foldertune.protocol import Folder, lack_of_rights
from foldertune.running.signals import StopSignals
from foldertune.trouble import Trouble

MISTAKES = {  # waiting mends none of them
    errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ENXIO, errno.EROFS,
}  # fmt: skip
FIRST_WAIT, LONG_WAIT, LONGEST_WAIT = 0.02, 1.0, 6.0  # seconds between two looks for work: first, later, in a crowd
NAMES_PER_SECOND = 100  # of waiting, in a crowd
T = TypeVar("T")


class Interrupted(Exception):
    """A signal has come while we waited."""


def once_reachable(logs: Path, action: Callable[[], T], say: Callable[[str], None]) -> T:
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

    return Trouble(say).patiently(begin, time.sleep)


def check_rights(folder: Folder) -> None:
    """Raise UserError if another user's folder does not let us work in it."""
    for place in (folder.path, folder.seen, folder.checkpoints):
        if lack := lack_of_rights(place):
            raise UserError(lack)


def lack_of_study(logs: Path) -> str:
    """What is missing in a folder without a study. Raises OSError."""
    return "THERE IS NO STUDY YET, no study.json" if logs.is_dir() else "THERE IS NO SUCH DIRECTORY YET"


def next_wait(wait: float, names: int) -> float:
    """Seconds until the next look for work: twice as long as the last wait, up to a limit.

    The more names a listing has, the larger it is, and the more workers there are to ask for it: so the longer is this
    limit. A thousand workers that ask once a second would keep a file server from all else (see bench/crowd.py).
    """
    crowded = names / NAMES_PER_SECOND
    longest = min(max(LONG_WAIT, crowded), LONGEST_WAIT)
    return min(max(2 * wait, FIRST_WAIT, crowded / 10 if crowded > LONG_WAIT else 0.0), longest)


def outlast(folder: Folder, action: Callable[[], T], signals: StopSignals, say: Callable[[str], None]) -> T:
    """Perform an action; while the folder is in trouble, say so once and try again. Raises Interrupted."""

    def pause(seconds: float) -> None:
        if signals.wait(seconds):
            raise Interrupted

    return Trouble(say, partial(lack_of_rights, folder.path)).patiently(action, pause)
