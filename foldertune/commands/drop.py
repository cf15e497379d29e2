"""Take trials out of the ranking: they are kept, and marked as dropped.

    {program} 7 12 --logs /shared/me/lr --because 'broken GPU'
    {program} 7 --undo --logs /shared/me/lr

A dropped trial is one of the trials asked for: to have another one in its
place, extend the study, with --trials. But it is never the best, nobody
confirms it, and no target, figure or strategy looks at its result. A master
that runs knows it within seconds.
"""

from __future__ import annotations

import argparse

from foldertune.commands.asking import make_seen
from foldertune.commands.options import add_logs, whole_number
from foldertune.errors import UserError
from foldertune.protocol import BrokenFile, Folder, drop, undo_drop
from foldertune.reading.archive import open_study
from foldertune.reading.reader import read_results
from foldertune.rows import Row, results_csv
from foldertune.shipped import command
from foldertune.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("trials", nargs="*", type=whole_number(0), metavar="N", help="the numbers of the trials")
    add_logs(parser)
    parser.add_argument("--because", default="", metavar="TEXT", help="why, for those who read the results")
    parser.add_argument("--undo", action="store_true", help="put them back into the ranking")


def main(arguments: argparse.Namespace) -> int:
    """Drop the trials, or undo that. Returns the exit code. Raises UserError."""
    if not arguments.trials:
        shown = command("results", "--logs", arguments.logs)
        raise UserError(f"drop: of which trial? Give its number; they are shown by: {shown}")
    folder, _ = open_study(arguments.logs)
    if folder.is_kept():
        raise UserError(f"{folder.path}: is a kept study; drop trials where it was searched")
    there = {name.number for name in (*folder.names(), *folder.settled()) if name.state != "pending"}
    if unknown := [number for number in arguments.trials if number not in there]:
        raise UserError(f"trial {unknown[0]}: nobody has begun such a trial in {folder.path}")
    for number in arguments.trials:
        if not arguments.undo:
            drop(folder.dropped, number, arguments.because)
            print(f"trial {number}: dropped; it counts as one of the trials, without a rank")
        elif undo_drop(folder.dropped, number):
            print(f"trial {number}: has its rank again")
        else:
            print(f"trial {number}: was not dropped")
    make_seen(folder)
    if folder.is_complete:
        renew_table(folder)
    return 0


def renew_table(folder: Folder) -> None:
    """Write results.csv again: no master does that any more."""
    results = read_results(folder.path, epochs=False)
    try:
        folder.write_results(results_csv([Row.from_trial(trial) for trial in results.trials]))
    except (OSError, BrokenFile) as error:
        print(printable(f"{folder.results}: is not up to date: {error}"))
