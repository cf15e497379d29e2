"""The results of a study: from the trials' files to rows, from rows to tables.

    python -m analysis.results                         the best ten of logs/
    python -m analysis.results --logs /shared/me/lr --best 3
    python -m analysis.results --all --format csv      every trial and column
    python -m analysis.results --where 'filters<50' --sort seconds
    python -m analysis.results --group                 mean and deviation over
                                                       trials of equal settings
    python -m analysis.results --keep kept             all of it, small

In a notebook: from analysis.results import load; load("logs"), a DataFrame.

The master keeps the same rows, in the order of the trials, in `results.csv`;
if that file is gone, this program writes it again from the trials' files.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import operator
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from analysis.archive import Search, read_search, write_archive
from search.command_line import add_logs, new_parser
from search.study import Study, StudyError
from search.trials import BrokenFile, Folder, Trial, printable, write_whole

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.table import Table

Cells = dict[str, Any]  # a row by columns
DONE, FAILED = "done", "failed"
_BEFORE = ("trial", "status")
_AFTER = ("worker", "host", "attempt", "claimed", "finished", "error")


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

    def named(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Settings and metrics under the names of their columns, which no other column has."""
        others = {*_BEFORE, *_AFTER}
        settings = {f"setting_{key}" if key in others else key: value for key, value in self.settings.items()}
        others |= settings.keys()
        metrics = {f"result_{key}" if key in others else key: value for key, value in self.metrics.items()}
        return settings, metrics

    def cells(self) -> Cells:
        """The row by columns."""
        settings, metrics = self.named()
        return {**settings, **metrics, **{key: getattr(self, key) for key in (*_BEFORE, *_AFTER)}}


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


def columns(rows: Sequence[Row]) -> list[str]:
    """All columns of these rows: trial and status, the settings, the metrics, who and when."""
    settings: dict[str, None] = {}
    metrics: dict[str, None] = {}
    for row in rows:
        for known, mine in zip((settings, metrics), row.named(), strict=True):
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


def short(value: Any) -> str:
    """A value as a person wants it in a table."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def main_columns(study: Study, rows: Sequence[Row]) -> list[str]:
    """What a table on a screen has room for: the metric and what was searched."""
    wanted = ["trial", study.metric, *study.space, "seconds", "host"]
    if any(row.status == FAILED for row in rows):
        wanted.append("status")
    there = set(columns(rows))
    return [key for key in dict.fromkeys(wanted) if key in there]


# ---------------------------------------------------------------- choosing

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}


def keep_where(cells: Sequence[Cells], condition: str) -> list[Cells]:
    """The rows for which a condition such as `filters<50` holds; a row without that value is none of them.

    Raises StudyError, naming the condition, if it can't be understood.
    """
    match = re.fullmatch(r"\s*(.+?)\s*(<=|>=|!=|=|<|>)=?\s*(.*?)\s*", condition)
    if not match:
        raise StudyError(f"--where {condition!r}: must be COLUMN, a comparison and a value, such as 'filters<50'")
    key, sign, text = match.groups()
    check_columns("--where", [key], cells)
    holds, there = COMPARISONS[sign], [row for row in cells if row.get(key) is not None]
    numbers = all(is_number(row[key]) for row in there)
    try:
        wanted = float(text)
    except ValueError:
        if numbers and there:
            raise StudyError(f"--where {condition!r}: {key} holds numbers, and {text!r} is none") from None
    if numbers:
        return [row for row in there if holds(row[key], wanted)]
    return [row for row in there if holds(str(row[key]), text)]


def sort_by(cells: Sequence[Cells], key: str) -> list[Cells]:
    """By one column, `-COLUMN` from the largest; numbers before texts, what has no value last."""
    descending, key = key.startswith("-"), key.removeprefix("-")
    check_columns("--sort", [key], cells)
    numbers = [row for row in cells if is_number(row.get(key))]
    texts = [row for row in cells if row.get(key) is not None and not is_number(row[key])]
    numbers.sort(key=lambda row: row[key], reverse=descending)
    texts.sort(key=lambda row: str(row[key]), reverse=descending)
    return [*numbers, *texts, *(row for row in cells if row.get(key) is None)]


def group_by(cells: Sequence[Cells], keys: Sequence[str], values: Sequence[str]) -> list[Cells]:
    """One row for all that agree in `keys`: how many, and mean and standard deviation of each of `values`.

    Trials that have no first value (diverged, failed) are counted in `without`, if there are any, and not averaged.
    The deviation is that of a sample (n − 1), and None for a single one.
    """
    check_columns("--group", keys, cells)
    groups: dict[str, list[Cells]] = {}
    for row in cells:
        groups.setdefault(json.dumps([row.get(key) for key in keys]), []).append(row)
    table = []
    for members in groups.values():
        summary = {**{key: members[0].get(key) for key in keys}, "trials": len(members)}
        for value in values:
            numbers = [float(row[value]) for row in members if is_number(row.get(value))]
            summary[f"{value} mean"] = statistics.fmean(numbers) if numbers else None
            summary[f"{value} deviation"] = statistics.stdev(numbers) if len(numbers) > 1 else None
        summary["without"] = sum(not is_number(row.get(values[0])) for row in members)
        table.append(summary)
    if not any(row["without"] for row in table):
        table = [{key: value for key, value in row.items() if key != "without"} for row in table]
    return table


def is_number(value: Any) -> bool:
    """Is it a finite number, and not true or false?"""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def check_columns(option: str, keys: Iterable[str], cells: Sequence[Cells]) -> None:
    """Raise StudyError, naming the option, if no row has such a column."""
    known = dict.fromkeys(key for row in cells for key in row)
    for key in keys:
        if known and key not in known:
            raise StudyError(f"{option}: no column {key!r}; there are {', '.join(map(printable, known))}")


def load(logs: Path | str) -> DataFrame:
    """The counted trials as a pandas DataFrame: a row a trial, all columns of results.csv, times as timestamps.

    Raises StudyError if there is no study in `logs`.
    """
    import pandas

    rows = [Row.from_trial(trial) for trial in read_search(Path(logs), epochs=False).trials]
    table = pandas.DataFrame([row.cells() for row in rows], columns=columns(rows))
    for key in ("claimed", "finished"):
        table[key] = pandas.to_datetime(table[key], utc=True, errors="coerce", format="ISO8601")
    return table


# ---------------------------------------------------------------- formats


def to_table(keys: Sequence[str], cells: Sequence[Cells]) -> Table:
    """A table for the terminal; the first row is the best, what failed is red."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for key in keys:
        words = printable(key).replace("_", " ").split() or [""]  # a long name breaks into lines there
        justify: Literal["left", "right"] = "left" if key == "host" else "right"
        table.add_column(Text(" ".join(words)), justify=justify, min_width=max(map(len, words)), vertical="bottom")
    for position, row in enumerate(cells):
        style = "red" if row.get("status") == FAILED else "bold green" if position == 0 else ""
        table.add_row(*(Text(short(row.get(key))) for key in keys), style=style)
    return table


def to_csv(keys: Sequence[str], cells: Iterable[Cells]) -> str:
    """A table with a header; what has no value is empty, a list or an object is JSON."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(keys)
    for row in cells:
        values = (row.get(key) for key in keys)
        writer.writerow([json.dumps(v) if isinstance(v, dict | list) else v for v in values])
    return file.getvalue()


def to_json(keys: Sequence[str], cells: Sequence[Cells]) -> str:
    """A list of objects."""
    return json.dumps([{key: row.get(key) for key in keys} for row in cells], indent=1) + "\n"


def to_markdown(keys: Sequence[str], cells: Sequence[Cells]) -> str:
    """A table for a README or an issue."""
    lines = [list(keys), ["---:"] * len(keys), *([short(row.get(key)) for key in keys] for row in cells)]
    escaped = [[text.replace("|", "\\|").replace("\n", " ") for text in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped) + "\n"


def to_latex(keys: Sequence[str], cells: Sequence[Cells]) -> str:
    """A table for a paper, with the rules of the package booktabs."""
    import pandas

    table = pandas.DataFrame([[short(row.get(key)) for key in keys] for row in cells], columns=list(keys))
    style = table.style.format(escape="latex").format_index(escape="latex", axis=1).hide()
    return str(style.to_latex(hrules=True, column_format="r" * len(keys)))


FORMATS: dict[str, Callable[[Sequence[str], Sequence[Cells]], str]] = {
    "csv": to_csv,
    "json": to_json,
    "markdown": to_markdown,
    "latex": to_latex,
}


def write_parquet(keys: Sequence[str], cells: Sequence[Cells], out: Path) -> None:
    """A table for other programs. Raises OSError, and StudyError if pandas can't write it here."""
    import pandas

    table = pandas.DataFrame(index=range(len(cells)))
    for key in keys:
        values = [row.get(key) for row in cells]
        kinds = {type(value) for value in values if value is not None}
        if len(kinds - {int, float}) > (0 if kinds & {int, float} else 1) or kinds & {dict, list}:
            values = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]  # one column, one type
        table[key] = pandas.Series(values).convert_dtypes()
    try:
        table.to_parquet(out)
    except ImportError:
        raise StudyError("--format parquet: pandas needs pyarrow for it: pip install pyarrow") from None


# ---------------------------------------------------------------- the program


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__)
    add_logs(parser)
    group = parser.add_argument_group("which trials")
    number = group.add_mutually_exclusive_group()
    number.add_argument("--best", type=int, default=10, metavar="N", help="how many to show (default: 10)")
    number.add_argument("--all", action="store_true", help="show all")
    group.add_argument(
        "--where", action="append", default=[], metavar="CONDITION", help="such as 'filters<50'; again: both must hold"
    )
    group.add_argument("--sort", metavar="COLUMN", help="by this column, -COLUMN: largest first (default: best first)")
    group = parser.add_argument_group("what of them")
    group.add_argument("--columns", metavar="A,B,…", help="these columns, in this order")
    group.add_argument(
        "--group", nargs="?", const="", metavar="A,B,…",
        help="mean and deviation of trials that agree in these columns (default: in all that was searched)",
    )  # fmt: skip
    group = parser.add_argument_group("how")
    formats = ("table", *FORMATS, "parquet")
    group.add_argument("--format", choices=formats, default="table", help="(default: table)")
    group.add_argument("--out", type=Path, metavar="FILE", help="write there and not to the screen")
    group.add_argument("--keep", type=Path, metavar="DIR", help="keep study, table and learning curves, small, in DIR")
    arguments = parser.parse_args()
    if arguments.format == "parquet" and not arguments.out:
        parser.error("--format parquet: say where to with --out FILE")
    if arguments.format == "table" and arguments.out:
        parser.error("--out: choose a --format for files (csv, json, markdown, latex, parquet)")
    return arguments


def main() -> int:
    """Print the best trials."""
    arguments = parse_arguments()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # text comes from files
    try:
        search = read_search(arguments.logs, epochs=bool(arguments.keep))
        rows = [Row.from_trial(trial) for trial in search.trials]
        for complaint in search.complaints:
            print(f"left out: {complaint}", file=sys.stderr)
        mend_table(Folder(arguments.logs), rows)
        if arguments.keep:
            keep(search, rows, arguments)
        else:
            show(search.study, rows, arguments)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:
        where = error.filename2 or error.filename or arguments.out or arguments.keep
        print(f"error: {where}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def mend_table(folder: Folder, rows: Sequence[Row]) -> None:
    """Write results.csv again if it is gone."""
    if not folder.results.exists():
        try:
            folder.write_results(results_csv(rows))
        except OSError as error:
            print(f"{folder.results}: can't be written ({error.strerror})", file=sys.stderr)


def keep(search: Search, rows: Sequence[Row], arguments: argparse.Namespace) -> None:
    """Write the small form of a study."""
    if arguments.keep.resolve() == arguments.logs.resolve():
        raise StudyError(f"--keep {arguments.keep}: is the study's own folder; choose another")
    write_archive(search, results_csv(rows), arguments.keep)
    left_out = f"; {len(search.in_hand)} in hand are left out" if search.in_hand else ""
    print(f"{arguments.keep}: {len(rows)} trials, {len(search.lost)} lost attempts{left_out}")


def show(study: Study, rows: Sequence[Row], arguments: argparse.Namespace) -> None:
    """The trials and columns that were asked for, in the format that was asked for."""
    cells = [row.cells() for row in rank(rows, study.metric, study.direction)]
    there = columns(rows)
    for condition in arguments.where:
        cells = keep_where(cells, condition)
    keys = there if arguments.format in ("csv", "json", "parquet") else main_columns(study, rows)
    if arguments.group is not None:
        by = arguments.group.split(",") if arguments.group else [key for key in study.space if key in there]
        cells = group_by(cells, by, [key for key in (study.metric, "seconds") if key in there or key == study.metric])
        keys = list(cells[0]) if cells else by
        sign = "-" if study.direction == "maximize" else ""
        cells = sort_by(cells, arguments.sort or f"{sign}{study.metric} mean")
    elif arguments.sort:
        cells = sort_by(cells, arguments.sort)
    if arguments.columns:
        keys = arguments.columns.split(",")
        check_columns("--columns", keys, cells)
    chosen = cells if arguments.all else cells[: max(arguments.best, 0)]
    if arguments.format == "parquet":
        write_parquet(keys, chosen, arguments.out)
    elif arguments.format == "table":
        print_table(Folder(arguments.logs), study, rows, chosen, keys)
    elif arguments.out:
        write_whole(arguments.out, FORMATS[arguments.format](keys, chosen).encode(errors="backslashreplace"))
    else:
        sys.stdout.write(FORMATS[arguments.format](keys, chosen))


def print_table(
    folder: Folder, study: Study, rows: Sequence[Row], chosen: Sequence[Cells], keys: Sequence[str] = ()
) -> None:
    """The chosen trials, or groups of trials, and where the rest is."""
    from rich.console import Console
    from rich.text import Text

    failed = sum(row.status == FAILED for row in rows)
    console = Console(highlight=False)
    extreme = "lowest" if study.direction == "minimize" else "highest"
    if chosen and "trial" in chosen[0]:
        title = f"{study.name}: {len(chosen)} of {len(rows)} trials, {extreme} {study.metric} first"
    else:
        title = f"{study.name}: {len(rows)} trials, grouped"
    if chosen:
        console.print(Text(title, style="bold"))
        console.print(to_table(keys or main_columns(study, rows), chosen))
    else:
        print(f"{study.name}: no trial is like that" if rows else f"{study.name}: no trial has ended yet")
    if failed:
        print(f"{failed} failed; their files in {folder.seen}/ say why")
    print(f"All {len(rows)} trials with every column: {folder.results}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # `| head`
        sys.exit(0)
