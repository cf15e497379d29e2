"""Let no worker take a trial, until resume: what runs is trained to its end.

    {program} --logs /shared/me/lr
    {resume} --logs /shared/me/lr     go on

Workers wait, on whatever machine, and their --idle-timeout does not run
meanwhile. It is a file in the folder, pause: `touch` and `rm` do the same.
"""

from __future__ import annotations

import argparse

from foldertune.commands.asking import ask
from foldertune.commands.options import add_logs
from foldertune.protocol import PAUSE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_logs(parser)


def main(arguments: argparse.Namespace) -> int:
    """Make the request. Returns the exit code. Raises UserError."""
    return ask(arguments.logs, PAUSE, "no worker takes a trial any more")
