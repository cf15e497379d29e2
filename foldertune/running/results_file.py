"""Keeps results.csv, the table of counted trials, up to date, and asks it what was counted before."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable

from foldertune.protocol import BrokenFile, Folder, Trial, TrialName, read_bytes
from foldertune.rows import DROPPED, STOPPED, SUCCEEDED, Row, results_csv
from foldertune.text import counted

SHORTEST_PAUSE, PAUSE_PER_WRITE = 1.0, 50  # between two writes of results.csv: seconds; multiples of the last write


LARGEST = 2**28  # bytes of results.csv that are read


class Absent(OSError):
    """Results that were counted are not there. They may be there again later."""


class ResultsFile:
    """Keeps results.csv up to date. The longer a write takes, the longer the pause before the next."""

    def __init__(self, folder: Folder) -> None:
        self.folder, self.is_old = folder, True
        self._next_write = 0.0  # by our clock

    def is_due(self) -> bool:
        """Is results.csv out of date, and is the pause over?"""
        return self.is_old and time.monotonic() >= self._next_write

    def complete(self, settled: list[TrialName]) -> set[TrialName]:
        """The settled attempts that were listed, and those that only the table and a look by name know of.

        Raises Absent if a result in the table is neither listed nor found. A part of a file server may be away, or a
        cache may be old: whoever went on would train again what is there.
        """
        listed = set(settled)
        unlisted = {name for name in self._results() - listed if name.to("lost") not in listed}
        found = {name for name in unlisted if self.folder.has(name)}
        if absent := unlisted - found:
            raise Absent(
                f"{self.folder.seen} lacks {counted(len(absent), 'result')} of {self.folder.results}, such as "
                f"{min(absent, key=lambda name: name.number)}; if you have removed them, remove that table, too"
            )
        return listed | found

    def _results(self) -> set[TrialName]:
        """The files of the results in the table, as it is now; none if there is no table, or it is not ours."""
        try:
            text = read_bytes(str(self.folder.results), LARGEST).decode(errors="replace")
            rows = csv.DictReader(text.splitlines(keepends=True))
            done = [row for row in rows if row["status"] in (SUCCEEDED, STOPPED, DROPPED)]
            return {TrialName(int(row["trial"]), int(row["attempt"]), "seen") for row in done}
        except (FileNotFoundError, BrokenFile, KeyError, TypeError, ValueError, csv.Error):
            return set()

    def write(self, trials: Iterable[Trial]) -> None:
        """Replace results.csv with these counted trials."""
        start = time.monotonic()
        self.folder.write_results(results_csv([Row.from_trial(trial) for trial in trials]))
        self.is_old = False
        now = time.monotonic()
        self._next_write = now + max(SHORTEST_PAUSE, PAUSE_PER_WRITE * (now - start))
