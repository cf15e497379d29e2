"""Reads the results of a study from its folder. It reads no file twice that has not changed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from foldertune.protocol import DEFAULT_LEASE, END, BrokenFile, Drops, Folder, Leases, Trial, TrialName, read_request
from foldertune.reading.archive import open_study, read_archive
from foldertune.reading.facts import Silence
from foldertune.reading.leader import age_of
from foldertune.reading.results import Results
from foldertune.reading.workers import Roll
from foldertune.shipped import how_to_go_on
from foldertune.study import Study


def read_results(path: Path, *, epochs: bool = True) -> Results:
    """The results in a study's folder, or of a kept study. Without `epochs` it is several times as fast.

    Raises StudyError if there is no study, or if it can't be read; OSError if the folder can't be read.
    """
    return read_archive(path) if Folder(path).is_kept() else Reader(*open_study(path), epochs=epochs).read()


@dataclass(frozen=True)
class _InHand:
    """A trial in hand as last read, with the signatures of its file and its silence."""

    trial: Trial
    first: tuple[int, ...]  # its signature when we saw it first
    last: tuple[int, ...]
    silence: Silence


class Reader:
    """Looks at a study's folder again and again.

    Args:
        epochs: whether to read the learning curves of ended trials. Those of running trials are always read.
        clock: the observer's own monotonic clock, in seconds. It measures the silence of workers.
    """

    def __init__(
        self, folder: Folder, study: Study, *, epochs: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder, self.study = folder, study
        folder.fill = study.filled
        self._epochs = epochs
        self._leases = Leases(DEFAULT_LEASE, clock)
        self._settled: dict[TrialName, Trial] = {}  # seen and lost: they never change
        self._in_hand: dict[TrialName, _InHand] = {}
        self._heard: dict[TrialName, float] = {}  # the last heartbeats of lost attempts
        self._outputs: dict[tuple[int, int], Path] = {}
        self._complaints: dict[TrialName, str] = {}
        self._roll = Roll(folder, clock)
        self._drops = Drops(folder)
        self._met: dict[TrialName, None] = {}  # setbacks, in the order in which they were met

    def read(self, counted: Iterable[Trial] | None = None) -> Results:
        """The results now. Raises OSError while the folder is in trouble.

        Args:
            counted: the counted trials, if the caller knows them; None: they are read from their files.
        """
        names = self.folder.names()  # before the settled ones: a file collected meanwhile is in one of the two
        settled = [name for name in self.folder.settled() if counted is None or name.state == "lost"]
        known = {*names, *settled}
        self._complaints = {name: text for name, text in self._complaints.items() if name in known}
        self._drops.look()
        found = [*self._read_in_hand(names), *self._read_settled(settled), *(counted or ())]
        self._drops.mark(found)
        return Results.of(
            self.study,
            found,
            has_curves=self._epochs,
            complaints=[self._complaints[name] for name in sorted(self._complaints, key=_order)],
            listed=frozenset(name.number for name in names),
            pending=frozenset(name.number for name in names if name.state == "pending"),
            pending_for=self._pending_for(names),
            complete=self.folder.is_complete,
            halted=self._halted(),
            ended_by=read_request(self.folder.path, END) if self.folder.is_ended else None,
            met=list(self._met),
            heard=self._heard | {name: watched.last[2] / 1e9 for name, watched in self._in_hand.items()},
            outputs=self._outputs,
            path=self.folder.path,
            noted=self._roll.read(),
            leader=self._roll.leader,
            silences={name: watched.silence for name, watched in self._in_hand.items() if name.state == "taken"},
        )

    def _pending_for(self, names: list[TrialName]) -> float:
        """The seconds since the first of the pending trials was published or given back, by the times of files."""
        first = min((name for name in names if name.state == "pending"), key=_order, default=None)
        with contextlib.suppress(OSError):  # it was claimed since the listing
            return age_of(self.folder.signature(first)[2] / 1e9, time.time()) if first else 0.0
        return 0.0

    def _halted(self) -> str:
        """Who has paused, drained or stopped the search, and how to go on; empty if nobody has."""
        logs, halt = self.folder.path, self.folder.halt
        lines = [f"{read_request(logs, END)}: what runs is finished and counted"] if self.folder.is_ended else []
        lines += [f"{read_request(logs, halt)}; {how_to_go_on(logs)}"] if halt and not self.folder.is_ended else []
        return "" if self.folder.is_complete else "".join(lines)

    def _read_settled(self, names: list[TrialName]) -> list[Trial]:
        for name in sorted(names, key=_order):
            trial = None if name in self._settled else self._read(name, epochs=self._epochs)
            if trial is not None:
                self._settled[name] = trial
                if trial.result is None:
                    self._met[name] = None
                if name.state == "lost":
                    self._look_beside(name)
        listed = set(names)  # a counted trial stays counted, even if this listing lacks its name
        lost = [trial for name, trial in self._settled.items() if name.state == "lost" and name in listed]
        retried = {trial.name.number: trial.name.attempt for trial in lost if trial.is_verdict}  # but it may be retried
        seen = [trial for name, trial in self._settled.items() if name.state == "seen"]
        return [*lost, *(t for t in seen if t.name.attempt > retried.get(t.name.number, 0))]

    def _read_in_hand(self, names: list[TrialName]) -> list[Trial]:
        self._leases.look(set(self._in_hand))
        begun = [name for name in names if name.state != "pending" or name.attempt > 1]  # that one may be given back
        watched = {name: found for name in begun if (found := self._watch(name)) is not None}
        self._in_hand = watched
        return [found.trial for found in watched.values()]

    def _look_beside(self, name: TrialName) -> None:
        """Note when a lost attempt gave its last heartbeat, and where its output is."""
        with contextlib.suppress(OSError):
            self._heard[name] = self.folder.signature(name)[2] / 1e9
        if (output := self.folder.output_of(name)).is_file():
            self._outputs[name.number, name.attempt] = output

    def _watch(self, name: TrialName) -> _InHand | None:
        """A trial in hand. Its file is read if it has grown, and checked for a heartbeat in any case."""
        try:
            signature = self.folder.signature(name)
        except OSError:
            return None  # it was renamed since the listing
        seconds, known = self._leases.silence(name, signature), self._in_hand.get(name)
        if known is not None and known.last[:2] == signature[:2]:
            trial: Trial | None = known.trial
        else:
            trial = self._read(name, epochs=True)
        if trial is None:
            return None
        first = known.first if known else signature
        return _InHand(trial, first, signature, Silence(seconds, trial.lease or DEFAULT_LEASE, signature != first))

    def _read(self, name: TrialName, *, epochs: bool) -> Trial | None:
        """The trial in that file; None, and perhaps a complaint, if it can't be read."""
        self._complaints.pop(name, None)
        try:
            return self.folder.read(name, epochs=epochs)
        except BrokenFile as error:
            self._complaints[name] = str(error)
            if name.state == "lost":  # even a broken file is a lost attempt
                return Trial(name, {}, error=str(error))
        except FileNotFoundError:
            pass  # it was renamed since the listing
        except OSError as error:
            self._complaints[name] = f"{self.folder.locate(name)}: {error.strerror}"
        return None


def _order(name: TrialName) -> tuple[int, int]:
    return name.number, name.attempt
