"""What can go wrong by a user's doing, and the hints that messages give."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

EXTRAS = {  # what pyproject.toml lists there, by the names to import
    "report": ("jinja2", "matplotlib", "numpy", "optuna", "pandas", "scipy", "simpleeval", "sklearn"),
    "exercise": ("numpy", "torch", "torchvision"),
}


class UserError(Exception):
    """What the user asked for can't be done.

    The message is one line: it names the file or setting, says what is wrong and what to do.
    """


class StudyError(UserError):
    """A study says something that can't be searched."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'trials'?)`, or nothing if no known word is like this one."""
    import difflib  # only here: a worker starts faster without it

    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def require(extra: str) -> None:
    """Go no further if a library of this extra is not installed. Raises UserError."""
    for module in EXTRAS[extra]:
        if find_spec(module) is None:
            raise missing_extra(extra, ModuleNotFoundError(name=module))


def missing_extra(extra: str, error: ImportError) -> UserError:
    """The error to raise where an optional import failed: what is missing, and the command that installs it."""
    return UserError(f"{error.name or error} is not installed; install it with: pip install 'foldertune[{extra}]'")
