"""Who leads the folder, as far as an observer can tell."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from foldertune.protocol import DEFAULT_LEASE, Folder, Leases, Masters, has_died
from foldertune.reading.words import clock

A_SKEW = 240.0  # seconds: so much may the clock of a file server be ahead of ours


@dataclass(frozen=True)
class Leader:
    """The last master of a folder."""

    who: str = ""  # empty: there has been none
    is_gone: bool = True
    how: str = ""  # it is gone, in words


class Leaders:
    """Watches the masters of a folder: by its own clock once it has heard one, before that by the times of files."""

    def __init__(self, folder: Folder, clock: Callable[[], float]) -> None:
        self._masters, self._leases = Masters(folder), Leases(DEFAULT_LEASE, clock)
        self._first: tuple[int, tuple[int, ...]] | None = None  # the number of the last master, and its first signature

    def last(self) -> Leader:
        """Who leads, or did last. Raises OSError while the folder is in trouble."""
        number = self._masters.newest()
        holder = self._masters.holder(number) if number else None
        if holder is None or not holder.claim:
            return Leader()
        if holder.last_word or has_died(holder.claim):
            return Leader(str(holder), how="has ended" if holder.last_word else "has died")
        if self._first is None or self._first[0] != number:
            self._first = number, holder.signature
        self._leases.look({number})
        silence, is_heard = self._leases.silence(number, holder.signature), holder.signature != self._first[1]
        if not is_heard:
            silence = age_of(holder.signature[2] / 1e9, time.time())
        lease = holder.claim.get("lease")
        lease = lease if isinstance(lease, int | float) else DEFAULT_LEASE
        by = "" if is_heard else " by the times of files"
        return Leader(str(holder), is_gone=silence > lease, how=f"silent for {clock(silence)}{by}")


def age_of(touched: float, now: float) -> float:
    """The seconds since a file was touched. A time that lies far ahead proves no life: it is as old as it is new."""
    age = now - touched
    return max(age, 0.0) if age >= -A_SKEW else -age
