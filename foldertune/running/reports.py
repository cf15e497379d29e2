"""Writes an attempt's reports into its trial's file, and keeps the file as small as readers need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from foldertune.protocol import MAX_REPORTS, Claim, Record, to_line

ROOMY = 2**22  # bytes: any line fits
THINNER = 4  # from one level to the next, one report in so many is kept


class Reports:
    """Adds reports to a file, at first each of them.

    When half of the room is used, only every 4th is kept; when half of the rest is used, every 16th; and so on. So each
    level lasts twice as many epochs as the one before, and the room is never used up. The last report is always kept.

    Args:
        patiently: performs an action, and repeats it while the filesystem is in trouble.
        say: called with a line for the worker's output.
        room: bytes that the file may have.
    """

    def __init__(
        self,
        claim: Claim,
        patiently: Callable[[Callable[[], Any]], Any],
        say: Callable[[str], None],
        room: int = MAX_REPORTS,
    ) -> None:
        self._claim, self._patiently, self._say, self._room = claim, patiently, say, room
        self._free = float(room)  # bytes that were left when this level began
        self._every, self._number = 1, 0
        self._last: Record | None = None  # the last report, if it was left out

    def add(self, record: Record, with_next: bool = False) -> None:
        """Write a report (perhaps together with the next line), or leave it out. Raises LeaseLost."""
        self._number += 1
        left = self._room - self._claim.written.size
        while 1 < left <= self._free / 2:
            self._thin_out()
        if self._number % self._every or (left < ROOMY and len(to_line(record)) > left):
            self._last = record
        elif with_next:
            self._claim.append_with_next(record)
            self._last = None
        else:
            self._write(record)

    def close(self) -> None:
        """Write the last report, if it was left out. Raises LeaseLost."""
        if self._last:
            self._write(self._last)

    def _write(self, record: Record) -> None:
        self._patiently(lambda: self._claim.append(record))
        self._last = None

    def _thin_out(self) -> None:
        self._free /= 2
        self._every *= THINNER
        if self._every == THINNER:
            self._say("so many reports: from here on its file keeps some of them, and the last one")
