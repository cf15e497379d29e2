"""The state of a search: how far it is, who trains what, what is best so far.

    python -m foldertune status
    python -m foldertune status --logs /shared/me/lr --watch     until the end

Any number of people may look, from any machine that mounts the folder:
looking changes nothing.
"""

from __future__ import annotations

import argparse
import sys
import time

from foldertune.command_line import Trouble, add_logs, new_parser
from foldertune.errors import StudyError
from foldertune.reading.archive import ARCHIVE, open_study
from foldertune.reading.live import render
from foldertune.reading.screen import open_screen
from foldertune.reading.status import Observer, Status, look_at_archive

SHORTEST_WAIT, LONGEST_WAIT = 1.0, 10.0  # seconds between two looks


# ---------------------------------------------------------------- the program


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__)
    add_logs(parser)
    parser.add_argument(
        "--watch",
        action="store_true",
        help="go on looking until the study is complete; on a terminal on its whole screen",
    )
    return parser.parse_args()


def main() -> int:
    """Show the state once, or again and again."""
    arguments = parse_arguments()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # text comes from files
    try:
        folder, study = open_study(arguments.logs)
        if (arguments.logs / ARCHIVE).is_file():
            show(look_at_archive(arguments.logs))
        elif arguments.watch:
            watch(Observer(folder, study))
        else:
            show(Observer(folder, study).look())
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0  # `| head`
    except OSError as error:
        print(f"error: {error.filename or arguments.logs}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
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


if __name__ == "__main__":
    sys.exit(main())
