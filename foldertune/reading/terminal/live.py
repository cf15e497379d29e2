"""Shows the state of a search: in one line, in a few lines, or in lines that are redrawn as it changes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from foldertune.protocol import Trial, printable
from foldertune.reading.alarms import alarms, nameless
from foldertune.reading.explain import why
from foldertune.reading.facts import Setback
from foldertune.reading.results import Results
from foldertune.reading.terminal.lines import NAME, cell, new_table, rungs_table
from foldertune.reading.terminal.workers import workers_lines
from foldertune.reading.words import changes_of, clock, described, waiting
from foldertune.tables import cell_of, finite, short
from foldertune.text import moment

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.live import Live
    from rich.table import Table

WIDEST = 100_000  # characters in a line of a file or a pipe
BAR = 40  # characters of a progress bar there
SHOWN = 12  # running trials in a view without a height of its own; a line counts the others
MOST_ON_FRONT = 10  # trials of the Pareto front in a line
RECENT = 5  # the latest setbacks that are shown
SHARE = 10  # the pause after a drawing lasts at least this many times as long as the drawing


# ---------------------------------------------------------------- in one line


def summary(results: Results) -> str:
    """The counts and the times, in one line."""
    lost, failed = len(results.lost), len(results.failed)
    parts = [] if results.kept else [f"{len(results.pending)} pending", f"{len(results.running)} running"]
    parts.append(f"{len(results.ended)} succeeded")
    of_them = [f"{len(results.stopped)} of them stopped early"] if results.stopped else []
    of_them += [f"{len(results.collapsed)}{' of them' * (not of_them)} collapsed"] if results.collapsed else []
    of_them += [f"{len(results.valueless)}{' of them' * (not of_them)} without a value"] if results.valueless else []
    if of_them:
        parts[-1] += f" ({', '.join(of_them)})"
    if failed:
        parts.append(f"{failed} failed")
    if results.dropped:
        parts.append(f"{len(results.dropped)} dropped")
    if lost:
        parts.append(f"{lost} lost attempt{'s' * (lost != 1)}")
    if results.handed_in:
        parts.append(waiting(len(results.handed_in)))
    now = time.time()
    elapsed, remaining = results.worked(now), results.remaining(now)
    times = [f"{clock(elapsed)} elapsed"] if elapsed is not None else []
    if results.complete:
        times.append(f"complete: {printable(results.why_over)}" if results.why_over else "complete")
    elif results.kept:
        times.append("not complete")
    elif remaining is not None:
        times.append(f"about {clock(remaining)} to go, until {moment(now + remaining)}")
    return ", ".join(parts) + (" · " + ", ".join(times) if times else "")


def best_line(results: Results) -> str | None:
    """The best trial so far and why it exists, or the confirmed settings that win, in a line; None without a value."""
    study = results.study
    if results.best is None:
        return None
    (trial, *others), sample = results.best
    if others:
        mean, settings = sample.show(study.quantity(study.metric)), described(trial.settings, study.space)
        return printable(f"best: {study.metric} {mean} with the settings of trial {trial.name.number} ({settings})")
    values = ((name, results.value(trial, name)) for name in study.metric_names)
    shown = ", ".join(f"{name} {study.quantity(name).show(value, 4)}" for name, value in values if value is not None)
    searched = ", ".join(f"{key} {short(cell_of(trial.settings, key))}" for key in study.space if key in trial.settings)
    because = f": {reason}" if (reason := why(study, trial)) else ""
    return printable(f"best: {shown} in trial {trial.name.number} ({searched}){because}")


def front_line(results: Results) -> str | None:
    """The trials on the Pareto front, in one line; None with one metric, or if no trial has a value."""
    if not results.front:
        return None
    numbers = [str(point.trials[0].name.number) for point in results.front]
    more = f", and {len(numbers) - MOST_ON_FRONT} more" if len(numbers) > MOST_ON_FRONT else ""
    metrics = " and ".join(results.study.metric_names)
    are = f"trial{'s' * (len(numbers) > 1)} {', '.join(numbers[:MOST_ON_FRONT])}{more}"
    return printable(f"front of {metrics}: {are}")


def setback_line(setback: Setback) -> str:
    """A failed trial or a lost attempt with its reason, in one line."""
    number, attempt = setback.name.number, setback.name.attempt
    who = f"trial {number} failed" if setback.is_final else f"trial {number}, attempt {attempt} lost"
    return f"{who}: {setback.reason}"


def epoch_of(trial: Trial) -> str:
    """The last epoch, as `3/10`, or as `3` if the settings don't say how many there are. 0 before the first."""
    total = trial.settings.get("epochs")
    done = trial.epochs[-1]["epoch"] if trial.epochs else 0
    return printable(f"{done}/{total}" if isinstance(total, int) else f"{done}")


def last_key(trial: Trial, metric: str) -> str | None:
    """The name of a number in the last epoch's report: the metric, or else the last one; None if there is none."""
    keys = [key for key, value in (trial.epochs[-1] if trial.epochs else {}).items() if finite(value) is not None]
    if metric in keys:
        return metric
    return keys[-1] if keys and keys[-1] != "epoch" else None


def last_value(results: Results, trial: Trial, most: int | None = None) -> str:
    """That number in the last epoch's report, with at most so many letters of its name; empty if there is none."""
    key = last_key(trial, results.study.metric)
    if key is None:
        return ""
    name = printable(key)
    name = name if most is None or len(name) <= most else f"{name[: most - 1]}…"
    return f"{name} {results.study.quantity(key).show(trial.epochs[-1][key], 4)}"


# ---------------------------------------------------------------- in a few lines


def render(results: Results, *, setbacks: bool = True, expand: bool = True, width: int = 0) -> Group:
    """The state, for a terminal of 80 columns or more.

    Args:
        setbacks: whether to show the latest setbacks; a master prints them as separate lines.
        expand: whether to fill the terminal's width.
        width: characters in a line of it, for the table of workers; 0: without that.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [progress(results, expand=expand), Text(summary(results))]
    if results.halted:
        parts.append(Text(results.halted, style="yellow"))
    if best := best_line(results):
        parts.append(Text(best, style="green"))
    if front := front_line(results):
        parts.append(Text(front, style="green"))
    parts += [cell(line) for line in changes_of(results.study)]
    if results.rungs:
        parts.append(rungs_table(results, box=SIMPLE_HEAD, expand=expand))
    parts += [Text(printable(line), style="bold red") for line in (*alarms(results), *nameless(results))]
    if results.running:
        parts.append(_running_table(results, expand))
    if width and results.workers:
        options: dict[str, Any] = {"box": SIMPLE_HEAD, "padding": (0, 1, 0, 0), "expand": expand}
        parts += workers_lines(results.workers, width if expand else None, **options)
    parts += output_lines(results.latest_setbacks(RECENT if setbacks else 0))
    return Group(*parts)


def print_state(results: Results) -> None:
    """Print the state. On a terminal, long lines are cut at its edge; in a file or a pipe they are whole."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDEST
    console.print(render(results, expand=console.is_terminal, width=console.width))


def progress(results: Results, *, expand: bool = True) -> Table:
    """The study's name, and its progress as a bar and as a number."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 2), expand=expand)
    head.add_column(no_wrap=True)
    head.add_column(ratio=1 if expand else None)
    head.add_column(no_wrap=True, justify="right")
    head.add_row(
        Text(printable(results.study.name), style="bold"),
        ProgressBar(total=1.0, completed=results.share, width=None if expand else BAR),
        results.progress,
    )
    return head


def _running_table(results: Results, expand: bool) -> Table:
    from rich.box import SIMPLE_HEAD

    headers = ("> trial", "worker", "> epoch", "last", "> for")
    table = new_table(*headers, gives_way=(1,), box=SIMPLE_HEAD, expand=expand)
    for trial in results.running[:SHOWN]:
        table.add_row(
            cell(trial.name.label),
            cell(trial.name.owner),
            cell(epoch_of(trial)),
            cell(last_value(results, trial, NAME if expand else None)),
            cell(clock(results.age(trial, time.time()))),
        )
    if len(results.running) > SHOWN:
        table.add_row("", cell(f"and {len(results.running) - SHOWN} more"))
    return table


def setback_lines(setbacks: Sequence[Setback]) -> Sequence[RenderableType]:
    """Each setback in one line, cut off at the terminal's edge."""
    return [cell(setback_line(setback), "red" if setback.is_final else "yellow") for setback in setbacks]


def output_lines(setbacks: Sequence[Setback]) -> Sequence[RenderableType]:
    """Each setback in one line; below a failed trial, where to read what its training printed."""
    lines: list[RenderableType] = []
    for setback in setbacks:
        lines += setback_lines([setback])
        if setback.is_final and setback.output:
            lines.append(f"    what it printed: {printable(str(setback.output))}")
    return lines


# ---------------------------------------------------------------- views


class View:
    """Shows the state of a search as it changes, in plain lines, for an output that is not a terminal."""

    interval = 10.0  # seconds between two lines

    def __init__(self) -> None:
        self._next = 0.0
        self._said = (-1, False)

    def say(self, message: str) -> None:
        """Print a message with the time of day."""
        with suppress(OSError):  # a log file on a full disk must not end the search
            print(f"{time.strftime('%H:%M:%S')} {printable(message)}", flush=True)

    def update(self, read: Callable[[], Results], last: bool = False) -> None:
        """Read and draw the state if it is time to, or if this is the `last` call. Otherwise do nothing."""
        if last or time.monotonic() >= self._next:
            start = time.monotonic()
            self.draw(read())
            now = time.monotonic()
            self._next = now + max(self.interval, SHARE * (now - start))  # so even many trials load the machine little

    def draw(self, results: Results) -> None:
        """Print one line if trials have ended since the last line."""
        if (len(results.trials), results.complete) != self._said:
            self._said = len(results.trials), results.complete
            parts = [results.progress, summary(results), best_line(results), front_line(results)]
            self.say("; ".join(part for part in parts if part))

    def wait(self, seconds: float) -> None:
        """Wait until the next look."""
        time.sleep(seconds)


class LiveView(View):
    """Shows the state in a terminal, redrawn in place."""

    interval = 0.5

    def __init__(self, live: Live) -> None:
        super().__init__()
        self._live = live

    def say(self, message: str) -> None:
        """Print a message above the lines that are redrawn."""
        from rich.text import Text

        self._live.console.print(Text(f"{time.strftime('%H:%M:%S')} {printable(message)}"))

    def draw(self, results: Results) -> None:
        """Replace the state that was drawn last."""
        self._live.update(render(results, setbacks=False), refresh=True)


@contextmanager
def open_view() -> Iterator[View]:
    """A view that fits the output: redrawn in a terminal, otherwise plain lines."""
    if not sys.stdout.isatty():
        yield View()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        yield LiveView(live)
