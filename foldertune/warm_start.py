"""What a study begins with besides its definition: settings to try first, and results that are known from elsewhere.

Both stand in study.json, so a master that is started again needs neither the file nor the folder that they came from.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from foldertune.errors import StudyError, did_you_mean
from foldertune.metrics import Known
from foldertune.nesting import flatten, nest
from foldertune.space import Categorical, Int, Space, identity
from foldertune.space_file import SpaceReader
from foldertune.study import SEED

MOST_BYTES = 2**26  # of a file with settings
RESULTS = {"trial", "status"}  # a table with these columns holds results


def read_first(
    reader: SpaceReader, listed: Any, space: Space, fixed: Mapping[str, Any], *, has_changed: bool = False
) -> tuple[dict[str, Any], ...]:
    """The settings to try first in a definition, or in a person's list. Raises StudyError, naming the place in it.

    Args:
        has_changed: the study was changed since, so they may name what is fixed now. Such values are left out.
    """
    if not isinstance(listed, list):
        reader.fail("first", f"must be a list of settings, such as [{{ rate = 0.1 }}], not {listed!r:.80}")
    if has_changed:
        listed = [_without(each, fixed) for each in listed]
    return tuple(_one(reader, f"first, number {place}", each, space, fixed) for place, each in enumerate(listed, 1))


def _without(given: Any, names: Iterable[str]) -> Any:
    """Settings without these; anything else as it is."""
    return (
        {name: value for name, value in flatten(given).items() if name not in names}
        if isinstance(given, dict)
        else given
    )


def read_known(
    reader: SpaceReader, listed: Any, space: Space, metrics: int = 1, *, has_changed: bool = False
) -> tuple[Known, ...]:
    """The known results in a definition: settings, each with its value of the metric, or of so many metrics.

    Args:
        has_changed: the study was changed since. Results with a setting that is no hyperparameter now are left out.
    """
    if not isinstance(listed, list):
        reader.fail("known", f"must be a list of results, not {listed!r:.80}")
    known = []
    for place, each in enumerate(listed, 1):
        key, told = f"known, number {place}", each if isinstance(each, dict) else {}
        is_behind = "values" not in told and told.get("value", 0) is None
        values, most = ([], 0) if is_behind else (told.get("values", [told.get("value")]), metrics)
        if not isinstance(values, list) or len(values) != most or not all(type(v) in (int, float) for v in values):
            reader.fail(key, 'must be {"settings": {…}, "value": …}, with "values": […] for several metrics')
        read = tuple(reader.scalar(key, value) for value in values)
        settings = told.get("settings")
        if not has_changed or (isinstance(settings, dict) and {*flatten(settings, values=[*space])} <= {*space, SEED}):
            known.append(Known(_one(reader, key, settings, space, {}), read))
    return tuple(known)


def read_before(reader: SpaceReader, told: Mapping[str, Any], space: Space, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """What trials have that were made before a setting was there: values of hyperparameters and of fixed settings."""
    before = {}
    try:
        flat = flatten(nest(told), values=[*space, *fixed])
    except ValueError as error:
        reader.fail("before", f"{error}; remove one of them")
    for name, value in flat.items():
        key = f"before.{name}"
        if name not in space and name not in fixed:
            reader.fail(key, f"is no setting of this study{did_you_mean(name, (*space, *fixed))}; remove it")
        before[name] = _fitting(reader, key, name, reader.choice_of(key, value), space)
    return before


def _one(reader: SpaceReader, key: str, given: Any, space: Space, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """One set of settings by dotted names, without what is fixed to the same value."""
    if not isinstance(given, dict):
        reader.fail(key, f"must be settings, such as {{ rate = 0.1 }}, not {given!r:.80}")
    try:
        flat = flatten(given, values=[*space])
    except ValueError as error:
        reader.fail(key, f"{error}; remove one of them")
    kept = {}
    for name, value in flat.items():
        read = reader.choice_of(key, value)
        if name in fixed:
            if identity(read) != identity(fixed[name]):
                reader.fail(key, f"'{name}' is fixed at {fixed[name]!r} in this study; remove it, or write this value")
        elif name in space or name == SEED:
            kept[name] = _fitting(reader, key, name, read, space)
        else:
            hint = did_you_mean(name, (*space, *fixed))
            reader.fail(key, f"names '{name}', which is no hyperparameter of this study{hint}")
    return kept


def _fitting(reader: SpaceReader, key: str, name: str, value: Any, space: Space) -> Any:
    """A value of the type that the hyperparameter has. It may lie outside of the range."""
    dimension = space.get(name)
    if dimension is None or isinstance(dimension, Categorical):
        return value
    if not isinstance(value, int | float) or isinstance(value, bool):
        reader.fail(key, f"'{name}' must be a number, not {value!r}")
    if isinstance(dimension, Int):
        return int(value) if value == int(value) else reader.fail(key, f"'{name}' must be a whole number, not {value}")
    return float(value)


# ---------------------------------------------------------------- a person's file


def read_list(path: Path, source: str, space: Space) -> list[dict[str, Any]]:
    """The rows of a CSV file, the objects of a JSON list, or those of a file with one object a line.

    Raises StudyError, naming `source`, if it is none of them.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1).decode("utf-8-sig")
    except FileNotFoundError:
        raise StudyError(f"{source}: there is no such file or folder") from None
    except OSError as error:
        raise StudyError(f"{source}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise StudyError(f"{source}: is no text: {error}") from None
    if len(text) > MOST_BYTES:
        raise StudyError(f"{source}: has more than {MOST_BYTES:,} bytes; give the best of these settings")
    listed = _from_csv(text, source, space) if path.suffix.lower() == ".csv" else _from_json(text, source)
    if not listed:
        raise StudyError(f"{source}: holds no settings")
    return listed


def is_results(listed: Iterable[Any]) -> bool:
    """Are these the rows of a table of results?"""
    return all(isinstance(each, dict) and each.keys() >= RESULTS for each in listed)


def _from_json(text: str, source: str) -> list[dict[str, Any]]:
    try:
        if text.lstrip().startswith("["):
            listed = json.loads(text)
        else:
            listed = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        example = '{"rate": 0.1} on each line'
        raise StudyError(f"{source}: is no JSON: {error}; write {example}, or a table that ends in .csv") from None
    return [
        each["settings"] if isinstance(each, dict) and isinstance(each.get("settings"), dict) else each
        for each in listed
    ]


def _from_csv(text: str, source: str, space: Space) -> list[dict[str, Any]]:
    try:
        rows = list(csv.DictReader(text.splitlines(keepends=True), strict=True))
    except csv.Error as error:
        raise StudyError(f"{source}: is no CSV: {error}") from None
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise StudyError(f"{source}: row {number} has not as many cells as the header")
    return [{name: _cell(text, name, space) for name, text in row.items() if text.strip()} for row in rows]


def _cell(text: str, name: str, space: Space) -> Any:
    """The value of a cell. A text that is one of the choices is that text."""
    dimension = space.get(name)
    try:
        value = {"True": True, "False": False}[text] if text in ("True", "False") else json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(dimension, Categorical) and not dimension.contains(value) else value
