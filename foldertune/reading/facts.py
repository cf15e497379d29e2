"""The types of a study's facts, which `Results` passes to tables, views, sentences and figures."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from foldertune.protocol import Trial, TrialName, parse_time
from foldertune.study import Quantity, Study
from foldertune.tables import finite, short
from foldertune.text import short_names

RATE_WINDOW = 3600.0  # seconds over which a host's rate is taken


@dataclass(frozen=True)
class Silence:
    """The time since a claim's last heartbeat, by the observer's own clock."""

    seconds: float
    lease: float
    heard: bool = True  # False: no heartbeat has been seen yet, so the silence may be longer

    @property
    def share(self) -> float:
        """The silence as a share of the lease. At 1 the lease has expired."""
        return self.seconds / self.lease


@dataclass(frozen=True)
class Setback:
    """An attempt that was lost, or a trial that failed for good."""

    name: TrialName
    reason: str
    worker: str | None
    epochs: int  # the last epoch that was reported
    output: Path | None = None  # the file with what the training printed
    traceback: str | None = None  # of the error that the training code raised

    @property
    def is_final(self) -> bool:
        """Has the trial itself failed, and not only this attempt?"""
        return self.name.state == "seen"


@dataclass(frozen=True)
class Host:
    """One machine's part in a search."""

    name: str
    workers: int  # at work now
    finished: int  # trials
    rate: float | None  # trials per hour
    silence: Silence | None  # the longest silence of its workers, as a share of the lease


@dataclass(frozen=True)
class Course:
    """The metric of the counted trials in the order in which they ended."""

    values: list[float]
    best: list[float]  # the best of the first value, of the first two values, …
    seconds: list[float | None]  # since the first claim
    epochs: Sequence[float] = ()  # trained in all trials that had ended; 0 while none was reported


@dataclass(frozen=True)
class Curve:
    """A measure after each epoch that reports it."""

    xs: list[float]
    ys: list[float]


@dataclass(frozen=True)
class Runs:
    """The learning curves of runs with equal values of some settings; `key` holds these values."""

    key: tuple[Any, ...]
    curves: list[Curve]

    @cached_property
    def median(self) -> Curve:
        """The median of the curves, up to the last epoch that all of them have reached."""
        import statistics  # takes a tenth of a second

        known = [curve for curve in self.curves if curve.xs]
        return Curve(
            [statistics.median(xs) for xs in zip(*(curve.xs for curve in known), strict=False)],
            [statistics.median(ys) for ys in zip(*(curve.ys for curve in known), strict=False)],
        )


@dataclass(frozen=True)
class Column:
    """Values of one quantity, such as one of each trial, and their places on an axis."""

    quantity: Quantity
    values: Sequence[Any]
    order: Sequence[Any] = ()  # of values that are not all numbers; without one, they are sorted as texts

    @cached_property
    def texts(self) -> list[str]:
        """If not all values are numbers, what they look like, each once and in order; otherwise empty."""
        if all(value is None or finite(value) is not None for value in self.values):
            return []
        there, ordered = {short(value) for value in self.values}, dict.fromkeys(map(short, self.order))
        return [*(text for text in ordered if text in there), *sorted(there - ordered.keys())]

    @cached_property
    def places(self) -> list[float]:
        """Numbers stand at themselves, others at the place of their text; nan stands for no value."""
        if self.texts:
            return [float(self.texts.index(short(value))) for value in self.values]
        return [math.nan if value is None else float(value) for value in self.values]


@dataclass(frozen=True)
class Scores:
    """The trials that have a value of the metric, best first, column by column."""

    numbers: list[int]  # of the trials
    collapsed: list[bool]
    metric: Column
    settings: dict[str, Column]  # those that differ between trials
    derived: dict[str, Column]  # from these settings alone


@dataclass(frozen=True)
class Point:
    """Settings on the Pareto front: their trials, several for repeats, and the mean of each metric over them."""

    trials: list[Trial]
    values: list[float]


@dataclass(frozen=True)
class Trade:
    """The trials that have a value, by the first two metrics, and the Pareto front among them."""

    x: Column
    y: Column
    is_on_front: list[bool]
    front: list[tuple[int, float, float]]  # the number of a trial, and its place; best in x first
    is_flat: bool  # are there no other metrics, so that the front is a line?


@dataclass(frozen=True)
class Grid:
    """The mean of the metric for each combination of the choices of two settings, without what collapsed."""

    x: Column
    y: Column
    metric: Quantity
    direction: str
    means: dict[Any, float | None]  # by the identity of x and y; None if all have collapsed; no entry if none has ended


def find_hosts(trials: Iterable[Trial], running: Iterable[Trial], silences: Mapping[TrialName, Silence]) -> list[Host]:
    """The machines that have taken part. Those at work come first."""
    at_work: Counter[str] = Counter()
    finished: dict[str, list[Trial]] = defaultdict(list)
    silent: dict[str, list[Silence]] = defaultdict(list)
    for trial in running:
        at_work[_host_of(trial)] += 1
        if trial.name in silences:
            silent[_host_of(trial)].append(silences[trial.name])
    for trial in trials:
        if trial.claim.get("claimed") is not None:
            finished[_host_of(trial)].append(trial)
    known = {**at_work, **finished}
    shown = short_names(known)
    hosts = [
        Host(
            name=shown[name],
            workers=at_work[name],
            finished=len(finished[name]),
            rate=rate(finished[name]),
            silence=max(silent[name], key=lambda silence: silence.share, default=None),
        )
        for name in known
    ]
    return sorted(hosts, key=lambda host: (-host.workers, -host.finished, host.name))


def _host_of(trial: Trial) -> str:
    """The name of a worker's machine. Before the worker has written it, it is taken from the worker's token."""
    said = trial.claim.get("host")
    owner = str(trial.claim.get("claimed") or trial.name.owner)
    return said if isinstance(said, str) else owner.rsplit("-", 2)[0]


def rate(trials: Sequence[Trial]) -> float | None:
    """The trials per hour of one host, over the hour before its last trial ended, or since its first claim.

    All times are by that host's own clock. None if they can't tell.
    """
    ends = [end for trial in trials if (end := parse_time(trial.finished))]
    starts = [start for trial in trials if (start := parse_time(trial.claim.get("time")))]
    if not ends or not starts:
        return None
    begin = max(min(starts), max(ends) - RATE_WINDOW)
    seconds = max(ends) - begin
    return sum(end > begin for end in ends) * 3600 / seconds if seconds > 0 else None


def pair_reasons(lost: Sequence[Trial], reasons: Sequence[str]) -> list[tuple[TrialName, str]]:
    """The lost attempts of one trial, in their order, with the reasons that the master wrote into a later attempt.

    An attempt that was given back has a number but no reason. One that vanished has a reason but no file. If there are
    more reasons than files, the result is empty, because nobody can tell which reason belongs to which attempt.
    """
    if len(reasons) > len(lost):
        return []
    return [(trial.name, reason) for trial, reason in zip(lost, reasons, strict=False)]


def why_lost(trial: Trial, reason: str | None, study: Study) -> str:
    """Why an attempt was lost: the worker's own reason, or the master's `reason`, or a guess from the file."""
    if trial.error or reason:
        return str(trial.error or reason)
    if trial.result is None:
        owner = trial.claim.get("claimed")
        return f"no result from {owner}: it died or fell silent" if owner else "no worker has said a word"
    return trial.shortcoming(*study.metric_names) or "surplus: the trial was counted already"
