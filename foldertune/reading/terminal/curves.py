"""Draws curves with characters, one line high or with braille dots."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foldertune.reading.facts import Course

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

BARS = "▁▂▃▄▅▆▇█"
POINT, NO_DOT = "•", "\u2800"
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # of a braille character, by column and row


def level(value: float, low: float, high: float) -> float:
    """The place of a value between two others, from 0 (`low`) to 1 (`high`). Values outside are moved to the edge."""
    span = high / 2 - low / 2  # halves, because the whole may be more than a float can hold
    return (min(max(value, low), high) / 2 - low / 2) / span if span > 0 else 0.5


def sparkline(values: Sequence[float], width: int) -> str:
    """A curve one line high. If there are more values than characters, it shows a selection with the last value."""
    count = len(values)
    shown = [values[(k + 1) * count // width - 1] for k in range(width)] if count > width else values
    return "".join(BARS[round(7 * level(value, min(shown), max(shown)))] for value in shown)


@dataclass(frozen=True)
class Sparkline:
    """A sparkline as wide as the room it gets."""

    values: Sequence[float]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        yield Text(sparkline(self.values, options.max_width), style="cyan")


def view_range(values: Sequence[float], direction: str) -> tuple[float, float]:
    """The lowest and highest value that a chart shows. Much worse values (diverged trials) are drawn at the edge."""
    sign = 1 if direction == "minimize" else -1
    ordered = sorted(sign * value for value in values)
    best, middle, worst = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    edge = min(worst, middle + 2 * (middle - best)) if middle > best else worst
    return (best, edge) if sign > 0 else (-edge, -best)


def chart(course: Course, direction: str, width: int, height: int) -> list[Text]:
    """The values from left to right, and the best so far as a line."""
    from rich.text import Text

    values, best = course.values, course.best
    low, high = view_range(values, direction)
    columns, rows, last = 2 * width, 4 * height, len(values) - 1  # a character is two dots wide and four high
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
            characters[place] = POINT  # a few values need larger dots to be seen
    before = row_of(best[0])
    for column in range(columns):
        latest = max(((column + 1) * last - 1) // (columns - 1), 0)  # the last value with a dot up to this column
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
