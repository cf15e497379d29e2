"""Reports trouble with the folder's filesystem, in programs that keep trying."""

from __future__ import annotations

from collections.abc import Callable


class Trouble:
    """Says once that the folder is in trouble, not at every try, and once that it works again.

    Args:
        say: called with each message.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._told: int | None = None

    def is_there(self, error: OSError) -> None:
        """Report an error, unless the last report was of the same kind."""
        if error.errno != self._told:
            self._told = error.errno
            self._say(f"the folder is in trouble: {error}; trying again until it works")

    def is_over(self) -> None:
        """Report that the folder works again, if trouble was reported before."""
        if self._told is not None:
            self._told = None
            self._say("the folder works again")
