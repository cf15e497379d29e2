"""The state of a search: how far it is, who trains what, what is best so far."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from foldertune.protocol import DEFAULT_LEASE, BrokenFile, Folder, Leases, Trial, TrialName
from foldertune.reading.archive import read_rows, read_search
from foldertune.reading.timeline import parse_time
from foldertune.rows import FAILED, Row
from foldertune.study import Study

RECENT = 5  # setbacks that are read and told
YEAR = 365 * 86400.0
SHORTEST_WAIT, LONGEST_WAIT = 1.0, 10.0  # seconds between two looks
RATE_WINDOW = 3600.0  # seconds over which a rate is taken


@dataclass(frozen=True)
class Silence:
    """For how long a claim has shown no sign of life, by the observer's own clock."""

    seconds: float
    lease: float
    heard: bool = True  # False: no sign has been seen yet, it may have been silent for longer

    @property
    def share(self) -> float:
        """Of the lease: from 1 on it has expired."""
        return self.seconds / self.lease


@dataclass(frozen=True)
class Setback:
    """An attempt that was lost, or a trial that failed for good."""

    name: TrialName
    reason: str

    @property
    def is_final(self) -> bool:
        """Is it the trial that failed?"""
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
class Status:
    """One look at a search."""

    study: Study
    asked: int  # trials, those queued by hand included
    pending: int
    running: Sequence[Trial]
    rows: Sequence[Row]
    lost: Sequence[TrialName]  # attempts
    complete: bool
    kept: bool = False  # read from an archive: nobody works there
    setbacks: Sequence[Setback] = ()  # the last few, latest first; for who looks again and again, as are:
    silences: Mapping[TrialName, Silence] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Trials that have used up their attempts."""
        return sum(row.status == FAILED for row in self.rows)

    @property
    def best(self) -> Row | None:
        """The best trial so far, if any has a value."""
        best = min(
            (row for row in self.rows if row.value(self.study.metric) is not None),
            key=lambda row: (1 if self.study.direction == "minimize" else -1) * (row.value(self.study.metric) or 0.0),
            default=None,
        )
        return best

    def values(self) -> list[float]:
        """The metric of the counted trials, in the order in which they ended."""
        rows = sorted(self.rows, key=lambda row: parse_time(row.finished) or 0.0)
        return [value for row in rows if (value := row.value(self.study.metric)) is not None]

    def elapsed(self) -> float | None:
        """Seconds from the first claim to the last sign of work, by the workers' clocks."""
        starts = [parse_time(text) for text in (*(r.claimed for r in self.rows), *map(_claimed, self.running))]
        ends = [parse_time(row.finished) for row in self.rows] + ([time.time()] if self.running else [])
        known = [start for start in starts if start], [end for end in ends if end]
        return max(max(known[1]) - min(known[0]), 0.0) if known[0] and known[1] else None

    def remaining(self) -> float | None:
        """Expected seconds to the end: trials left at the mean duration, by as many workers as run now."""
        times = [(parse_time(row.claimed), parse_time(row.finished)) for row in self.rows]
        durations = [end - start for start, end in times if start and end]
        durations = [seconds for seconds in durations if 0 <= seconds < YEAR]  # else a clock was set meanwhile
        left = self.asked - len(self.rows)
        if not durations or not self.running or left <= 0:
            return None
        mean = sum(durations) / len(durations)
        begun = sum(min(self.age(trial) or 0.0, mean) for trial in self.running)
        return min((left * mean - begun) / len(self.running), 10 * YEAR)

    def age(self, trial: Trial) -> float | None:
        """Seconds since a trial was claimed, if its worker's clock is right."""
        start = parse_time(_claimed(trial))
        return max(time.time() - start, 0.0) if start else None

    def hosts(self) -> list[Host]:
        """The machines that take part, those at work first."""
        workers = Counter(_host(trial.claim.get("host"), trial.name.owner) for trial in self.running)
        finished: dict[str, list[Row]] = defaultdict(list)
        silences: dict[str, list[Silence]] = defaultdict(list)
        for row in self.rows:
            if row.worker is not None:
                finished[_host(row.host, str(row.worker))].append(row)
        for trial in self.running:
            if trial.name in self.silences:
                silences[_host(trial.claim.get("host"), trial.name.owner)].append(self.silences[trial.name])
        hosts = [
            Host(
                name=name,
                workers=workers[name],
                finished=len(finished[name]),
                rate=rate(finished[name]),
                silence=max(silences[name], key=lambda silence: silence.share, default=None),
            )
            for name in {**workers, **finished}
        ]
        return sorted(hosts, key=lambda host: (-host.workers, -host.finished, host.name))


def rate(rows: Sequence[Row]) -> float | None:
    """Trials an hour of one host: those that ended in the hour before its last one did, or since its first claim.

    All by that host's clock alone.
    """
    ends = [end for row in rows if (end := parse_time(row.finished))]
    starts = [start for row in rows if (start := parse_time(row.claimed))]
    if not ends or not starts:
        return None
    begin = max(min(starts), max(ends) - RATE_WINDOW)
    seconds = max(ends) - begin
    return sum(end > begin for end in ends) * 3600 / seconds if seconds > 0 else None


def _claimed(trial: Trial) -> Any:
    return trial.claim.get("time")


def _host(said: Any, owner: str) -> str:
    """The name of a worker's machine, also before the worker has said it."""
    return said if isinstance(said, str) else owner.rsplit("-", 2)[0]


# ---------------------------------------------------------------- looking


def look(folder: Folder, study: Study, rows: Sequence[Row], read: Callable[[TrialName], Trial] | None = None) -> Status:
    """One look at the folder, by someone who knows the counted trials and perhaps how to `read` faster."""
    names = folder.names()
    return Status(
        study=study,
        asked=_asked(study, {name.number for name in names} | {row.trial for row in rows}),
        pending=sum(name.state == "pending" for name in names),
        running=_read_running(names, read or folder.read),
        rows=rows,
        lost=[name for name in folder.settled() if name.state == "lost"],
        complete=folder.is_complete(),
    )


def _asked(study: Study, numbers: set[int]) -> int:
    return study.trials + sum(number >= study.trials for number in numbers)


def _read_running(names: Sequence[TrialName], read: Callable[[TrialName], Trial]) -> list[Trial]:
    running = []
    for name in sorted((n for n in names if n.state == "taken"), key=lambda n: (n.number, n.attempt)):
        try:
            running.append(read(name))
        except (BrokenFile, OSError):
            continue  # it has gone on meanwhile, or the master will say what is wrong with it
    return running


def find_setbacks(rows: Sequence[Row], lost: Sequence[TrialName]) -> list[TrialName]:
    """Trials that failed, and lost attempts of trials that did not."""
    failed = {row.trial: TrialName(row.trial, row.attempt, "seen") for row in rows if row.status == FAILED}
    names = [*failed.values(), *(name for name in lost if name.number not in failed)]
    return sorted(names, key=lambda name: (name.number, name.attempt))


def _why_lost(trial: Trial, study: Study) -> str:
    if trial.result is None and trial.error is None:
        owner = trial.claim.get("claimed")
        return f"no result from {owner}: it died or fell silent" if owner else "no worker has said a word"
    return trial.shortcoming(study.metric) or "surplus: the trial was counted already"


def _tell_setbacks(
    names: Sequence[TrialName], rows: Sequence[Row], why_lost: Callable[[TrialName], str]
) -> list[Setback]:
    errors = {row.trial: str(row.error) for row in rows if row.status == FAILED}
    latest = list(reversed(names))[:RECENT]
    return [Setback(name, errors[name.number] if name.state == "seen" else why_lost(name)) for name in latest]


class Observer:
    """Looks at a search again and again, and reads nothing twice that has not changed.

    Args:
        clock: the observer's own monotonic clock, in seconds, by which silence is measured.
    """

    def __init__(self, folder: Folder, study: Study, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder, self.study = folder, study
        self._rows: list[Row] = []
        self._leases = Leases(DEFAULT_LEASE, clock)
        self._read: dict[TrialName, _Read] = {}
        self._setbacks: list[TrialName] = []  # in the order in which they were met
        self._reasons: dict[TrialName, str] = {}  # of lost attempts

    def look(self) -> Status:
        """The state now. Raises OSError while the folder is in trouble."""
        self._leases.look(set(self._read))
        self._rows, _ = read_rows(self.folder, known=self._rows)
        status = look(self.folder, self.study, self._rows, self._read_again)
        self._read = {trial.name: self._read[trial.name] for trial in status.running}
        found = dict.fromkeys(find_setbacks(self._rows, status.lost))
        self._setbacks = list(dict.fromkeys([*(name for name in self._setbacks if name in found), *found]))
        return replace(
            status,
            silences={name: read.silence for name, read in self._read.items()},
            setbacks=_tell_setbacks(self._setbacks, self._rows, self._why_lost),
        )

    def _read_again(self, name: TrialName) -> Trial:
        """A running trial, whose file is read if it has grown, and looked at for a sign of life in any case."""
        signature = self.folder.signature(name)
        seconds = self._leases.silence(name, signature)
        known = self._read.get(name)
        has_grown = known is None or known.last[:2] != signature[:2]  # or it is another file
        trial = self.folder.read(name) if known is None or has_grown else known.trial
        first = known.first if known else signature
        silence = Silence(seconds, trial.lease or DEFAULT_LEASE, heard=signature != first)
        self._read[name] = _Read(trial, first, signature, silence)
        return trial

    def _why_lost(self, name: TrialName) -> str:
        if name not in self._reasons:
            try:
                self._reasons[name] = _why_lost(self.folder.read(name), self.study)
            except BrokenFile as error:
                self._reasons[name] = str(error)
            except FileNotFoundError:
                return "its file is gone"
        return self._reasons[name]


@dataclass(frozen=True)
class _Read:
    """A running trial as it was read last, and what was watched of its file."""

    trial: Trial
    first: tuple[int, ...]  # its signature when we saw it first
    last: tuple[int, ...]
    silence: Silence


def look_at_archive(path: Path) -> Status:
    """What came out of a study that `analysis.results --keep` has kept. Raises StudyError."""
    search = read_search(path, epochs=False)
    rows = [Row.from_trial(trial) for trial in search.trials]
    asked = _asked(search.study, {row.trial for row in rows})
    lost = {trial.name: trial for trial in search.lost}
    setbacks = find_setbacks(rows, list(lost))
    return Status(
        study=search.study,
        asked=asked,
        pending=0,
        running=[],
        rows=rows,
        lost=list(lost),
        complete=len(rows) >= asked,
        kept=True,
        setbacks=_tell_setbacks(setbacks, rows, lambda name: _why_lost(lost[name], search.study)),
    )
