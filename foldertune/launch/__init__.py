"""Starts workers and keeps them alive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Launcher(Protocol):
    """Starts workers, looks after them, and stops them. `local.py` does so on this machine."""

    def start(self) -> None:
        """Start all workers."""

    def look_after(self, count_progress: Callable[[], int]) -> None:
        """Restart the workers that died. The caller calls this again and again; it does not wait.

        Args:
            count_progress: returns a number that grows whenever a trial or an attempt ends. It tells a worker that is
                killed by its trials from a worker that can't work at all.
        """

    def stop(self, seconds: float, *, is_time_up: bool = False) -> None:
        """Ask every worker to give its trial back and end; after that many seconds, kill those that have not.

        Args:
            is_time_up: do they end because their machine is taken away?
        """

    @property
    def needs_a_person(self) -> bool:
        """Has a worker ended that a restart does not help?"""

    @property
    def all_gone(self) -> bool:
        """Has every worker ended for good?"""


class Fleet(Protocol):
    """The workers that a launcher has started for a folder, for `foldertune scale`. `slurm_fleet.py` is one.

    Attributes:
        name: what people call the launcher.
    """

    name: str

    def __len__(self) -> int:
        """How many work or wait for their turn."""

    def add(self, number: int) -> str:
        """Start so many more, as the others were started. Returns what happened, in words. Raises UserError."""

    def remove(self, number: int) -> str:
        """End so many in good order. Returns what happened, in words. Raises UserError."""
