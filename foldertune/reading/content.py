"""The values that a page is made of: answers, pictures and tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from foldertune.study import Quantity

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure, drawn when it is asked for; its name is that of its files."""

    name: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Table:
    """A table: rows by columns. A column is headed by its name, or by the label of its quantity."""

    caption: str
    rows: list[dict[str, Any]]
    quantities: Mapping[str, Quantity] = field(default_factory=dict)


@dataclass
class Findings:
    """The answers to a study's questions, and what shows them."""

    answers: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    headline: str = ""  # one sentence for a list of studies; else the first answer

    @property
    def summary(self) -> str:
        """The most telling answer, in one sentence."""
        return self.headline or (self.answers[0] if self.answers else "nothing yet")
