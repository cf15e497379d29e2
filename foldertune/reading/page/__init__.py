"""One page that shows what came out: answers, figures, and every trial."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldertune.protocol import Trial, printable, write_whole
from foldertune.reading.archive import Search, read_search
from foldertune.shipped import DEFAULT_OBJECTIVE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from foldertune.reading.findings import Findings, Picture

PAGE = Path(__file__).parent
DPI = 200
LARGEST_SVG = 300_000  # bytes; a larger one is shown as PNG in the page
MOST_NUMBERS = 300_000  # of learning curves in a page; beyond it each curve is thinned out
MOST_MEASURES = 6
LONG = ' class="long"'  # a cell that may break into lines


# ---------------------------------------------------------------- what goes into the page


@dataclass(frozen=True)
class Section:
    """One study on the page."""

    id: str
    title: str
    description: str
    progress: str
    best: str
    command_intro: str
    command: str
    findings: Findings
    figures: list[dict[str, Any]]
    tables: list[dict[str, Any]]
    curves: Any


def make_section(
    id: str,
    name: str,
    logs: Path,
    search: Search,
    others: Mapping[str, Search],
    out: Path,
    prefix: str,
    find: Callable[[Search, Mapping[str, Search]], Findings],
) -> Section:
    """Everything about the study in `logs`; its figures are written to `out` under names that begin with `prefix`."""
    from foldertune.reading import findings

    study, found = search.study, find(search, others)
    best = findings.best_settings(search)
    tables = [table(f"{id}-table{k}", t.caption, t.rows) for k, t in enumerate(found.tables)]
    return Section(
        id=id,
        title=name if name == study.name else f"{study.name} ({name})",
        description=study.description.rstrip("."),
        progress=progress(search),
        best=findings.say_best(search)[0] if best else "",
        command_intro="To train with these settings:" if study.objective == DEFAULT_OBJECTIVE else "To try them again:",
        command=command(search, logs, best[0][0]) if best else "",
        findings=found,
        figures=[saved for p in found.pictures if (saved := save(p, out, f"{prefix}{p.name}")) is not None],
        tables=[*tables, table_of_trials(id, search)],
        curves=curves(search),
    )


def progress(search: Search) -> str:
    """How far the study is."""
    ended, asked = len(search.trials), max(search.study.trials, len(search.trials))
    hand = f"; {len(search.in_hand)} in hand" if search.in_hand else ""
    return (
        f"{ended:,} of {asked:,} trials have ended{hand}."
        if ended < asked or hand
        else f"All {asked:,} trials have ended."
    )


def command(search: Search, logs: Path, trial: Trial) -> str:
    """What a person types to train with these settings, or to queue them once more."""
    if search.study.objective != DEFAULT_OBJECTIVE:
        line = json.dumps({"settings": trial.settings})
        return f"echo {shlex.quote(line)} > {printable(shlex.quote(str(logs / 'trial-90001-1.jsonl')))}"
    options = []
    for key, value in trial.settings.items():
        if value is not None:
            options += [f"--{key.replace('_', '-')}", value if isinstance(value, str) else json.dumps(value)]
    return printable(shlex.join(["python", "exercise3.py", *options]))


def table(id: str, caption: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A table for the page: its cells are escaped here."""
    from markupsafe import Markup

    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = [Markup("<tr>{}</tr>").format(_cells(keys, [row.get(key) for key in keys])) for row in rows]
    title = caption.partition(",")[0].rstrip(".")
    return {
        "id": id,
        "title": title,
        "caption": caption,
        "columns": keys,
        "rows": rows,
        "body": Markup("\n").join(lines),
    }


def table_of_trials(id: str, search: Search) -> dict[str, Any]:
    """Every counted trial, the best first; its number is the link to its curves."""
    from markupsafe import Markup

    from foldertune.reading.importance import EFFECTIVE_RATE, effective_rate
    from foldertune.rows import Row, rank, searched_and_metric

    study = search.study
    searched, metric = searched_and_metric(study)
    by_number = {trial.name.number: trial for trial in search.trials}
    rate = [EFFECTIVE_RATE] if {"learning_rate", "momentum"} <= set(study.space) else []
    headings = [metric, "status", *searched, *rate, "epochs trained", "seconds", "worker", "attempt", "finished"]
    lines, rows = [], rank(map(Row.from_trial, search.trials), study.metric, study.direction)
    for row in rows:
        cells = row.cells()
        values = [cells.get(metric), "collapsed" if row.metrics.get("diverged") is True else row.status]
        values += [cells.get(key) for key in searched]
        values += [effective_rate(row.settings)] if rate else []
        values += [len(by_number[row.trial].epochs), cells.get("seconds"), row.worker, row.attempt, row.finished]
        link = f'<td class="n"><a href="#{id}-trial-{row.trial}">{row.trial}</a></td>'
        kind = ' class="failed"' if row.status == "failed" else ""
        head = Markup(f'<tr id="{id}-trial-{row.trial}" data-trial="{row.trial}"{kind}>{link}')  # numbers
        lines.append(head + _cells(headings, values) + Markup("</tr>"))
    caption = f"All {len(rows):,} trials, best first; a number leads to the learning curves, a heading sorts."
    return {"id": f"{id}-trials", "title": "All trials", "caption": caption, "curves": True, "rows": rows,
            "columns": ["trial", *(heading.replace("_", " ") for heading in headings)],
            "body": Markup("\n").join(lines)}  # fmt: skip


def _cells(headings: Sequence[str], values: Sequence[Any]) -> Any:
    from markupsafe import Markup, escape

    from foldertune.reading.samples import PERCENT, show
    from foldertune.tables import short

    parts = []
    for heading, value in zip(headings, values, strict=True):
        text = short(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            parts.append(f"<td{LONG if len(text) > 40 else ''}>{escape(text)}</td>")
            continue
        text = show(value, heading) if heading.endswith(PERCENT) and math.isfinite(value) else text
        sorted_by = "" if text == str(value) else f' data-v="{value:.6g}"'  # more digits sort better than the few shown
        parts.append(f'<td class="n"{sorted_by}>{text}</td>')
    return Markup("".join(parts))  # escaped above


def curves(search: Search) -> Any:
    """The learning curves as JSON that can stand in a page."""
    from markupsafe import Markup

    from foldertune.reading import plots

    trials = [trial for trial in search.trials if trial.epochs]
    measures = plots.measures(trials)[:MOST_MEASURES]
    numbers = sum(len(trial.epochs) for trial in trials) * (len(measures) + 1)
    step = math.ceil(numbers / MOST_NUMBERS) or 1
    columns = {trial.name.number: _curve(trial, measures, step) for trial in trials}
    scored = plots.scored(search)
    record = {
        "measures": [printable(measure.replace("_", " ")) for measure in measures],
        "best": scored[0][0].name.number if scored else None,
        "note": f" One epoch in {step} is kept here." if step > 1 else "",
        "trials": columns,
    }
    text = json.dumps(record, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _curve(trial: Trial, measures: Sequence[str], step: int) -> list[list[float | None]]:
    from foldertune.reading.samples import finite

    kept = trial.epochs[::-1][::step][::-1]  # the last is always among them
    return [[_rounded(finite(epoch.get(key))) for epoch in kept] for key in ("epoch", *measures)]


def _rounded(value: float | None) -> float | None:
    if value is None:
        return None
    rounded = float(f"{value:.4g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e9 else rounded


# ---------------------------------------------------------------- figures


def save(picture: Picture, out: Path, stem: str) -> dict[str, Any] | None:
    """Draw a figure, write it as PNG and SVG, and say how the page shows it. Raises OSError.

    None, and a line to the user, if these data can't be drawn: a value near the largest float, say.
    """
    import matplotlib

    style = {"svg.hashsalt": stem, "savefig.facecolor": "white"}  # the same bytes for the same data
    try:
        with matplotlib.rc_context(style), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, of such values
            figure = picture.draw()
            png = _render(figure, format="png", dpi=DPI, metadata={"Software": None})
            figure.set_layout_engine("none")  # it is laid out now
            svg = _render(figure, format="svg", dpi=DPI, metadata={"Date": None, "Creator": None})
    except (ValueError, ArithmeticError) as error:
        print(f"left out: the figure {stem} can't be drawn ({printable(str(error))})", file=sys.stderr)
        return None
    write_whole(out / f"{stem}.png", png)
    write_whole(out / f"{stem}.svg", svg)
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    small = len(svg) <= LARGEST_SVG
    data = base64.b64encode(svg if small else png).decode()
    kind = "svg+xml" if small else "png"
    return {
        "name": picture.name,
        "stem": stem,
        "caption": picture.caption,
        "alt": f"Figure: {picture.name.replace('-', ' ')}",
        "width": width,
        "height": height,
        "wide": width > 620,  # CSS pixels: more than half the page
        "data": f"data:image/{kind};base64,{data}",
    }


def _render(figure: Figure, **options: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, **options)
    return file.getvalue()


# ---------------------------------------------------------------- the page


def render(sections: Sequence[Section], made_with: str) -> str:
    """The page."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    environment = Environment(loader=FileSystemLoader(PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    style, script = ((PAGE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    title = sections[0].title if len(sections) == 1 else "What the searches found"
    return environment.get_template("page.html").render(
        title=title,
        subtitle="Hyperparameter search over a shared folder: answers computed from the trials' files.",
        sections=sections,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        made_with=made_with,
        footnote=(
            "± is the standard deviation over runs of equal settings (n − 1); runs that diverged or stayed at chance "
            "level are left out of means. Verdicts are Welch's t-tests at 0.05, two-sided, each for itself."
        ),
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def find_studies(paths: Sequence[Path]) -> list[Path]:
    """The folders of studies among these and, where one holds none itself, right below it, in their natural order."""
    found: list[Path] = []
    for path in paths:
        below = [child for child in path.iterdir() if _is_study(child)] if path.is_dir() and not _is_study(path) else []
        found += sorted(below, key=_natural) or [path]
    return found


def _natural(path: Path) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def _is_study(path: Path) -> bool:
    return (path / "study.json").exists() or (path / "study.json.done").exists()


def read_all(paths: Sequence[Path]) -> dict[Path, tuple[str, Search]]:
    """Each study by its folder, and the name that its folder gives it, told apart by a number. Raises StudyError."""
    found: dict[Path, tuple[str, Search]] = {}
    for path in find_studies(paths):
        name, number = path.resolve().name, 1
        while name in (taken for taken, _ in found.values()):
            number += 1
            name = f"{path.resolve().name} {number}"
        found[path] = name, read_search(path)
    return found


def prefixes_of(names: Sequence[str]) -> list[str]:
    """What the file names of each study's figures begin with: nothing if there is one study."""
    if len(names) == 1:
        return [""]
    stems = [re.sub(r"[^A-Za-z0-9_-]+", "-", name) for name in names]
    return [f"{stem}-{k}-" if stems.count(stem) > 1 else f"{stem}-" for k, stem in enumerate(stems, start=1)]
