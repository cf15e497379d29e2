"""What the command lines of all programs have in common."""

from __future__ import annotations

import argparse
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
