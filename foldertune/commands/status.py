"""The state of a search: how far it is, who trains what, what is best so far.

    {program}
    {program} --logs /shared/me/lr --watch     until the end

Any number of people may look, from any machine that mounts the folder:
looking changes nothing.
"""

from __future__ import annotations

import argparse
import time

from foldertune.commands.options import add_logs
from foldertune.reading.archive import ARCHIVE, open_study
from foldertune.reading.live import render
from foldertune.reading.screen import open_screen
from foldertune.reading.status import Observer, Status, look_at_archive
from foldertune.trouble import Trouble

SHORTEST_WAIT, LONGEST_WAIT = 1.0, 10.0  # seconds between two looks


# ---------------------------------------------------------------- the program


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_logs(parser)
    parser.add_argument(
        "--watch",
        action="store_true",
        help="go on looking until the study is complete; on a terminal on its whole screen",
    )


def main(arguments: argparse.Namespace) -> int:
    """Show the state once, or again and again."""
    folder, study = open_study(arguments.logs)
    if (arguments.logs / ARCHIVE).is_file():
        show(look_at_archive(arguments.logs))
    elif arguments.watch:
        watch(Observer(folder, study))
    else:
        show(Observer(folder, study).look())
    return 0


def show(status: Status) -> None:
    """Print the state."""
    from rich.console import Console

    Console(highlight=False).print(render(status))


def watch(observer: Observer) -> None:
    """Draw the state again and again until the study is complete."""
    with open_screen(observer.study.name) as view:
        trouble = Trouble(view.say)
        while True:
            start = time.monotonic()
            try:
                status = observer.look()
            except OSError as error:
                trouble.is_there(error)
            else:
                trouble.is_over()
                view.draw(status)
                if status.complete:
                    return
            took = time.monotonic() - start
            view.wait(min(max(SHORTEST_WAIT, 10 * took), LONGEST_WAIT))  # however many trials, little of a machine
