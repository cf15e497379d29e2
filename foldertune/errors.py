"""Errors that the user can do something about."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """What the user asked for can't be done.

    The message is one line. It names the file or setting, what is wrong with it, and what to do.
    """


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'filters'?)`, or nothing if no known word is similar to this one."""
    import difflib  # only here: a worker starts faster without it

    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
