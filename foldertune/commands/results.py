"""The results of a study: from the trials' files to rows, from rows to tables.

    {program}                         the best ten of logs/
    {program} --logs /shared/me/lr --best 3
    {program} --all --format csv      every trial and column
    {program} --where 'filters<50' --where status=done
    {program} --sort seconds --descending
    {program} --group                 mean and deviation over
                                                       trials of equal settings
    {program} --group filters --columns test_loss --out t.tex
    {program} --keep kept             all of it, small

CONDITION is a column, one of = != < <= > >=, and a value: 'error=' asks for the
trials that have none, 'error!=' for the others. With --group, --columns are
those to average (else the metric and the seconds); a trial that failed, that
diverged or that has no metric is counted, and `left_out` of the means. The
deviation is that of a sample.

In a notebook: from analysis.results import load; load("logs"), a DataFrame.

The master keeps the same rows, in the order of the trials, in `results.csv`;
if that file is gone, this program writes it again from the trials' files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from foldertune.commands.options import add_logs
from foldertune.errors import StudyError
from foldertune.protocol import Folder, printable, write_whole
from foldertune.reading.archive import Search, read_search, write_archive
from foldertune.rows import FAILED, Row, columns, rank, results_csv, searched_and_metric
from foldertune.study import Study
from foldertune.tables import (
    FORMATS,
    Cells,
    TableError,
    check_columns,
    check_numbers,
    choose_columns,
    group_by,
    group_columns,
    is_number,
    sort_by,
    to_parquet,
    where,
)
from foldertune.tables import short as short

if TYPE_CHECKING:
    from rich.table import Table

ENDINGS = {".csv": "csv", ".json": "json", ".md": "markdown", ".tex": "latex", ".parquet": "parquet"}
WHOLE = ("csv", "json", "parquet")  # formats for programs: with all columns


def known_columns(study: Study, rows: Sequence[Row]) -> list[str]:
    """All columns of these rows, and those that the study promises, which no trial may have yet."""
    searched, metric = searched_and_metric(study)
    return [*dict.fromkeys([*columns(rows), *searched, metric])]


def main_columns(study: Study, rows: Sequence[Row], chosen: Sequence[Cells]) -> list[str]:
    """What a table on a screen has room for: the metric and what was searched."""
    searched, metric = searched_and_metric(study)
    wanted = ["trial", metric, *searched, "seconds", "host"]
    if any(row["status"] == FAILED for row in chosen):
        wanted.append("status")
    there = set(columns(rows))
    return [key for key in dict.fromkeys(wanted) if key in there]


# ---------------------------------------------------------------- the program


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_logs(parser)
    group = parser.add_argument_group("which trials")
    number = group.add_mutually_exclusive_group()
    number.add_argument("--best", type=int, metavar="N", help="the first N (default: 10)")
    number.add_argument("--all", action="store_true", help="all of them")
    group.add_argument(
        "--where", action="append", metavar="CONDITION", help="such as 'filters<50'; given again, all must hold"
    )
    group.add_argument("--sort", metavar="COLUMN", help="smallest first (default: the best trial first)")
    group.add_argument("--descending", action="store_true", help="with --sort: largest first")
    group = parser.add_argument_group("what of them")
    group.add_argument("--columns", metavar="A,B,…", help="these columns, in this order")
    group.add_argument(
        "--group", nargs="?", const="", metavar="A,B,…",
        help="mean and deviation of trials that agree in these columns (default: in all that was searched)",
    )  # fmt: skip
    group = parser.add_argument_group("how")
    formats = ("table", *FORMATS, "parquet")
    group.add_argument(
        "--format",
        choices=formats,
        metavar="FORMAT",
        help=f"{', '.join(formats)} (default: table, or by FILE's ending)",
    )
    group.add_argument("--out", type=Path, metavar="FILE", help="write there and not to the screen")
    group.add_argument("--keep", type=Path, metavar="DIR", help="keep study, table and learning curves, small, in DIR")


def check_arguments(arguments: argparse.Namespace) -> None:
    """Complete the format. Raises TableError, naming the option, if one can't be used, or not with the others."""
    if arguments.best is not None and arguments.best < 1:
        raise TableError(f"--best {arguments.best}: must be at least 1")
    if arguments.descending and arguments.sort is None:
        raise TableError("--descending: say by which column with --sort COLUMN")
    if arguments.keep:
        for option in ("best", "all", "where", "sort", "columns", "group", "format", "out"):
            if getattr(arguments, option) not in (None, False):
                raise TableError(f"--{option}: --keep keeps all of a study; leave one of them out")
    if arguments.out and not arguments.format:
        arguments.format = ENDINGS.get(arguments.out.suffix)
    if arguments.out and arguments.format in (None, "table"):
        raise TableError(f"--out {arguments.out}: choose a --format for files ({', '.join(ENDINGS.values())})")
    if arguments.format == "parquet" and not arguments.out:
        raise TableError("--format parquet: say where to with --out FILE")


def main(arguments: argparse.Namespace) -> int:
    """Print the best trials, or do with them what is asked for."""
    check_arguments(arguments)
    search = read_search(arguments.logs, epochs=bool(arguments.keep))
    rows = [Row.from_trial(trial) for trial in search.trials]
    for complaint in search.complaints:
        print(f"left out: {printable(complaint)}", file=sys.stderr)
    mend_table(Folder(arguments.logs), rows)
    if arguments.keep:
        keep(search, arguments.logs, arguments.keep)
    else:
        show(search.study, rows, arguments)
    return 0


def mend_table(folder: Folder, rows: Sequence[Row]) -> None:
    """Write results.csv again if it is gone."""
    if not folder.results.exists():
        try:
            folder.write_results(results_csv(rows))
        except OSError as error:
            print(f"{folder.results}: can't be written ({error.strerror})", file=sys.stderr)


def keep(search: Search, logs: Path, out: Path) -> None:
    """Write the small form of a study. Raises StudyError if it can't be written there."""
    if out.resolve() == logs.resolve():
        raise StudyError(f"--keep {out}: is the study's own folder; choose another")
    try:
        write_archive(search, out)
        kept = [Row.from_trial(trial) for trial in read_search(out, epochs=False).trials]
        Folder(out).write_results(results_csv(kept))
    except StudyError as error:
        raise StudyError(f"--keep {error}") from None
    except OSError as error:
        raise StudyError(f"--keep {out}: can't be written ({error.strerror}); choose another folder") from None
    left_out = f"; {len(search.in_hand)} in hand are left out" if search.in_hand else ""
    print(f"{out}: {len(kept)} trials, {len(search.lost)} lost attempts{left_out}")


def show(study: Study, rows: Sequence[Row], arguments: argparse.Namespace) -> None:
    """The trials, or groups of them, and the columns that were asked for, in the format that was asked for."""
    known = known_columns(study, rows)
    cells = [row.cells() for row in rank(rows, study.metric, study.direction)]
    for condition in arguments.where or ():
        cells = where(cells, condition, known)
    what, order = f"{len(cells)} trials", best_first_of(study)
    keys = choose_columns("--columns", arguments.columns, known) if arguments.columns is not None else []
    if arguments.group is not None:
        by = choose_columns("--group", arguments.group, known) if arguments.group else searched_and_metric(study)[0]
        keys, cells = groups(study, cells, by, keys)
        what, known = f"{len(cells)} groups of {what}", keys
    if arguments.sort is not None:
        check_columns("--sort", [arguments.sort], known)
        cells = sort_by(cells, arguments.sort, descending=arguments.descending)
        order = f"{'largest' if arguments.descending else 'smallest'} {arguments.sort} first"
    chosen = cells if arguments.all else cells[: arguments.best or 10]
    keys = keys or (columns(rows) if arguments.format in WHOLE else main_columns(study, rows, chosen))
    if arguments.out:
        write(arguments.out, arguments.format, keys, chosen)
    elif arguments.format in FORMATS:
        sys.stdout.write(FORMATS[arguments.format](keys, chosen))
    else:
        title = ", ".join([f"{len(chosen)} of {what}", *(arguments.where or ()), order])
        best_first = arguments.sort is None
        print_table(Folder(arguments.logs), study, rows, chosen, keys, title=title, best_first=best_first)


def groups(
    study: Study, cells: Sequence[Cells], by: Sequence[str], averaged: Sequence[str]
) -> tuple[list[str], list[Cells]]:
    """The columns and rows of groups that agree in `by`: the lowest (or highest) mean of the metric first.

    Without the metric among what is `averaged`, in the order of the best trial of each. A trial that failed or diverged
    says little of the others, and is in no mean.
    """
    metric = searched_and_metric(study)[1]
    check_numbers("--columns", averaged, cells)
    averaged = averaged or [key for key in (metric, "seconds") if key == metric or any(key in row for row in cells)]
    averaged = [key for key in averaged if key not in by]

    def counts(row: Cells) -> bool:
        return is_number(row.get(metric)) and row.get("diverged") is not True

    keys, table = group_columns(by, averaged), group_by(cells, by, averaged, counts)
    if metric in averaged:
        mean = group_columns(by, [metric])[-2]
        table = sort_by(table, mean, descending=study.direction == "maximize")
    return keys, table


def best_first_of(study: Study) -> str:
    """The usual order, in words."""
    return f"{'lowest' if study.direction == 'minimize' else 'highest'} {study.metric} first"


def write(out: Path, format: str, keys: Sequence[str], cells: Sequence[Cells]) -> None:
    """Write a file, whole or not at all. Raises TableError if it can't be written."""
    data = (
        to_parquet(keys, cells)
        if format == "parquet"
        else FORMATS[format](keys, cells).encode(errors="backslashreplace")
    )
    try:
        write_whole(out, data)
    except OSError as error:
        if not out.parent.is_dir():
            raise TableError(f"--out {out}: there is no folder {out.parent}; make it first") from None
        raise TableError(f"--out {out}: can't be written ({error.strerror}); choose another file") from None


def to_table(keys: Sequence[str], cells: Sequence[Cells], *, best_first: bool = True) -> Table:
    """A table for the terminal; the first row is the best, what failed is red."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for key in keys:
        words = printable(key).replace("_", " ").split() or [""]  # a long name breaks into lines there
        justify: Literal["left", "right"] = "left" if key == "host" else "right"
        table.add_column(Text(" ".join(words)), justify=justify, min_width=max(map(len, words)), vertical="bottom")
    for position, row in enumerate(cells):
        style = "red" if row.get("status") == FAILED else "bold green" if best_first and position == 0 else ""
        table.add_row(*(Text(short(row.get(key))) for key in keys), style=style)
    return table


def print_table(
    folder: Folder,
    study: Study,
    rows: Sequence[Row],
    chosen: Sequence[Cells],
    keys: Sequence[str] = (),
    *,
    title: str = "",
    best_first: bool = True,
) -> None:
    """The chosen trials, or groups of them, and where the rest is."""
    from rich.console import Console
    from rich.text import Text

    failed = sum(row.status == FAILED for row in rows)
    console = Console(highlight=False)
    if chosen:
        title = title or f"{len(chosen)} of {len(rows)} trials, {best_first_of(study)}"
        console.print(Text(printable(f"{study.name}: {title}"), style="bold"))
        table = to_table(keys or main_columns(study, rows, chosen), chosen, best_first=best_first)
        needed = console.measure(table).maximum
        console.print(table, width=max(needed, console.width), crop=False)  # half a number would be another
    else:
        print(printable(study.name) + (": no trial is like that" if rows else ": no trial has ended yet"))
    if failed:
        what = f"their files in {folder.seen}/ say why" if folder.seen.is_dir() else "the column 'error' says why"
        print(f"{failed} failed; {what}")
    print(f"All {len(rows)} trials with every column: {folder.results}")
