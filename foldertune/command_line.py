"""What the programs have in common: their command lines, and how they speak of trouble."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def new_parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose `--help` is the program's docstring: its first line above the options, the rest below."""
    summary, _, rest = str(doc).partition("\n\n")
    return argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_logs(parser: argparse._ActionsContainer) -> None:
    """The option that names the shared folder."""
    help = "the shared folder (default: logs)"
    parser.add_argument("--logs", type=Path, default=Path("logs"), metavar="DIR", help=help)


def add_checkpoint_every(parser: argparse._ActionsContainer) -> None:
    """The option that says how much of a training a kill -9 may cost."""
    parser.add_argument(
        "--checkpoint-every", type=float, default=300.0, metavar="SECONDS",
        help="save the state of a training so often; 0: only when stopped (default: %(default)g)",
    )  # fmt: skip


class Trouble:
    """Says what is wrong with the folder, once and not at every try, and when it is over."""

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
