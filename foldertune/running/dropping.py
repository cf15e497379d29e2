"""Tells the master's books which trials persons have dropped."""

from __future__ import annotations

from foldertune.protocol import Drops, Folder
from foldertune.running.ledger import Ledger


class Dropping:
    """Looks for the marks of dropped trials."""

    def __init__(self, folder: Folder) -> None:
        self._drops = Drops(folder)

    def look(self, ledger: Ledger) -> bool:
        """Has anything changed since the ledger was told last? Raises OSError."""
        if not self._drops.look() and ledger.dropped is self._drops.by_number:
            return False
        ledger.dropped = self._drops.by_number
        self._drops.mark(ledger.counted.values())
        return True
