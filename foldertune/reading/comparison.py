"""Compares studies: what they have found, at what cost, and in what their definitions differ."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from foldertune.definitions import compare
from foldertune.protocol import parse_time
from foldertune.reading.results import Results
from foldertune.reading.studies import Entry
from foldertune.reading.words import listed, of_definition
from foldertune.tables import Cells, cell_of, short


@dataclass(frozen=True)
class Step:
    """What had been spent when a trial with a value ended, and the best value then."""

    number: int  # of the trial
    best: float
    trials: int
    epochs: int | None  # None if no trial has reported one
    seconds: float | None  # at work


@dataclass(frozen=True)
class Comparison:
    """Several studies, side by side."""

    entries: Sequence[Entry]

    @cached_property
    def is_fair(self) -> bool:
        """Do all studies have the same metric and direction, so that their best values can be compared?"""
        return len({(entry.results.study.metric, entry.results.study.direction) for entry in self.entries}) == 1

    @cached_property
    def ordered(self) -> Sequence[Entry]:
        """The studies with the best first, if they can be compared, and those without a value last."""
        if not self.is_fair:
            return self.entries
        sign = self.entries[0].results.study.sign

        def key(entry: Entry) -> tuple[bool, float]:
            best = entry.results.best
            return best is None, 0.0 if best is None else sign * best[1].mean

        return sorted(self.entries, key=key)

    @cached_property
    def rows(self) -> list[Cells]:
        """A row for each study, with all columns in each."""
        rows = [self._row(entry) for entry in self.ordered]
        return [dict.fromkeys(key for row in rows for key in row) | row for row in rows]

    @cached_property
    def metric(self) -> str:
        """The column of the best values."""
        return self.entries[0].results.study.metric if self.is_fair else "best"

    def _row(self, entry: Entry) -> Cells:
        results = entry.results
        row: Cells = {"study": entry.name}
        if not self.is_fair:
            row["metric"] = results.study.metric
        best, counts = results.best, {"trials": len(results.trials), "succeeded": len(results.ended)}
        row |= {self.metric: best[1].mean if best else None}
        if any(len(each.results.best[1].values) > 1 for each in self.entries if each.results.best):
            row[f"{self.metric}_deviation"] = best[1].deviation if best else None
            row["trainings"] = len(best[1].values) if best else None  # whose mean this is
        if any(each.results.rungs for each in self.entries):
            row["fidelity"] = (results.level(best[0][0]) if best else None) or None
        row |= {
            "trial": best[0][0].name.number if best else None,
            **counts,
        }
        if any(each.results.study.others for each in self.entries):
            row["on the front"] = len(results.front) or None
        step = next((step for step in steps_of(results) if best and step.number == best[0][0].name.number), None)
        row["trials to best"] = step.trials if step else None
        row["time to best (s)"] = step.seconds if step else None
        row["epochs to best"] = step.epochs if step else None
        searched = {name: cell_of(best[0][0].settings, name) if best else None for name in results.study.space}
        return row | {name: value for name, value in searched.items() if name not in row}

    @cached_property
    def differences(self) -> list[str]:
        """A line for each part of the definitions that differs: `strategy: random (one), grid (two)`."""
        names, lines = [entry.name for entry in self.entries], []
        for key, values in compare([entry.results.study for entry in self.entries]).items():
            who: dict[str, list[str]] = {}
            for name, value in zip(names, values, strict=True):
                who.setdefault("not there" if value is None else short(of_definition(value)), []).append(name)
            lines.append(f"{key}: {', '.join(f'{value} ({listed(those)})' for value, those in who.items())}")
        return lines


def steps_of(results: Results) -> list[Step]:
    """The course of a search over trials, over time at work and over epochs."""
    ended = results.in_time
    epochs = list(map(round, itertools.accumulate(map(results.epochs_trained, ended))))
    times = results.work.times
    known = [(k, trial) for k, trial in enumerate(ended) if results.value(trial) is not None]
    return [
        Step(trial.name.number, best, k + 1, epochs[k] or None, _worked_until(times, parse_time(trial.finished)))
        for (k, trial), best in zip(known, results.course.best, strict=True)
    ]


def _worked_until(times: Sequence[tuple[float, float]], moment: float | None) -> float | None:
    """The seconds at work until a moment."""
    if moment is None or not times:
        return None
    return round(math.fsum(min(end, moment) - start for start, end in times if start < moment), 3)
