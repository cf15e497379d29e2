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

from foldertune.command_line import add_logs, new_parser
from foldertune.doctor.checkup import examine
from foldertune.doctor.echoes import answer
from foldertune.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_logs(parser)
    parser.add_argument(
        "--second-mount", type=Path, metavar="DIR", help="where this machine mounts the same folder again"
    )
    parser.add_argument("--answer", action="store_true", help="answer a doctor on another machine")
    parser.add_argument(
        "--wait", type=float, default=2.0, metavar="SECONDS", help="wait for machines that answer (default: 2)"
    )


def main(arguments: argparse.Namespace | None = None) -> int:
    """Examine the folder, or answer doctors on other machines. Raises UserError and OSError."""
    if arguments is None:
        return _run()
    if not 0 <= arguments.wait <= 3600:
        raise UserError(f"--wait {arguments.wait:g}: must be 0 to 3600 seconds")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if arguments.answer:
        return answer(arguments.logs)
    return 0 if examine(arguments.logs, arguments.second_mount, arguments.wait) else 1


def _run() -> int:
    """Do what `cli.run` is to do for every command; this goes when it comes."""
    parser = new_parser(str(__doc__).replace("{program}", "python -m foldertune doctor"))
    add_arguments(parser)
    arguments = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names come from files
    try:
        return main(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or arguments.logs}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
