"""Let all workers end after the trial in hand, on whatever machine.

    {program} --logs /shared/me/lr
    {resume} --logs /shared/me/lr     let workers work again that you start

Their exit code is 0, and nobody starts them again. The master waits. Workers
that you start before `resume` end at once, and say so. It is a file in the
folder, drain: `touch` and `rm` do the same.
"""

from __future__ import annotations

import argparse

from foldertune.commands.asking import ask
from foldertune.commands.options import add_logs
from foldertune.protocol import DRAIN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_logs(parser)


def main(arguments: argparse.Namespace) -> int:
    """Make the request. Returns the exit code. Raises UserError."""
    return ask(arguments.logs, DRAIN, "no worker takes a trial any more, and each ends when it has none in hand")
