"""Make one page of results: answers, figures, and every trial.

    {program}                              writes logs/report/report.html
    {program} --logs /shared/me/lr
    {program} --logs one two --out page    both studies, and how they compare

The page is one file and needs no network. Each figure is also saved beside it,
as PNG and as SVG. The study may still be running.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping

from foldertune.commands.options import add_several_logs, path
from foldertune.errors import UserError, require
from foldertune.protocol import printable
from foldertune.reading import findings
from foldertune.reading.content import Findings
from foldertune.reading.page import Find, make_page, read_all
from foldertune.reading.results import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_several_logs(parser)
    parser.add_argument(
        "--out", type=path, metavar="DIR", help="where the page is written (default: report/ in the first folder)"
    )


def main(arguments: argparse.Namespace, find: Find | None = None) -> int:
    """Read the studies, make the page, and print its path. Returns the exit code. Raises UserError and OSError.

    Args:
        find: computes the findings of a study; by default, those of any study. It compares the studies in its own way.
    """
    require("report")
    out = arguments.out or arguments.logs[0] / "report"
    entries = read_all(arguments.logs)
    for complaint in (complaint for entry in entries for complaint in entry.results.complaints):
        print(f"left out: {printable(complaint)}", file=sys.stderr)
    made_with = f"{arguments.program} {shlex.join(arguments.argv)}".rstrip()
    try:
        page = make_page(entries, out, find or find_any, made_with, compare=find is None and len(entries) > 1)
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror}; choose another folder with --out") from None
    print(page)
    return 0


def find_any(results: Results, others: Mapping[str, Results]) -> Findings:
    """The findings of any study; its neighbours on the page play no part."""
    return findings.find(results)
