"""Who is where: what each worker says of itself, what it has done, when it last gave a sign, and what ended it."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foldertune.protocol import SILENT, Folder, Leases, Record, Trial, TrialName, WorkerRecords, has_died
from foldertune.reading.facts import Setback, Silence
from foldertune.reading.leader import Leader, Leaders, age_of
from foldertune.reading.words import clock
from foldertune.text import short_names

LOOK_EVERY = 10.0  # seconds between two looks at the workers' records: they seldom change
RECENT = 3600.0  # seconds for which a worker that ended badly stands above those at work
LONG = 200  # characters of a text that are shown
ENDED_WELL = (  # how the reasons begin that need no person
    "nothing more to do", "stopped by", "drained", "its time is nearly up", "too little time is left",
)  # fmt: skip


@dataclass(frozen=True)
class Noted:
    """A worker's record as last read."""

    record: Record
    touched: float  # by the file server's clock, in seconds since 1970
    silence: float  # seconds, by our own clock
    heard: bool  # have we seen it change?
    is_gone: bool  # is it a process of this host that has died?


@dataclass(frozen=True)
class Worker:
    """One worker."""

    owner: str
    host: str
    launcher: str  # who started it, and its number there; empty: a person
    device: str
    gpu: str
    python: str
    memory: float | None  # bytes, with its trainer
    gpu_memory: float | None
    finished: int  # trials with a result
    failed: int  # attempts that ended with an error
    trial: Trial | None  # in hand
    touched: float | None  # when it gave its last sign of life, by the file server's clock, in seconds since 1970
    silence: float | None  # seconds since then
    is_watched: bool  # by our own clock; otherwise by the times of files
    end: str  # what ended it; empty while it lives
    waits: float | None  # seconds without work

    @property
    def ended_badly(self) -> bool:
        """Should a person look at it?"""
        return bool(self.end) and not self.end.startswith(ENDED_WELL)

    @property
    def is_idle(self) -> bool:
        """Does it wait for work, for more than a moment?"""
        return not self.end and self.trial is None

    @property
    def what(self) -> str:
        """What it does, or what ended it."""
        return self.end or (f"trial {self.trial.name.label}" if self.trial else "waits for work")

    @property
    def last_sign(self) -> str:
        """The time since its last sign of life: `0:12`, or `~0:12` by the times of files; empty if none is known."""
        return "" if self.silence is None else f"{'' if self.is_watched else '~'}{clock(self.silence)}"

    @property
    def rank(self) -> tuple[int, float, str]:
        """The worst first: those that have just ended badly, those that wait, those at work, those that have ended."""
        is_recent = self.silence is None or self.silence < RECENT
        group = 0 if self.ended_badly and is_recent else 4 if self.end else 1 if self.trial is None else 2
        return group if group != 4 else 3 + (not self.ended_badly), -(self.silence or 0.0), self.owner


class Notes:
    """What workers say of themselves, read again and again, but no ended one twice; and how long each is silent.

    Args:
        clock: the observer's own monotonic clock, in seconds.
    """

    def __init__(self, records: WorkerRecords, clock: Callable[[], float]) -> None:
        self._records, self._leases = records, Leases(SILENT, clock)
        self._noted: dict[str, Noted] = {}
        self._signatures: dict[str, tuple[int, ...]] = {}

    def look(self, owners: Collection[str]) -> dict[str, Noted]:
        """What is known of these workers by their tokens, without those whose records can't be read."""
        self._leases.look(set(owners))
        self._noted = {owner: noted for owner in owners if (noted := self._note(owner)) is not None}
        return self._noted

    def _note(self, owner: str) -> Noted | None:
        known = self._noted.get(owner)
        if known and ("ended" in known.record or known.is_gone):
            return known
        try:
            signature = self._records.signature(owner)
        except OSError:  # trouble, or the master has removed the record: a living worker writes another
            self._leases.forget(owner)
            return None
        seconds, touched = self._leases.silence(owner, signature), signature[2] / 1e9
        if known is None or signature != self._signatures.get(owner):
            record, heard = self._records.read(owner), known is not None
        else:
            record, heard = known.record, known.heard
        self._signatures[owner] = signature
        return Noted(record, touched, seconds, heard, "ended" not in record and has_died(record))


class Roll:
    """Reads the records of all workers, and who leads, now and again."""

    def __init__(self, folder: Folder, clock: Callable[[], float] = time.monotonic) -> None:
        self._records, self._clock = WorkerRecords(folder), clock
        self._notes, self._noted = Notes(self._records, clock), dict[str, Noted]()
        self._next = -float("inf")
        self._leaders = Leaders(folder, clock)
        self.leader: Leader | None = None

    def read(self) -> dict[str, Noted]:
        """The records by the workers' tokens. Raises OSError while the folder is in trouble."""
        if self._clock() >= self._next:
            self._next = self._clock() + LOOK_EVERY
            self.leader = self._leaders.last()
            with contextlib.suppress(NotADirectoryError):  # a link stands there: it is not looked into
                self._noted = self._notes.look(self._records.owners())
        return self._noted


class Watch:
    """Watches whether one worker has ended, by its word, by its process, or by its silence."""

    def __init__(self, folder: Folder, owner: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._owner, self._notes = owner, Notes(WorkerRecords(folder), clock)

    def has_ended(self) -> bool:
        """Has it, as far as one can tell?"""
        noted = self._notes.look([self._owner]).get(self._owner)
        if noted is None:
            return False
        silence = noted.silence if noted.heard else max(noted.silence, age_of(noted.touched, time.time()))
        return "ended" in noted.record or noted.is_gone or silence > SILENT


def find_workers(
    noted: Mapping[str, Noted],
    ended: Iterable[Trial],
    lost: Iterable[Trial],
    running: Sequence[Trial],
    silences: Mapping[TrialName, Silence],
    heard: Mapping[TrialName, float],
    setbacks: Iterable[Setback],
    now: float,
) -> list[Worker]:
    """The workers that say who they are, and all that hold a trial. The worst come first."""
    lost = list(lost)
    finished = Counter(trial.claim.get("claimed") for trial in ended if trial.result is not None)
    failed = Counter(trial.claim.get("claimed") for trial in lost if trial.error is not None)
    in_hand = {trial.name.owner: trial for trial in running}
    reasons = {setback.name: setback.reason for setback in setbacks}
    cut_off = {trial.claim.get("claimed"): reasons.get(trial.name, "") for trial in lost if not trial.is_over}
    claims = {owner: trial.claim for owner, trial in in_hand.items() if owner not in noted}
    records = {owner: each.record for owner, each in noted.items()} | claims
    hosts = {owner: _text(record.get("host")) or owner.rsplit("-", 2)[0] for owner, record in records.items()}
    shown = short_names(hosts.values())
    workers = []
    for owner, record in records.items():
        known, trial = noted.get(owner), in_hand.get(owner)
        times = [known.touched] if known else []
        times += [heard[trial.name]] if trial and trial.name in heard else []
        touched = min(times, key=lambda each: age_of(each, now), default=None)
        seconds, is_watched = _silence(known, trial, silences, touched, now)
        workers.append(
            Worker(
                owner=owner,
                host=shown[hosts[owner]],
                launcher=_text(record.get("launcher")),
                device=_text(record.get("device")),
                gpu=_text(record.get("gpu")),
                python=_text(record.get("python")),
                memory=_number(record.get("memory")),
                gpu_memory=_number(record.get("gpu_memory")),
                waits=_number(record.get("waits")),
                finished=finished[owner],
                failed=failed[owner],
                trial=trial,
                touched=touched,
                silence=seconds,
                is_watched=is_watched,
                end=_end_of(known, trial, seconds, cut_off.get(owner)),
            )
        )
    return sorted(workers, key=lambda worker: worker.rank)


def _silence(
    known: Noted | None,
    trial: Trial | None,
    silences: Mapping[TrialName, Silence],
    touched: float | None,
    now: float,
) -> tuple[float | None, bool]:
    """The seconds since a worker's last sign of life, and whether we have measured them by our own clock."""
    watched = [known.silence] if known and known.heard else []
    silence = silences.get(trial.name) if trial else None
    watched += [silence.seconds] if silence and silence.heard else []
    if watched:
        return min(watched), True
    return None if touched is None else age_of(touched, now), False


def _end_of(known: Noted | None, trial: Trial | None, silence: float | None, cut_off: str | None) -> str:
    """What ended a worker; empty while it lives, as far as one can tell."""
    if known and "ended" in known.record:
        return _text(known.record["ended"]) or "ended"
    if known and known.is_gone:
        return "killed: its process is gone"
    if trial is None and silence is not None and silence > SILENT:
        return f"killed or cut off{': ' if cut_off else ''}{cut_off or ''}"
    return ""


def _text(value: Any) -> str:
    return value[:LONG] if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    return (
        float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e18 else None
    )
