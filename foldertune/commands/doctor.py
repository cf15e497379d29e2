"""Is this folder fit for a search? And which lease should the master give?

    {program} --logs /shared/me/lr
    {program} --logs /shared/me/lr --answer
                on another machine, and then the first here: how soon does one
                machine see what another did?
    {program} --logs /shared/me/lr --second-mount /mnt/lr

It tries what a search does (claim, append, hand in, …) with trials of its own.
They are in a hidden folder inside yours, which it removes again. `echo` is the
time until a change (a new name, a rename, a file's time, a line) is seen and
answered. Your trials are only looked at, so it may run during a search. It
ends with a verdict, and with exit code 0 if the folder can be used, 1 if it
can't, 2 for bad usage.

It can't know how machines that do not --answer see the folder, whether claims
of two machines exclude each other (it only races those of this machine and its
--second-mount), your quota, or whether data that the file server reports as
stored survives a power failure.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from foldertune.commands.options import add_logs, seconds
from foldertune.doctor.checkup import examine
from foldertune.doctor.echoes import answer
from foldertune.errors import UserError

LONGEST_WAIT = 3600.0  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_logs(parser)
    parser.add_argument(
        "--second-mount", type=Path, metavar="DIR", help="where this machine mounts the same folder again"
    )
    parser.add_argument("--answer", action="store_true", help="answer a doctor on another machine")
    parser.add_argument(
        "--wait", type=seconds(0), default=2.0, metavar="SECONDS", help="wait for machines that answer (default: 2)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Examine the folder, or answer doctors on other machines. Raises UserError and OSError."""
    if arguments.wait > LONGEST_WAIT:
        raise UserError(f"--wait {arguments.wait:g}: must be 0 to {LONGEST_WAIT:g} seconds")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if arguments.answer:
        return answer(arguments.logs)
    return 0 if examine(arguments.logs, arguments.second_mount, arguments.wait) else 1
