"""One page that shows what came out: answers, figures, and every trial.

    {program}                  logs/report/report.html
    {program} --logs /shared/me/lr
    {program} --logs one two --out page    both on one page
    python -m analysis.report --logs analysis/exercise3    all studies in it

The page needs no network and no other file; beside it lies every figure as PNG
and SVG. The study may still run. Scenarios 1 to 6 are asked their own
questions, any other study the general ones.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from foldertune.errors import UserError
from foldertune.protocol import printable, write_whole
from foldertune.reading import findings
from foldertune.reading.archive import Search
from foldertune.reading.page import make_section, prefixes_of, read_all, render

if TYPE_CHECKING:
    from foldertune.reading.findings import Findings

PAGE = Path(__file__).parent / "page"
DPI = 200
LARGEST_SVG = 300_000  # bytes; a larger one is shown as PNG in the page
MOST_NUMBERS = 300_000  # of learning curves in a page; beyond it each curve is thinned out
MOST_MEASURES = 6
LONG = ' class="long"'  # a cell that may break into lines


# ---------------------------------------------------------------- the program


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument(
        "--logs", type=Path, nargs="+", default=[Path("logs")], metavar="DIR",
        help="shared folders, kept ones, or a directory of such (default: logs)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to (default: report/ in the first folder)")


def main(
    arguments: argparse.Namespace,
    find: Callable[[Search, Mapping[str, Search]], Findings] = lambda search, others: findings.find(search),
) -> int:
    """Make the page."""
    out = arguments.out or arguments.logs[0] / "report"
    try:
        studies = read_all(arguments.logs)
        searches = dict(studies.values())
        for complaint in (complaint for search in searches.values() for complaint in search.complaints):
            print(f"left out: {printable(complaint)}", file=sys.stderr)
        out.mkdir(parents=True, exist_ok=True)
        prefixes = prefixes_of(list(searches))
        sections = [
            make_section(
                f"s{k}", name if len(studies) > 1 else search.study.name, logs, search, searches, out, prefix, find
            )
            for k, ((logs, (name, search)), prefix) in enumerate(zip(studies.items(), prefixes, strict=True), start=1)
        ]
        page = render(sections, shlex.join(["python", "-m", "analysis.report", *arguments.argv]))
        write_whole(out / "report.html", page.encode(errors="backslashreplace"))
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror}; choose another folder with --out") from None
    print(out / "report.html")
    return 0
