"""The results of a study: from the trials' files to rows, from rows to tables.

    python -m analysis.results                         the best ten of logs/
    python -m analysis.results --logs /shared/me/lr --best 3
    python -m analysis.results --all --format csv      every trial and column

The master keeps the same rows, in the order of the trials, in `results.csv`;
if that file is gone, this program writes it again from the trials' files.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from search.command_line import add_logs, new_parser
from search.study import Study, StudyError
from search.trials import BrokenFile, Folder, Trial, printable

if TYPE_CHECKING:
    from rich.table import Table

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

    def cells(self) -> dict[str, Any]:
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
            rows[name.number] = Row.from_trial(folder.read(name))
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


def to_csv(rows: Sequence[Row]) -> str:
    """The rows as a table with a header; what has no value is empty, a list or an object is JSON."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns(rows), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cells = row.cells()
        writer.writerow({key: json.dumps(v) if isinstance(v, dict | list) else v for key, v in cells.items()})
    return file.getvalue()


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


def to_table(study: Study, rows: Sequence[Row]) -> Table:
    """The rows as a table for the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    keys = main_columns(study, rows)
    for key in keys:
        words = key.split("_")  # a long name breaks into lines there
        justify: Literal["left", "right"] = "left" if key == "host" else "right"
        table.add_column(Text(" ".join(words)), justify=justify, min_width=max(map(len, words)), vertical="bottom")
    for position, row in enumerate(rows):
        cells = row.cells()
        style = "red" if row.status == FAILED else "bold green" if position == 0 else ""
        table.add_row(*(Text(short(cells.get(key))) for key in keys), style=style)
    return table


def to_markdown(study: Study, rows: Sequence[Row]) -> str:
    """The rows as a table for a README or an issue."""
    keys = main_columns(study, rows)
    lines = [keys, ["---:"] * len(keys)]
    lines += [[short(row.cells().get(key)).replace("|", "\\|").replace("\n", " ") for key in keys] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def open_study(path: Path) -> tuple[Folder, Study]:
    """The folder and its study. Raises StudyError if there is none that can be read."""
    folder = Folder(path)
    try:
        folder.check_parts()
        record = folder.read_study()
    except (BrokenFile, OSError) as error:
        raise StudyError(str(error)) from None
    if record is None:
        raise StudyError(f"{path}: no study there (no study.json); start one with: python master.py --logs {path}")
    return folder, Study.from_record(record, str(folder.study))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__)
    add_logs(parser)
    number = parser.add_mutually_exclusive_group()
    number.add_argument("--best", type=int, default=10, metavar="N", help="how many trials to show (default: 10)")
    number.add_argument("--all", action="store_true", help="show all trials")
    parser.add_argument(
        "--format", choices=("table", "csv", "json", "markdown"), default="table", help="(default: table)"
    )
    return parser.parse_args()


def main() -> int:
    """Print the best trials."""
    arguments = parse_arguments()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # text comes from files
    try:
        folder, study = open_study(arguments.logs)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows, complaints = read_rows(folder)
    for complaint in complaints:
        print(f"left out: {complaint}", file=sys.stderr)
    if not folder.results.exists():
        try:
            folder.write_results(to_csv(rows))
        except OSError as error:
            print(f"{folder.results}: can't be written ({error.strerror})", file=sys.stderr)
    chosen = rank(rows, study.metric, study.direction)
    chosen = chosen if arguments.all else chosen[: max(arguments.best, 0)]
    if arguments.format == "csv":
        sys.stdout.write(to_csv(chosen))
    elif arguments.format == "json":
        print(json.dumps([{key: row.cells().get(key) for key in columns(rows)} for row in chosen], indent=1))
    elif arguments.format == "markdown":
        sys.stdout.write(to_markdown(study, chosen))
    else:
        print_table(folder, study, rows, chosen)
    return 0


def print_table(folder: Folder, study: Study, rows: Sequence[Row], chosen: Sequence[Row]) -> None:
    """The best trials, and where the rest is."""
    from rich.console import Console
    from rich.text import Text

    failed = sum(row.status == FAILED for row in rows)
    console = Console(highlight=False)
    extreme = "lowest" if study.direction == "minimize" else "highest"
    title = f"{study.name}: {len(chosen)} of {len(rows)} trials, {extreme} {study.metric} first"
    if chosen:
        console.print(Text(title, style="bold"))
        console.print(to_table(study, chosen))
    else:
        print(f"{study.name}: no trial has ended yet")
    if failed:
        print(f"{failed} failed; their files in {folder.seen}/ say why")
    print(f"All {len(rows)} trials with every column: {folder.results}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # `| head`
        sys.exit(0)
