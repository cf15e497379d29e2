"""Tables with one line per row, for a terminal, and the one of a schedule's rungs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from foldertune.protocol import printable
from foldertune.reading.results import Results
from foldertune.text import amount

if TYPE_CHECKING:
    from rich.console import JustifyMethod
    from rich.table import Table
    from rich.text import Text

NAME = 24  # letters of a metric's name on a terminal: its value must have room


def rungs_table(results: Results, **options: Any) -> Table:
    """A line for each rung of a schedule, the highest first: how many trials came there, went on, and the best."""
    study, fidelity = results.study, results.study.fidelity
    setting, show = fidelity.setting if fidelity else "", study.quantity(study.metric).show
    headers = (f"> {setting}", "> trials", "> running", "> promoted", f"best {cut(study.metric)}", "> in trial")
    table = new_table(*headers, gives_way=(4,), **options)
    for rung in reversed(results.rungs):
        best = next(((t, value) for t in rung.trials if (value := results.value(t)) is not None), None)
        table.add_row(
            cell(amount(rung.level)),
            cell(f"{len(rung.trials)}"),
            cell(f"{rung.running or ''}"),
            cell(f"{rung.promoted or ''}"),
            cell(show(best[1], 4) if best else ""),
            cell(f"{best[0].name.number}" if best else ""),
        )
    return table


def cut(name: str) -> str:
    """A metric's name with as many letters as there is room for."""
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"


def new_table(*headers: str, gives_way: Sequence[int], **options: Any) -> Table:
    """A table with one line per row.

    Args:
        headers: the headings. One that begins with `> ` stands at the right of its column.
        gives_way: the numbers of the columns that shrink if the terminal is too narrow.
    """
    from rich.table import Table

    table = Table(pad_edge=False, **{"expand": True, **options})
    for number, header in enumerate(headers):
        justify: JustifyMethod = "right" if header.startswith("> ") else "left"
        table.add_column(cell(header.removeprefix("> ")), justify=justify, no_wrap=number not in gives_way)
    return table


def cell(text: str, style: str = "") -> Text:
    """Text from a file, safe to print, in one line."""
    from rich.text import Text

    return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")
