"""Trials that a person has taken out of the ranking, each by a file of its own, also by `touch` and `rm`.

    logs/dropped/trial-00007.json       trial 7 counts, but has no rank: it ran on a broken machine, perhaps

    {"request": "drop", "because": "gpu07 computes nonsense", "by": "anna", "host": "ws1", "time": "…"}

The trial's own file stays as it is. So the mark is undone by removing it, and nothing that was computed is lost.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from foldertune.errors import UserError
from foldertune.protocol.files import list_if_there, opened, write_whole
from foldertune.protocol.folder import Folder
from foldertune.protocol.requests import DROP, read_request, signature
from foldertune.protocol.rights import make_directory
from foldertune.protocol.trial import Trial, to_line

_NAME = re.compile(r"trial-(\d{5,12})\.json", re.ASCII)


def drop(directory: Path, number: int, because: str = "") -> None:
    """Take a trial out of the ranking. Raises OSError."""
    make_directory(directory)
    with opened(directory) as inside:
        reason = {"because": because} if because else {}
        data = to_line({"request": DROP, **reason, **signature()})
        write_whole(f"{directory}/trial-{number:05d}.json", data, inside=inside)


def undo_drop(directory: Path, number: int) -> bool:
    """Put it back into the ranking. False if it was not dropped. Raises UserError if the mark can't be removed."""
    name = f"trial-{number:05d}.json"
    try:
        with opened(directory) as inside:
            os.unlink(name, dir_fd=inside)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"{directory / name}: can't be removed ({error.strerror}); move it away") from None
    return True


class Drops:
    """The marks in a folder, as read last.

    Attributes:
        by_number: who has dropped each trial, when and why, in words.
    """

    def __init__(self, folder: Folder) -> None:
        self.by_number: dict[int, str] = {}
        self._folder, self._names = folder, frozenset[str]()

    def look(self) -> bool:
        """Look which marks there are, if the last listing has shown any. Has that changed? Raises OSError."""
        if not self._folder.has_drops and not self._names:
            return False
        directory = self._folder.dropped
        names = frozenset(name for name in list_if_there(directory) if _NAME.fullmatch(name))
        if names == self._names:
            return False
        numbers = {int(match[1]): name for name in names if (match := _NAME.fullmatch(name))}
        self.by_number = {number: str(read_request(directory, DROP, name)) for number, name in numbers.items()}
        self._names = names
        return True

    def mark(self, trials: Iterable[Trial]) -> None:
        """Tell these trials whether they are dropped."""
        for trial in trials:
            trial.dropped = self.by_number.get(trial.name.number)
