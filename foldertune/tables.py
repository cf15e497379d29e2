"""Chooses and sorts the rows of a table."""

from __future__ import annotations

import csv
import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from foldertune.errors import UserError, did_you_mean
from foldertune.protocol import printable

LONGEST = 400  # characters of a value that people are shown
Cells = dict[str, Any]  # a row's values by column; None: no value

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_COMPARISON = re.compile(rf"\s*({'|'.join(COMPARISONS)})\s*(.*?)\s*\Z", re.DOTALL)


class TableError(UserError):
    """An option asks for something that the table can't give. The message names the option and says what to do."""


# ---------------------------------------------------------------- values


class Json(str):
    """A setting that is null, a list or an object: a text of JSON, which can be sorted and grouped. No text equals it.

    Attributes:
        value: the setting itself.
    """

    value: Any

    def __new__(cls, value: Any) -> Json:
        """The JSON of a value."""
        text = super().__new__(cls, json.dumps(value))
        text.value = value
        return text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Json) and str(self) == str(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((Json, str(self)))


def cell_of(settings: Mapping[str, Any], name: str) -> Any:
    """A setting as a cell; None if it is absent."""
    return as_cell(settings[name]) if name in settings else None


def as_cell(setting: Any) -> Any:
    """A setting as a cell: null is a value, and not the lack of one."""
    return Json(setting) if setting is None or isinstance(setting, list | tuple | dict) else setting


def as_value(cell: Any) -> Any:
    """The value of a cell, as JSON has it."""
    return cell.value if isinstance(cell, Json) else cell


def is_number(value: Any) -> bool:
    """Is `value` a finite number? True and False are not numbers here."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def finite(value: Any) -> float | None:
    """`value` as a float; None if it is not a finite number."""
    return float(value) if is_number(value) else None


def short(value: Any) -> str:
    """A value as people read it in a table: four significant digits, control characters escaped, `–` for None.

    A text that looks like another value, such as a number or true, stands in quotes: "1" and 1 are two values.
    """
    if value is None:
        return "–"
    text = f"{value:.4g}" if isinstance(value, float) else printable(str(value))
    if isinstance(value, str) and not isinstance(value, Json) and _looks_like_no_text(text):
        text = f'"{text}"'
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def as_text(value: Any) -> str:
    """A value as text; anything that is not text becomes JSON."""
    return str(value) if isinstance(value, str) else json.dumps(value)


def _looks_like_no_text(text: str) -> bool:
    return text.lower() in ("true", "false", "null") or _to_number(text) is not None or _in_json(text) is not None


def _in_json(text: str) -> str | None:
    """A list or an object in JSON, as we write it; None if the text is none."""
    if not text.startswith(("[", "{")):
        return None
    try:
        return json.dumps(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _to_number(text: str) -> int | float | None:
    if text.endswith("%"):
        share = _to_number(text[:-1].strip())
        return None if share is None else share / 100
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if is_number(number) else None
    return None


# ---------------------------------------------------------------- choosing


def choose_columns(option: str, text: str, known: Sequence[str]) -> list[str]:
    """The columns that `a,b,"c,d"` names, each once. A name with a comma stands in quotes.

    Raises TableError, naming the option, if a column does not exist.
    """
    keys = [key.strip() for line in csv.reader([text], skipinitialspace=True) for key in line]
    if not keys or not all(keys):
        raise TableError(f"{option} {text!r}: must be names of columns, separated by commas")
    check_columns(option, keys, known)
    return list(dict.fromkeys(keys))


def check_columns(option: str, keys: Iterable[str], known: Sequence[str]) -> None:
    """Raise TableError, naming the option, if one of the keys is not a known column."""
    for key in keys:
        if key not in known:
            raise TableError(
                f"{option}: no column {key!r}{did_you_mean(key, known)}; there are {', '.join(map(printable, known))}"
            )


def check_numbers(option: str, keys: Iterable[str], cells: Sequence[Cells]) -> None:
    """Raise TableError, naming the option, if one of the keys can't be averaged."""
    for key in keys:
        if any(row.get(key) is not None for row in cells) and not any(is_number(row.get(key)) for row in cells):
            raise TableError(f"{option}: {printable(key)} holds no numbers, so --group can't average it")


def where(cells: Iterable[Cells], condition: str, known: Sequence[str]) -> list[Cells]:
    """The rows for which a condition such as `width<50` holds. Rows without a value in that column are left out.

    `error=` selects the rows without a value, `error!=` those with one. If a column has numbers and texts, they are
    not compared with each other; `kind="1"` selects the text. Raises TableError, naming the condition, if it is not a
    valid one.
    """
    key, sign, text = _parse_condition(condition, known)
    if not text:
        if sign in ("=", "==", "!="):
            return [row for row in cells if (row.get(key) in (None, "")) == (sign != "!=")]
        raise TableError(f"--where {condition!r}: a value must follow {sign!r}")
    there = [row for row in cells if row.get(key) is not None]
    kinds, number = {_kind(row[key]) for row in there}, _to_number(text)
    fits = {"numbers": number is not None, "true or false": text.lower() in ("true", "false"), "texts": True}
    if there and not any(fits[kind] for kind in kinds):
        raise TableError(
            f"--where {condition!r}: {printable(key)} holds {' and '.join(sorted(kinds))}; {text!r} is something else"
        )
    only_equal = number is not None and "numbers" in kinds  # then < and > compare numbers only
    in_json = _in_json(text)
    unquoted = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text

    def holds(value: Any) -> bool:
        kind, compare = _kind(value), COMPARISONS[sign]
        if kind == "numbers":
            return sign == "!=" if number is None else compare(value, number)
        if kind == "true or false":
            return compare(as_text(value), text.lower())
        asked = in_json or text if isinstance(value, Json) else unquoted
        return compare(as_text(value), asked) and (sign in ("=", "==", "!=") or not only_equal)

    return [row for row in there if holds(row[key])]


def _parse_condition(condition: str, known: Sequence[str]) -> tuple[str, str, str]:
    """Split a condition into column, comparison and value. Raises TableError."""
    text = condition.strip()
    for key in sorted(known, key=len, reverse=True):  # a column's name may itself contain a comparison sign
        if text.startswith(key) and (match := _COMPARISON.match(text, len(key))):
            return key, match[1], match[2]
    name = re.split("[<>!=]", text)[0].strip()
    if not name or name == text:
        raise TableError(f"--where {condition!r}: must be column, comparison and value, such as 'width<50'")
    check_columns(f"--where {condition!r}", [name], known)
    raise TableError(f"--where {condition!r}: the comparison must be one of {' '.join(COMPARISONS)}")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "numbers" if is_number(value) else "texts"


def sort_by(cells: Iterable[Cells], key: str, *, descending: bool = False) -> list[Cells]:
    """The rows sorted by one column: numbers, then texts, then rows without a value. The sort is stable."""
    numbers: list[Cells] = []
    texts: list[Cells] = []
    rest: list[Cells] = []
    for row in cells:
        value = row.get(key)
        (rest if value is None else numbers if is_number(value) else texts).append(row)
    numbers.sort(key=lambda row: row[key], reverse=descending)
    texts.sort(key=lambda row: as_text(row[key]), reverse=descending)
    return [*numbers, *texts, *rest]
