"""Collects the content of one study for the page."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from foldertune.confirm import FIRST
from foldertune.definitions import definition
from foldertune.protocol import Trial, TrialName, printable, settings_record
from foldertune.reading.alarms import nameless
from foldertune.reading.comparison import Comparison
from foldertune.reading.content import Findings, Table
from foldertune.reading.explain import BY_HAND
from foldertune.reading.figures.comparison import picture_of_comparison
from foldertune.reading.findings import say_best
from foldertune.reading.page.curves import curves_of
from foldertune.reading.page.images import Image, save
from foldertune.reading.page.tables import HtmlTable, html_table, table_of_trials
from foldertune.reading.results import Results
from foldertune.reading.words import best_first, changes_of, mebibytes, of_definition, utc
from foldertune.tables import Json


@dataclass(frozen=True)
class Section:
    """One study on the page."""

    id: str
    title: str
    description: str
    progress: str
    best: str  # a sentence; empty if there is no best trial yet
    command_intro: str
    command: str
    findings: Findings
    figures: list[Image]
    tables: list[HtmlTable]
    curves: str  # JSON


@dataclass(frozen=True)
class Compared:
    """How the studies on the page compare."""

    table: HtmlTable
    figures: list[Image]
    differences: list[str]


def make_section(id: str, title: str, results: Results, found: Findings, out: Path, prefix: str) -> Section:
    """The section of a study. Its figures are written to `out`, under names that begin with `prefix`."""
    study, best = results.study, results.best
    tables = [html_table(f"{id}-table{k}", table, out) for k, table in enumerate(found.tables)]
    return Section(
        id=id,
        title=title,
        description=study.description.rstrip("."),
        progress=" ".join([progress(results), *(f"It was {line}." for line in told(results))]),
        command_intro="To train with these settings:" if study.program else "To try them again, in the study's folder:",
        command=command(results, best[0][0]) if best else "",
        best=say_best(results)[0] if best else "",
        findings=found,
        figures=[image for p in found.pictures if (image := save(p, out, f"{prefix}{p.name}")) is not None],
        tables=[
            *tables,
            table_of_search(id, results, out),
            *table_of_workers(id, results, out),
            table_of_trials(id, results),
        ],
        curves=curves_of(results),
    )


def table_of_search(id: str, results: Results, out: Path) -> HtmlTable:
    """The table of the study's definition: what an appendix says of a search."""
    study = results.study
    parts = {
        **definition(study),
        "chosen by auto": study.why or None,
        "budget": study.budget_in_words,
        "repeats": study.repeats if study.repeats > 1 else None,
        **{f"stopping.{key}": value for key, value in (study.stopping.to_record() if study.stopping else {}).items()},
        "first trial claimed, UTC": None if results.work.began is None else utc(results.work.began),
    }
    there = {key: value for key, value in parts.items() if value not in (None, [], ())}
    cells = {key: of_definition(value) for key, value in there.items()}
    rows = [{"part": key, "is": cell if isinstance(cell, str) else Json(cell)} for key, cell in cells.items()]
    return html_table(f"{id}-search", Table("The search, as its study defines it.", rows), out)


def table_of_workers(id: str, results: Results, out: Path) -> list[HtmlTable]:
    """The table of the workers, the worst first; none if nobody knows of any."""
    rows = [
        {
            "worker": worker.owner,
            "started by": worker.launcher or "hand",
            "now, or ended by": worker.what,
            "trials ended": worker.finished,
            "errors": worker.failed,
            "last sign, UTC": "" if worker.touched is None else utc(worker.touched),
            "memory, MiB": mebibytes(worker.memory),
            "device": worker.device,
            "GPU": worker.gpu or None,
            "GPU memory, MiB": mebibytes(worker.gpu_memory),
            "host": worker.host,
            "Python": worker.python,
        }
        for worker in results.workers
    ]
    there = {key for row in rows for key, value in row.items() if value is not None}
    rows = [{key: value for key, value in row.items() if key in there} for row in rows]
    caption = "Workers, those first that need a person; the last sign is by the file server's clock."
    return [html_table(f"{id}-workers", Table(caption, rows), out)] if rows else []


def compare_studies(comparison: Comparison, out: Path) -> Compared:
    """The comparison of all studies on the page. Its figure is written to `out`."""
    picture = picture_of_comparison(comparison)
    order = best_first(comparison.entries[0].results.study) if comparison.is_fair else "as they were given"
    metric = comparison.entries[0].results.study.quantity(comparison.metric)
    table = Table(f"The studies, {order}.", comparison.rows, {comparison.metric: metric})
    return Compared(
        table=html_table("compared", table, out),
        figures=[image] if picture and (image := save(picture, out, picture.name)) else [],
        differences=comparison.differences,
    )


def told(results: Results) -> list[str]:
    """What persons have done to the search, and what they should mend in its definition."""
    return [*changes_of(results.study), *([results.halted] if results.halted else []), *nameless(results)]


def progress(results: Results) -> str:
    """A sentence about the study's progress."""
    ended = len(results.trials)
    asked = max(results.asked, ended)
    if results.complete and results.why_over:
        return f"All {ended:,} trials have ended: {results.why_over}."
    if ended == asked and not results.in_hand and (results.complete or not results.is_open_ended):
        return f"All {asked:,} trials have ended."
    in_hand = f"; {len(results.in_hand)} in hand" if results.in_hand else ""
    of = "" if results.is_open_ended else f" of {asked:,}"
    return f"{ended:,}{of} trials have ended{in_hand}."


def command(results: Results, trial: Trial) -> str:
    """A command that trains with a trial's settings, or queues them again if the study names no program."""
    if results.study.program is None:
        known = (*results.trials, *results.in_hand, *results.lost)
        taken = {*results.pending, *(trial.name.number for trial in known)}
        below = max((number for number in taken if number < FIRST), default=0)  # the others confirm trials
        name = TrialName(max(BY_HAND, below + 1), 1)
        return printable(f"echo {shlex.quote(json.dumps(settings_record(trial.settings)))} > {name}")
    options = []
    for key, value in trial.settings.items():
        if value is not None:
            options += [f"--{key.replace('_', '-')}", value if isinstance(value, str) else json.dumps(value)]
    return printable(f"{results.study.program} {shlex.join(options)}")
