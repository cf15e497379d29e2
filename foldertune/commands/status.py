"""Show the state of a search: its progress, workers and best trial so far.

    {program}
    {program} --logs /shared/me/lr --watch     until the end

It changes nothing, so any number of people can watch, from any machine that
mounts the folder.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time

from foldertune.commands.options import add_logs
from foldertune.errors import StudyError
from foldertune.protocol import BrokenFile, Folder, printable
from foldertune.reading.archive import open_study, read_archive
from foldertune.reading.reader import Reader
from foldertune.reading.terminal.live import print_state
from foldertune.reading.terminal.screen import open_screen
from foldertune.study_file import study_from_record
from foldertune.trouble import Trouble

SHORTEST_WAIT, LONGEST_WAIT = 1.0, 10.0  # seconds between two looks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_logs(parser)
    parser.add_argument(
        "--watch",
        action="store_true",
        help="keep showing it until the study is complete; in a terminal, on the whole screen",
    )


def main(arguments: argparse.Namespace) -> int:
    """Show the state once, or again and again. Returns the exit code. Raises StudyError and OSError."""
    if Folder(arguments.logs).is_kept():
        print_state(read_archive(arguments.logs))
        return 0
    reader = Reader(*open_study(arguments.logs))
    if missing := reader.study.missing_library():
        print(printable(missing), file=sys.stderr)
    if arguments.watch:
        watch(reader)
    else:
        print_state(reader.read())
    return 0


def up_to_date(reader: Reader) -> Reader:
    """The same reader; another one if the study was extended or changed. Raises OSError."""
    with contextlib.suppress(BrokenFile, StudyError):  # what we know is good enough to go on watching
        record = reader.folder.read_study()
        if record and study_from_record(record, str(reader.folder.study_file())) != reader.study:
            return Reader(*open_study(reader.folder.path))
    return reader


def watch(reader: Reader) -> None:
    """Draw the state again and again until the study is complete."""
    with open_screen(reader.study.name) as view:
        trouble = Trouble(view.say)
        while True:
            start = time.monotonic()
            try:
                reader = up_to_date(reader)
                results = reader.read()
            except OSError as error:
                trouble.is_there(error)
            else:
                trouble.is_over()
                view.draw(results)
                if results.complete:
                    return
            took = time.monotonic() - start
            view.wait(min(max(SHORTEST_WAIT, 10 * took), LONGEST_WAIT))  # so even many trials load the machine little
