"""How programs that keep working in a folder speak of trouble with its filesystem."""

from __future__ import annotations

from collections.abc import Callable


class Trouble:
    """Says once what is wrong with the folder, not at every attempt, and says when it is over."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._told: int | None = None

    def is_there(self, error: OSError) -> None:
        """Something could not be done."""
        if error.errno != self._told:
            self._told = error.errno
            self._say(f"the folder is in trouble: {error}; trying again until it works")

    def is_over(self) -> None:
        """It has been done."""
        if self._told is not None:
            self._told = None
            self._say("the folder works again")
