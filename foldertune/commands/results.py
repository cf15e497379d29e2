"""Show the trials of a study: filtered, sorted, grouped, in many formats.

    {program} --logs /shared/me/lr  the best ten trials
    {program} --best 3
    {program} --all --format csv  every trial and column
    {program} --where 'width<50' --where status=succeeded
    {program} --sort seconds --descending
    {program} --where front=true  with several metrics: the Pareto front
    {program} --group  mean and deviation over trials of equal settings
    {program} --group width --columns loss --out t.tex
    {program} --keep kept  keep the whole study in a few small files
    {program} --why 7  why trial 7 exists, and what came of it
    {program} --logs one two  compare studies: a row for each

CONDITION is a column, one of = != < <= > >=, and a value. You can write a share
in per cent: 'error_rate<1%'. 'error=' selects the trials without an error,
'error!=' the others. With --group, --columns names the columns to average
(default: the metrics and the seconds). Trials that failed, collapsed, were cut
short or have no metric are counted, but no mean includes them; nor, with a
schedule, those that trained for less than the longest. Deviations are those of
a sample.

In a notebook: from foldertune import load; load("logs") is a DataFrame.

The master keeps the same rows, in the order of the trials, in `results.csv`.
If that file is gone, this program writes it again from the trials' files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Container, Sequence
from pathlib import Path

from foldertune.commands.options import add_several_logs, path, whole_number
from foldertune.confirm import CONFIRMS
from foldertune.errors import StudyError
from foldertune.formats import FORMATS, to_parquet
from foldertune.protocol import Folder, printable, write_whole
from foldertune.reading.archive import read_archive, write_archive
from foldertune.reading.comparison import Comparison
from foldertune.reading.reader import read_results
from foldertune.reading.results import Results
from foldertune.reading.samples import group_by, group_columns
from foldertune.reading.studies import find_studies, read_all
from foldertune.reading.terminal.story import tell
from foldertune.reading.terminal.table import main_columns, print_comparison, print_confirmed, print_table, shown
from foldertune.reading.words import best_first, order_of_ranking
from foldertune.rows import DROPPED, Row, columns, results_csv, searched_and_metrics, with_derived, with_front
from foldertune.stopping import is_cut_short
from foldertune.study import Study
from foldertune.tables import (
    Cells,
    TableError,
    check_columns,
    check_numbers,
    choose_columns,
    is_number,
    sort_by,
    where,
)
from foldertune.text import counted

ENDINGS = {".csv": "csv", ".json": "json", ".md": "markdown", ".tex": "latex", ".parquet": "parquet"}
WHOLE = ("csv", "json", "parquet")  # formats for programs: with all columns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_several_logs(parser)
    group = parser.add_argument_group("which trials")
    number = group.add_mutually_exclusive_group()
    number.add_argument("--best", type=int, metavar="N", help="the first N trials (default: 10)")
    number.add_argument("--all", action="store_true", help="all trials")
    group.add_argument(
        "--where", action="append", metavar="CONDITION",
        help="only trials that meet CONDITION, such as 'width<50'; may be repeated",
    )  # fmt: skip
    group.add_argument(
        "--why", type=whole_number(0), metavar="NUMBER", help="only this trial: why it exists, and what came of it"
    )
    group.add_argument("--sort", metavar="COLUMN", help="smallest first (default: the best trial first)")
    group.add_argument("--descending", action="store_true", help="with --sort: largest first")
    group = parser.add_argument_group("which columns")
    group.add_argument("--columns", metavar="A,B,…", help="these columns, in this order")
    group.add_argument(
        "--group", nargs="?", const="", metavar="A,B,…",
        help="mean and deviation over trials of the search that agree in these columns (default: the search space); "
        "with confirms among them, also over confirmations",
    )  # fmt: skip
    group = parser.add_argument_group("output")
    formats = ("table", *FORMATS, "parquet")
    group.add_argument(
        "--format",
        choices=formats,
        metavar="FORMAT",
        help=f"{', '.join(formats)} (default: table, or by the ending of --out FILE)",
    )
    group.add_argument("--out", type=path, metavar="FILE", help="write to FILE instead of the screen")
    group.add_argument(
        "--keep", type=path, metavar="DIR", help="keep study, table and learning curves in DIR, in a few small files"
    )


def check_arguments(arguments: argparse.Namespace) -> None:
    """Set the format if it follows from --out. Raises TableError if options are invalid or contradict each other."""
    if arguments.best is not None and arguments.best < 1:
        raise TableError(f"--best {arguments.best}: must be at least 1")
    if arguments.descending and arguments.sort is None:
        raise TableError("--descending: name the column with --sort COLUMN")
    if arguments.keep:
        _refuse_others(arguments, "--keep saves the whole study", "why")
    if arguments.why is not None:
        _refuse_others(arguments, "--why tells about one trial")
    if arguments.out and not arguments.format:
        arguments.format = ENDINGS.get(arguments.out.suffix)
    if arguments.out and arguments.format in (None, "table"):
        raise TableError(f"--out {arguments.out}: choose a --format for files ({', '.join(ENDINGS.values())})")
    if arguments.format == "parquet" and not arguments.out:
        raise TableError("--format parquet: name the file with --out FILE")


def _refuse_others(arguments: argparse.Namespace, reason: str, *more: str) -> None:
    for option in ("best", "all", "where", "sort", "columns", "group", "format", "out", *more):
        if getattr(arguments, option) is not None and getattr(arguments, option) is not False:
            raise TableError(f"--{option}: {reason}; leave out one of the two options")


def main(arguments: argparse.Namespace) -> int:
    """Print the best trials, or do what the options ask for. Returns the exit code. Raises StudyError, TableError."""
    check_arguments(arguments)
    logs, *others = find_studies(arguments.logs)
    if others:
        compare(arguments)
        return 0
    results = read_results(logs, epochs=bool(arguments.keep))
    for complaint in results.complaints:
        print(f"left out: {printable(complaint)}", file=sys.stderr)
    if missing := results.study.missing_library():
        print(printable(missing), file=sys.stderr)
    mend_table(Folder(logs), [Row.from_trial(trial) for trial in results.trials])
    if arguments.keep:
        keep(results, logs, arguments.keep)
    elif arguments.why is not None:
        tell_why(results, logs, arguments.why)
    else:
        print_trials(results, logs, arguments)
    return 0


def tell_why(results: Results, logs: Path, number: int) -> None:
    """Print the story of one trial. Raises TableError if there is none of this number."""
    known = {trial.name.number: trial for trial in (*results.in_hand, *results.trials)}
    if number not in known:
        where = "waits for a worker" if number in results.pending else "does not exist"
        raise TableError(f"--why {number}: this trial {where}; {counted(len(results.trials), 'trial')} are counted")
    print("\n".join(tell(Folder(logs), results, known[number])))


def mend_table(folder: Folder, rows: Sequence[Row]) -> None:
    """Write results.csv again if it is gone. If that fails, say so and continue."""
    if not folder.results.exists():
        try:
            folder.write_results(results_csv(rows))
        except OSError as error:
            print(f"{folder.results}: can't be written ({error.strerror})", file=sys.stderr)


def keep(results: Results, logs: Path, out: Path) -> None:
    """Write the kept study to `out`. Raises StudyError if it can't be written there."""
    if out.resolve() == logs.resolve():
        raise StudyError(f"--keep {out}: is the study's own folder; choose another")
    try:
        write_archive(results, out)
        kept = read_archive(out)
    except StudyError as error:
        raise StudyError(f"--keep {error}") from None
    except OSError as error:
        raise StudyError(f"--keep {out}: can't be written ({error.strerror}); choose another folder") from None
    left_out = f"; {len(results.in_hand)} in hand are left out" if results.in_hand else ""
    print(f"{out}: {len(kept.trials)} trials, {counted(len(kept.lost), 'lost attempt')}{left_out}")


def compare(arguments: argparse.Namespace) -> None:
    """Show a row for each study, and in what they differ. Raises TableError for options that need a single study."""
    for option in ("best", "all", "where", "sort", "columns", "group", "keep", "why"):
        if getattr(arguments, option) is not None and getattr(arguments, option) is not False:
            raise TableError(f"--{option}: is for the trials of one study; give a single folder with --logs")
    comparison = Comparison(read_all(arguments.logs))
    study, rows = comparison.entries[0].results.study, comparison.rows
    if arguments.out:
        write(arguments.out, arguments.format, study, list(rows[0]), rows)
    elif arguments.format in FORMATS:
        sys.stdout.write(to_text(arguments.format, study, list(rows[0]), rows))
    else:
        print_comparison(comparison)


def print_trials(results: Results, logs: Path, arguments: argparse.Namespace) -> None:
    """Show the trials, or groups of them, with the columns and in the format that the options name."""
    study = results.study
    rows = with_derived(study, [Row.from_trial(trial) for trial in results.ranking])
    rows = with_front(study, rows, results.on_front)
    known, cells = known_columns(study, rows), [row.cells() for row in rows]
    for condition in arguments.where or ():
        cells = where(cells, condition, known)
    what, order = f"{len(cells)} trials", order_of_ranking(study)
    keys = choose_columns("--columns", arguments.columns, known) if arguments.columns is not None else []
    if arguments.group is not None:
        by = choose_columns("--group", arguments.group, known) if arguments.group else searched_and_metrics(study)[0]
        if not any(CONFIRMS in asked for asked in (*by, *keys, *(arguments.where or ()))):
            search = {trial.name.number for trial in results.search}  # confirmations repeat what was good by chance
            cells = [row for row in cells if row["trial"] in search]
        what = f"{len(cells)} trials"
        keys, cells = groups(study, cells, by, keys, unlike(results, cells, by))
        what, known, order = f"{len(cells)} groups of {what}", keys, best_first(study)
    if arguments.sort is not None:
        check_columns("--sort", [arguments.sort], known)
        cells = sort_by(cells, arguments.sort, descending=arguments.descending)
        order = f"{'largest' if arguments.descending else 'smallest'} {arguments.sort} first"
    chosen = cells if arguments.all else cells[: arguments.best or 10]
    written = keys or (columns(rows) if arguments.format in WHOLE else main_columns(study, rows, chosen))
    if arguments.out:
        write(arguments.out, arguments.format, study, written, chosen)
    elif arguments.format in FORMATS:
        sys.stdout.write(to_text(arguments.format, study, written, chosen))
    else:
        title = ", ".join([f"{len(chosen)} of {what}", *(arguments.where or ()), order])
        in_order = arguments.sort is None
        if not any((keys, arguments.where, arguments.sort)) and arguments.group is None:
            print_confirmed(results)
        print_table(Folder(logs), results, rows, chosen, keys, title=title, in_order=in_order)


def known_columns(study: Study, rows: Sequence[Row]) -> list[str]:
    """All columns of these rows, and those of the study that no trial may have yet."""
    searched, metrics = searched_and_metrics(study)
    return [*dict.fromkeys([*columns(rows), *searched, *metrics])]


def unlike(results: Results, cells: Sequence[Cells], by: Sequence[str]) -> set[int]:
    """The numbers of the trials that no mean includes, because they say little about the others in these rows.

    They collapsed, were cut short, or trained for less than others, unless the groups are by that.
    """
    cut_short = [trial for trial in results.stopped if is_cut_short(trial.stopped)]
    left_out = {trial.name.number for trial in (*cut_short, *results.collapsed)}
    fidelity = results.study.fidelity
    if not results.rungs or fidelity is None or fidelity.setting in by:
        return left_out
    chosen = {row["trial"] for row in cells} - left_out
    counting = (t for t in results.ended if t.name.number in chosen and results.value(t) is not None)
    levels = {trial.name.number: results.level(trial) for trial in counting}
    whole = [level for level in levels.values() if level <= (fidelity.highest or level)]  # a person may queue others
    return left_out | {number for number, level in levels.items() if whole and level != max(whole)}


def groups(
    study: Study, cells: Sequence[Cells], by: Sequence[str], averaged: Sequence[str], left_out: Container[int]
) -> tuple[list[str], list[Cells]]:
    """The columns and rows of groups that agree in `by`, the best mean of the metric first.

    If the metric is not `averaged`, the groups come in the order of their best trials. No mean includes trials that
    failed or were dropped, nor those whose numbers are in `left_out`: see `unlike`.
    """
    metrics = searched_and_metrics(study)[1]
    metric = metrics[0]
    check_numbers("--columns", averaged, cells)
    usual = [*dict.fromkeys([*metrics, "seconds"])]
    averaged = averaged or [key for key in usual if key in metrics or any(key in row for row in cells)]
    averaged = [key for key in averaged if key not in by]

    def counts(row: Cells) -> bool:
        return is_number(row.get(metric)) and row.get("trial") not in left_out and row.get("status") != DROPPED

    keys, table = group_columns(by, averaged), group_by(cells, by, averaged, counts)
    if metric in averaged:
        mean = group_columns(by, [metric])[-2]
        table = sort_by(table, mean, descending=study.direction == "maximize")
    return keys, table


def to_text(format: str, study: Study, keys: Sequence[str], cells: Sequence[Cells]) -> str:
    """The table in one of the text formats, a key of FORMATS."""
    return FORMATS[format](keys, cells, lambda key, value: shown(study, key, value))


def write(out: Path, format: str, study: Study, keys: Sequence[str], cells: Sequence[Cells]) -> None:
    """Write a file, whole or not at all. Raises TableError if it can't be written."""
    if format == "parquet":
        data = to_parquet(keys, cells)
    else:
        data = to_text(format, study, keys, cells).encode(errors="backslashreplace")
    try:
        write_whole(out, data)
    except OSError as error:
        if not out.parent.is_dir():
            raise TableError(f"--out {out}: there is no folder {out.parent}; make it first") from None
        raise TableError(f"--out {out}: can't be written ({error.strerror}); choose another file") from None
