"""One page with the results of studies: answers, figures, and every trial.

Begin at `make_page`. `studies` finds the studies, `sections` collects the content of each, `tables`, `curves` and
`images` make the parts, and `render` puts them into the template.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from foldertune.errors import require
from foldertune.protocol import write_whole
from foldertune.reading.comparison import Comparison
from foldertune.reading.content import Findings
from foldertune.reading.page.sections import compare_studies, make_section
from foldertune.reading.results import Results
from foldertune.reading.studies import Entry, prefixes_of, read_all

__all__ = ["Entry", "Find", "make_page", "read_all"]

Find = Callable[[Results, Mapping[str, Results]], Findings]  # (a study, all studies by name) -> the study's findings


def make_page(entries: Sequence[Entry], out: Path, find: Find, made_with: str, *, compare: bool = False) -> Path:
    """Write the page and its figures to `out`, and return where the page is. Raises UserError and OSError.

    Args:
        find: computes the findings of a study, given all studies on the page.
        made_with: the command that makes this page, for its footer.
        compare: whether the page begins with a comparison of the studies.
    """
    require("report")
    from foldertune.reading.page.render import render

    out.mkdir(parents=True, exist_ok=True)
    everything = {entry.name: entry.results for entry in entries}
    sections = [
        make_section(
            id=f"s{number}",
            title=entry.title if len(entries) > 1 else entry.results.study.name,
            results=entry.results,
            found=find(entry.results, everything),
            out=out,
            prefix=prefix,
        )
        for number, (entry, prefix) in enumerate(zip(entries, prefixes_of(entries), strict=True), start=1)
    ]
    compared = compare_studies(Comparison(entries), out) if compare else None
    page = out / "report.html"
    write_whole(page, render(sections, made_with, compared).encode(errors="backslashreplace"))
    return page
