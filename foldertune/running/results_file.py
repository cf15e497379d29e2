"""Keeps results.csv, the table of counted trials, up to date."""

from __future__ import annotations

import time
from collections.abc import Iterable

from foldertune.protocol import Folder, Trial
from foldertune.rows import Row, results_csv

SHORTEST_PAUSE, PAUSE_PER_WRITE = 1.0, 50  # between two writes of results.csv: seconds; multiples of the last write


class ResultsFile:
    """Keeps results.csv up to date. The longer a write takes, the longer the pause before the next."""

    def __init__(self, folder: Folder) -> None:
        self.folder, self.is_old = folder, True
        self._next_write = 0.0  # by our clock

    def is_due(self) -> bool:
        """Is results.csv out of date, and is the pause over?"""
        return self.is_old and time.monotonic() >= self._next_write

    def write(self, trials: Iterable[Trial]) -> None:
        """Replace results.csv with these counted trials."""
        start = time.monotonic()
        self.folder.write_results(results_csv([Row.from_trial(trial) for trial in trials]))
        self.is_old = False
        now = time.monotonic()
        self._next_write = now + max(SHORTEST_PAUSE, PAUSE_PER_WRITE * (now - start))
