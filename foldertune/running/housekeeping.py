"""Removes what nobody needs: checkpoints of counted trials, temporary files of dead writers, doubles, old records."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Container, Mapping

from foldertune.protocol import Folder, Leftovers, Trial, TrialName, WorkerRecords

SUM_EVERY = 10.0  # seconds between two looks at the sizes of all checkpoints
COUNT_EVERY = 600.0  # seconds between two looks at the number of workers' records


class Housekeeping:
    """Keeps the folder tidy.

    Args:
        lease: seconds of silence after which a writer on another machine counts as dead.
        say: called once with a line about each directory that is not ours any more.
    """

    def __init__(self, folder: Folder, lease: float, say: Callable[[str], None]) -> None:
        self._folder, self._leftovers, self._say = folder, Leftovers(folder, lease), say
        self._told: set[str] = set()
        self._next_sum = self._next_count = 0.0  # of checkpoints' sizes, and of workers' records, by our clock

    def begin(self) -> None:
        """Remove what an earlier master has left."""
        self._leftovers.remove()

    def look(self, finished: Container[int]) -> None:
        """Remove the checkpoints of these trials, and temporary files whose writers have died."""
        self._remove_checkpoints(finished)
        self._leftovers.look()
        if time.monotonic() >= self._next_count:
            self._next_count = time.monotonic() + COUNT_EVERY
            with contextlib.suppress(NotADirectoryError):
                WorkerRecords(self._folder).limit()

    def limit_checkpoints(self, needed: Collection[int], most: float) -> None:
        """Give up checkpoints of counted trials beyond so many bytes. `needed` has the most promising first."""
        if not needed or time.monotonic() < self._next_sum:
            return
        self._next_sum = time.monotonic() + SUM_EVERY
        sizes, kept = self._folder.checkpoint_sizes(), 0
        given_up = set()
        for number in needed:
            kept += sizes.get(number, 0)
            if kept > most:
                given_up.add(number)
        if given_up & sizes.keys():
            self._remove_checkpoints(given_up)

    def drop_double(self, name: TrialName) -> None:
        """Set aside a second file of a counted trial. As a .lost file, a failure would give the trial new attempts."""
        self._say(f"set aside: {self._folder.locate(name)}: trial {name.number} is counted already")
        self._folder.set_aside(self._folder.locate(name))

    def end(self, counted: Mapping[int, Trial]) -> None:
        """Leave only what a finished study consists of: a master that was followed may have made a second file late."""
        for name in self._folder.settled():
            if name.state == "seen" and name.number in counted and counted[name.number].name != name:
                self.drop_double(name)
        for request in self._folder.requests:
            self._folder.drop_request(request)
        self._remove_checkpoints(counted)
        self._leftovers.remove()  # also ours, if trouble with the folder interrupted a write

    def _remove_checkpoints(self, numbers: Container[int]) -> None:
        try:
            self._folder.remove_checkpoints(numbers)
        except NotADirectoryError as error:  # a link stands there: what it leads to is not ours
            if str(error) not in self._told:
                self._told.add(str(error))
                self._say(f"no checkpoint is removed: {error}")


class Finished(Container[int]):
    """The counted trials whose checkpoints nobody needs."""

    def __init__(self, counted: Container[int], needed: Collection[int]) -> None:
        self._counted, self._needed = counted, frozenset(needed)

    def __contains__(self, number: object) -> bool:
        return number in self._counted and number not in self._needed
