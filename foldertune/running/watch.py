"""Notices workers that died or fell silent, files in doubt, and trials with files that vanished."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from foldertune.protocol import (
    DEFAULT_LEASE,
    LONGEST_DOUBT,
    BrokenFile,
    Folder,
    Leases,
    Trial,
    TrialName,
    has_died,
    owner_has_died,
)

DOUBTS_PER_LEASE = 2  # if the lease is short, files in doubt are opened again for half of it: caches are younger


class Watch:
    """Watches claims, files in doubt, and trials that no listing shows, by its own monotonic clock.

    Args:
        lease: seconds of silence after which a worker's trial is given to another.
    """

    def __init__(self, folder: Folder, lease: float) -> None:
        self.folder, self.lease = folder, lease
        self.leases = Leases(lease)
        self._claims: dict[TrialName, Trial] = {}
        self._absent = Leases(lease)  # absence is silence, too
        self._doubted: dict[TrialName, float] = {}  # since when
        self._doubt, self._start = min(LONGEST_DOUBT, lease / DOUBTS_PER_LEASE), time.monotonic()

    def gone(self, taken: list[TrialName]) -> Iterator[tuple[TrialName, str]]:
        """The claims of workers that died (on this machine) or fell silent (anywhere), each with a reason in words."""
        current = set(taken)
        self.leases.look(current)
        self._claims = {name: trial for name, trial in self._claims.items() if name in current}
        for name in taken:
            is_new = self.leases.is_new(name)
            try:
                silence = self.leases.silence(name, self.folder.signature(name))
            except OSError:  # it was renamed since the listing, or can't be asked
                self.leases.forget(name)
                continue
            if is_new:
                continue  # most are renamed before the next look
            trial = self._claim_of(name)
            # An earlier master may have given a longer lease, with rarer heartbeats. Allow it up to the default.
            lease = max(self.lease, min(trial.lease or 0.0, DEFAULT_LEASE)) if trial else self.lease
            if has_died(trial.claim) if trial else owner_has_died(name.owner):
                yield name, f"its worker {name.owner} died{self._where(name)}"
            elif silence > lease:
                yield name, f"no sign of life from {name.owner} for {lease:g} s{self._where(name)}"

    def _where(self, name: TrialName) -> str:
        """Where a training has ended, as far as its file tells: ` after epoch 3`."""
        try:
            return f" {self.folder.read(name).reached}"
        except (BrokenFile, OSError):
            return ""

    def _claim_of(self, name: TrialName) -> Trial | None:
        """The trial, with the line in which its worker describes itself; None before that line is there."""
        if name not in self._claims:
            try:
                trial = self.folder.read(name, epochs=False)
            except (BrokenFile, OSError):
                return None
            if trial.claim.get("claimed") != name.owner:
                return None
            self._claims[name] = trial
        return self._claims[name]

    def is_in_doubt(self, name: TrialName) -> bool:
        """May what a file lacks be there after all? A client's cache may show what it was some seconds ago."""
        now = time.monotonic()
        return now - self._doubted.setdefault(name, now) < self._doubt

    def read_anew(self, name: TrialName) -> Trial:
        """The trial in a collected file. While we have just started, one that seems broken is opened again and again.

        Raises BrokenFile, or OSError if the file is gone.
        """
        while True:
            try:
                return self.folder.read(name)
            except BrokenFile:
                if time.monotonic() - self._start > self._doubt:
                    raise
            time.sleep(self._doubt / 10)

    def absences(self, numbers: Iterable[int]) -> dict[int, float]:
        """The seconds for which each of these trials, missing from the last listing, has been absent."""
        current = set(numbers)
        self._absent.look(current)
        return {number: self._absent.silence(number, ()) for number in current}
