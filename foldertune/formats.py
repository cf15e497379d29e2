"""Writes tables as CSV, JSON, Markdown, LaTeX and Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from foldertune.protocol import printable, to_line
from foldertune.tables import Cells, TableError, as_text, as_value, short
from foldertune.text import without_controls

_NUMBERS = (float, int, type(None))  # most values of a table; no call is made for them
Show = Callable[[str, Any], str]  # formats a value of a column for people; programs get the value as it is


def _short(key: str, value: Any) -> str:
    return short(value)


def to_csv(keys: Sequence[str], cells: Iterable[Cells], show: Show = _short) -> str:
    """CSV with a header. A missing value is empty; a list or an object is JSON; control characters are escaped."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(without_controls, keys))
    for row in cells:
        values = map(row.get, keys)
        writer.writerow([value if type(value) in _NUMBERS else _csv_value(value) for value in values])
    return file.getvalue()


def _csv_value(value: Any) -> Any:
    if isinstance(value, str):
        return without_controls(value)
    return json.dumps(value) if isinstance(value, dict | list) else value


def to_json(keys: Sequence[str], cells: Iterable[Cells], show: Show = _short) -> str:
    """A JSON list of objects, one per line."""
    rows = [to_line({key: as_value(row.get(key)) for key in keys}).decode().rstrip("\n") for row in cells]
    return "[" + ",\n ".join(row if row.isprintable() else _escaped(row) for row in rows) + "]\n"


def _escaped(row: str) -> str:
    """JSON with all that a terminal may obey written as JSON's own escapes."""
    return json.dumps(json.loads(row))


def to_markdown(keys: Sequence[str], cells: Iterable[Cells], show: Show = _short) -> str:
    """A Markdown table, for a README or an issue."""
    lines = [
        list(map(printable, keys)),
        ["---:"] * len(keys),
        *([show(key, row.get(key)) for key in keys] for row in cells),
    ]
    escaped = ([text.replace("|", "\\|") for text in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


_LATEX = str.maketrans(
    {letter: f"\\{letter}" for letter in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "–": "--"}
)


def to_latex(keys: Sequence[str], cells: Iterable[Cells], show: Show = _short) -> str:
    r"""A LaTeX table, for a paper; it needs \usepackage{booktabs}. Texts are aligned left."""
    cells = list(cells)

    def line(texts: Iterable[str]) -> str:
        text = " & ".join(text.translate(_LATEX) for text in texts)
        return ("{}" if text.startswith(("[", "*")) else "") + text + r" \\" + "\n"  # these would be options of \\

    head = line(printable(key).replace("_", " ") for key in keys)
    body = "".join(line(show(key, row.get(key)) for key in keys) for row in cells)
    columns = "".join("l" if any(isinstance(row.get(key), str) for row in cells) else "r" for key in keys)
    return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{head}\\midrule\n{body}\\bottomrule\n\\end{{tabular}}\n"


def to_parquet(keys: Sequence[str], cells: Sequence[Cells]) -> bytes:
    """A Parquet file, with one type per column. Raises TableError if pandas or pyarrow is not installed."""
    try:
        import pandas
        import pyarrow  # noqa: F401  # pandas would only notice later that it is missing
    except ImportError:
        raise TableError("--format parquet: needs pandas and pyarrow: pip install pandas pyarrow") from None
    columns = {}
    for key in keys:
        values = [row.get(key) for row in cells]
        kind = _parquet_type([value for value in values if value is not None])
        if kind == "string":
            values = [None if value is None else _whole(as_text(value)) for value in values]
        columns[_whole(key)] = pandas.Series(values, dtype=kind)
    file = io.BytesIO()
    pandas.DataFrame(columns).to_parquet(file, engine="pyarrow")
    return file.getvalue()


def _parquet_type(values: Sequence[Any]) -> str:
    kinds = set(map(type, values))
    if kinds == {bool}:
        return "boolean"
    if kinds == {int} and max(map(abs, values)) < 2**63:
        return "Int64"
    return "Float64" if values and kinds <= {int, float} else "string"


def _whole(text: str) -> str:
    """The text, with a lone half of a surrogate pair written as an escape."""
    return text.encode(errors="backslashreplace").decode()


FORMATS: dict[str, Callable[[Sequence[str], Sequence[Cells], Show], str]] = {
    "csv": to_csv,
    "json": to_json,
    "markdown": to_markdown,
    "latex": to_latex,
}
