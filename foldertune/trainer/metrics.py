"""Makes of metrics what a line of JSON can hold. This is the one place: for reports, and for results."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

MOST_ITEMS = 1000  # in a metric that is a list, a dict or an array
MOST_LEVELS = 20
LONGEST_LINE = 2**20  # characters of one report, or of a result
LARGEST_INTEGER = 2**63  # readers of JSON are not bound to keep larger ones; they become floats
PLAIN = (float, bool, type(None))
LONGEST_NAME = 80  # characters of a metric's name in a note


class Unfit(Exception):
    """A value can't be kept. The message says why, and can follow the metric's name."""


def as_metrics(values: Mapping[Any, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """The metrics as JSON can hold them: numbers, text, true/false and None; lists, dicts and small arrays of them.

    Whatever can't be kept is left out, and `say` gets a note that names it: no metric costs the result of a training.
    """
    if len(values) <= MOST_ITEMS and all(type(key) is str and is_plain(value) for key, value in values.items()):
        return dict(values)  # nothing is to be done, as nearly always
    kept: dict[str, Any] = {}
    for key, value in values.items():
        try:
            name = as_name(key)
            if name in kept:
                raise Unfit("another metric has this name")
            kept[name] = as_json(value)
        except Unfit as unfit:
            say(f"the metric {_shown(key)} is left out: {unfit}")
    while len(json.dumps(kept)) > LONGEST_LINE:
        sizes = {name: len(json.dumps({name: value})) for name, value in kept.items()}
        largest = max(sizes, key=sizes.__getitem__)
        del kept[largest]
        say(f"the metric {_shown(largest)} is left out: it is too large for a line ({sizes[largest]:,} characters)")
    return kept


def is_plain(value: Any) -> bool:
    """Is this a value that JSON holds as it is, and that is short?"""
    return type(value) in PLAIN or (type(value) is int and abs(value) < LARGEST_INTEGER)


def as_name(key: Any) -> str:
    """A metric's name as text. Raises Unfit."""
    try:
        return str.__str__(key) if isinstance(key, str) else str(key)
    except Exception:  # a person's own class may raise anything
        raise Unfit("its name is no text") from None


def as_json(value: Any) -> Any:
    """A value that JSON can hold, of plain Python: numpy's and torch's numbers and arrays, too. Raises Unfit."""
    try:
        return _plain(value, iter(range(MOST_ITEMS + 1)))
    except Unfit:
        raise
    except Exception:  # a person's own class may raise anything
        raise Unfit(f"a value of the type {type(value).__name__} can't be kept") from None


def _plain(value: Any, room: Iterator[int], depth: int = 0) -> Any:
    """The value, with each item counted down from the `room`."""
    if next(room, None) is None:
        raise Unfit(f"it has more than {MOST_ITEMS:,} items")
    if depth > MOST_LEVELS:
        raise Unfit(f"its lists are nested more than {MOST_LEVELS} deep")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value) if abs(int(value)) < LARGEST_INTEGER else _as_float(int(value))
    if isinstance(value, Mapping):
        return {as_name(key): _plain(item, room, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, room, depth + 1) for item in value]
    if callable(getattr(value, "tolist", None)):  # an array or a number of numpy, torch, jax, …
        if _size(value) > MOST_ITEMS:
            raise Unfit(f"it has more than {MOST_ITEMS:,} items")
        return _plain(_only(value.tolist()), room, depth + 1)
    if callable(getattr(value, "item", None)):
        return _plain(value.item(), room, depth + 1)
    return _as_float(value)


def _only(value: Any) -> Any:
    """The number in an array that holds one number, such as [0.5]; other values as they are."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value


def _size(array: Any) -> int:
    """The number of an array's items."""
    shape: Sequence[int] = getattr(array, "shape", ())
    return math.prod(shape)


def _as_float(value: Any) -> float:
    """The value of a float, a Decimal, a Fraction or a huge integer; one beyond all floats is infinite."""
    try:
        return float(value.__float__())
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _shown(key: Any) -> str:
    try:
        return repr(as_name(key))[:LONGEST_NAME]
    except Unfit:
        return f"with a name of the type {type(key).__name__}"
