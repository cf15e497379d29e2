"""The values that make up a study's facts: what `Results` hands on to tables, views, sentences and figures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from foldertune.protocol import Trial, TrialName
from foldertune.reading.spans import parse_time
from foldertune.study import Study

RATE_WINDOW = 3600.0  # seconds over which a host's rate is taken


@dataclass(frozen=True)
class Silence:
    """For how long a claim has shown no sign of life, by the observer's own clock."""

    seconds: float
    lease: float
    heard: bool = True  # False: no sign has been seen yet, it may have been silent for longer

    @property
    def share(self) -> float:
        """Its share of the lease: from 1 on the lease has expired."""
        return self.seconds / self.lease


@dataclass(frozen=True)
class Setback:
    """An attempt that was lost, or a trial that failed for good."""

    name: TrialName
    reason: str
    worker: str | None
    epochs: int  # the last one that was reported

    @property
    def is_final(self) -> bool:
        """Has the trial itself failed?"""
        return self.name.state == "seen"


@dataclass(frozen=True)
class Host:
    """One machine's part in a search."""

    name: str
    workers: int  # at work now
    finished: int  # trials
    rate: float | None  # trials an hour
    silence: Silence | None  # the longest of its workers', measured by their leases


@dataclass(frozen=True)
class Course:
    """The metric of the counted trials in the order in which they ended."""

    values: list[float]
    best: list[float]  # of the first, of the first two, …
    seconds: list[float | None]  # since the first claim

    @property
    def best_after(self) -> int:
        """The number of trials that had ended when the best was there."""
        return self.best.index(self.best[-1]) + 1 if self.best else 0


@dataclass(frozen=True)
class Curve:
    """A measure after each epoch that has it."""

    xs: list[float]
    ys: list[float]


def find_hosts(trials: Iterable[Trial], running: Iterable[Trial], silences: Mapping[TrialName, Silence]) -> list[Host]:
    """The machines that have taken part, those at work first."""
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
    hosts = [
        Host(
            name=name,
            workers=at_work[name],
            finished=len(finished[name]),
            rate=rate(finished[name]),
            silence=max(silent[name], key=lambda silence: silence.share, default=None),
        )
        for name in {**at_work, **finished}
    ]
    return sorted(hosts, key=lambda host: (-host.workers, -host.finished, host.name))


def _host_of(trial: Trial) -> str:
    """The name of a worker's machine, also before the worker has said it."""
    said = trial.claim.get("host")
    owner = str(trial.claim.get("claimed") or trial.name.owner)
    return said if isinstance(said, str) else owner.rsplit("-", 2)[0]


def rate(trials: Sequence[Trial]) -> float | None:
    """Trials an hour of one host: those that ended in the hour before its last one did, or since its first claim.

    All times are by that host's own clock.
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

    An attempt that was given back has a number, but no reason. One that vanished has a reason, but no file: then nothing
    is said, because it can't be told which reason belongs to which attempt.
    """
    if len(reasons) > len(lost):
        return []
    return [(trial.name, reason) for trial, reason in zip(lost, reasons, strict=False)]


def why_lost(trial: Trial, reason: str | None, study: Study) -> str:
    """The worker's own reason, or the master's `reason`, or what the file lets us guess."""
    if trial.error or reason:
        return str(trial.error or reason)
    if trial.result is None:
        owner = trial.claim.get("claimed")
        return f"no result from {owner}: it died or fell silent" if owner else "no worker has said a word"
    return trial.shortcoming(study.metric) or "surplus: the trial was counted already"


def median_curve(curves: Iterable[Curve]) -> Curve:
    """The median of several curves at each epoch that all of them have reached."""
    import statistics  # takes a tenth of a second

    known = [curve for curve in curves if curve.xs]
    return Curve(
        [statistics.median(xs) for xs in zip(*(curve.xs for curve in known), strict=False)],
        [statistics.median(ys) for ys in zip(*(curve.ys for curve in known), strict=False)],
    )
