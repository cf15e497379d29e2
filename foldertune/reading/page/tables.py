"""Makes the page's tables, and escapes all text that comes from files."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import quote

from foldertune.reading.content import Printed, Table
from foldertune.reading.explain import why
from foldertune.reading.results import Results
from foldertune.rows import DROPPED, FAILED, FRONT, Row, column_names, searched_and_metrics, with_derived, with_front
from foldertune.study import PERCENT, Quantity, Study
from foldertune.tables import Cells, short

LONG = 40  # characters; a longer cell may break into lines
COLLAPSED = "collapsed"


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, and whether it holds numbers, which are aligned right."""

    heading: str
    is_numeric: bool


@dataclass(frozen=True)
class HtmlTable:
    """A table for the template."""

    id: str
    title: str
    caption: str
    columns: list[Column]
    length: int  # rows
    body: str  # these rows in HTML
    has_curves: bool = False  # does a row lead to learning curves?


def html_table(id: str, table: Table, out: Path) -> HtmlTable:
    """A table of the findings, as HTML, for a page in the folder `out`."""
    keys = list(dict.fromkeys(key for row in table.rows for key in row))
    columns = [_column(key, table.quantities.get(key), table.rows) for key in keys]
    lines = [f"<tr>{_cells(keys, columns, row, table.quantities, out)}</tr>" for row in table.rows]
    title = table.caption.partition(",")[0].rstrip(".")
    return HtmlTable(id, title, table.caption, columns, len(lines), _safe("\n".join(lines)))


def table_of_trials(id: str, results: Results) -> HtmlTable:
    """The table of all counted trials, best first. A trial's number is the link to its curves."""
    study = results.study
    rows = with_derived(study, [Row.from_trial(trial) for trial in results.ranking])
    rows = with_front(study, rows, results.on_front)
    by_number = {trial.name.number: trial for trial in results.trials}
    epochs = {number: round(results.epochs_trained(trial)) for number, trial in by_number.items()}
    collapsed = {trial.name.number for trial in results.collapsed}
    all_cells: list[Cells] = []
    for row in rows:
        status = COLLAPSED if row.trial in collapsed else row.status
        told = {"why": why(study, by_number[row.trial]) or None, "epochs trained": epochs[row.trial]}
        all_cells.append({**told, **row.cells(), "status": status})
    keys, quantities = _columns_of_trials(study, all_cells)
    columns = [_column(key, quantities.get(key), all_cells) for key in keys]
    lines = []
    for row, cells in zip(rows, all_cells, strict=True):
        kind = ' class="failed"' if row.status in (FAILED, DROPPED) else ""
        anchor = f"{id}-trial-{row.trial}"
        number = f'<td class="n"><a href="#{anchor}">{row.trial}</a></td>'
        rest = _cells(keys, columns, cells, quantities)
        lines.append(f'<tr id="{anchor}" data-trial="{row.trial}"{kind}>{number}{rest}</tr>')
    return HtmlTable(
        id=f"{id}-trials",
        title="All trials",
        caption=f"All {len(rows):,} trials, best first; click a number for its learning curves, a heading to sort.",
        columns=[Column("trial", True), *columns],
        length=len(rows),
        body=_safe("\n".join(lines)),
        has_curves=True,
    )


def _columns_of_trials(study: Study, cells: Sequence[Cells]) -> tuple[list[str], dict[str, Quantity]]:
    """The columns beside the trial's number, and their quantities. Derived quantities without a value are left out."""
    searched, metrics = searched_and_metrics(study)
    derived = dict(zip(column_names(tuple(study.space), tuple(study.derived))[1], study.derived, strict=True))
    derived = {key: name for key, name in derived.items() if any(row.get(key) is not None for row in cells)}
    front = [FRONT] if study.others else []
    about = ["epochs trained", "seconds", "worker", "attempt", "finished"]
    keys = [*metrics, *front, "status", *searched, *derived, *about]
    keys += ["why"] if any(row.get("why") for row in cells) else []
    names = {
        **dict(zip(metrics, study.metric_names, strict=True)),
        **derived,
        **{key: key for key in (*study.space, "seconds")},
    }
    return list(dict.fromkeys(keys)), {key: study.quantity(name) for key, name in names.items()}


def _column(key: str, quantity: Quantity | None, rows: Sequence[Mapping[str, Any]]) -> Column:
    values = [value for row in rows if (value := row.get(key)) is not None]
    is_numeric = bool(values) and all(_is_number(value) for value in values)
    if quantity is None:
        return Column(key.replace("_", " "), is_numeric)
    return Column(quantity.label if quantity.unit == PERCENT else quantity.title, is_numeric)


def _cells(
    keys: Sequence[str],
    columns: Sequence[Column],
    row: Mapping[str, Any],
    quantities: Mapping[str, Quantity],
    out: Path | None = None,
) -> str:
    """A row's cells as HTML; shares are in per cent."""
    from markupsafe import escape

    parts = []
    for key, column in zip(keys, columns, strict=True):
        value, quantity = row.get(key), quantities.get(key)
        if isinstance(value, Printed):
            parts.append(f"<td>{_printed(value, out)}</td>")
            continue
        text = short(value)
        kind = ' class="n"' if column.is_numeric or _is_number(value) else ' class="long"' if len(text) > LONG else ""
        sorted_by = ""
        if _is_number(value):
            if quantity is not None and quantity.unit == PERCENT and math.isfinite(value):
                text = quantity.show(value)
            if text != str(value):
                sorted_by = f' data-v="{value:.6g}"'  # more digits sort better than the few shown
        parts.append(f"<td{kind}{sorted_by}>{escape(text)}</td>")
    return "".join(parts)


def _printed(printed: Printed, out: Path | None) -> str:
    """The last lines, and a link to the file that works wherever the folder with both of them is."""
    from markupsafe import escape

    html = f'<pre tabindex="0">{escape(printed.lines)}</pre>' if printed.lines else ""
    if printed.file and out:
        path = os.path.relpath(printed.file.resolve(), out.resolve()).replace(os.sep, "/")
        html = f'<a href="{escape(quote(path))}">{escape(printed.file.name)}</a>{html}'
    return html


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _safe(html: str) -> str:
    """Mark a text as HTML for the template. All text from files in it must be escaped already."""
    from markupsafe import Markup

    return Markup(html)
