"""What the commands pause, drain and stop have in common: they ask everybody who works in the folder."""

from __future__ import annotations

import time
from pathlib import Path

from foldertune.errors import UserError
from foldertune.protocol import A_TICK, Folder, make_request
from foldertune.reading.archive import open_study


def ask(logs: Path, kind: str, what: str) -> int:
    """Make that request. Returns the exit code. Raises UserError if there is no search that could obey it.

    Args:
        what: what everybody does now, in words that follow the folder's name.
    """
    folder = open_search(logs)
    if folder.is_complete:
        raise UserError(f"{logs}: the study is complete; nobody works there")
    make_request(logs, kind)
    make_seen(folder)
    print(f"{logs}: {what}, within ten seconds")
    return 0


def open_search(logs: Path) -> Folder:
    """The folder of a search, just listed. Raises UserError if there is none."""
    folder, _ = open_study(logs)
    if folder.is_kept():
        raise UserError(f"{logs}: is a kept study; nobody works there")
    folder.names()
    return folder


def make_seen(folder: Folder) -> None:
    """Have other machines see what we have just made or removed."""
    time.sleep(A_TICK)
    folder.stir()
