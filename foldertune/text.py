"""How text from files is shown."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with control characters escaped, so that a file's contents can't send commands to a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
