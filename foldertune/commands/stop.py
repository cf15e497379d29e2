"""Let all workers save their trials, give them back and end, and the master too.

    {program} --logs /shared/me/lr
    {resume} --logs /shared/me/lr     let those work again that you start

The exit code of workers is 0, and nobody starts them again; that of the
master is 4. What you start before `resume` ends at once, and says so. Another
worker resumes each trial later from where it was saved. It is a file in the
folder, stop: `touch` and `rm` do the same.
"""

from __future__ import annotations

import argparse

from foldertune.commands.asking import ask
from foldertune.commands.options import add_logs
from foldertune.protocol import STOP


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_logs(parser)


def main(arguments: argparse.Namespace) -> int:
    """Make the request. Returns the exit code. Raises UserError."""
    return ask(arguments.logs, STOP, "workers give their trials back and end, and so does the master")
