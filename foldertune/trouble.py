"""Reports trouble with the folder's filesystem, in programs that keep trying."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

FIRST_RETRY, LONGEST_RETRY = 0.1, 5.0  # seconds between two tries while the filesystem is in trouble
T = TypeVar("T")


class Trouble:
    """Says once that the folder is in trouble, not at every try, and once that it works again.

    Args:
        say: called with each message.
        lack: says whom to ask for what if a right is missing; None if it doesn't know.
    """

    def __init__(self, say: Callable[[str], None], lack: Callable[[], str | None] = lambda: None) -> None:
        self._say, self._lack = say, lack
        self._told: tuple[type[OSError], int | None] | None = None

    def patiently(self, action: Callable[[], T], pause: Callable[[float], None]) -> T:
        """Perform an action. While the filesystem is in trouble, say so once, and try again after each `pause`."""
        wait = FIRST_RETRY
        while True:
            try:
                value = action()
            except OSError as error:
                self.is_there(error)
            else:
                self.is_over()
                return value
            pause(wait)
            wait = min(2 * wait, LONGEST_RETRY)

    def is_there(self, error: OSError) -> None:
        """Report an error, unless the last report was of the same kind."""
        if self._told != (kind := (type(error), error.errno)):
            self._told = kind
            lack = self._lack() if isinstance(error, PermissionError) else None
            self._say(f"the folder is in trouble: {lack or error}; trying again until it works")

    def is_over(self) -> None:
        """Report that the folder works again, if trouble was reported before."""
        if self._told is not None:
            self._told = None
            self._say("the folder works again")
