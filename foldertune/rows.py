"""Turns counted trials into the rows of results.csv, one row per trial."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from foldertune.confirm import confirmed_by
from foldertune.formats import to_csv
from foldertune.protocol import Trial
from foldertune.study import SEED, Study
from foldertune.tables import Cells, as_cell

SUCCEEDED, STOPPED, FAILED, DROPPED = "succeeded", "stopped", "failed", "dropped"
FRONT = "front"  # a column of tables for people
_BEFORE = ("trial", "status")
_AFTER = ("worker", "host", "attempt", "claimed", "finished", "error")
PARENT, _CONFIRMS = "parent", "confirms"  # columns only if a trial has one
_OTHERS = (*_BEFORE, *_AFTER, PARENT, _CONFIRMS)
_others_of = operator.attrgetter(*_OTHERS)


@dataclass(frozen=True)
class Row:
    """One counted trial. Times are UTC in ISO 8601, by the clock of the worker's host."""

    trial: int
    status: str  # succeeded; stopped, if it was stopped early; failed, if no attempt had a result; dropped by a person
    settings: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    worker: str | None = None
    host: str | None = None
    attempt: int = 1
    claimed: str | None = None
    finished: str | None = None
    error: str | None = None
    parent: int | None = None  # the trial whose training this one went on with
    confirms: int | None = None  # the trial whose settings were trained again

    @classmethod
    def from_trial(cls, trial: Trial) -> Row:
        """The row of a counted trial."""
        succeeded = trial.result is not None
        status = FAILED if not succeeded else SUCCEEDED if trial.stopped is None else STOPPED
        return cls(
            trial=trial.name.number,
            status=status if trial.dropped is None else DROPPED,
            settings=trial.settings,
            metrics=trial.result or {},
            worker=trial.claim.get("claimed"),
            host=trial.claim.get("host"),
            attempt=trial.name.attempt,
            claimed=trial.claim.get("time"),
            finished=trial.finished,
            error=trial.dropped or (None if succeeded else trial.error),
            parent=trial.parent.number if trial.parent else None,
            confirms=confirmed_by(trial.why) if trial.why else None,
        )

    def cells(self) -> Cells:
        """The row's values by column. A number that is not finite becomes None, no value."""
        settings, metrics = column_names(tuple(self.settings), tuple(self.metrics))
        cells = dict(zip(settings, map(as_cell, self.settings.values()), strict=True))
        cells.update(zip(metrics, self.metrics.values(), strict=True))
        cells.update({key: None for key, value in cells.items() if type(value) is float and not math.isfinite(value)})
        cells.update(zip(_OTHERS, _others_of(self), strict=True))
        return cells


@functools.lru_cache
def column_names(settings: tuple[str, ...], metrics: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns of these settings and metrics, renamed where another column has the same name."""
    columns = _unlike(_OTHERS, settings, "setting_")
    return columns, _unlike((*_OTHERS, *columns), metrics, "result_")


def _unlike(others: tuple[str, ...], names: tuple[str, ...], prefix: str) -> tuple[str, ...]:
    """The names, with a prefix where one of the others is the same. It is repeated until the name is nobody else's."""
    columns, taken = [], {*others, *names}
    for name in names:
        column = prefix + name if name in others else name
        while column != name and column in taken:
            column = prefix + column
        columns.append(column)
        taken.add(column)
    return tuple(columns)


def columns(rows: Sequence[Row]) -> list[str]:
    """All columns of these rows: trial and status, the settings, the metrics, then worker, host, times and parents."""
    settings: dict[str, None] = {}
    metrics: dict[str, None] = {}
    for names in dict.fromkeys((tuple(row.settings), tuple(row.metrics)) for row in rows):  # usually only one
        for known, mine in zip((settings, metrics), column_names(*names), strict=True):
            known.update(dict.fromkeys(mine))
    promoted = [PARENT] if any(row.parent is not None for row in rows) else []
    confirming = [_CONFIRMS] if any(row.confirms is not None for row in rows) else []
    return [*_BEFORE, *dict.fromkeys([*settings, *metrics]), *_AFTER, *promoted, *confirming]


def results_csv(rows: Sequence[Row]) -> str:
    """The contents of results.csv for these counted trials, which come in the order of their numbers."""
    return to_csv(columns(rows), (row.cells() for row in rows))


def searched_and_metrics(study: Study) -> tuple[list[str], list[str]]:
    """The columns of the settings that differ, and those of the metrics."""
    settings, metrics = column_names((*study.searched, *study.fixed, SEED), tuple(study.metric_names))
    return list(settings[: len(study.searched)]), list(metrics)


def with_front(study: Study, rows: Sequence[Row], numbers: Container[int]) -> list[Row]:
    """The same rows. With several metrics, a column says which trials, those with these numbers, lie on the front.

    It is not in results.csv: any new result may change it.
    """
    if not study.others:
        return list(rows)
    return [replace(row, metrics={**row.metrics, FRONT: row.metrics.get(FRONT, row.trial in numbers)}) for row in rows]


def with_derived(study: Study, rows: Sequence[Row]) -> list[Row]:
    """The same rows, with the study's derived quantities after the metrics.

    Where a trial reports a metric of the same name, the metric is kept.
    """
    if not study.derived:
        return list(rows)
    derived = ((row, study.derive(row.settings, row.metrics)) for row in rows)
    return [
        replace(row, metrics={**row.metrics, **{k: v for k, v in more.items() if k not in row.metrics}})
        for row, more in derived
    ]
