"""How the state of a search is told: in a line, in a few, in a few that are redrawn as it goes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from foldertune.protocol import Trial, printable
from foldertune.tables import short

if TYPE_CHECKING:
    from rich.console import Group, JustifyMethod, RenderableType
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    from foldertune.reading.status import Setback, Status

SHOWN = 12  # running trials, where the view has no height of its own; more are counted in a line


# ---------------------------------------------------------------- in a line


def summary(status: Status) -> str:
    """The counts and the times, in a line."""
    done, lost = len(status.rows) - status.failed, len(status.lost)
    parts = [] if status.kept else [f"{status.pending} pending", f"{len(status.running)} running"]
    parts.append(f"{done} done")
    if status.failed:
        parts.append(f"{status.failed} failed")
    if lost:
        parts.append(f"{lost} lost attempt{'s' * (lost != 1)}")
    elapsed, remaining = status.elapsed(), status.remaining()
    times = [f"{clock(elapsed)} elapsed"] if elapsed is not None else []
    if status.complete:
        times.append("complete")
    elif status.kept:
        times.append("not complete")
    elif remaining is not None:
        times.append(f"about {clock(remaining)} to go, until {moment(time.time() + remaining)}")
    return ", ".join(parts) + (" · " + ", ".join(times) if times else "")


def best_line(status: Status) -> str | None:
    """The best trial so far, in a line."""
    best, metric = status.best, status.study.metric
    if best is None:
        return None
    searched = ", ".join(f"{key} {short(best.settings.get(key))}" for key in status.study.space)
    return printable(f"best: {metric} {short(best.value(metric))} in trial {best.trial} ({searched})")


def setback_line(setback: Setback) -> str:
    """What went wrong, in a line."""
    number, attempt = setback.name.number, setback.name.attempt
    who = f"trial {number} failed" if setback.is_final else f"trial {number}, attempt {attempt} lost"
    return f"{who}: {setback.reason}"


def epoch_of(trial: Trial) -> str:
    """`3/10`, or `3` where nobody said how many there are to be, or nothing before the first."""
    total = trial.settings.get("epochs")
    done = trial.epochs[-1]["epoch"] if trial.epochs else 0
    return printable(f"{done}/{total}" if isinstance(total, int) else f"{done}")


def last_key(trial: Trial) -> str | None:
    """The name of the last number of the last epoch."""
    keys = [key for key, value in (trial.epochs[-1] if trial.epochs else {}).items() if isinstance(value, int | float)]
    return keys[-1] if keys and keys[-1] != "epoch" else None


def last_value(trial: Trial) -> str:
    """The last number of the last epoch, with its name."""
    key = last_key(trial)
    return f"{printable(key)} {short(trial.epochs[-1][key])}" if key else ""


def clock(seconds: float | None) -> str:
    """`1:05`, or `2:01:05` from an hour on."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def moment(seconds: float) -> str:
    """A time of day, with the date if it is not today's."""
    then, today = time.localtime(seconds), time.localtime()
    form = "%H:%M" if then[:3] == today[:3] else "%a %d %b %H:%M" if then[0] == today[0] else "%d %b %Y %H:%M"
    return time.strftime(form, then)


# ---------------------------------------------------------------- in a few lines


def render(status: Status) -> Group:
    """The state, for a terminal of 80 columns or more."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [progress(status), Text(summary(status))]
    if best := best_line(status):
        parts.append(Text(best, style="green"))
    if status.running:
        parts.append(_running_table(status))
    parts += setback_lines(status.setbacks)
    return Group(*parts)


def progress(status: Status) -> Table:
    """The study, its progress as a bar and as a number."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 2), expand=True)
    head.add_column(no_wrap=True)
    head.add_column(ratio=1)
    head.add_column(no_wrap=True, justify="right")
    head.add_row(
        Text(printable(status.study.name), style="bold"),
        ProgressBar(total=max(status.asked, 1), completed=len(status.rows)),
        f"{len(status.rows)} of {status.asked} trials",
    )
    return head


def _running_table(status: Status) -> Table:
    from rich.box import SIMPLE_HEAD

    table = new_table("> trial", "worker", "> epoch", "last", "> for", gives_way=(1, 3), box=SIMPLE_HEAD)
    for trial in status.running[:SHOWN]:
        table.add_row(
            cell(trial.name.label),
            cell(trial.name.owner),
            cell(epoch_of(trial)),
            cell(last_value(trial)),
            cell(clock(status.age(trial))),
        )
    if len(status.running) > SHOWN:
        table.add_row("", cell(f"and {len(status.running) - SHOWN} more"))
    return table


def new_table(*headers: str, gives_way: Sequence[int], **options: Any) -> Table:
    """A table with a line a row; `> `: to the right. Where there is no room, some columns give way to the others."""
    from rich.table import Table

    table = Table(pad_edge=False, expand=True, **options)
    for number, header in enumerate(headers):
        justify: JustifyMethod = "right" if header.startswith("> ") else "left"
        table.add_column(cell(header.removeprefix("> ")), justify=justify, no_wrap=number not in gives_way)
    return table


def cell(text: str, style: str = "") -> Text:
    """What a file says, in one line."""
    from rich.text import Text

    return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")


def setback_lines(setbacks: Sequence[Setback]) -> Sequence[RenderableType]:
    """Each in a line, cut off where the terminal ends."""
    return [cell(setback_line(setback), "red" if setback.is_final else "yellow") for setback in setbacks]


# ---------------------------------------------------------------- views


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

    def wait(self, seconds: float) -> None:
        """Until the next look."""
        time.sleep(seconds)


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
