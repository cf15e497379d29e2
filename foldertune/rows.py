"""From trials to rows of a table: one row for each counted trial."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from foldertune.protocol import Trial
from foldertune.study import SEED, Study
from foldertune.tables import Cells, to_csv

DONE, FAILED = "done", "failed"
_BEFORE = ("trial", "status")
_AFTER = ("worker", "host", "attempt", "claimed", "finished", "error")
_OTHERS = (*_BEFORE, *_AFTER)
_others_of = operator.attrgetter(*_OTHERS)


@dataclass(frozen=True)
class Row:
    """One counted trial. Times are UTC in ISO 8601, by the clock of the worker's host."""

    trial: int
    status: str  # done, or failed: no attempt had a result
    settings: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    worker: str | None = None
    host: str | None = None
    attempt: int = 1
    claimed: str | None = None
    finished: str | None = None
    error: str | None = None

    @classmethod
    def from_trial(cls, trial: Trial) -> Row:
        """What a table says of a counted trial."""
        return cls(
            trial=trial.name.number,
            status=DONE if trial.result is not None else FAILED,
            settings=trial.settings,
            metrics=trial.result or {},
            worker=trial.claim.get("claimed"),
            host=trial.claim.get("host"),
            attempt=trial.name.attempt,
            claimed=trial.claim.get("time"),
            finished=trial.finished,
            error=trial.error if trial.result is None else None,
        )

    def value(self, metric: str) -> float | None:
        """The metric, or None where there is no finite one."""
        value = self.metrics.get(metric)
        return value if isinstance(value, int | float) and abs(value) < math.inf else None

    def cells(self) -> Cells:
        """The row by columns; a number that is not finite is no value."""
        settings, metrics = column_names(tuple(self.settings), tuple(self.metrics))
        cells = dict(zip(settings, self.settings.values(), strict=True))
        cells.update(zip(metrics, self.metrics.values(), strict=True))
        cells.update({key: None for key, value in cells.items() if type(value) is float and not math.isfinite(value)})
        cells.update(zip(_OTHERS, _others_of(self), strict=True))
        return cells


@functools.lru_cache
def column_names(settings: tuple[str, ...], metrics: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns of settings and metrics of these names: no other column has the same."""
    settings = tuple(f"setting_{name}" if name in _OTHERS else name for name in settings)
    taken = {*_OTHERS, *settings}
    return settings, tuple(f"result_{name}" if name in taken else name for name in metrics)


def columns(rows: Iterable[Row]) -> list[str]:
    """All columns of these rows: trial and status, the settings, the metrics, who and when."""
    settings: dict[str, None] = {}
    metrics: dict[str, None] = {}
    for names in dict.fromkeys((tuple(row.settings), tuple(row.metrics)) for row in rows):  # mostly there is one
        for known, mine in zip((settings, metrics), column_names(*names), strict=True):
            known.update(dict.fromkeys(mine))
    return [*_BEFORE, *dict.fromkeys([*settings, *metrics]), *_AFTER]


def results_csv(rows: Sequence[Row]) -> str:
    """What stands in results.csv."""
    return to_csv(columns(rows), (row.cells() for row in rows))


def rank(rows: Iterable[Row], metric: str, direction: str) -> list[Row]:
    """Best first; trials without a value last, each group in the order of the trials."""
    sign = 1 if direction == "minimize" else -1

    def key(row: Row) -> tuple[bool, float, int]:
        value = row.value(metric)
        return (value is None, 0.0 if value is None else sign * value, row.trial)

    return sorted(rows, key=key)


def searched_and_metric(study: Study) -> tuple[list[str], str]:
    """The columns of the search space, and that of the metric."""
    settings, metrics = column_names((*study.space, *study.fixed, SEED), (study.metric,))
    return list(settings[: len(study.space)]), metrics[0]


def known_columns(study: Study, rows: Sequence[Row]) -> list[str]:
    """All columns of these rows, and those that the study promises, which no trial may have yet."""
    searched, metric = searched_and_metric(study)
    return [*dict.fromkeys([*columns(rows), *searched, metric])]
