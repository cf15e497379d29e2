"""What the master need not wait for: workers that died or fell silent, files that vanished, or were never finished."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from foldertune.protocol import (
    DEFAULT_LEASE,
    BrokenFile,
    Folder,
    Leases,
    Leftovers,
    Trial,
    TrialName,
    has_died,
    owner_has_died,
)


class Watch:
    """Observes claims, temporary files, and trials that no listing shows, by its own monotonic clock.

    Args:
        lease: seconds of silence after which a worker's trial is given to another.
    """

    def __init__(self, folder: Folder, lease: float) -> None:
        self.folder, self.lease = folder, lease
        self.leases, self.leftovers = Leases(lease), Leftovers(folder, lease)
        self._claims: dict[TrialName, Trial] = {}
        self._absent: dict[int, float] = {}  # since when, by our clock

    def gone(self, taken: list[TrialName]) -> Iterator[tuple[TrialName, str]]:
        """The claims whose worker died (on this machine) or fell silent (anywhere), and which of it, in words."""
        current = set(taken)
        self.leases.look(current)
        self._claims = {name: trial for name, trial in self._claims.items() if name in current}
        for name in taken:
            is_new = self.leases.is_new(name)
            try:
                silence = self.leases.silence(name, self.folder.signature(name))
            except OSError:
                continue  # it has moved on since the listing
            if is_new:
                continue  # most have moved on by the next time
            trial = self._claim_of(name)
            # An earlier master may have asked for signs more seldom: as seldom as the default lease does, at most.
            lease = max(self.lease, min(trial.lease or 0.0, DEFAULT_LEASE)) if trial else self.lease
            if has_died(trial.claim) if trial else owner_has_died(name.owner):
                yield name, f"its worker {name.owner} died"
            elif silence > lease:
                yield name, f"no sign of life from {name.owner} for {lease:g} s"

    def _claim_of(self, name: TrialName) -> Trial | None:
        """What the worker has said of itself; None before it has."""
        if name not in self._claims:
            try:
                trial = self.folder.read(name, epochs=False)
            except (BrokenFile, OSError):
                return None
            if trial.claim.get("claimed") != name.owner:
                return None
            self._claims[name] = trial
        return self._claims[name]

    def absences(self, numbers: Iterable[int]) -> dict[int, float]:
        """For how many seconds each of these trials, which the last listing does not show, has been absent."""
        now = time.monotonic()
        self._absent = {number: self._absent.get(number, now) for number in numbers}
        return {number: now - since for number, since in self._absent.items()}
