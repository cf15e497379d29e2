"""Stops running trials early: reads their learning curves, and asks for the stops that the study's rule demands."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from foldertune.confirm import confirmed_by
from foldertune.protocol import BrokenFile, Folder, Trial, TrialName
from foldertune.stopping import Curve, Stopping, curve_of, why_stop
from foldertune.study import Study

PAUSE_PER_LOOK = 10  # the pause after a look lasts at least this many times as long as the look


class Stopper:
    """The study's rule at work. Without one, it only removes the requests of an earlier master.

    Args:
        say: called with a line about each request.
    """

    def __init__(self, folder: Folder, study: Study, say: Callable[[str], None]) -> None:
        self.folder, self.study, self.say = folder, study, say
        self._ended: dict[int, tuple[Trial, Curve]] = {}  # counted trials, if the rule compares
        self._running: dict[TrialName, tuple[tuple[int, ...], Curve]] = {}  # with what told that it was up to date
        self._asked: set[TrialName] = set()  # requests that stand in the folder: a listing may lack the latest
        self._next_look = 0.0

    def note(self, trial: Trial) -> None:
        """Note the learning curve of a counted trial."""
        if self.study.stopping and self.study.stopping.compares:
            self._ended[trial.name.number] = trial, self._curve(trial)

    def look(self, taken: Sequence[TrialName]) -> None:
        """Ask the workers of hopeless trials to stop, and remove the requests to those that run no more."""
        if not self.study.stopping:
            return self._tidy(())  # nobody is to stop any more
        if time.monotonic() < self._next_look:
            return
        start = time.monotonic()
        self._tidy(taken)
        self._read(taken)
        for name, (_, curve) in self._running.items():
            request = name.to("stop")
            if request not in self._asked and (why := self._why_stop(self.study.stopping, name, curve)):
                self.folder.ask_to_stop(request, why)
                self._asked.add(request)
                self.say(f"trial {name.label}: asked to stop: {why}")
        self._next_look = time.monotonic() + PAUSE_PER_LOOK * (time.monotonic() - start)

    def _tidy(self, taken: Sequence[TrialName]) -> None:
        """Remove the requests to attempts that don't run. If the listing only lacked one, it will be asked again."""
        self._asked.update(self.folder.requests)
        for request in self._asked - {name.to("stop") for name in taken}:
            self.folder.drop_request(request)
            self._asked.discard(request)

    def _read(self, taken: Sequence[TrialName]) -> None:
        """Read the files that have grown since the last look."""
        before, self._running = self._running, {}
        for name in taken:
            try:
                extent = self.folder.signature(name)[:2]  # a heartbeat changes the rest
                known = before.get(name)
                if known is None or known[0] != extent:
                    known = extent, self._curve(self.folder.read(name))
                self._running[name] = known
            except (BrokenFile, OSError):  # it was renamed since the listing, or is judged when it is handed in
                continue

    def _curve(self, trial: Trial) -> Curve:
        """The learning curve; an empty one if it is not to be compared: a confirmation trains to its end."""
        is_apart = self.study.stopping and self.study.stopping.compares and confirmed_by(trial.why) is not None
        return curve_of([] if is_apart else trial.epochs, self.study.metric, self.study.direction)

    def _why_stop(self, rule: Stopping, name: TrialName, curve: Curve) -> str:
        """Why the rule demands that this trial be stopped; empty if it does not."""
        quantity, sign = self.study.quantity(self.study.metric), self.study.sign
        ended = [
            curve for other, curve in self._ended.values() if other.name.number != name.number and not other.dropped
        ]
        running = [other for each, (_, other) in self._running.items() if each.number != name.number]
        why = why_stop(rule, curve, ended, running, lambda loss: quantity.show(sign * loss, 4))
        return why and f"{rule.rule}: {self.study.metric} {why}"
