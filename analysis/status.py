"""The state of a search: how far it is, who trains what, what is best so far.

    python -m analysis.status
    python -m analysis.status --logs /shared/me/lr --watch     until the end

Any number of people may look, from any machine that mounts the folder:
looking changes nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from analysis.archive import open_study
from analysis.results import FAILED, Row, read_rows, short
from search.command_line import Trouble, add_logs, new_parser
from search.study import Study, StudyError
from search.trials import BrokenFile, Folder, Trial, TrialName, printable

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live

SHOWN = 12  # running trials; more are counted in a line


@dataclass(frozen=True)
class Status:
    """One look at a search."""

    study: Study
    asked: int  # trials, those queued by hand included
    pending: int
    running: list[Trial]
    rows: Sequence[Row]
    lost: int  # attempts
    complete: bool

    @property
    def failed(self) -> int:
        """Trials that have used up their attempts."""
        return sum(row.status == FAILED for row in self.rows)

    @property
    def best(self) -> Row | None:
        """The best trial so far, if any has a value."""
        best = min(
            (row for row in self.rows if row.value(self.study.metric) is not None),
            key=lambda row: (1 if self.study.direction == "minimize" else -1) * (row.value(self.study.metric) or 0.0),
            default=None,
        )
        return best

    def elapsed(self) -> float | None:
        """Seconds from the first claim to the last sign of work, by the workers' clocks."""
        starts = [_time(row.claimed) for row in self.rows] + [_time(t.claim.get("time")) for t in self.running]
        ends = [_time(row.finished) for row in self.rows] + ([time.time()] if self.running else [])
        known = [start for start in starts if start], [end for end in ends if end]
        return max(max(known[1]) - min(known[0]), 0.0) if known[0] and known[1] else None

    def remaining(self) -> float | None:
        """Expected seconds to the end: trials left at the mean duration, by as many workers as run now."""
        durations = [end - start for row in self.rows if (start := _time(row.claimed)) and (end := _time(row.finished))]
        left = self.asked - len(self.rows)
        if not durations or not self.running or left <= 0:
            return None
        mean = max(sum(durations) / len(durations), 0.0)
        begun = sum(
            min(max(time.time() - start, 0.0), mean) for t in self.running if (start := _time(t.claim.get("time")))
        )
        return (left * mean - begun) / len(self.running)


def look(folder: Folder, study: Study, rows: Sequence[Row]) -> Status:
    """One look at the folder, by someone who knows the counted trials."""
    names = folder.names()
    numbers = {name.number for name in names} | {row.trial for row in rows}
    return Status(
        study=study,
        asked=study.trials + sum(number >= study.trials for number in numbers),
        pending=sum(name.state == "pending" for name in names),
        running=_read_running(folder, names),
        rows=rows,
        lost=sum(name.state == "lost" for name in folder.settled()),
        complete=folder.is_complete(),
    )


def _read_running(folder: Folder, names: Sequence[TrialName]) -> list[Trial]:
    running = []
    for name in sorted((n for n in names if n.state == "taken"), key=lambda n: (n.number, n.attempt)):
        try:
            running.append(folder.read(name))
        except (BrokenFile, OSError):
            continue  # it has gone on meanwhile, or the master will say what is wrong with it
    return running


def render(status: Status) -> Group:
    """The live view, for a terminal of 80 columns or more."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 2), expand=True)
    head.add_column(no_wrap=True)
    head.add_column(ratio=1)
    head.add_column(no_wrap=True, justify="right")
    head.add_row(
        Text(status.study.name, style="bold"),
        ProgressBar(total=max(status.asked, 1), completed=len(status.rows)),
        f"{len(status.rows)} of {status.asked} trials",
    )
    parts: list[Any] = [head, Text(summary(status))]
    if best := best_line(status):
        parts.append(Text(best, style="green"))
    if status.running:
        parts.append(_running_table(status))
    return Group(*parts)


def _running_table(status: Status) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, expand=True)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("worker", no_wrap=True, overflow="ellipsis")
    table.add_column("epoch", justify="right", no_wrap=True)
    table.add_column("last", no_wrap=True, overflow="ellipsis")
    table.add_column("for", justify="right", no_wrap=True)
    for trial in status.running[:SHOWN]:
        start = _time(trial.claim.get("time"))
        table.add_row(
            Text(trial.name.label),
            Text(trial.name.owner),
            Text(epoch_of(trial)),
            Text(last_value(trial)),
            clock(time.time() - start if start else None),
        )
    if len(status.running) > SHOWN:
        table.add_row("", f"and {len(status.running) - SHOWN} more")
    return table


class View:
    """Shows the state of a search as it goes: plain lines, for an output that is no terminal."""

    interval = 10.0  # seconds between two lines

    def __init__(self) -> None:
        self._next = 0.0
        self._said = (-1, False)

    def say(self, message: str) -> None:
        """A line that stays."""
        with suppress(OSError):  # a log file on a full disk must not end the search
            print(f"{time.strftime('%H:%M:%S')} {printable(message)}", flush=True)

    def show(self, look: Callable[[], Status], last: bool = False) -> None:
        """The state now, if it is time for it (`last`: in any case); else `look` is not asked."""
        if last or time.monotonic() >= self._next:
            self._next = time.monotonic() + self.interval
            self.draw(look())

    def draw(self, status: Status) -> None:
        """One line, if there is news."""
        if (len(status.rows), status.complete) != self._said:
            self._said = len(status.rows), status.complete
            parts = [f"{len(status.rows)} of {status.asked} trials", summary(status), best_line(status)]
            self.say("; ".join(part for part in parts if part))


class LiveView(View):
    """The same, redrawn in place, for a terminal."""

    interval = 0.5

    def __init__(self, live: Live) -> None:
        super().__init__()
        self._live = live

    def say(self, message: str) -> None:
        """A line above what is redrawn."""
        from rich.text import Text

        self._live.console.print(Text(f"{time.strftime('%H:%M:%S')} {printable(message)}"))

    def draw(self, status: Status) -> None:
        """All of it."""
        self._live.update(render(status), refresh=True)


@contextmanager
def open_view() -> Iterator[View]:
    """The view that fits the output."""
    if not sys.stdout.isatty():
        yield View()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        yield LiveView(live)


def summary(status: Status) -> str:
    """The counts and the times, in a line."""
    parts = [f"{status.pending} pending", f"{len(status.running)} running", f"{len(status.rows) - status.failed} done"]
    if status.failed:
        parts.append(f"{status.failed} failed")
    if status.lost:
        parts.append(f"{status.lost} lost attempt{'s' * (status.lost != 1)}")
    times = [f"{clock(status.elapsed())} elapsed"] if status.elapsed() is not None else []
    if status.complete:
        times.append("complete")
    elif status.remaining() is not None:
        times.append(f"about {clock(status.remaining())} to go")
    return ", ".join(parts) + (" · " + ", ".join(times) if times else "")


def best_line(status: Status) -> str | None:
    """The best trial so far, in a line."""
    best = status.best
    if best is None:
        return None
    searched = ", ".join(f"{key} {short(best.settings.get(key))}" for key in status.study.space)
    return f"best: {status.study.metric} {short(best.value(status.study.metric))} in trial {best.trial} ({searched})"


def epoch_of(trial: Trial) -> str:
    """`3/10`, or `3` where nobody said how many there are to be, or nothing before the first."""
    total = trial.settings.get("epochs")
    done = trial.epochs[-1]["epoch"] if trial.epochs else 0
    return printable(f"{done}/{total}" if isinstance(total, int) else f"{done}")


def last_value(trial: Trial) -> str:
    """The last number of the last epoch."""
    numbers = {k: v for k, v in (trial.epochs[-1] if trial.epochs else {}).items() if isinstance(v, int | float)}
    key = list(numbers)[-1] if numbers else "epoch"
    return "" if key == "epoch" else f"{printable(key)} {short(numbers[key])}"


def clock(seconds: float | None) -> str:
    """`1:05`, or `2:01:05` from an hour on."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _time(text: Any) -> float | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except (TypeError, ValueError):
        return None


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__)
    add_logs(parser)
    parser.add_argument("--watch", action="store_true", help="go on looking, every second, until the study is complete")
    return parser.parse_args()


def main() -> int:
    """Show the state once, or again and again."""
    arguments = parse_arguments()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # text comes from files
    try:
        folder, study = open_study(arguments.logs)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        if arguments.watch:
            watch(folder, study)
        else:
            from rich.console import Console

            status = look(folder, study, read_rows(folder)[0])
            Console(highlight=False).print(render(status))
    except BrokenPipeError:
        return 0  # `| head`
    except OSError as error:
        print(f"error: {error.filename or arguments.logs}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def watch(folder: Folder, study: Study) -> None:
    """Draw the state every second until the study is complete."""
    rows: list[Row] = []
    with open_view() as view:
        trouble = Trouble(view.say)
        while True:
            try:
                rows, _ = read_rows(folder, known=rows)
                status = look(folder, study, rows)
                trouble.is_over()
                view.draw(status)
                if status.complete:
                    return
            except BrokenPipeError:
                raise
            except OSError as error:
                trouble.is_there(error)
            time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
