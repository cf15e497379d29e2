"""Make one page of results: answers, figures, and every trial.

    {program}                              writes logs/report/report.html
    {program} --logs /shared/me/lr
    {program} --logs one two --out page    both studies on one page

The page is one file and needs no network. Each figure is also saved beside it,
as PNG and as SVG. The study may still be running.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from foldertune.commands.options import path
from foldertune.errors import UserError, require
from foldertune.protocol import printable
from foldertune.reading import findings
from foldertune.reading.page import Find, make_page, read_all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "--logs", type=path, nargs="+", default=[Path("logs")], metavar="DIR",
        help="shared folders, kept ones, or directories that hold such folders (default: logs)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=path, metavar="DIR", help="where the page is written (default: report/ in the first folder)"
    )


def main(arguments: argparse.Namespace, find: Find = lambda results, others: findings.find(results)) -> int:
    """Read the studies, make the page, and print its path. Returns the exit code. Raises UserError and OSError.

    Args:
        find: computes the findings of a study; by default, those of any study.
    """
    require("report")
    out = arguments.out or arguments.logs[0] / "report"
    entries = read_all(arguments.logs)
    for complaint in (complaint for entry in entries for complaint in entry.results.complaints):
        print(f"left out: {printable(complaint)}", file=sys.stderr)
    made_with = f"{arguments.program} {shlex.join(arguments.argv)}".rstrip()
    try:
        page = make_page(entries, out, find, made_with)
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror}; choose another folder with --out") from None
    print(page)
    return 0
