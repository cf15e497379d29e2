"""The live view on a whole screen: progress, running trials, hosts, setbacks and curves, in the room there is."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from foldertune.protocol import Trial, printable
from foldertune.reading.live import (
    View,
    best_line,
    cell,
    clock,
    epoch_of,
    last_key,
    new_table,
    progress,
    render,
    setback_lines,
    summary,
)
from foldertune.tables import is_number, short

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.live import Live
    from rich.text import Text

    from foldertune.reading.status import Host, Silence, Status

T = TypeVar("T")

PLAIN: dict[str, Any] = {"box": None, "padding": (0, 2, 0, 0), "header_style": "dim"}
BLOCKS = "▁▂▃▄▅▆▇█"
ROOMY = 8  # lines of each section that must fit before any are left blank
POINT, NO_DOT = "•", "\u2800"
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # of a braille character, by column and row


# ---------------------------------------------------------------- lines and sections


@dataclass(frozen=True)
class Section:
    """A part of the screen that is drawn in as many lines as there are for it."""

    least: int  # lines; where there are fewer it is left out
    most: int
    draw: Callable[[int], Sequence[RenderableType]]


@dataclass(frozen=True)
class Screen:
    """The state in as many lines as a terminal has."""

    name: str  # of the study
    status: Status | None  # None before the first look
    note: str = ""  # what is wrong with the folder
    seen_at: str = ""  # time of the look

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        width, height = options.max_width, options.height or console.height
        head = self._head(console, width, most=max(1, height // 12))
        sections = _sections(self.status, width) if self.status else []
        room = height - len(head) - 1
        gap = int(room >= sum(min(section.most, ROOMY) + 1 for section in sections))
        heights = share_lines(room, sections, gap)
        yield from head
        for section, lines in zip(sections, heights, strict=True):
            if lines:
                yield from [Text()] * gap
                yield from section.draw(lines)
        yield from [Text()] * (room - sum(lines + gap for lines in heights if lines))
        yield Text(f"{self.seen_at} · Ctrl-C closes this view, the search goes on", style="dim", no_wrap=True, end="")

    def _head(self, console: Console, width: int, most: int) -> list[RenderableType]:
        from rich.text import Text

        lines: list[RenderableType] = [progress(self.status) if self.status else Text(self.name, style="bold")]
        lines += Text(self.note, style="bold red").wrap(console, width) if self.note else []
        if self.status:
            lines += Text(summary(self.status)).wrap(console, width)
            lines += Text(best_line(self.status) or "", style="green").wrap(console, width)[:most]
        return lines


def share_lines(lines: int, sections: Sequence[Section], gap: int) -> list[int]:
    """How many each section gets, after a gap: the first what they need at least, then all in turns."""
    heights = []
    for section in sections:
        heights.append(section.least if lines >= section.least + gap else 0)
        lines -= heights[-1] + gap if heights[-1] else 0
    while lines > 0 and any(0 < got < section.most for got, section in zip(heights, sections, strict=True)):
        for k, section in enumerate(sections):
            if lines > 0 and 0 < heights[k] < section.most:
                heights[k] += 1
                lines -= 1
    return heights


def _sections(status: Status, width: int) -> list[Section]:
    """The most important first."""
    sections = []
    if running := sorted(status.running, key=lambda trial: -_urgency(status.silences.get(trial.name))):
        draw = functools.partial(_running_lines, status, running)
        sections.append(Section(1 + min(len(running), 3), 1 + len(running), draw))
    if hosts := sorted(status.hosts(), key=lambda host: -_urgency(host.silence)):
        sections.append(Section(1 + min(len(hosts), 2), 1 + len(hosts), functools.partial(_host_lines, hosts)))
    if setbacks := setback_lines(status.setbacks):
        sections.append(Section(1, len(setbacks), lambda lines: setbacks[:lines]))
    if len(values := status.values()) > 1:
        sections.append(Section(5, 21, functools.partial(_chart_lines, status, values, width)))
    return sections


def _urgency(silence: Silence | None) -> float:
    return silence.share if silence and style_of(silence) else 0.0


def silence_of(silence: Silence | None) -> str:
    """`0:07`; `…` before it is known, `> 1:40` if no sign was ever seen."""
    if silence is None:
        return ""
    if silence.heard:
        return clock(silence.seconds)
    return f"> {clock(silence.seconds)}" if style_of(silence) else "…"


def style_of(silence: Silence | None) -> str:
    """Nothing to say, half the lease gone, or the lease expired."""
    share = silence.share if silence else 0.0
    return "bold red" if share > 1 else "yellow" if share > 0.5 else ""


def _running_lines(status: Status, running: Sequence[Trial], lines: int) -> list[RenderableType]:
    key = next(filter(None, map(last_key, running)), "last")
    table = new_table("> trial", "worker", "> epoch", f"> {key}", "", "> for", gives_way=(1, 3), **PLAIN)
    table.columns[1].max_width = 22
    table.columns[4].ratio = 1
    shown, rest = _fit(running, lines - 1)
    for trial in shown:
        silence = status.silences.get(trial.name)
        values = [float(epoch[key]) for epoch in trial.epochs if is_number(epoch.get(key))]
        table.add_row(
            cell(trial.name.label),
            cell(trial.name.owner),
            cell(epoch_of(trial)),
            cell(short(values[-1]) if values else ""),
            cell(f"silent {silence_of(silence)}") if style_of(silence) else Curve(values),
            cell(clock(status.age(trial))),
            style=style_of(silence),
        )
    return [table, *rest]


def _host_lines(hosts: Sequence[Host], lines: int) -> list[RenderableType]:
    table = new_table("host", "> at work", "> finished", "> trials/h", "> last heartbeat", gives_way=(0,), **PLAIN)
    table.columns[0].ratio = 1
    shown, rest = _fit(hosts, lines - 1)
    for host in shown:
        ago = silence_of(host.silence)
        table.add_row(
            cell(host.name),
            cell(f"{host.workers}"),
            cell(f"{host.finished}"),
            cell("–" if host.rate is None else f"{host.rate:.3g}"),
            cell(ago if ago in ("", "…") else f"{ago} ago", style_of(host.silence)),
            style="" if host.workers else "dim",
        )
    return [table, *rest]


def _fit(items: Sequence[T], lines: int) -> tuple[Sequence[T], list[RenderableType]]:
    """Those that fit, and a line that counts the others."""
    from rich.text import Text

    if len(items) <= lines:
        return items, []
    return items[: lines - 1], [Text(f"and {len(items) - lines + 1} more", style="dim")]


def _chart_lines(status: Status, values: Sequence[float], width: int, lines: int) -> list[RenderableType]:
    from rich.text import Text

    study = status.study
    low, high = view_range(values, study.direction)
    top = f"{'≥ ' if max(values) > high else ''}{short(high)}"
    bottom = f"{'≤ ' if min(values) < low else ''}{short(low)}"
    margin = max(len(top), len(bottom))
    labels = [top, *[""] * (lines - 3), bottom]
    drawn = chart(values, study.direction, max(width - margin - 1, 1), lines - 1)
    title = f"{printable(study.metric)} of {len(values)} trials as they ended, and the best so far"
    return [
        Text(title, style="dim", no_wrap=True, overflow="ellipsis"),
        *(Text.assemble(f"{label:>{margin}} ", row) for label, row in zip(labels, drawn, strict=True)),
    ]


# ---------------------------------------------------------------- curves


def level(value: float, low: float, high: float) -> float:
    """Where a value lies between two others: 0 at the low one, 1 at the high one, outside at the nearer one."""
    span = high / 2 - low / 2  # halves: the whole may be more than a float can hold
    return (min(max(value, low), high) / 2 - low / 2) / span if span > 0 else 0.5


def sparkline(values: Sequence[float], width: int) -> str:
    """A curve one line high; where there are more values than characters, the last of each few."""
    count = len(values)
    shown = [values[(k + 1) * count // width - 1] for k in range(width)] if count > width else values
    return "".join(BLOCKS[round(7 * level(value, min(shown), max(shown)))] for value in shown)


@dataclass(frozen=True)
class Curve:
    """A sparkline as wide as its place."""

    values: Sequence[float]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        yield Text(sparkline(self.values, options.max_width), style="cyan")


def view_range(values: Sequence[float], direction: str) -> tuple[float, float]:
    """The values a chart shows; what is far worse than the median (it diverged) is drawn at the edge."""
    sign = 1 if direction == "minimize" else -1
    ordered = sorted(sign * value for value in values)
    best, middle, worst = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    edge = min(worst, middle + 2 * (middle - best)) if middle > best else worst
    return (best, edge) if sign > 0 else (-edge, -best)


def chart(values: Sequence[float], direction: str, width: int, height: int) -> list[Text]:
    """The values from left to right, and the best so far as a line."""
    from rich.text import Text

    low, high = view_range(values, direction)
    columns, rows, last = 2 * width, 4 * height, len(values) - 1  # a character is two dots wide and four high
    best = list(itertools.accumulate(values, min if direction == "minimize" else max))
    characters: dict[tuple[int, int], str] = {}
    line: set[tuple[int, int]] = set()

    def row_of(value: float) -> int:
        return round((rows - 1) * (1 - level(value, low, high)))

    def dot(column: int, row: int) -> tuple[int, int]:
        place = row // 4, column // 2
        others = ord(characters.get(place, NO_DOT)) if characters.get(place) != POINT else 0
        characters[place] = chr(ord(NO_DOT) | others | DOTS[column % 2][row % 4])
        return place

    for k, value in enumerate(values):
        place = dot(k * (columns - 1) // max(last, 1), row_of(value))
        if last < width:
            characters[place] = POINT  # they are few: so that they are seen
    before = row_of(best[0])
    for column in range(columns):
        latest = max(((column + 1) * last - 1) // (columns - 1), 0)  # whose dot is in this column, or left of it
        row = row_of(best[min(latest, last)])
        line.update(dot(column, between) for between in range(min(before, row), max(before, row) + 1))
        before = row
    return [
        Text.assemble(
            *(
                ("".join(characters.get(place, " ") for place in places), style)
                for style, places in itertools.groupby(
                    ((row, column) for column in range(width)), lambda place: "green" if place in line else "cyan"
                )
            )
        )
        for row in range(height)
    ]


# ---------------------------------------------------------------- the view


class ScreenView(View):
    """The same, on the whole of a terminal's screen."""

    def __init__(self, live: Live, name: str) -> None:
        super().__init__()
        self._live = live
        self._screen = Screen(printable(name), None)
        self._size = live.console.size
        self._is_to_stop = False

    @property
    def status(self) -> Status | None:
        """What was drawn last."""
        return self._screen.status

    def say(self, message: str) -> None:
        """A line that stays until the state can be drawn again."""
        self._screen = replace(self._screen, note=f"{time.strftime('%H:%M:%S')} {printable(message)}")
        self.redraw()

    def draw(self, status: Status) -> None:
        """All of it."""
        self._screen = replace(self._screen, status=status, note="", seen_at=time.strftime("%H:%M:%S"))
        self.redraw()

    def wait(self, seconds: float) -> None:
        """Until the next look; meanwhile the size of the terminal may change."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            if self._is_to_stop:
                self._stop()
            if self._live.console.size != self._size:
                self.redraw()

    def stop_soon(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: not in the midst of drawing."""
        self._is_to_stop = True

    def _stop(self) -> None:
        self._is_to_stop = False
        self._live.stop()
        os.kill(os.getpid(), signal.SIGSTOP)  # until `fg`
        self._live.start()
        self.redraw()

    def redraw(self) -> None:
        """What was drawn last, as large as the terminal is now."""
        self._size = self._live.console.size
        self._live.update(self._screen, refresh=True)


@contextmanager
def open_screen(name: str) -> Iterator[View]:
    """The whole screen, if the output has one; at the end the state stays on the normal one."""
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    if not sys.stdout.isatty() or console.is_dumb_terminal:
        yield View()
        return
    with Live(console=console, screen=True, auto_refresh=False) as live:
        view = ScreenView(live, name)
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # by way of leaving the screen
        signal.signal(signal.SIGTSTP, view.stop_soon)
        yield view
    if view.status:
        console.print(render(view.status))
