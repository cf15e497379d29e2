"""Notices that every training fails in the same way: then more trials would only burn the budget."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Container, Iterable, Iterator

from foldertune.protocol import BrokenFile, Folder, Trial, TrialName
from foldertune.running.ledger import Ledger

FEWEST = 3  # trials that must have failed
NUMBERS = re.compile(r"0x[0-9a-fA-F]+|[-+]?(\d+(\.\d+)?([eE][-+]?\d+)?|\b(inf|nan)\b)")  # settings, sizes, addresses


class Fault:
    """Compares the trials that fail from now on: those that failed before may have had other training code."""

    def __init__(self, folder: Folder, ledger: Ledger) -> None:
        self.folder, self.ledger = folder, ledger
        self._earlier = frozenset(ledger.counted)

    def is_there(self, in_hand: Iterable[TrialName]) -> bool:
        """Have all trials failed with the same error, numbers aside, and does no running one get further?

        More trials must have failed than are running now, so that one bad machine does not speak for all.
        """
        if not self.ledger.all_have_failed():
            return False
        running = [name for name in in_hand if name.state == "taken"]
        failed = self._failed()
        if len(failed) < max(FEWEST, len(running) + 1):
            return False
        if len({NUMBERS.sub("0", str(trial.error)) for trial in failed.values()}) > 1:
            return False
        furthest = max((len(trial.epochs) for trial in self._lost(failed)), default=0)
        return all(len(trial.epochs) <= furthest for trial in self._read(running))

    def example(self) -> Trial | None:
        """The latest attempt that failed, one with a traceback if there is any."""
        failed = self._failed() or self.ledger.counted
        attempts = [*failed.values(), *self._lost(failed)]
        return max(attempts, key=lambda trial: (bool(trial.traceback), trial.finished or ""), default=None)

    def _failed(self) -> dict[int, Trial]:
        return {number: trial for number, trial in self.ledger.counted.items() if number not in self._earlier}

    def _lost(self, numbers: Container[int]) -> Iterator[Trial]:
        return self._read(n for n in self.folder.settled() if n.state == "lost" and n.number in numbers)

    def _read(self, names: Iterable[TrialName]) -> Iterator[Trial]:
        for name in names:
            with contextlib.suppress(OSError, BrokenFile):
                yield self.folder.read(name)
