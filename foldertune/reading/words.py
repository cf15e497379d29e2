"""Writes facts as words: numbers, times and lists as parts of a sentence or of a line."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

from foldertune.study import Study
from foldertune.tables import as_cell, cell_of, short

RANGE = {"type", "low", "high", "log", "step", "guess", "when"}  # what a study's file says of one


def listed(texts: Iterable[Any]) -> str:
    """A list of texts as `a`, `a and b` or `a, b and c`."""
    *most, last = [str(text) for text in texts]
    return f"{', '.join(most)} and {last}" if most else last


def waiting(trials: int) -> str:
    """What is known of finished trials that no master has counted yet."""
    return f"{trials:,} finished, waiting for the master to collect {'it' if trials == 1 else 'them'}"


def words(name: str) -> str:
    """The name of a setting in a sentence: `step size` for `step_size`."""
    return name.replace("_", " ")


def described(settings: Mapping[str, Any], names: Iterable[str]) -> str:
    """These settings as `step size 0.1, width 64`."""
    return ", ".join(f"{words(name)} {short(cell_of(settings, name))}" for name in names if name in settings)


def best_first(study: Study) -> str:
    """The usual order of trials, in words: `lowest loss first`."""
    return f"{'lowest' if study.direction == 'minimize' else 'highest'} {study.metric} first"


def order_of_ranking(study: Study) -> str:
    """The order of the ranking, in words: with a schedule, a longer training comes before all shorter ones."""
    return f"{'longest training first, then ' * study.is_scheduled}{best_first(study)}"


def of_definition(value: Any) -> Any:
    """A part of a study's definition in a cell: a range as `0.1 to 1, log`, anything else as its value."""
    if not isinstance(value, dict) or not {"low", "high"} <= value.keys() <= RANGE:
        return as_cell(value)
    more = [f"{key} {short(as_cell(value[key]))}" for key in ("step", "guess", "when") if key in value]
    return ", ".join([f"{short(value['low'])} to {short(value['high'])}", *["log"] * bool(value.get("log")), *more])


def changes_of(study: Study) -> list[str]:
    """A line about each change of the study while it ran."""
    return [change.in_words() for change in study.changes]


def names_of_metrics(study: Study) -> str:
    """The metrics as `loss and seconds`."""
    return listed(study.metric_names)


def duration(seconds: float) -> str:
    """A duration as `40 s`, `12.5 min` or `2.4 h`."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def hourly(rate: float) -> str:
    """A number per hour as `2.45`, `245` or `2,450`."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def clock(seconds: float | None) -> str:
    """A duration as `1:05`, or as `2:01:05` if it is an hour or more."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def size(memory: float | None) -> str:
    """Bytes as `512M` or `7.9G`; empty if they are not known."""
    if memory is None:
        return ""
    return f"{memory / 2**30:.1f}G" if memory >= 2**30 else f"{memory / 2**20:.0f}M"


def mebibytes(memory: float | None) -> int | None:
    """Bytes as a number of MiB."""
    return None if memory is None else round(memory / 2**20)


def utc(seconds: float) -> str:
    """A time as `2026-01-31 12:00:00`, in UTC; empty if there is no such time."""
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
    return ""
