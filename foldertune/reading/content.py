"""The parts of a page: answers, pictures and tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldertune.study import Quantity

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure that is drawn on request. Its files have its name."""

    name: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Printed:
    """What a training printed, as a value in a table: the last lines, and the file with all of it."""

    file: Path | None
    lines: str = ""

    def __str__(self) -> str:
        return self.file.name if self.file else self.lines


@dataclass(frozen=True)
class Table:
    """A table. Each row maps columns to values. A column's heading is the label of its quantity, or its name."""

    caption: str
    rows: list[dict[str, Any]]
    quantities: Mapping[str, Quantity] = field(default_factory=dict)


@dataclass
class Findings:
    """The answers to a study's questions, with pictures and tables that show them."""

    answers: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    headline: str = ""  # one sentence for a list of studies; if empty, the first answer is used

    @property
    def summary(self) -> str:
        """The most telling answer, in one sentence."""
        return self.headline or (self.answers[0] if self.answers else "nothing yet")
