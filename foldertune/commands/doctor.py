"""Find out whether a folder is fit for a search, and which lease to use.

    {program} --logs /shared/me/lr
    {program} --logs /shared/me/lr --answer
                on another machine first, then the command above here: measures
                how soon one machine sees the changes of another
    {program} --logs /shared/me/lr --second-mount /mnt/lr

It does what a search does (claim, append, hand in, …), with trials of its own
in a hidden folder inside yours, and removes that folder at the end. `echo` is
the time until another process sees and answers a change (a new name, a rename,
a file's time, a line). It only looks at your trials, so it may run during a
search. It ends with a verdict. The exit code is 0 if the folder can be used, 1
if it can't, and 2 for bad usage.

It can't find out how machines that do not --answer see the folder, whether two
machines can claim the same trial (it only tries this with processes of this
machine and its --second-mount), your quota, or whether data survives a power
failure once the file server has reported it as stored.
"""

from __future__ import annotations

import argparse
import signal
import sys

from foldertune.commands.options import add_logs, path, seconds
from foldertune.doctor.checkup import examine
from foldertune.doctor.echoes import answer
from foldertune.errors import UserError

LONGEST_WAIT = 3600.0  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_logs(parser)
    parser.add_argument(
        "--second-mount", type=path, metavar="DIR", help="where this machine mounts the same folder again"
    )
    parser.add_argument("--answer", action="store_true", help="answer a doctor on another machine")
    parser.add_argument(
        "--wait", type=seconds(0), default=2.0, metavar="SECONDS", help="wait for machines that answer (default: 2)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Examine the folder, or answer doctors on other machines.

    Returns the exit code: 0 if the folder can be used, otherwise 1. Raises UserError and OSError.
    """
    if arguments.wait > LONGEST_WAIT:
        raise UserError(f"--wait {arguments.wait:g}: must be 0 to {LONGEST_WAIT:g} seconds")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if arguments.answer:
        return answer(arguments.logs)
    return 0 if examine(arguments.logs, arguments.second_mount, arguments.wait) else 1
