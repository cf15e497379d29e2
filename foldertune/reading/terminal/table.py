"""Prints trials, or groups of them, as a table in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from foldertune.protocol import Folder, printable
from foldertune.reading.alarms import nameless
from foldertune.reading.comparison import Comparison
from foldertune.reading.confirmed import confirmed_rows
from foldertune.reading.results import Results
from foldertune.reading.terminal.live import WIDEST
from foldertune.reading.words import best_first, changes_of, order_of_ranking, waiting
from foldertune.rows import FAILED, FRONT, STOPPED, Row, columns, searched_and_metrics, with_front
from foldertune.study import Study
from foldertune.tables import Cells, is_number, short
from foldertune.text import counted, short_names

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MOST = 5  # the best trials, which a master shows at its end


def main_columns(study: Study, rows: Sequence[Row], chosen: Sequence[Cells]) -> list[str]:
    """The columns that fit on a screen: the metrics, the search space, and quantities derived from it."""
    searched, metrics = searched_and_metrics(study)
    derived = [name for name in study.derived if study.parts(name) <= study.space.keys()]
    wanted = ["trial", *metrics, FRONT, *searched, *derived, "seconds", "host"]
    if any(row["status"] in (FAILED, STOPPED) for row in chosen):
        wanted.append("status")
    wanted += ["confirms"] if any(row["confirms"] is not None for row in chosen) else []
    there = set(columns(rows))
    return [key for key in dict.fromkeys(wanted) if key in there]


def shown(study: Study, key: str, value: Any) -> str:
    """A value for people: a share in per cent, a number with four digits."""
    name = key.removesuffix("_mean").removesuffix("_deviation").removesuffix("_in_search")
    name = dict(zip(searched_and_metrics(study)[1], study.metric_names, strict=True)).get(name, name)
    return study.quantity(name).show(value, 4) if is_number(value) and study.quantity(name).unit else short(value)


def to_table(study: Study, keys: Sequence[str], cells: Sequence[Cells], *, in_order: bool = True) -> Table:
    """A table for the terminal. Failed trials are red. If the best trial comes first (`in_order`), it is green."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for key in keys:
        words = printable(key).replace("_", " ").split() or [""]  # a long name breaks at its underscores
        justify: Literal["left", "right"] = "left" if key in ("host", "study") else "right"
        table.add_column(Text(" ".join(words)), justify=justify, min_width=max(map(len, words)), vertical="bottom")
    for position, row in enumerate(cells):
        style = "red" if row.get("status") == FAILED else "bold green" if in_order and position == 0 else ""
        table.add_row(*(Text(shown(study, key, row.get(key))) for key in keys), style=style)
    return table


def fitting(console: Console, study: Study, keys: Sequence[str], cells: Sequence[Cells]) -> list[str]:
    """The columns that fit on the terminal. The last ones go first, but trial, status and metric stay."""
    metrics, kept = searched_and_metrics(study)[1], list(keys)
    stays = {"study", "trial", "trials", "status", "confirms", *metrics}
    stays |= {f"{metric}_{part}" for metric in metrics for part in ("mean", "deviation")}
    while len(kept) > 1 and width_of(to_table(study, kept, cells), console) > console.width:
        goes = [key for key in kept[1:] if key not in stays] or kept
        kept.remove(goes[-1])
    return kept


def width_of(table: Table, console: Console) -> int:
    """The characters in a line of the table, if nothing is cut or broken."""
    return console.measure(table, options=console.options.update(width=WIDEST)).maximum


def print_table(
    folder: Folder,
    results: Results,
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

    study, console = results.study, Console(highlight=False)
    if chosen:
        title = title or f"{len(chosen)} of {len(rows)} trials, {order_of_ranking(study)}"
        console.print(Text(printable(f"{study.name}: {title}"), style="bold"))
        wanted = keys or main_columns(study, rows, chosen)
        hosts = short_names(row.host for row in rows if isinstance(row.host, str))
        chosen = [{**row, "host": hosts.get(str(row["host"]), row["host"])} if "host" in row else row for row in chosen]
        how = "choose columns with --columns, or see all with: | less -S"
        _print_fitting(console, study, wanted, chosen, how, in_order=in_order)
    else:
        print(printable(study.name) + (": no such trial" if rows else ": no trial is counted yet"))
    which = "All" if results.has_all else "So far"
    print(f"{which} {outcomes(results)}; with every column: {folder.results}")
    for line in (*changes_of(study), *nameless(results)):
        print(printable(line))
    if results.handed_in:
        print(f"{waiting(len(results.handed_in))}; if no master runs, start it again")
    for trial in results.dropped:
        print(printable(f"trial {trial.name.number}: {trial.dropped}"))
    if results.failed:
        print(printable(where_failures_are_told(folder, results)))


def print_comparison(comparison: Comparison) -> None:
    """Print a row for each study, and the differences between their definitions."""
    from rich.console import Console
    from rich.text import Text

    study, rows, console = comparison.entries[0].results.study, comparison.rows, Console(highlight=False)
    order = best_first(study) if comparison.is_fair else "with different metrics, which can't be compared"
    console.print(Text(printable(f"{len(rows)} studies, {order}"), style="bold"))
    _print_fitting(console, study, list(rows[0]), rows, "see all with: | less -S", in_order=comparison.is_fair)
    differences = comparison.differences
    print("In their definitions they differ in" if differences else "Their definitions are the same.")
    for line in differences:
        print(printable(f"  {line}"))


def _print_fitting(
    console: Console, study: Study, wanted: Sequence[str], cells: Sequence[Cells], how: str, *, in_order: bool
) -> None:
    """Print the columns that fit on the terminal, and a line about the others; all of them into a file or a pipe."""
    there = fitting(console, study, wanted, cells) if console.is_terminal else wanted
    table = to_table(study, there, cells, in_order=in_order)
    console.width = max(width_of(table, console), console.width)  # rich would cut a number short
    console.print(table, crop=False)
    if left_out := [key for key in wanted if key not in there]:
        print(printable(f"No room for {', '.join(left_out)}: {how}"))


def outcomes(results: Results) -> str:
    """The numbers of trials that ended well, collapsed, diverged and failed: `12 trials: 9 succeeded, 3 failed`."""
    stopped, collapsed, failed = len(results.stopped), len(results.collapsed), len(results.failed)
    dropped, valueless = len(results.dropped), len(results.valueless)
    parts = [f"{len(results.ended)} succeeded"] if stopped or collapsed or valueless or failed or dropped else []
    parts += [f"{stopped} of them stopped early"] if stopped else []
    parts += [f"{collapsed} of them collapsed ({results.study.collapsed})"] if collapsed else []
    parts += [f"{valueless} of them without a value"] if valueless else []
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{dropped} dropped"] if dropped else []
    return printable(": ".join([counted(len(results.trials), "trial"), *[", ".join(parts)] * bool(parts)]))


def where_failures_are_told(folder: Folder, results: Results) -> str:
    """A line that says where to read why trials failed, and what the latest of them printed."""
    final = [setback for setback in results.latest_setbacks(len(results.setbacks)) if setback.is_final]
    why = f"their files in {folder.seen}/" if folder.seen.is_dir() else "the column 'error'"
    printed = next((f"; what trial {s.name.number} printed: {s.output}" for s in final if s.output), "")
    return f"Why they failed: {final[0].reason} (trial {final[0].name.number}); see {why}{printed}"


def print_confirmed(results: Results) -> None:
    """Print the settings that were confirmed, the best mean first; nothing if there are none."""
    from rich.console import Console
    from rich.text import Text

    known, console = results.confirmation, Console(highlight=False)
    rows = confirmed_rows(results.study, known.ranked)
    if rows:
        so_far = "" if known.is_settled else " so far"
        title = f"{results.study.name}: {len(rows)} settings confirmed{so_far}, best mean first"
        console.print(Text(printable(title), style="bold"))
        in_order = known.winner is not None
        _print_fitting(console, results.study, list(rows[0]), rows, "see all with: | less -S", in_order=in_order)


def print_best(folder: Folder, results: Results) -> None:
    """Print the best trials, as a master does at its end."""
    print_confirmed(results)
    rows = with_front(results.study, [Row.from_trial(trial) for trial in results.ranking], results.on_front)
    print_table(folder, results, rows, [row.cells() for row in rows[:MOST]])
