"""The workers as a table: as many columns as the terminal has room for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from foldertune.reading.terminal.lines import cell, new_table
from foldertune.reading.words import size
from foldertune.reading.workers import Worker

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

SHOWN = 12  # workers in a view without a height of its own; a line counts the others
WIDEST_TEXT = 24  # letters of a text that may be cut
LAST = "now, or ended by"
COLUMNS: dict[str, Callable[[Worker], str]] = {
    "worker": lambda worker: worker.owner,
    "host": lambda worker: worker.host,
    "started by": lambda worker: worker.launcher or "hand",
    "device": lambda worker: worker.device,
    "GPU": lambda worker: worker.gpu,
    "> memory": lambda worker: size(worker.memory),
    "> GPU memory": lambda worker: size(worker.gpu_memory),
    "> ended": lambda worker: f"{worker.finished}",
    "> errors": lambda worker: f"{worker.failed or ''}",
    "> last sign": lambda worker: worker.last_sign,
    LAST: lambda worker: worker.what,
}
GO_FIRST = ("host", "GPU", "device", "> GPU memory", "> memory", "started by")  # the columns that go, in this order
ROOM_FOR_LAST, GAP = 16, 2  # characters of the last column, which is cut; and between two columns


def style_of(worker: Worker) -> str:
    """Red for one that a person should look at, dim for one that has ended."""
    return "red" if worker.ended_badly else "dim" if worker.end else "yellow" if worker.is_idle else ""


def workers_lines(
    workers: Sequence[Worker], width: int | None, most: int = SHOWN, **options: Any
) -> list[RenderableType]:
    """A line for each worker, the worst first, and one for the rest.

    Args:
        width: of the terminal; None: all columns, and nothing is cut.
    """
    from rich.text import Text

    shown = workers if len(workers) <= most else workers[: most - 1]
    names = [name for name in COLUMNS if any(COLUMNS[name](worker) for worker in shown)]
    if width is not None:
        for name in GO_FIRST:
            if _width(names, shown) > width:
                names = [other for other in names if other != name]
    lines: list[RenderableType] = [_table(names, shown, width is not None, options)]
    if rest := workers[len(shown) :]:
        lines.append(Text(f"and {in_words(rest)}", style="dim"))
    return lines


def _table(names: Sequence[str], shown: Sequence[Worker], is_narrow: bool, options: dict[str, Any]) -> Table:
    table = new_table(*names, gives_way=(0, len(names) - 1), **options)
    if is_narrow:
        table.columns[0].max_width = WIDEST_TEXT
        table.columns[-1].ratio = 1
    for worker in shown:
        table.add_row(*(cell(COLUMNS[name](worker)) for name in names), style=style_of(worker))
    return table


def _width(names: Sequence[str], shown: Sequence[Worker]) -> int:
    """The characters that these columns need, with the gaps around them."""
    return sum(GAP + _width_of(name, shown) for name in names)


def _width_of(name: str, shown: Sequence[Worker]) -> int:
    longest = max([len(name.removeprefix("> ")), *(len(COLUMNS[name](worker)) for worker in shown)])
    return ROOM_FOR_LAST if name == LAST else min(longest, WIDEST_TEXT) if name == "worker" else longest


def in_words(workers: Sequence[Worker]) -> str:
    """`52 more: 50 at work, 2 ended`."""
    ended = sum(bool(worker.end) for worker in workers)
    idle = sum(worker.is_idle for worker in workers)
    kinds = {"at work": len(workers) - ended - idle, "waiting": idle, "ended": ended}
    return f"{len(workers):,} more: " + ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
