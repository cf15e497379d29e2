"""Go on after pause, drain, stop or end: remove these requests from the folder.

    {program} --logs /shared/me/lr

Workers that were paused go on by themselves. Those that have ended, and a
master that was stopped or has ended its study, must be started again, with the
same commands.
"""

from __future__ import annotations

import argparse

from foldertune.commands.asking import make_seen, open_search
from foldertune.commands.options import add_logs
from foldertune.errors import UserError
from foldertune.protocol import DRAIN, REQUESTS, STOP, is_there, read_request, remove_request
from foldertune.shipped import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_logs(parser)


def main(arguments: argparse.Namespace) -> int:
    """Remove the requests, and say which. Returns the exit code. Raises UserError."""
    logs, folder = arguments.logs, open_search(arguments.logs)
    there = [kind for kind in REQUESTS if is_there(logs / kind)]
    if folder.is_complete and not there:
        raise UserError(f"{logs}: the study is complete; extend it with: {command('master', 'STUDY', '--trials', 'N')}")
    for kind in there:
        request = read_request(logs, kind)
        remove_request(logs, kind)
        print(f"{logs}: removed {kind}: it was {request}")
    if not there:
        print(f"{logs}: nothing to resume: there is no request")
        return 0
    make_seen(folder)
    if folder.is_complete:
        print("The study is complete as it is. To go on, start its master again, with its command.")
        return 0
    if {DRAIN, STOP}.intersection(there):
        print(f"Workers that have ended must be started again, such as: {command('worker', '--logs', logs)}")
    if STOP in there:
        print("So must the master, with the command that began the search.")
    return 0
