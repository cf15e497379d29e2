"""Nested settings: `{"model": {"width": 64}}` in files and for an objective, `{"model.width": 64}` everywhere inside.

A dot in a name always means a table, so `"model.width"` in a file is the same setting as `width` in a table `model`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

DOT = "."


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and bool(value)


def flatten(
    tables: dict[str, Any], is_table: Callable[[Any], bool] = _is_table, values: Iterable[str] = ()
) -> dict[str, Any]:
    """The values of nested tables by their dotted names. Raises ValueError if two have the same name.

    Args:
        is_table: tells a table from a value.
        values: the dotted names of tables that are values all the same.
    """
    if not any(map(is_table, tables.values())):
        return tables
    flat: dict[str, Any] = {}
    for name, value in tables.items():
        parts = {name: value}
        if is_table(value) and name not in values:
            inside = [below.removeprefix(name + DOT) for below in values if below.startswith(name + DOT)]
            parts = {f"{name}{DOT}{part}": below for part, below in flatten(value, is_table, inside).items()}
        for part, below in parts.items():
            if part in flat:
                raise ValueError(f"'{part}' is there twice")
            flat[part] = below
    return flat


def tables_in(flat: Mapping[str, Any]) -> list[str]:
    """The names whose value is itself a table: for `flatten`, which would take it for a table of settings."""
    return [name for name, value in flat.items() if _is_table(value)]


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The tables that these dotted names describe. A name inside of a value, which is no table, stays as it is."""
    if not any(DOT in name for name in flat):
        return dict(flat)
    tables: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split(DOT)
        if any(DOT.join(path[:k]) in flat for k in range(1, len(path) + 1)):
            tables[name] = value
            continue
        table = tables
        for part in path:
            table = table.setdefault(part, {})
        table[last] = value
    return tables


def clash(names: Collection[str]) -> tuple[str, str] | None:
    """A name, and the name of a value inside of which it would lie; None if all names can be nested."""
    for name in names:
        path = name.split(DOT)
        for k in range(1, len(path)):
            if (outer := DOT.join(path[:k])) in names:
                return name, outer
    return None
