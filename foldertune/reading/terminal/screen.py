"""The live view on a whole screen: progress, running trials, hosts, setbacks and curves."""

from __future__ import annotations

import functools
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
from foldertune.reading.alarms import alarms
from foldertune.reading.facts import Host, Silence
from foldertune.reading.results import Results
from foldertune.reading.terminal.curves import Sparkline, chart, view_range
from foldertune.reading.terminal.lines import cell, new_table, rungs_table
from foldertune.reading.terminal.live import (
    RECENT,
    View,
    best_line,
    epoch_of,
    front_line,
    last_key,
    progress,
    render,
    setback_lines,
    summary,
)
from foldertune.reading.terminal.workers import workers_lines
from foldertune.reading.words import clock, hourly
from foldertune.tables import is_number

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.live import Live

T = TypeVar("T")

PLAIN: dict[str, Any] = {"box": None, "padding": (0, 2, 0, 0), "header_style": "dim"}
NUMBER = 12  # characters of a value with its unit; a longer name above it is cut
ROOMY = 8  # lines of each block that must fit before blank lines separate the blocks


# ---------------------------------------------------------------- lines and blocks


@dataclass(frozen=True)
class Block:
    """A part of the screen, drawn in the lines that are available to it."""

    least: int  # lines; if there are fewer, the block is left out
    most: int
    draw: Callable[[int], Sequence[RenderableType]]


@dataclass(frozen=True)
class Screen:
    """The state of a search, as high as the terminal."""

    name: str  # of the study
    results: Results | None  # None before the first look
    note: str = ""  # a message about trouble with the folder
    seen_at: str = ""  # time of the look

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        width, height = options.max_width, options.height or console.height
        head = self._head(console, width, most=max(1, height // 12))
        blocks = _blocks(self.results, width) if self.results else []
        room = height - len(head) - 1
        gap = int(room >= sum(min(block.most, ROOMY) + 1 for block in blocks))
        heights = share_lines(room, blocks, gap)
        yield from head
        for block, lines in zip(blocks, heights, strict=True):
            if lines:
                yield from [Text()] * gap
                yield from block.draw(lines)
        yield from [Text()] * (room - sum(lines + gap for lines in heights if lines))
        yield Text(f"{self.seen_at} · Ctrl-C closes this view, the search continues", style="dim", no_wrap=True, end="")

    def _head(self, console: Console, width: int, most: int) -> list[RenderableType]:
        from rich.text import Text

        lines: list[RenderableType] = [progress(self.results) if self.results else Text(self.name, style="bold")]
        lines += Text(self.note, style="bold red").wrap(console, width) if self.note else []
        if self.results:
            lines += Text(summary(self.results)).wrap(console, width)
            lines += Text(best_line(self.results) or "", style="green").wrap(console, width)[:most]
            for line in alarms(self.results):
                lines += Text(printable(line), style="bold red").wrap(console, width)
            if most > 1 and (front := front_line(self.results)):
                lines.append(Text(front, style="green", no_wrap=True, overflow="ellipsis"))
        return lines


def share_lines(lines: int, blocks: Sequence[Block], gap: int) -> list[int]:
    """The number of lines of each block, which follows a gap: first the least it needs, then one more in turns."""
    heights = []
    for block in blocks:
        heights.append(block.least if lines >= block.least + gap else 0)
        lines -= heights[-1] + gap if heights[-1] else 0
    while lines > 0 and any(0 < got < block.most for got, block in zip(heights, blocks, strict=True)):
        for k, block in enumerate(blocks):
            if lines > 0 and 0 < heights[k] < block.most:
                heights[k] += 1
                lines -= 1
    return heights


def _blocks(results: Results, width: int) -> list[Block]:
    """The parts of the screen, the most important first."""
    blocks = []
    if running := sorted(results.running, key=lambda trial: -_urgency(results.silences.get(trial.name))):
        draw = functools.partial(_running_lines, results, running)
        blocks.append(Block(1 + min(len(running), 3), 1 + len(running), draw))
    if rungs := results.rungs:
        height = 1 + len(rungs)
        blocks.append(Block(height, height, lambda _: [rungs_table(results, **PLAIN)]))
    if hosts := sorted(results.hosts, key=lambda host: -_urgency(host.silence)):
        blocks.append(Block(1 + min(len(hosts), 2), 1 + len(hosts), functools.partial(_host_lines, hosts)))
    if workers := [worker for worker in results.workers if not worker.end or worker.ended_badly]:

        def draw_workers(lines: int) -> Sequence[RenderableType]:
            return workers_lines(workers, width, lines - 1, **PLAIN)

        blocks.append(Block(1 + min(len(workers), 2), 1 + len(workers), draw_workers))
    if setbacks := setback_lines(results.latest_setbacks(RECENT)):
        blocks.append(Block(1, len(setbacks), lambda lines: setbacks[:lines]))
    if len(results.course.values) > 1:
        blocks.append(Block(5, 21, functools.partial(_chart_lines, results, width)))
    return blocks


def _urgency(silence: Silence | None) -> float:
    return silence.share if silence and style_of(silence) else 0.0


def silence_of(silence: Silence | None) -> str:
    """A silence as `0:07`; as `…` while it is unknown, and as `> 1:40` if no heartbeat was ever seen."""
    if silence is None:
        return ""
    if silence.heard:
        return clock(silence.seconds)
    return f"> {clock(silence.seconds)}" if style_of(silence) else "…"


def style_of(silence: Silence | None) -> str:
    """The style of a silence: plain, yellow after half the lease, red when the lease has expired."""
    share = silence.share if silence else 0.0
    return "bold red" if share > 1 else "yellow" if share > 0.5 else ""


def _running_lines(results: Results, running: Sequence[Trial], lines: int) -> list[RenderableType]:
    key = next(filter(None, (last_key(trial, results.study.metric) for trial in running)), "last")
    table = new_table("> trial", "worker", "> epoch", f"> {key}", "", "> for", gives_way=(1, 3), **PLAIN)
    table.columns[1].max_width = 22
    table.columns[3].min_width = NUMBER
    table.columns[4].ratio = 1
    shown, rest = _fit(running, lines - 1)
    for trial in shown:
        silence = results.silences.get(trial.name)
        values = [float(epoch[key]) for epoch in trial.epochs if is_number(epoch.get(key))]
        table.add_row(
            cell(trial.name.label),
            cell(trial.name.owner),
            cell(epoch_of(trial)),
            cell(results.study.quantity(key).show(values[-1], 4) if values else ""),
            cell(f"silent {silence_of(silence)}") if style_of(silence) else Sparkline(values),
            cell(clock(results.age(trial, time.time()))),
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
            cell("–" if host.rate is None else hourly(host.rate)),
            cell(ago if ago in ("", "…") else f"{ago} ago", style_of(host.silence)),
            style="" if host.workers else "dim",
        )
    return [table, *rest]


def _fit(items: Sequence[T], lines: int) -> tuple[Sequence[T], list[RenderableType]]:
    """The items that fit into these lines, and a line that counts the others."""
    from rich.text import Text

    if len(items) <= lines:
        return items, []
    return items[: lines - 1], [Text(f"and {len(items) - lines + 1} more", style="dim")]


def _chart_lines(results: Results, width: int, lines: int) -> list[RenderableType]:
    from rich.text import Text

    study, values = results.study, results.course.values
    show = study.quantity(study.metric).show
    low, high = view_range(values, study.direction)
    top = f"{'≥ ' if max(values) > high else ''}{show(high, 4)}"
    bottom = f"{'≤ ' if min(values) < low else ''}{show(low, 4)}"
    margin = max(len(top), len(bottom))
    labels = [top, *[""] * (lines - 3), bottom]
    drawn = chart(results.course, study.direction, max(width - margin - 1, 1), lines - 1)
    title = f"{printable(study.metric)} of {len(values)} trials as they ended, and the best so far"
    return [
        Text(title, style="dim", no_wrap=True, overflow="ellipsis"),
        *(Text.assemble(f"{label:>{margin}} ", row) for label, row in zip(labels, drawn, strict=True)),
    ]


# ---------------------------------------------------------------- the view


class ScreenView(View):
    """Shows the state on the whole screen of a terminal."""

    def __init__(self, live: Live, name: str) -> None:
        super().__init__()
        self._live = live
        self._screen = Screen(printable(name), None)
        self._size = live.console.size
        self._is_to_stop = False

    @property
    def results(self) -> Results | None:
        """The results that were drawn last."""
        return self._screen.results

    def say(self, message: str) -> None:
        """Show a message until the state can be drawn again."""
        self._screen = replace(self._screen, note=f"{time.strftime('%H:%M:%S')} {printable(message)}")
        self.redraw()

    def draw(self, results: Results) -> None:
        """Draw the whole screen again."""
        self._screen = replace(self._screen, results=results, note="", seen_at=time.strftime("%H:%M:%S"))
        self.redraw()

    def wait(self, seconds: float) -> None:
        """Wait until the next look. Redraw the screen if the terminal changes its size."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            if self._is_to_stop:
                self._stop()
            if self._live.console.size != self._size:
                self.redraw()

    def stop_soon(self, number: int, frame: FrameType | None) -> None:
        """Suspend this program (Ctrl-Z) as soon as it is not drawing."""
        self._is_to_stop = True

    def _stop(self) -> None:
        self._is_to_stop = False
        self._live.stop()
        os.kill(os.getpid(), signal.SIGSTOP)  # until `fg`
        self._live.start()
        self.redraw()

    def redraw(self) -> None:
        """Draw the last state again, in the terminal's present size."""
        self._size = self._live.console.size
        self._live.update(self._screen, refresh=True)


@contextmanager
def open_screen(name: str) -> Iterator[View]:
    """A view on the whole screen, or plain lines if the output is not a terminal.

    At the end it leaves the last state on the normal screen.
    """
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
    if view.results:
        console.print(render(view.results, width=console.width))
