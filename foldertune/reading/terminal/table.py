"""Prints trials, or groups of them, as a table in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from foldertune.protocol import Folder, printable
from foldertune.reading.results import Results
from foldertune.reading.words import best_first
from foldertune.rows import FAILED, Row, columns, searched_and_metric
from foldertune.study import Study
from foldertune.tables import Cells, is_number, short

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDEST = 100_000  # characters
MOST = 5  # the best trials, which a master shows at its end


def main_columns(study: Study, rows: Sequence[Row], chosen: Sequence[Cells]) -> list[str]:
    """The columns that fit on a screen: the metric, the search space, and quantities derived from it."""
    searched, metric = searched_and_metric(study)
    derived = [name for name in study.derived if study.parts(name) <= study.space.keys()]
    wanted = ["trial", metric, *searched, *derived, "seconds", "host"]
    if any(row["status"] == FAILED for row in chosen):
        wanted.append("status")
    there = set(columns(rows))
    return [key for key in dict.fromkeys(wanted) if key in there]


def shown(study: Study, key: str, value: Any) -> str:
    """A value for people: a share in per cent, a number with four digits."""
    name = key.removesuffix("_mean").removesuffix("_deviation")
    return study.quantity(name).show(value, 4) if is_number(value) and study.quantity(name).unit else short(value)


def to_table(study: Study, keys: Sequence[str], cells: Sequence[Cells], *, in_order: bool = True) -> Table:
    """A table for the terminal. Failed trials are red. If the best trial comes first (`in_order`), it is green."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for key in keys:
        words = printable(key).replace("_", " ").split() or [""]  # a long name breaks at its underscores
        justify: Literal["left", "right"] = "left" if key == "host" else "right"
        table.add_column(Text(" ".join(words)), justify=justify, min_width=max(map(len, words)), vertical="bottom")
    for position, row in enumerate(cells):
        style = "red" if row.get("status") == FAILED else "bold green" if in_order and position == 0 else ""
        table.add_row(*(Text(shown(study, key, row.get(key))) for key in keys), style=style)
    return table


def fitting(console: Console, study: Study, keys: Sequence[str], cells: Sequence[Cells]) -> list[str]:
    """The columns that fit on the terminal. The last ones go first, but trial and metric stay."""
    kept = list(keys)
    while len(kept) > 2 and width_of(to_table(study, kept, cells), console) > console.width:
        kept.pop(-2 if kept[-1] == "status" else -1)
    return kept


def width_of(table: Table, console: Console) -> int:
    """The characters in a line of the table, if nothing is cut or broken."""
    return console.measure(table, options=console.options.update(width=WIDEST)).maximum


def print_table(
    folder: Folder,
    study: Study,
    rows: Sequence[Row],
    chosen: Sequence[Cells],
    keys: Sequence[str] = (),
    *,
    title: str = "",
    in_order: bool = True,
) -> None:
    """Print the chosen rows, and say where to find the others."""
    from rich.console import Console
    from rich.text import Text

    failed = sum(row.status == FAILED for row in rows)
    console = Console(highlight=False)
    if chosen:
        title = title or f"{len(chosen)} of {len(rows)} trials, {best_first(study)}"
        console.print(Text(printable(f"{study.name}: {title}"), style="bold"))
        shown_keys = keys or main_columns(study, rows, chosen)
        if not keys and console.is_terminal:
            shown_keys = fitting(console, study, shown_keys, chosen)
        table = to_table(study, shown_keys, chosen, in_order=in_order)
        console.print(table, width=max(width_of(table, console), console.width), crop=False)  # never cut a number short
        if left_out := [] if keys else [key for key in main_columns(study, rows, chosen) if key not in shown_keys]:
            print(printable(f"No room for {', '.join(left_out)}: choose columns with --columns"))
    else:
        print(printable(study.name) + (": no such trial" if rows else ": no trial has ended yet"))
    if failed:
        what = f"their files in {folder.seen}/ say why" if folder.seen.is_dir() else "the column 'error' says why"
        print(f"{failed} failed; {what}")
    print(f"All {len(rows)} trials with every column: {folder.results}")


def print_best(folder: Folder, results: Results) -> None:
    """Print the best trials, as a master does at its end."""
    rows = [Row.from_trial(trial) for trial in results.trials]
    print_table(folder, results.study, rows, [Row.from_trial(trial).cells() for trial in results.ranking[:MOST]])
