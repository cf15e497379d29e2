"""The results of a study: from the trials' files to rows, from rows to tables.

    python -m analysis.results                         the best ten of logs/
    python -m analysis.results --logs /shared/me/lr --best 3
    python -m analysis.results --all --format csv      every trial and column
    python -m analysis.results --where 'filters<50' --where status=done
    python -m analysis.results --sort seconds --descending
    python -m analysis.results --group                 mean and deviation over
                                                       trials of equal settings
    python -m analysis.results --group filters --columns test_loss --out t.tex
    python -m analysis.results --keep kept             all of it, small

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
import functools
import math
import operator
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from analysis.archive import Search, read_search, write_archive
from analysis.tables import (
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
    to_csv,
    to_parquet,
    where,
)
from analysis.tables import short as short  # for all who take a Row from here
from search.command_line import add_logs, new_parser
from search.study import SEED, Study, StudyError
from search.trials import BrokenFile, Folder, Trial, printable, write_whole

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.table import Table

DONE, FAILED = "done", "failed"
_BEFORE = ("trial", "status")
_AFTER = ("worker", "host", "attempt", "claimed", "finished", "error")
_OTHERS = (*_BEFORE, *_AFTER)
_others_of = operator.attrgetter(*_OTHERS)
ENDINGS = {".csv": "csv", ".json": "json", ".md": "markdown", ".tex": "latex", ".parquet": "parquet"}
WHOLE = ("csv", "json", "parquet")  # formats for programs: with all columns


@dataclass(frozen=True)
class Row:
    """One counted trial. Times are UTC in ISO 8601, by the clock of the worker's host."""

    trial: int
    status: str  # done, or failed: no attempt had a result
    settings: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    worker: str | None = None
    host: str | None = None
    attempt: int = 1
    claimed: str | None = None
    finished: str | None = None
    error: str | None = None

    @classmethod
    def from_trial(cls, trial: Trial) -> Row:
        """What a table says of a counted trial."""
        return cls(
            trial=trial.name.number,
            status=DONE if trial.result is not None else FAILED,
            settings=trial.settings,
            metrics=trial.result or {},
            worker=trial.claim.get("claimed"),
            host=trial.claim.get("host"),
            attempt=trial.name.attempt,
            claimed=trial.claim.get("time"),
            finished=trial.finished,
            error=trial.error if trial.result is None else None,
        )

    def value(self, metric: str) -> float | None:
        """The metric, or None where there is no finite one."""
        value = self.metrics.get(metric)
        return value if isinstance(value, int | float) and abs(value) < math.inf else None

    def cells(self) -> Cells:
        """The row by columns; a number that is not finite is no value."""
        settings, metrics = column_names(tuple(self.settings), tuple(self.metrics))
        cells = dict(zip(settings, self.settings.values(), strict=True))
        cells.update(zip(metrics, self.metrics.values(), strict=True))
        cells.update({key: None for key, value in cells.items() if type(value) is float and not math.isfinite(value)})
        cells.update(zip(_OTHERS, _others_of(self), strict=True))
        return cells


@functools.lru_cache
def column_names(settings: tuple[str, ...], metrics: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns of settings and metrics of these names: no other column has the same."""
    settings = tuple(f"setting_{name}" if name in _OTHERS else name for name in settings)
    taken = {*_OTHERS, *settings}
    return settings, tuple(f"result_{name}" if name in taken else name for name in metrics)


def read_rows(folder: Folder, known: Iterable[Row] = ()) -> tuple[list[Row], list[str]]:
    """The counted trials, in their order, and a line about each file that could not be read.

    Those `known` from an earlier look are not read again.
    """
    rows = {row.trial: row for row in known}
    complaints = []
    for name in sorted(folder.settled(), key=lambda name: (name.number, name.attempt)):
        if name.state != "seen" or name.number in rows:
            continue
        try:
            rows[name.number] = Row.from_trial(folder.read(name, epochs=False))
        except BrokenFile as error:
            complaints.append(str(error))
        except OSError as error:
            complaints.append(f"{folder.locate(name)}: {error.strerror}")
    return [rows[number] for number in sorted(rows)], complaints


def columns(rows: Iterable[Row]) -> list[str]:
    """All columns of these rows: trial and status, the settings, the metrics, who and when."""
    settings: dict[str, None] = {}
    metrics: dict[str, None] = {}
    for names in dict.fromkeys((tuple(row.settings), tuple(row.metrics)) for row in rows):  # mostly there is one
        for known, mine in zip((settings, metrics), column_names(*names), strict=True):
            known.update(dict.fromkeys(mine))
    return [*_BEFORE, *dict.fromkeys([*settings, *metrics]), *_AFTER]


def results_csv(rows: Sequence[Row]) -> str:
    """What stands in results.csv."""
    return to_csv(columns(rows), (row.cells() for row in rows))


def rank(rows: Iterable[Row], metric: str, direction: str) -> list[Row]:
    """Best first; trials without a value last, each group in the order of the trials."""
    sign = 1 if direction == "minimize" else -1

    def key(row: Row) -> tuple[bool, float, int]:
        value = row.value(metric)
        return (value is None, 0.0 if value is None else sign * value, row.trial)

    return sorted(rows, key=key)


def searched_and_metric(study: Study) -> tuple[list[str], str]:
    """The columns of the search space, and that of the metric."""
    settings, metrics = column_names((*study.space, *study.fixed, SEED), (study.metric,))
    return list(settings[: len(study.space)]), metrics[0]


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


def load(logs: Path | str) -> DataFrame:
    """The counted trials as a pandas DataFrame: a row a trial, all columns of results.csv, times as timestamps.

    Warns of files that could not be read. Raises StudyError if there is no study in `logs`, or no pandas here.
    """
    try:
        import pandas
    except ImportError:
        raise StudyError("a DataFrame needs pandas: pip install pandas") from None
    search = read_search(Path(logs), epochs=False)
    for complaint in search.complaints:
        warnings.warn(f"left out: {complaint}", stacklevel=2)
    rows = [Row.from_trial(trial) for trial in search.trials]
    table = pandas.DataFrame([row.cells() for row in rows], columns=columns(rows))
    for key in ("claimed", "finished"):
        texts = [time if isinstance(time, str) else None for time in table[key]]
        table[key] = pandas.to_datetime(pandas.Series(texts, dtype="str"), utc=True, errors="coerce", format="ISO8601")
    return table


# ---------------------------------------------------------------- the program


def parse_arguments() -> argparse.Namespace:
    """The command line. Raises TableError if options do not go together."""
    parser = new_parser(__doc__)
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
    arguments = parser.parse_args()
    check_arguments(arguments)
    return arguments


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


def main() -> int:
    """Print the best trials, or do with them what is asked for."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # text comes from files
    try:
        arguments = parse_arguments()
        search = read_search(arguments.logs, epochs=bool(arguments.keep))
        rows = [Row.from_trial(trial) for trial in search.trials]
        for complaint in search.complaints:
            print(f"left out: {printable(complaint)}", file=sys.stderr)
        mend_table(Folder(arguments.logs), rows)
        if arguments.keep:
            keep(search, arguments.logs, arguments.keep)
        else:
            show(search.study, rows, arguments)
        sys.stdout.flush()
    except (StudyError, TableError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0  # `| head`
    except OSError as error:
        print(f"error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
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


if __name__ == "__main__":
    sys.exit(main())
