"""Errors that a user can cause, and the hints in their messages."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

LIBRARIES = ("rich",)  # that every command but the worker needs
EXTRAS = {  # the libraries of each extra in pyproject.toml, by the names under which they are imported
    "report": ("jinja2", "matplotlib", "numpy", "optuna", "pandas", "scipy", "simpleeval", "sklearn"),
    "model": ("cmaes", "numpy", "optuna", "scipy"),
    "exercise": ("filelock", "numpy", "torch", "torchvision"),
}


class UserError(Exception):
    """The program can't do what the user asked for.

    The message is one line. It names the file or setting, and says what is wrong and what to do.
    """


class StudyError(UserError):
    """A study is missing, broken, or can't be searched as it is."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'trials'?)`, or an empty text if no known word is similar."""
    import difflib  # only here: a worker starts faster without it

    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def require(extra: str) -> None:
    """Raise UserError if a library of this extra is not installed."""
    for module in EXTRAS[extra]:
        if find_spec(module) is None:
            raise missing_extra(extra, ModuleNotFoundError(name=module))


def missing_extra(extra: str, error: ImportError) -> UserError:
    """The error for a failed optional import. It names the missing library and the command that installs it."""
    return UserError(f"{error.name or error} is not installed; install it with: pip install 'foldertune[{extra}]'")
